"""Files, folders and patterns that a user names → the videos and photographs in them."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from affect.errors import InputError, format_count
from affect.pipelines.datasets.source import folders_below, looks_like_video
from affect.pipelines.faces import is_photograph

# How a web address begins.
ADDRESSES = ("http://", "https://", "ftp://", "rtsp://", "rtmp://", "s3://", "gs://")
# Suffixes of photographs that cannot be read.
RAW_PHOTOGRAPHS = (".heic", ".heif", ".avif", ".cr3", ".nef", ".arw", ".dng")
# Subfolders with pictures and videos in the folder of a study.
RESULTS = ("parts", "pages", "previews")


@dataclass(frozen=True)
class Video:
    """A video or photograph that is to be read.

    Args:
        path: The file.
        name: How it is named in tables: its path below the deepest folder that holds all that was named, with `/`.
            If they are on several drives of Windows, the whole path. Bytes that are not UTF-8 are written as `\\xe9`;
            such a file cannot be read.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Found:
    """What was found.

    Args:
        videos: Videos and photographs with unique names, in the order in which they were named; those of a folder are
            sorted. A file is listed once.
        left_out: One sentence about each kind of file that is neither.
    """

    videos: list[Video] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_videos(paths: Sequence[str | Path], *, without: Path | None = None) -> Found:
    """Finds the videos and photographs in files and folders.

    A file that is named itself is listed whatever it is, also if it does not exist, so that its fault is named when it
    is read, and the other files are read. A folder is searched with its subfolders; hidden files and folders are left
    out. A path with `*`, `?` or `[` that does not exist is a pattern, in which `**` stands for any folders.

    Args:
        paths: Files, folders and patterns.
        without: Folder that is not searched, such as the one that results are written to, unless it holds all of a
            folder that is named. The pictures and previews of a study are never searched for.

    Raises:
        InputError: If a path is a web address, nothing fits a pattern, no path exists, or no video is found.
    """
    named = [path for text in paths for path in _expand(text)]
    if not any(map(os.path.lexists, named)):
        raise InputError(f"There is no file or folder {', '.join(map(str, named))}.")
    found: list[Path] = []
    others: Counter[str] = Counter()
    for path in named:
        if path.is_dir():
            for each in sorted(_list_files(path, without)):
                if is_photograph(each) or looks_like_video(each):
                    found.append(each)
                else:
                    others[each.suffix.lower() or "without a suffix"] += 1
        else:
            found.append(path)
    if not found:
        raise InputError(f"No video or photograph in {', '.join(map(str, paths))}.")
    unique: dict[str, Path] = {}
    for path in found:
        unique.setdefault(os.path.abspath(path), path)
    try:
        root = os.path.commonpath([_folder_of(path) for path in named])
        names = [os.path.relpath(full, root) for full in unique]
    except ValueError:  # they are on several drives of Windows
        names = list(unique)
    videos = [Video(path, _spell(Path(name).as_posix())) for name, path in zip(names, unique.values(), strict=True)]
    return Found(videos, _describe(others))


def _expand(text: str | Path) -> Iterable[Path]:
    """Returns the paths that a text means."""
    if str(text).lower().startswith(ADDRESSES):
        raise InputError(
            f"{text} is an address. Results are kept by the content of a file, so an address cannot be read. Download "
            "the video and name the file; or watch it live: affect watch MODEL ADDRESS"
        )
    if not str(text):
        raise InputError("A path is empty. The folder that the command runs in is written as a dot.")
    path = Path(text)
    if os.path.lexists(path) or not glob.has_magic(str(text)):
        return [path]
    if matches := sorted(glob.glob(str(text), recursive=True)):
        return map(Path, matches)
    raise InputError(f"No file matches {text}.")


def _holds_results(folder):
    """Returns whether a folder is the part of a study that holds pictures and videos."""
    return folder.name in RESULTS and (folder.parent / "study.json").is_file()


def _spell(name):
    """Returns a name as tables, which are UTF-8, can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _list_files(folder, without):
    """Yields the files below a folder; hidden ones, those of studies and those in the folder `without` are left out."""
    root, left_out = folder.resolve(), without.resolve() if without else None
    for each in folders_below(folder):
        here = each.resolve()
        is_left_out = left_out and here.is_relative_to(left_out) and not root.is_relative_to(left_out)
        if not is_left_out and not any(map(_holds_results, (here, *here.parents)[: -len(root.parts)])):
            yield from (path for path in each.iterdir() if not path.name.startswith(".") and not path.is_dir())


def _folder_of(path):
    full = os.path.abspath(path)
    return full if os.path.isdir(full) else os.path.dirname(full)


def _describe(others):
    """Returns sentences on the files that were left out, with the number of each suffix."""
    raw = {suffix: count for suffix, count in others.items() if suffix in RAW_PHOTOGRAPHS}
    rest = {suffix: count for suffix, count in others.items() if suffix not in raw}
    sentences = []
    if raw:
        sentences.append(f"{_count(raw)} cannot be read. Convert these photographs to JPEG.")
    if rest:
        sentences.append(f"{_count(rest)} left out: neither video nor photograph.")
    return sentences


def _count(counts):
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items()))
    return f"{format_count(sum(counts.values()), 'file')} ({kinds})"
