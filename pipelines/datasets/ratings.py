"""Files of time-continuous ratings → arrays of numbers; several raters → their gold standard."""

import csv
import itertools
import math
import re

import numpy as np

from affect.data.labels import DIMENSIONS
from affect.errors import InputError
from affect.pipelines.files import fold
from affect.pipelines.tables import read_text

# Ratings lie in about [-1, 1], and recordings last minutes; what is far beyond is no rating.
MOST_VALUE = 10.0
MOST_SECONDS = 1e6
# What columns are called, without case and separators: the recording's name; what counts rows or frames.
NAMES = ("name", "instancename", "instance", "recording", "recordingname", "file", "filename", "video", "id")
PLACES = (
    *("", "index", "idx", "level0", "line", "number", "nr", "row", "sample", "unnamed", "unnamed0"),
    *("frame", "frames", "frameid", "frameidx", "frameindex", "framenumber", "framenr"),
)
# Words in the names of columns that sum up the raters.
SUMMARIES = {
    *("mean", "average", "avg", "median", "mode", "min", "max", "sum", "std", "stdev", "sd", "var", "variance"),
    *("gold", "goldstandard", "gs", "ewe", "consensus", "count", "ccc", "sem"),
}
# RECOLA's raters: FM1, FF2, ... Where there are such columns, no other is a rater.
RATER = re.compile(r"f[mf]\d+")
SECONDS = ("t", "s", "sec", "secs", "second", "seconds")
OTHER_UNITS = (
    *("ms", "msec", "msecs", "millis", "millisecond", "milliseconds", "us", "usec", "microseconds"),
    *("ns", "nanoseconds", "minutes", "hours", "frames"),
)
# The value of an ARFF file, where there are more numbers than the time and it.
VALUES = ("goldstandard", "gold", "value", "rating", *DIMENSIONS)


def read_arff(path, *, name=None, dimension=None):
    """Reads an ARFF file of one recording's ratings, whose attributes are known by their names in any order.

    It is the part of the format that AVEC uses: string and numeric attributes, comments, and rows, quoted or not. The
    time is the attribute whose name speaks of time or seconds; of the other numbers, the value is the only one, or the
    one that is called gold standard, value, rating or as the dimension.

    Args:
        path: File.
        name: Of the recording; rows of another are refused. `None` takes any, but of one name.
        dimension: `"valence"` or `"arousal"`, as which the file is to be read; a value that is called as the other is
            refused. `None` takes any.

    Returns:
        float64 (T, 2): time in seconds, ascending, and value.

    Raises:
        InputError: With file and line, on anything else.
    """
    attributes, rows, title = [], None, ""
    for number, line in ((number, line.strip()) for number, line in _lines(path)):
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
    time = _time_column(path, header, numeric)
    texts = [column for column, kind in enumerate(kinds) if kind == "string"]
    names = texts if len(texts) == 1 else [column for column in texts if _plain(header[column]) in NAMES]
    others = [column for column in numeric if not _is_time(header[column]) and _plain(header[column]) not in PLACES]
    values = [column for column in numeric if column != time and _plain(header[column]) in VALUES]
    own = [column for column in values if _plain(header[column]) == dimension]
    values = own or (values if len(others) > 1 else others)
    if len(names) != 1 or len(values) != 1:
        raise InputError(f"{path}: expected one attribute with the name and one with the value. Received: {header}")
    _check_dimension(path, (title, header[values[0]]), dimension)
    _check_lengths(path, rows or [], len(header))
    _check_names(path, rows or [], names[0], name)
    return _numbers(path, rows or [], [time, *values])


def read_semicolons(path, *, name=None, dimension=None, columns=None, optional=(), notes=None):
    """Reads a file of one recording's values separated by `;`, or by tabs or commas where its first line has no `;`.

    With a header its names decide, in any order and quoting: the time is the column whose name speaks of time or
    seconds, and a column that is called name, file or the like holds the recording's name. Raters are the columns that
    are called FM1, FF1 and so on; where there are none, all others but a mean, an index or a number of frames. Without
    a header the order is that of `columns`, or the time and then the values.

    Args:
        path: File.
        name: Of the recording; rows of another are refused. `None` takes any, but of one name.
        dimension: `"valence"` or `"arousal"`, as which the file is to be read; a column that is called as the other is
            refused. `None` takes any.
        columns: Names of the columns that must be there, of a file that has a name in each row, in their order where
            there is no header: the first is the name's and the second the time's. `None` is any number of raters
            behind the time.
        optional: Of these, those that a header may lack.
        notes: List to which a sentence is added on columns that are taken for no raters; `None` drops it.

    Returns:
        `(header, numbers)`: tuple of the names of the columns of numbers, the time first: those of `columns`, or the
        header's in lower case; `None` without a header; float64 (T, columns), the first of which is the time, rising.

    Raises:
        InputError: With file and line, when a column is missing or twice there, a row has another number of columns, or
            something is no rating.
    """
    lines = _lines(path)
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
        return None, _numbers(path, rows, range(1 if columns else 0, width))
    plain = [_plain(each) for each in header]
    times = _times(header, range(width))
    found = dict(zip(plain, range(width), strict=True))
    if columns:
        found |= {columns[1]: times[0]} if times else {}
        found |= dict.fromkeys(columns[:1] if set(plain) & set(NAMES) else ())
        if missing := [each for each in columns if each not in (*found, *optional)]:
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
        raters = raters or [column for column in chosen if not SUMMARIES & {*_words(header[column]), plain[column]}]
        if notes is not None and (others := [header[column] for column in chosen if column not in raters]):
            notes.append(f"{path.parent}: columns left out, because they are no raters: {', '.join(others)}.")
        chosen = raters
    time = _time_column(path, header, range(width))
    for column in chosen:
        if sum(fold(each) == fold(header[column]) for each in header) > 1:
            raise InputError(f"{path}: there are two columns {header[column]}. Received: {';'.join(header)}")
    _check_dimension(path, (header[column] for column in chosen), dimension)
    names = [column for column, each in enumerate(plain) if each in NAMES]
    for column in names[:1]:
        _check_names(path, rows, column, name)
    called = (columns[1], *called) if columns else tuple(fold(header[column]) for column in (time, *chosen))
    return called, _numbers(path, rows, [time, *chosen])


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
    """Returns `(number, line)` of the lines that are not empty; a column at either end may be, so tabs are kept."""
    lines = ((number, line.strip(" \r\n")) for number, line in enumerate(read_text(path).splitlines(), 1))
    return [(number, line) for number, line in lines if line.strip()]


def _split(path, number, line, delimiter):
    """Returns the fields of a line; both quotes are taken."""
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


def _plain(name):
    """Returns the letters and digits of a column's name in lower case."""
    return "".join(filter(str.isalnum, fold(name)))


def _words(name):
    """Returns the words of a column's name in lower case: those of frameTime_s are frame, time and s."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]


def _is_time(name):
    words = _words(name)
    if any(word.endswith(("time", "times", "timestamp", "timestamps")) for word in words):
        return True
    return bool(words) and {*words} <= {*SECONDS, *OTHER_UNITS} and words != ["frames"]


def _times(header, columns):
    """Returns the places of the columns of times; of those in seconds, if there are any."""
    times = [column for column in columns if _is_time(header[column])]
    return [column for column in times if not {*_words(header[column])} & {*OTHER_UNITS}] or times


def _time_column(path, header, columns):
    """Returns the place of the one column of times in seconds."""
    times = _times(header, columns)
    if len(times) != 1:
        raise InputError(f"{path}: expected one column of times. Received: {header}")
    if unit := next((word for word in _words(header[times[0]]) if word in OTHER_UNITS), None):
        raise InputError(f"{path}: expected times in seconds. Received: the column {header[times[0]]!r}, in {unit}.")
    return times[0]


def _check_dimension(path, names, dimension):
    """Refuses names that speak of the other dimension."""
    for name in names:
        found = {*_words(name), _plain(name)} & {*DIMENSIONS}
        if dimension and found and dimension not in found:
            raise InputError(f"{path}: expected ratings of {dimension}. Received: {name.strip()!r}")


def _has_header(rows):
    """Returns whether the first row names columns: it has fewer numbers than the second, or none where it is alone."""
    numbers = [sum(map(_is_number, fields)) for _, fields in rows[:2]]
    return bool(numbers) and (numbers[0] == 0 if len(numbers) == 1 else numbers[0] < numbers[1] or numbers[0] == 0)


def _check_lengths(path, rows, width):
    for line, fields in rows:
        if len(fields) != width:
            raise InputError(f"{path}, line {line}: expected {width} fields. Received: {len(fields)}")


def _check_names(path, rows, column, name):
    """Refuses rows of another recording than the first row's, or than `name`."""
    expected = fold(rows[0][1][column] if name is None and rows else name or "")
    # Some write the name of the file.
    known = (expected, *(expected + suffix for suffix in (".csv", ".arff", ".mp4", ".avi")))
    name = name or (rows[0][1][column] if rows else "")
    for line, fields in rows:
        if fold(fields[column]) not in known:
            raise InputError(f"{path}, line {line}: expected a row of {name}. Received: {fields[column][:40]!r}")


def _numbers(path, rows, columns):
    """Returns the numbers of some columns, float64 (T, columns), of which the first is the time."""
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
        # Records hold microseconds.
        if abs(numbers[index, 0]) < 5e-7:
            numbers[index, 0] = 0.0
        if numbers[index, 0] < max(0.0, before_s + 1e-6):
            raise InputError(
                f"{path}, line {line}: times must start at 0 or later and ascend. Received: {fields[columns[0]]}"
            )
        before_s = numbers[index, 0]
    return numbers
