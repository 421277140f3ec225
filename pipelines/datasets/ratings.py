"""Files of time-continuous ratings → arrays of numbers; several raters → their gold standard."""

import itertools
import math
import re

import numpy as np

from affect.errors import InputError
from pipelines.tables import read_text

# Ratings lie in about [-1, 1], and recordings last minutes; what is far beyond is no rating.
MOST_VALUE = 10.0
MOST_SECONDS = 1e6


def read_arff(path):
    """Reads an ARFF file with the attributes name, time in seconds and value, in this order.

    It is the part of the format that AVEC uses: string and numeric attributes, comments, and rows without quotes.

    Args:
        path: File.

    Returns:
        float64 (T, 2): time, ascending, and value.

    Raises:
        InputError: With file and line, on anything else.
    """
    kinds, rows = [], None
    for number, line in _lines(path):
        if rows is not None:
            rows.append((number, line.split(",")))
        elif line.lower() == "@data":
            rows = []
        elif attribute := re.fullmatch(r"@attribute\s+\S+\s+(string|numeric|real)", line, re.IGNORECASE):
            kinds.append("string" if attribute[1].lower() == "string" else "numeric")
        elif not line.startswith("%") and not line.lower().startswith("@relation"):
            raise InputError(
                f"{path}, line {number}: expected @relation, @attribute NAME string, @attribute NAME numeric or @data. "
                f"Received: {line[:60]!r}"
            )
    if kinds != ["string", "numeric", "numeric"]:
        raise InputError(f"{path}: expected the attributes name (string), time and value (numeric). Received: {kinds}")
    return _numbers(path, [row for row in rows or () if not row[1][0].startswith("%")], texts=1, columns=2)


def read_semicolons(path, *, texts, columns=None):
    """Reads a file of values separated by `;`, with or without a header.

    Args:
        path: File.
        texts: Columns before the time, which are left out.
        columns: Numeric columns, the time among them; `None` is as many as the first row has.

    Returns:
        `(header, numbers)`: tuple of the numeric columns' names in lower case, `None` without a header; float64
        (T, columns), of which the first is the time, ascending.

    Raises:
        InputError: With file and line, when a row has another number of columns or something that is no rating.
    """
    rows = [(number, line.split(";")) for number, line in _lines(path)]
    header = None
    if rows and len(rows[0][1]) > texts and not _is_number(rows[0][1][texts]):
        header = tuple(name.strip().strip('"').lower() for name in rows.pop(0)[1][texts:])
    return header, _numbers(path, rows, texts=texts, columns=len(header) if header else columns)


def gold_standard(path, ratings):
    """Returns the gold standard of several raters, by the rule of AVEC 2016's organisers.

    Each rater is centred on the mean of all raters' means, weighted by how well each agrees with the others (mean CCC
    of its pairs); then raters are averaged. The published gold standard of RECOLA is made so (run_gold_standard.m in
    github.com/AudioVisualEmotionChallenge/AVEC2018), with N − 1 in the variances and N in the covariance.

    Args:
        path: The file, for the error.
        ratings: float64 (raters, T), two raters or more.

    Returns:
        float64 (T,).
    """
    if len(ratings) < 2 or ratings.shape[1] < 2:
        raise InputError(f"{path}: a gold standard needs two raters and two rows or more. Received: {ratings.shape}")
    means = ratings.mean(1)
    agreement = np.zeros(len(ratings))
    for a, b in itertools.combinations(range(len(ratings)), 2):
        covariance = np.mean((ratings[a] - means[a]) * (ratings[b] - means[b]))
        spread = ratings[a].var(ddof=1) + ratings[b].var(ddof=1) + (means[a] - means[b]) ** 2
        ccc = 2 * covariance / spread if spread else 0.0
        agreement[[a, b]] += ccc / (len(ratings) - 1)
    if agreement.sum() <= 1e-6:
        raise InputError(f"{path}: the raters do not agree (mean CCC {agreement.mean():.3f}), so none can be weighted.")
    return (ratings - means[:, None]).mean(0) + np.sum(means * agreement) / agreement.sum()


def _lines(path):
    """Returns `(number, line)` of the lines that are not empty."""
    lines = ((number, line.strip()) for number, line in enumerate(read_text(path).splitlines(), 1))
    return [(number, line) for number, line in lines if line]


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(path, rows, *, texts, columns):
    columns = columns or (len(rows[0][1]) - texts if rows else 0)
    numbers, before_s = np.empty((len(rows), columns)), -math.inf
    if not numbers.size:
        raise InputError(f"{path} holds no ratings.")
    for index, (line, fields) in enumerate(rows):
        if len(fields) != texts + columns:
            raise InputError(f"{path}, line {line}: expected {texts + columns} fields. Received: {len(fields)}")
        for column, text in enumerate(fields[texts:]):
            most = MOST_VALUE if column else MOST_SECONDS
            if not _is_number(text) or not -most <= float(text) <= most:
                what = f"a rating in [-{most:g}, {most:g}]" if column else "a time in seconds"
                raise InputError(f"{path}, line {line}: expected {what}. Received: {text[:40]!r}")
            numbers[index, column] = float(text)
        if numbers[index, 0] < max(0.0, before_s + 1e-6):  # records hold microseconds
            raise InputError(
                f"{path}, line {line}: times must start at 0 or later and ascend. Received: {fields[texts].strip()}"
            )
        before_s = numbers[index, 0]
    return numbers
