"""Files of time-continuous ratings → arrays of numbers; several raters → their gold standard."""

import csv
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from affect.data.labels import DIMENSIONS
from affect.errors import InputError
from affect.pipelines.files import fold
from affect.pipelines.tables import read_text

Dimension = Literal["valence", "arousal"]
# Ratings are in about [-1, 1], and recordings last minutes. Much larger numbers are no ratings and no times.
MOST_VALUE = 10.0
MOST_SECONDS = 1e6
# Names of columns, without case and separators: columns of the recording's name; columns that count rows or frames.
NAMES = ("name", "instancename", "instance", "recording", "recordingname", "file", "filename", "video", "id")
PLACES = (
    *("", "index", "idx", "level0", "line", "number", "nr", "row", "sample", "unnamed", "unnamed0"),
    *("frame", "frames", "frameid", "frameidx", "frameindex", "framenumber", "framenr"),
)
# Words in the names of columns that summarise the raters.
SUMMARIES = {
    *("mean", "average", "avg", "median", "mode", "min", "max", "sum", "std", "stdev", "sd", "var", "variance"),
    *("gold", "goldstandard", "gs", "ewe", "consensus", "count", "ccc", "sem"),
}
# Names of RECOLA's raters: FM1, FF2, ... If a file has such columns, no other column is a rater.
RATER = re.compile(r"f[mf]\d+")
SECONDS = ("t", "s", "sec", "secs", "second", "seconds")
OTHER_UNITS = (
    *("ms", "msec", "msecs", "millis", "millisecond", "milliseconds", "us", "usec", "microseconds"),
    *("ns", "nanoseconds", "minutes", "hours", "frames"),
)
# Names of the value in an ARFF file with several columns of numbers beside the time.
VALUES = ("goldstandard", "gold", "value", "rating", *DIMENSIONS)


def read_arff(path: Path | str, *, name: str | None = None, dimension: Dimension | None = None) -> np.ndarray:
    """Reads an ARFF file of one recording's ratings. Attributes are found by name, in any order.

    The part of the format that AVEC uses is read: string and numeric attributes, comments, and rows with or without
    quotes. The time is the attribute whose name contains a word for time or seconds. If there is one other number, it
    is the value. If there are several, the value is the one with the name gold standard, value, rating or the
    dimension.

    Args:
        path: File.
        name: Name of the recording; rows with another name are refused. `None` accepts any name, the same in all rows.
        dimension: The file is refused if the name of its value is the other dimension. `None` accepts both.

    Returns:
        float64 (T, 2): time in seconds, ascending, and value.

    Raises:
        InputError: With file and line, on anything else.
    """
    attributes, rows, title = [], None, ""
    for number, line in ((number, line.strip()) for number, line in _read_lines(path)):
        if rows is not None:
            if not line.startswith("%"):
                rows.append((number, _split(path, number, line, ",")))
        elif line.lower() == "@data":
            rows = []
        elif attribute := re.fullmatch(
            r"""@attribute\s+('[^']*'|"[^"]*"|\S+)\s+(string|numeric|real|integer)""", line, re.IGNORECASE
        ):
            kind = "string" if attribute[2].lower() == "string" else "numeric"
            attributes.append((attribute[1].strip("'\""), kind))
        elif line.lower().startswith("@relation"):
            title = line[len("@relation") :]
        elif not line.startswith("%"):
            raise InputError(
                f"{path}, line {number}: expected @relation, @attribute NAME string, @attribute NAME numeric or @data. "
                f"Received: {line[:60]!r}"
            )
    kinds = [kind for _, kind in attributes]
    if kinds.count("string") < 1 or kinds.count("numeric") < 2:
        raise InputError(f"{path}: expected the attributes name (string), time and value (numeric). Received: {kinds}")
    header = [written for written, _ in attributes]
    numeric = [column for column, kind in enumerate(kinds) if kind == "numeric"]
    time = _find_time(path, header, numeric)
    texts = [column for column, kind in enumerate(kinds) if kind == "string"]
    names = texts if len(texts) == 1 else [column for column in texts if _simplify(header[column]) in NAMES]
    others = [column for column in numeric if not _is_time(header[column]) and _simplify(header[column]) not in PLACES]
    values = [column for column in numeric if column != time and _simplify(header[column]) in VALUES]
    own = [column for column in values if _simplify(header[column]) == dimension]
    values = own or (values if len(others) > 1 else others)
    if len(names) != 1 or len(values) != 1:
        raise InputError(f"{path}: expected one attribute with the name and one with the value. Received: {header}")
    _check_dimension(path, (title, header[values[0]]), dimension)
    _check_lengths(path, rows or [], len(header))
    _check_names(path, rows or [], names[0], name)
    return _parse_numbers(path, rows or [], [time, *values])


def read_semicolons(
    path: Path | str,
    *,
    name: str | None = None,
    dimension: Dimension | None = None,
    columns: Sequence[str] | None = None,
    optional: Sequence[str] = (),
    notes: list[str] | None = None,
) -> tuple[tuple[str, ...] | None, np.ndarray]:
    """Reads a file of one recording's values, separated by `;`, or by tabs or commas if its first line has no `;`.

    With a header the columns are found by name, in any order and with any quotes. The time is the column whose name
    contains a word for time or seconds. A column with a name such as name or file holds the name of the recording. The
    raters are the columns FM1, FF1 and so on. If there are none, the raters are all other columns except a mean, an
    index or a number of frames. Without a header the order is the order of `columns`, or the time and then the values.

    Args:
        path: File.
        name: Name of the recording; rows with another name are refused. `None` accepts any name, the same in all rows.
        dimension: The file is refused if the name of a column is the other dimension. `None` accepts both.
        columns: For a file with a name in each row: names of the required columns, in the order of a file without a
            header. The first is the column of the name, the second the column of the time. `None` reads a time and any
            number of raters.
        optional: Columns of `columns` that a header may lack.
        notes: List to which a sentence is appended on columns that are no raters.

    Returns:
        `(header, numbers)`: the names of the columns of numbers, the time first: as in `columns`, otherwise as in the
        header in lower case; `None` without a header. float64 (T, columns), the first of which is the rising time.

    Raises:
        InputError: With file and line, when a column is missing or present twice, a row has another number of columns,
            or a field is no rating.
    """
    lines = _read_lines(path)
    delimiter = next((each for each in ";\t," for _, line in lines[:1] if each in line), ";")
    rows = [(number, _split(path, number, line, delimiter)) for number, line in lines]
    rows = [(number, fields) for number, fields in rows if any(field.strip() for field in fields)]
    header = rows.pop(0)[1] if _has_header(rows) else None
    width = len(header) if header else len(columns) if columns else len(rows[0][1]) if rows else 0
    _check_lengths(path, rows, width)
    if not rows:
        raise InputError(f"{path} holds no ratings.")
    if header is None:
        if columns:
            _check_names(path, rows, 0, name)
        return None, _parse_numbers(path, rows, range(1 if columns else 0, width))
    plain = [_simplify(each) for each in header]
    times = _list_times(header, range(width))
    found = dict(zip(plain, range(width), strict=True))
    called: list[str] = []
    if columns:
        found |= {columns[1]: times[0]} if times else {}
        known = {*found, *optional, *(columns[:1] if set(plain) & set(NAMES) else ())}
        if missing := [each for each in columns if each not in known]:
            raise InputError(
                f"{path}: there is no column {', '.join(missing)}. Expected the columns {';'.join(columns)}. "
                f"Received: {';'.join(header)}"
            )
        called = [each for each in columns[2:] if each in found]
        chosen = [found[each] for each in called]
    else:
        chosen = [
            column
            for column, each in enumerate(plain)
            if each not in (*PLACES, *NAMES) and not _is_time(header[column])
        ]
        raters = [column for column in chosen if RATER.fullmatch(plain[column])]
        raters = raters or [
            column for column in chosen if not SUMMARIES & {*_split_words(header[column]), plain[column]}
        ]
        if notes is not None and (others := [header[column] for column in chosen if column not in raters]):
            notes.append(f"{Path(path).parent}: columns left out, because they are no raters: {', '.join(others)}.")
        chosen = raters
    time = _find_time(path, header, range(width))
    for column in chosen:
        if sum(fold(each) == fold(header[column]) for each in header) > 1:
            raise InputError(f"{path}: there are two columns {header[column]}. Received: {';'.join(header)}")
    _check_dimension(path, (header[column] for column in chosen), dimension)
    names = [column for column, each in enumerate(plain) if each in NAMES]
    for column in names[:1]:
        _check_names(path, rows, column, name)
    names_of_numbers = (columns[1], *called) if columns else tuple(fold(header[column]) for column in (time, *chosen))
    return names_of_numbers, _parse_numbers(path, rows, [time, *chosen])


def gold_standard(path: Path | str, ratings: np.ndarray) -> np.ndarray:
    """Computes the gold standard of several raters by the rule of AVEC 2016's organisers.

    The mean of each rater is replaced with the weighted mean of all raters' means. The weight of a rater is its
    agreement with the others, the mean CCC of its pairs. Then the raters are averaged. The published gold standard of
    RECOLA was computed in this way (run_gold_standard.m in github.com/AudioVisualEmotionChallenge/AVEC2018), with N − 1
    in the variances and N in the covariance.

    Args:
        path: The file, for the error.
        ratings: float64 (raters, T), two raters or more.

    Returns:
        float64 (T,).

    Raises:
        InputError: When there are fewer than two raters or rows, or when the raters do not agree.
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


def _read_lines(path):
    """Returns `(number, line)` of the lines that are not empty. Tabs are kept, because an outer column may be empty."""
    lines = ((number, line.strip(" \r\n")) for number, line in enumerate(read_text(path).splitlines(), 1))
    return [(number, line) for number, line in lines if line.strip()]


def _split(path, number, line, delimiter):
    """Returns the fields of a line, which may have single or double quotes."""
    quote = "'" if "'" in line and '"' not in line else '"'
    try:
        (fields,) = csv.reader([line], delimiter=delimiter, quotechar=quote, skipinitialspace=True)
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}, line {number}: not fields separated by {delimiter!r}: {error}") from error
    return [field.strip().strip("'\"").strip() for field in fields]


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _simplify(name):
    """Returns the letters and digits of a column's name in lower case."""
    return "".join(filter(str.isalnum, fold(name)))


def _split_words(name):
    """Returns the words of a column's name in lower case; frameTime_s has the words frame, time and s."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _is_time(name):
    words = _split_words(name)
    if any(word.endswith(("time", "times", "timestamp", "timestamps")) for word in words):
        return True
    return bool(words) and {*words} <= {*SECONDS, *OTHER_UNITS} and words != ["frames"]


def _list_times(header, columns):
    """Returns the columns of times in seconds; if there are none, all columns of times."""
    times = [column for column in columns if _is_time(header[column])]
    return [column for column in times if not {*_split_words(header[column])} & {*OTHER_UNITS}] or times


def _find_time(path, header, columns):
    """Returns the only column of times, which must be in seconds."""
    times = _list_times(header, columns)
    if len(times) != 1:
        raise InputError(f"{path}: expected one column of times. Received: {header}")
    if unit := next((word for word in _split_words(header[times[0]]) if word in OTHER_UNITS), None):
        raise InputError(f"{path}: expected times in seconds. Received: the column {header[times[0]]!r}, in {unit}.")
    return times[0]


def _check_dimension(path, names, dimension):
    """Refuses names that contain the other dimension."""
    for name in names:
        found = {*_split_words(name), _simplify(name)} & {*DIMENSIONS}
        if dimension and found and dimension not in found:
            raise InputError(f"{path}: expected ratings of {dimension}. Received: {name.strip()!r}")


def _has_header(rows):
    """Returns whether the first row is a header: it has fewer numbers than the second row, or no number."""
    numbers = [sum(map(_is_number, fields)) for _, fields in rows[:2]]
    return bool(numbers) and (numbers[0] == 0 if len(numbers) == 1 else numbers[0] < numbers[1] or numbers[0] == 0)


def _check_lengths(path, rows, width):
    for line, fields in rows:
        if len(fields) != width:
            raise InputError(f"{path}, line {line}: expected {width} fields. Received: {len(fields)}")


def _check_names(path, rows, column, name):
    """Refuses rows with another name than `name`, or than the first row if `name` is `None`."""
    expected = fold(rows[0][1][column] if name is None and rows else name or "")
    # Some files hold the name of a file.
    known = (expected, *(expected + suffix for suffix in (".csv", ".arff", ".mp4", ".avi")))
    name = name or (rows[0][1][column] if rows else "")
    for line, fields in rows:
        if fold(fields[column]) not in known:
            raise InputError(f"{path}, line {line}: expected a row of {name}. Received: {fields[column][:40]!r}")


def _parse_numbers(path, rows, columns):
    """Returns the numbers of some columns, float64 (T, columns). The first of these columns is the time."""
    numbers, before_s = np.empty((len(rows), len(columns))), -math.inf
    if not numbers.size:
        raise InputError(f"{path} holds no ratings.")
    for index, (line, fields) in enumerate(rows):
        for place, column in enumerate(columns):
            text, most = fields[column], MOST_VALUE if place else MOST_SECONDS
            if not _is_number(text) or not -most <= float(text) <= most:
                what = f"a rating in [-{most:g}, {most:g}]" if place else "a time in seconds"
                raise InputError(f"{path}, line {line}: expected {what}. Received: {text[:40]!r}")
            numbers[index, place] = float(text)
        # Records store times in microseconds.
        if abs(numbers[index, 0]) < 5e-7:
            numbers[index, 0] = 0.0
        if numbers[index, 0] < max(0.0, before_s + 1e-6):
            raise InputError(
                f"{path}, line {line}: times must start at 0 or later and ascend. Received: {fields[columns[0]]}"
            )
        before_s = numbers[index, 0]
    return numbers
