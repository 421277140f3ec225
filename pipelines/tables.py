"""Text and CSV files of others → rows, with file and line in every error."""

import csv
import io

from affect.errors import InputError
from pipelines.files import fold, name_fault

# Of a file that is read whole; a rating each 40 ms comes to about 1 MiB in half an hour.
MOST_BYTES = 64 * 2**20


def read_text(path):
    """Returns the text of a file in UTF-8, with or without a byte order mark; refuses one that is too large."""
    if fault := name_fault(path):
        raise InputError(fault)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise InputError(f"{path} is larger than {MOST_BYTES // 2**20} MiB.")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8: {error}") from error


def read_rows(path, needed):
    """Reads a CSV file with a header, whose names decide in any order and case. Rows without any value are blank.

    Args:
        path: File in UTF-8.
        needed: Names of the columns that must be there.

    Yields:
        `(line, row)`: number of the line; dict of column → str, the needed ones by the names in `needed`.

    Raises:
        InputError: When a needed column is missing or is there twice, and with the line on a row of another length.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        written = reader.fieldnames or []
        names = {fold(name): name for name in needed}
        header = [names.get(fold(name), name) for name in written]
        received = f"Received: {', '.join(written)[:200]!r}"
        if missing := [name for name in needed if name not in header]:
            raise InputError(f"{path}: there is no column {', '.join(missing)}. {received}")
        if twice := [name for name in needed if header.count(name) > 1]:
            raise InputError(f"{path}: there are two columns {', '.join(twice)}. {received}")
        reader.fieldnames = header
        for row in reader:
            beyond = row.pop(None, [])
            if not any((value or "").strip() for value in (*beyond, *row.values())):
                continue
            if any(value.strip() for value in beyond) or None in row.values():
                raise InputError(f"{path}, line {reader.line_num}: expected {len(header)} fields.")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
