"""Text and CSV files of others → rows, with file and line in every error."""

import csv
import io

from affect.errors import InputError
from affect.pipelines.files import fold, name_fault

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


def read_header(reader):
    """Returns the names of a `csv.DictReader`'s columns, of the first row that has any value; an empty list of none."""
    while reader.fieldnames is not None and not any(map(str.strip, reader.fieldnames)):
        reader.fieldnames = None  # it is read from the next row
    return list(reader.fieldnames or ())


def read_rows(path, needed, optional=(), faults=None):
    """Reads a CSV file with a header, whose names decide in any order and case. Rows without any value are blank.

    Args:
        path: File in UTF-8.
        needed: Names of the columns that must be there.
        optional: Names of those that may be there.
        faults: List to which a sentence on each row of another length is added; `None` refuses the file.

    Yields:
        `(line, row)`: number of the line; dict of column → str, those of `needed` and `optional` by these names.

    Raises:
        InputError: When a needed column is missing, or one of these is there twice; with the line, on a row of another
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
