"""Text and CSV files of others → rows, with file and line in every error."""

import csv
import io

from affect.errors import InputError

# Of a file that is read whole; a rating each 40 ms comes to about 1 MiB in half an hour.
MOST_BYTES = 64 * 2**20


def read_text(path):
    """Returns the text of a file in UTF-8, with or without a byte order mark; refuses one that is too large."""
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
    """Reads a CSV file with a header.

    Args:
        path: File in UTF-8.
        needed: Names of the columns that must be there.

    Yields:
        `(line, row)`: number of the line; dict of column → str.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        header = reader.fieldnames or []
        if missing := [name for name in needed if name not in header]:
            raise InputError(f"{path}: there is no column {', '.join(missing)}. Received: {', '.join(header)[:200]!r}")
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{path}, line {reader.line_num}: expected {len(header)} fields.")
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
