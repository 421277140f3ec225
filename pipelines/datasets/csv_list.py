"""A CSV file that lists videos."""

import csv
import re
import unicodedata
from pathlib import Path, PurePosixPath

from affect.errors import InputError
from affect.pipelines.datasets.source import Clips, Source, distinguish_suffixes, spell_alike
from affect.pipelines.files import Names, find_listed, fold, name_fault
from affect.pipelines.tables import read_header

COLUMNS = ("path", "label", "subject", "split", "start_s", "end_s")


def csv_list(source: Path | str) -> Clips:
    """Lists the rows of a CSV file with the columns path, label, subject, split, start_s and end_s.

    Only `path` is required. It is relative to the folder of the CSV file. Columns are found by name, in any order and
    case. An index before them is ignored. Empty rows are skipped. Several rows may name one video at different times.

    A key is the path without its suffix. If two videos differ in the suffix only, the key includes it. If the row has
    times, `@start-end` follows.

    Args:
        source: CSV file in UTF-8 with a header.

    Returns:
        Clips. A row with a fault is left out and named. If a path does not exist as it is written, it is looked for in
        other Unicode normal forms, and with `/` instead of `\\`.

    Raises:
        InputError: When the file cannot be read, has other columns, or lists no video.
    """
    source = Path(source)
    if not source.is_file():
        raise InputError(f"There is no file {source}. Expected a CSV file with the columns {', '.join(COLUMNS)}.")
    if fault := name_fault(source):
        raise InputError(fault)
    clips = Clips()
    known: Names = {}
    with open(source, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            written = read_header(reader)
            header = [fold(name) for name in written]
            if header[:1] in ([""], ["unnamed: 0"], ["index"]):
                header[0] = "index"  # pandas writes such a column of row numbers
            if (
                "path" not in header
                or set(header[1:]) - {*COLUMNS, ""}
                or header[0] not in (*COLUMNS, "index")
                or len(set(header) - {""}) < sum(map(bool, header))
            ):
                raise InputError(
                    f"{source}: expected the columns {', '.join(COLUMNS)}. Received: {', '.join(written)!r}"
                )
            reader.fieldnames = header
            for row in reader:
                row.pop("index", "")
                beyond = [*row.pop(None, ()), row.pop("", "")]
                if not any((value or "").strip() for value in (*beyond, *row.values())):
                    continue
                values = {key: (value or "").strip() for key, value in row.items()}
                try:
                    if any((value or "").strip() for value in beyond):
                        raise InputError(f"{source}, line {reader.line_num}: more fields than the header has columns.")
                    clips.append(_parse_row(source, values, reader.line_num, known))
                except InputError as error:
                    clips.left_out.append(str(error))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{source} is not a CSV file in UTF-8: {error}") from error
    return spell_alike(distinguish_suffixes(clips)).require(f"{source} lists no videos.")


def _parse_row(source, row, line, known):
    start_s, end_s = (_parse_seconds(source, row, name, line) for name in ("start_s", "end_s"))
    if end_s is not None and end_s <= (start_s or 0.0):
        raise InputError(f"{source}, line {line}: end_s must be after start_s. Received: {start_s} and {end_s}")
    if not PurePosixPath(row["path"]).name:
        raise InputError(f"{source}, line {line}: the path names no file. Received: {row['path']!r}")
    split = row.get("split") or "all"
    if not re.fullmatch(r"[\w-]+", split):
        raise InputError(f"{source}, line {line}: the split must be a word, such as train. Received: {split!r}")
    path, hint = find_listed(source.parent, row["path"], known)
    # If a path is written with `\\` and found with `/`, the key has `/`.
    text = row["path"].replace("\\", "/") if path != source.parent / row["path"] else row["path"]
    key = PurePosixPath(unicodedata.normalize("NFC", text)).with_suffix("").as_posix()
    if start_s is not None or end_s is not None:
        key += f"@{start_s or 0:.10g}-{'end' if end_s is None else f'{end_s:.10g}'}"
    return Source(
        key=key,
        path=path,
        label=row.get("label", ""),
        subject=row.get("subject", ""),
        split=split,
        start_s=start_s,
        end_s=end_s,
        problem=hint,
    )


def _parse_seconds(source, row, name, line):
    text = row.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise InputError(f"{source}, line {line}: {name} must be seconds, 0 or more. Received: {text!r}")
    return value
