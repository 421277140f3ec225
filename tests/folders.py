"""Folders, to be compared."""


def contents(folder):
    """Returns the bytes of each file in a folder and below: path in the folder → bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
