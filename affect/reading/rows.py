"""The tables of what was read: their columns, rows and text, and smoothing and baseline of the curves.

affect/reading/README.md says what each column holds.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from affect.errors import InputError

if TYPE_CHECKING:  # because it imports TensorFlow
    from affect.tasks.task import Curves

Smoothing = Literal["centred", "causal"]
_OF_FRAME = ("video", "frame", "timestamp_s", "face", "has_face", "x0", "y0", "x1", "y1", "score", "importance")
_COUNTS = ("frames", "frames_with_a_face", "frames_read", "coverage", "faces_seen", "peak_s", "problem")
# Columns that hold seconds.
TIMES = ("timestamp_s", "peak_s")
# Smallest probability whose logarithm is taken.
LEAST_PROBABILITY = 1e-6
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Adjustment:
    """Smoothing and baseline, each of which adds columns. The other columns do not change.

    Args:
        smooth_s: Length of the moving average in seconds; `None` adds no column.
        smoothing: `"centred"` averages the frames from `smooth_s / 2` before to `smooth_s / 2` after each frame,
            `"causal"` those of the last `smooth_s`, as a live system can. Frames without a face do not count.
        baseline_s: Start and end, in seconds of the video, of a section in which the person's face is neutral; `None`
            adds no column. The change of a probability p in a frame is log p minus the mean of log p over the frames of
            this section, in nats; p is at least `LEAST_PROBABILITY`. The change of valence and of arousal is the value
            minus its mean over the section. With `smooth_s` the change is smoothed too. It is empty if the section
            shows no face.

    Raises:
        InputError: If a length is not above 0, or the smoothing is unknown.
    """

    smooth_s: float | None = None
    smoothing: Smoothing = "centred"
    baseline_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.smoothing not in get_args(Smoothing):
            raise InputError(
                f"Unknown smoothing. Expected one of {list(get_args(Smoothing))}. Received: {self.smoothing!r}"
            )
        if self.smooth_s is not None and not 0 < self.smooth_s < np.inf:
            raise InputError(f"A moving average needs a length above 0 s. Received: {self.smooth_s:g}")
        if self.baseline_s is not None and not 0 <= self.baseline_s[0] < self.baseline_s[1]:
            start_s, end_s = self.baseline_s
            raise InputError(
                f"A baseline needs a start at 0 s or later and a later end. Received: {start_s:g}-{end_s:g}"
            )


UNCHANGED = Adjustment()


def name_values(classes: Sequence[str]) -> list[str]:
    """Returns the columns of classes or dimensions. A class with the name of another column becomes `class_NAME`."""
    taken = {*_OF_FRAME, *_COUNTS, "label"}
    return [f"class_{name}" if name in taken else name for name in classes]


def frame_columns(classes: Sequence[str], adjustment: Adjustment = UNCHANGED) -> list[str]:
    """Returns the columns of frames.csv.

    Args:
        classes: Names of the classes or dimensions.
        adjustment: Smoothing and baseline.
    """
    names = name_values(classes)
    smooth = [f"{name}_smooth" for name in names] if adjustment.smooth_s else []
    change = [f"{name}_change" for name in names] if adjustment.baseline_s else []
    return [*_OF_FRAME, *names, *smooth, *change]


def video_columns(classes: Sequence[str], groups: Sequence[str] = ()) -> list[str]:
    """Returns the columns of videos.csv.

    Args:
        classes: Names of the classes or dimensions.
        groups: Further columns, such as `subject`.
    """
    return ["video", *groups, "face", "label", *name_values(classes), *_COUNTS]


def list_rows(
    curves: "Curves", face: int, adjustment: Adjustment = UNCHANGED, *, has_classes: bool = True
) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of one face in frames.csv without the column `video`, in the order of `frame_columns`.

    Args:
        curves: The prediction.
        face: Number of the person.
        adjustment: Smoothing and baseline.
        has_classes: Whether the values are probabilities of classes.

    Yields:
        Numbers; `None` where nothing is known.
    """
    adjusted = adjust(curves.times_s, curves.values, adjustment, has_classes=has_classes)
    numbers = [curves.boxes, curves.scores[:, None], curves.importance[:, None], curves.values, *adjusted]
    shown: int | None = face if (curves.places >= 0).any() else None
    for start in range(0, len(curves.times_s), _ROWS_AT_ONCE):
        some = slice(start, start + _ROWS_AT_ONCE)
        times_s, has_face = curves.times_s[some].tolist(), (curves.places[some] >= 0).tolist()
        cells = np.hstack([array[some] for array in numbers]).tolist()
        for index, row in enumerate(cells):
            known = (None if value != value else value for value in row)  # NaN is not equal to itself
            yield start + index, times_s[index], shown, has_face[index], *known


def adjust(
    times_s: np.ndarray, values: np.ndarray, adjustment: Adjustment, *, has_classes: bool = True
) -> list[np.ndarray]:
    """Smooths curves and takes off the baseline, as `Adjustment` says.

    Args:
        times_s: float (F,), ascending.
        values: float (F, E); NaN where there is none.
        adjustment: What is computed.
        has_classes: Whether the values are probabilities, whose logarithms are compared.

    Returns:
        Arrays (F, E): the smoothed values with `smooth_s`, then the change with `baseline_s`.
    """
    found = []
    if adjustment.smooth_s:
        found.append(smooth(times_s, values, adjustment.smooth_s, adjustment.smoothing))
    if adjustment.baseline_s:
        start_s, end_s = adjustment.baseline_s
        levels = np.log(np.maximum(values, LEAST_PROBABILITY)) if has_classes else values
        known = ~np.isnan(values).any(axis=1)
        within = known & is_within(times_s, start_s, end_s)
        change = levels - levels[within].mean(axis=0) if within.any() else np.full_like(levels, np.nan)
        if adjustment.smooth_s:
            change = smooth(times_s, change, adjustment.smooth_s, adjustment.smoothing)
        found.append(change)
    return found


def is_within(times_s: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    """Returns which frames a section holds. Its ends may have the six decimals of a table.

    Args:
        times_s: float (F,).
        start_s, end_s: Section in seconds. Both ends belong to it.

    Returns:
        bool (F,).
    """
    return (times_s >= start_s - 1e-6) & (times_s <= end_s + 1e-6)


def smooth(times_s: np.ndarray, values: np.ndarray, smooth_s: float, smoothing: Smoothing = "centred") -> np.ndarray:
    """Returns the moving average of curves. Frames without a value do not count and get none.

    Args:
        times_s: float (F,), ascending.
        values: float (F, E); NaN where there is none.
        smooth_s: Length of the average in seconds.
        smoothing: As in `Adjustment`. Both ends of a centred window belong to it; a causal one begins after its start.

    Returns:
        float64 (F, E).
    """
    known = ~np.isnan(values).any(axis=1)
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.where(known[:, None], values, 0).cumsum(axis=0)])
    counts = np.concatenate([[0], known.cumsum()])
    if smoothing == "centred":
        first = np.searchsorted(times_s, times_s - smooth_s / 2 - 1e-6)
        last = np.searchsorted(times_s, times_s + smooth_s / 2 + 1e-6)
    else:
        first, last = np.searchsorted(times_s, times_s - smooth_s + 1e-6), np.arange(len(times_s)) + 1
    averaged = (sums[last] - sums[first]) / np.maximum(counts[last] - counts[first], 1)[:, None]
    return np.where(known[:, None], averaged, np.nan)


def open_writer(file: IO[str]) -> Any:
    """Returns a `csv.writer` that ends rows with a newline and quotes any cell that has a line break in it.

    `csv.writer` only quotes the line breaks that end its rows, so a name with a carriage return would be two rows.

    Args:
        file: Text file.
    """
    return csv.writer(_Lines(file), lineterminator="\r\n")


class _Lines:
    """A text file whose rows end with a newline, whatever ends those that are written to it."""

    def __init__(self, file):
        self._file = file

    def write(self, row):
        return self._file.write(row.removesuffix("\r\n") + "\n")


def format_row(columns: Sequence[str], row: Sequence[Any]) -> list[str]:
    """Returns the text of a row of CSV.

    Args:
        columns: Names of the columns.
        row: A cell for each column; `None` is an empty cell.
    """
    return [_format_cell(value, name in TIMES) for name, value in zip(columns, row, strict=True)]


def _format_cell(value, is_time):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.6f}" if is_time else f"{value:.6g}"
    return str(value)


def make_dataframe(records: Sequence[dict[str, Any]], columns: Sequence[str]) -> Any:
    """Returns rows as a pandas data frame.

    Args:
        records: Dicts by column.
        columns: Names of the columns in order.

    Raises:
        InputError: If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise InputError("A data frame needs pandas. Install it: pip install pandas") from error
    return pd.DataFrame(records, columns=list(columns))
