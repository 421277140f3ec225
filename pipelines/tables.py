"""Text and CSV files that others wrote → rows. Every error names the file and the line."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from affect.errors import InputError
from affect.pipelines.files import fold, name_fault

# Largest file that is read. Half an hour of ratings each 40 ms is about 1 MiB.
MOST_BYTES = 64 * 2**20


def read_text(path: Path | str, most_bytes: int = MOST_BYTES) -> str:
    """Returns the text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: File.
        most_bytes: Size in bytes of the largest file that is read.

    Raises:
        InputError: When the file cannot be read, is larger than `most_bytes` or is not UTF-8.
    """
    if fault := name_fault(path):
        raise InputError(fault)
    try:
        with open(path, "rb") as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise InputError(f"{path} is larger than {most_bytes // 2**20} MiB.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}") from error


def read_header(reader: csv.DictReader) -> list[str]:
    """Returns the names of the columns: the first row that has any value; an empty list if there is no such row."""
    while reader.fieldnames is not None and not any(map(str.strip, reader.fieldnames)):
        reader.fieldnames = None  # so that the next row is read
    return list(reader.fieldnames or ())


def read_rows(
    path: Path | str, needed: Sequence[str], optional: Sequence[str] = (), faults: list[str] | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Reads a CSV file with a header. Columns are found by name, in any order and case. Empty rows are skipped.

    Args:
        path: File in UTF-8.
        needed: Names of the columns that must be present.
        optional: Names of the columns that may be present.
        faults: List to which a sentence is appended for each row of another length. With `None` such a row is an error.

    Yields:
        `(line, row)`: number of the line; column → text. Columns of `needed` and `optional` have these names.

    Raises:
        InputError: When a needed column is missing, when one of the columns is present twice, or on a row of another
            length.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        written = read_header(reader)
        names = {fold(name): name for name in (*needed, *optional)}
        header = [names.get(fold(name), name) for name in written]
        received = f"Received: {', '.join(written)[:200]!r}"
        if missing := [name for name in needed if name not in header]:
            raise InputError(f"{path}: there is no column {', '.join(missing)}. {received}")
        if twice := [name for name in names.values() if header.count(name) > 1]:
            raise InputError(f"{path}: there are two columns {', '.join(twice)}. {received}")
        reader.fieldnames = header
        for row in reader:
            beyond = row.pop(None, [])
            if not any((value or "").strip() for value in (*beyond, *row.values())):
                continue
            if not any(value.strip() for value in beyond) and None not in row.values():
                yield reader.line_num, row
                continue
            fault = f"{path}, line {reader.line_num}: expected {len(header)} fields."
            if faults is None:
                raise InputError(fault)
            faults.append(fault)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
