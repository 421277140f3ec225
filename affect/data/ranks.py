"""Which of several training processes this is, and the part of the data that it reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Rank:
    """One of several processes that train one network together, each on its rows of the same batches.

    Args:
        number: Of this process, from 0.
        processes: How many there are.
    """

    number: int = 0
    processes: int = 1

    def divide(self, sizes: Sequence[int]) -> list[int]:
        """Returns how many rows of each batch this process reads.

        Args:
            sizes: Sizes of the batches; `processes` divides each.
        """
        return [size // self.processes for size in sizes]

    def find_rows(self, sizes: Sequence[int]) -> np.ndarray:
        """Returns which examples of an epoch this process reads: bool, one for each example in order.

        They are the rows rank · B/N to (rank + 1) · B/N of each batch of B rows, with N processes.

        Args:
            sizes: Sizes of the batches; `processes` divides each.
        """
        rows = np.concatenate([np.arange(size) * self.processes // size for size in sizes])
        return rows == self.number

    def count_batches(self, batches: int) -> int:
        """Returns how many batches this process evaluates.

        Args:
            batches: Number of all.
        """
        return len(range(self.number, batches, self.processes))

    def reads_batch(self, index: Any) -> Any:
        """Returns whether this process evaluates a batch: each evaluates whole batches in turn.

        Args:
            index: Of the batch, from 0; an integer or a tensor.
        """
        return index % self.processes == self.number


# One process, which reads everything.
ALONE = Rank()
