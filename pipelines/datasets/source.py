"""What a data set lists: its clips."""

from dataclasses import dataclass
from pathlib import Path

from affect.errors import InputError
from pipelines.video import SUFFIXES


@dataclass(frozen=True)
class Source:
    """One clip of a data set, before anything is read of its video.

    Args:
        key: Unique name in the data set.
        path: Video file.
        label: Class name; empty where there is none.
        subject: Person; empty where unknown.
        split: `"train"`, `"val"`, `"test"`, or `"all"` where the data set has no splits.
        start_s, end_s: Part of the video in seconds; `None` is from the start, to the end.
    """

    key: str
    path: Path
    label: str = ""
    subject: str = ""
    split: str = "all"
    start_s: float | None = None
    end_s: float | None = None


def videos_in(folder):
    """Returns the video files directly in a folder, sorted by name; hidden ones (macOS's `._clip.mp4`) are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def folders_in(folder):
    """Returns the folders in a folder, sorted by name; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def require_folder(path):
    """Returns `path` as a Path if it is a folder."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.")
    return path
