"""A file frames.csv → the curves of each person, in as much memory as the curves need; and small curves as SVG."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from affect.colours import COLOURS
from affect.errors import InputError

# Points of a curve. A longer video has the mean of several frames in each point.
POINTS = 20_000
# Numbers of all curves of a page. With more people or columns, a curve has fewer points.
NUMBERS = 1_200_000
# A person in a point of time: the frame was not read, has no face, or has one.
NOT_READ, NO_FACE, FACE = 0, 1, 2

# The colour of the text replaces black, which is invisible on dark paper. Yellow comes last: it is faint on white.
_COLOURS = (*COLOURS[:6], "currentColor", "#f0e442")
# Lengths of dashes and of the gaps between them. With eight colours, 56 curves differ in one of both.
DASHES = ((1, 0), (7, 3), (2, 3), (9, 3, 2, 3), (12, 4), (4, 2), (9, 2, 2, 2, 2, 2))


@dataclass(frozen=True)
class Curves:
    """What was read of a video over time: T points, P people, C columns.

    Args:
        frames_per_point: Frames of which a point is the mean; 1 unless the video is long.
        frames: Decoded frames.
        time_s: float (T,): time of the first frame of each point.
        seen: uint8 (T, P): `NOT_READ`, `NO_FACE` or `FACE`. `FACE` if a frame of the point has one.
        columns: Names of the columns.
        values: float32 (T, P, C): NaN where the file has no number.
    """

    frames_per_point: int
    frames: int
    time_s: np.ndarray
    seen: np.ndarray
    columns: tuple[str, ...]
    values: np.ndarray

    def of(self, person: int, column: str) -> np.ndarray:
        """Returns one curve, float32 (T,).

        Args:
            person: Its place among the people.
            column: Name.
        """
        return self.values[:, person, self.columns.index(column)]


def read_curves(path: Path, people: Sequence[int], columns: Sequence[str], points: int = POINTS) -> Curves:
    """Reads curves from a file frames.csv, row by row.

    Where the video has more frames than fit, a point is the mean of 2, 4, 8 ... frames. So memory does not grow with
    the video.

    Args:
        path: frames.csv: a row for each frame and face, in the order of time.
        people: The values of its column `face`, in the order that is returned.
        columns: Columns of numbers. One that the file does not have is left out.
        points: Most points of a curve.

    Raises:
        InputError: When a column is missing, or a cell holds no number.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if missing := {"frame", "timestamp_s", "face", "has_face"} - set(header):
            raise InputError(f"{path} has no column {', '.join(sorted(missing))}. Write it again: affect predict --out")
        known = tuple(name for name in columns if name in header)
        size = max(2, min(points, NUMBERS // max(1, len(people) * len(known))) // 2 * 2)
        sums = _Sums(size, len(people), len(known))
        try:
            for row in _rows(reader, header, list(people), known):
                sums.add(*row)
        except (ValueError, IndexError) as error:
            raise InputError(
                f"{path}, line {reader.line_num}: {error}. Write it again: affect predict --out"
            ) from error
    return sums.finish(known)


def _rows(
    reader: Iterator[list[str]], header: list[str], people: list[int], columns: tuple[str, ...]
) -> Iterator[tuple[int, float, int | None, int, list[float]]]:
    """Gives frame, time, the person's place, what was seen and the numbers of each row."""
    frame, time_s, face, has_face = map(header.index, ("frame", "timestamp_s", "face", "has_face"))
    places = [header.index(name) for name in columns]
    position = {str(face): place for place, face in enumerate(people)}
    states = {"": NOT_READ, "0": NO_FACE, "1": FACE}
    for row in reader:
        if row[has_face] not in states:
            raise ValueError(f"`has_face` is {row[has_face]!r}, and must be 0, 1 or empty")
        values = [float(row[place] or "nan") for place in places]
        yield int(row[frame]), float(row[time_s]), position.get(row[face]), states[row[has_face]], values


class _Sums:
    """Sums over the frames of each point. When all points are taken, neighbours are added up."""

    def __init__(self, size: int, people: int, columns: int) -> None:
        self.frames_per_point = 1
        self.size = size
        self.frames = 0
        self.frame: int | None = None
        self.time_s = np.zeros(size)
        self.seen = np.zeros((size, people), np.uint8)
        self.sums = np.zeros((size, people, columns))
        self.counts = np.zeros((size, people, columns), np.uint32)

    def add(self, frame: int, time_s: float, person: int | None, seen: int, values: list[float]) -> None:
        if frame != self.frame:
            if self.frames == self.size * self.frames_per_point:
                self._halve()
            self.frame = frame
            if self.frames % self.frames_per_point == 0:
                self.time_s[self.frames // self.frames_per_point] = time_s
            self.frames += 1
        if person is None:
            return
        point = (self.frames - 1) // self.frames_per_point
        self.seen[point, person] = max(self.seen[point, person], seen)
        numbers = np.asarray(values)
        is_number = np.isfinite(numbers)
        self.sums[point, person, is_number] += numbers[is_number]
        self.counts[point, person, is_number] += 1

    def _halve(self) -> None:
        """Joins each two points. `size` is even."""
        half = self.size // 2
        for array in (self.sums, self.counts):
            array[:half] = array[0::2] + array[1::2]
            array[half:] = 0
        self.seen[:half] = np.maximum(self.seen[0::2], self.seen[1::2])
        self.seen[half:] = NOT_READ
        self.time_s[:half] = self.time_s[0::2]
        self.frames_per_point *= 2

    def finish(self, columns: tuple[str, ...]) -> Curves:
        points = -(-self.frames // self.frames_per_point)
        counts = self.counts[:points]
        with np.errstate(invalid="ignore", divide="ignore"):
            values = (self.sums[:points] / counts).astype(np.float32)
        return Curves(self.frames_per_point, self.frames, self.time_s[:points], self.seen[:points], columns, values)


def colour_of(place: int) -> str:
    """Returns the colour of the curve in a place of a list."""
    return _COLOURS[place % len(_COLOURS)]


def dash_of(place: int) -> tuple[int, ...]:
    """Returns the dashes of the curve in a place of a list."""
    return DASHES[place % len(DASHES)]


@dataclass(frozen=True)
class SmallCurve:
    """A curve of the study's table.

    Args:
        name: Class or dimension.
        path: The `d` of an SVG path, in a box of `WIDTH` × `HEIGHT`.
        colour: Of the line.
        dash: Of the line, as SVG writes it.
        is_main: Whether it is drawn thick.
    """

    name: str
    path: str
    colour: str
    dash: str
    is_main: bool


WIDTH, HEIGHT = 140, 38


def draw_small(
    curves: Curves, person: int, names: Sequence[str], main: Sequence[str], low: float
) -> tuple[list[SmallCurve], list[tuple[float, float]]]:
    """Draws the curves of a person in a small box.

    Args:
        curves: With `names` as columns.
        person: Its place among the people.
        names: The curves.
        main: Those of them that are drawn thick.
        low: The value at the bottom of the box: 0 for classes, -1 for valence and arousal. At the top it is 1.

    Returns:
        The curves, thick ones last; and the stretches without a face, as left edge and width.
    """
    time_s, seen = curves.time_s, curves.seen[:, person]
    end = time_s[-1] + (time_s[-1] - time_s[0]) / max(1, len(time_s) - 1) if len(time_s) else 1
    scale = WIDTH / max(end - (time_s[0] if len(time_s) else 0), 1e-9)
    x = (time_s - time_s[:1]) * scale
    found = []
    for place, name in enumerate(names):
        values = curves.of(person, name)
        y = HEIGHT - 2 - (HEIGHT - 4) * (np.clip(values, low, 1) - low) / (1 - low)
        parts, is_open = [], False
        for at, height, state in zip(x, y, seen, strict=True):
            if np.isfinite(height):
                parts.append(f"{'L' if is_open else 'M'}{at:.1f} {height:.1f}" + ("" if is_open else "h.1"))
                is_open = True
            elif state == NO_FACE:
                is_open = False
        dash = " ".join(map(str, dash_of(place))) if low < 0 else ""
        found.append(SmallCurve(name, "".join(parts), colour_of(place), dash, name in main))
    edges = np.append(x, WIDTH)
    gaps = [(round(a, 1), round(b - a, 1)) for a, b in join_gaps(seen == NO_FACE, edges)]
    return sorted(found, key=lambda curve: curve.is_main), gaps


def join_gaps(is_gap: np.ndarray, edges: np.ndarray) -> list[tuple[float, float]]:
    """Returns the first and last edge of each stretch of points.

    Args:
        is_gap: bool (T,).
        edges: float (T + 1,): where each point begins, and where the last one ends.
    """
    changes = np.flatnonzero(np.diff(np.concatenate([[0], is_gap.astype(int), [0]])))
    return [(float(edges[a]), float(edges[b])) for a, b in changes.reshape(-1, 2)]
