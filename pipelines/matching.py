"""Which of two lists of faces belong together: the assignment of the greatest sum.

SciPy has it as `scipy.optimize.linear_sum_assignment`, and installs 110 MB, which reading a video does not need.
"""

import numpy as np


def find_matching(affinity: np.ndarray) -> list[tuple[int, int]]:
    """Finds the pairs of rows and columns with the greatest sum of affinities. Each row and column is in one at most.

    It is the algorithm of shortest augmenting paths (D. F. Crouse, On implementing 2D rectangular assignment
    algorithms, IEEE Transactions on Aerospace and Electronic Systems 52(4), 2016), in O(n² m) for n rows and m columns.

    Args:
        affinity: float (n, m), finite.

    Returns:
        `(row, column)` of each pair, in the order of the rows; min(n, m) pairs.
    """
    rows, columns = affinity.shape
    if rows > columns:
        return sorted((row, column) for column, row in find_matching(affinity.T))
    of_row, of_column = np.full(rows, -1), np.full(columns, -1)  # the partners
    row_prices, column_prices = np.zeros(rows), np.zeros(columns)
    for first in range(rows):
        lengths, before, done = np.full(columns, np.inf), np.full(columns, -1), np.zeros(columns, bool)
        row, length = first, 0.0
        while True:  # to the nearest column without a partner
            through = length - affinity[row] - row_prices[row] - column_prices
            shorter = ~done & (through < lengths)
            lengths[shorter], before[shorter] = through[shorter], row
            column = int(np.argmin(np.where(done, np.inf, lengths)))
            length = lengths[column]
            if of_column[column] < 0:
                break
            done[column] = True
            row = of_column[column]
        row_prices[first] += length
        row_prices[of_column[done]] += length - lengths[done]
        column_prices[done] -= length - lengths[done]
        while column >= 0:  # each row on the path takes the column that was found from it
            row = before[column]
            of_column[column], of_row[row], column = row, column, -1 if row == first else of_row[row]
    return list(enumerate(of_row.tolist()))
