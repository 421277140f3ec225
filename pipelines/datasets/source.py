"""What a data set lists: its clips, and what must hold for those of every data set."""

import itertools
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from affect.errors import InputError
from affect.records import Dimensions
from pipelines.video import SUFFIXES

# In characters: of a key, a label or a subject.
LONGEST_NAME = 1000
# Unicode's categories of control characters, line ends and the surrogates as which Python reads what is not UTF-8.
NO_TEXT = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Source:
    """One clip of a data set, before anything is read of its video.

    Args:
        key: Unique name in the data set.
        path: Video file; with `aligned` a folder of images.
        label: Class name; empty where there is none.
        subject: Person; empty where unknown.
        split: `"train"`, `"val"`, `"test"`, or `"all"` where the data set has no splits.
        start_s, end_s: Part of the video in seconds; `None` is from the start, to the end.
        votes: Class name → share of raters, of those classes that got votes; `None` where there were no raters.
        dimensions: Valence and arousal of the whole recording, `None` where it was not rated.
        aligned: Whether the images are faces that others have cut and aligned.
    """

    key: str
    path: Path
    label: str = ""
    subject: str = ""
    split: str = "all"
    start_s: float | None = None
    end_s: float | None = None
    votes: dict[str, float] | None = None
    dimensions: Dimensions | None = field(default=None, repr=False)
    aligned: bool = False


def check_clips(source, clips):
    """Returns the clips of a data set, whichever it is, if they can be prepared.

    Args:
        source: Where the data set lies, for the errors.
        clips: List of `Source`.

    Raises:
        InputError: When a key, label or subject is too long or cannot be printed, when two clips have one key or one's
            may be that of an example of the other, or when a subject stands in two splits, so that what is learnt of a
            face is tested on the same face.
    """
    for clip in clips:
        for name in (clip.key, clip.label, clip.subject):
            if len(name) > LONGEST_NAME:
                raise InputError(
                    f"{source}: a name has {len(name)} characters, more than {LONGEST_NAME}: {name[:40]!r}..."
                )
            if any(unicodedata.category(character) in NO_TEXT for character in name):
                raise InputError(f"{source}: a name has control characters or is not UTF-8: {name!r}. Rename it.")
    if twice := sorted(key for key, count in Counter(clip.key for clip in clips).items() if count > 1):
        raise InputError(f"{source}: two videos have the same key: {', '.join(twice[:3])}. Rename one of them.")
    keys = {clip.key for clip in clips}
    for key in sorted(keys):
        # `prepare` names the examples of a clip that is several KEY#000 and KEY@1.
        for name in (re.sub(r"#\d+$", "", key), re.sub(r"(@\d+)?(#\d+)?$", "", key)):
            if name != key and name in keys:
                raise InputError(f"{source}: the key {key} may also be a part of {name}. Rename one of them.")
    split_of = {}
    for clip in clips:
        if clip.subject and (other := split_of.setdefault(clip.subject, clip.split)) != clip.split:
            raise InputError(
                f"{source}: subject {clip.subject!r} stands in the splits {other!r} and {clip.split!r}. "
                "Put all clips of a subject into one split."
            )
    return list(clips)


def videos_in(folder):
    """Returns the video files directly in a folder, sorted by name; hidden ones (macOS's `._clip.mp4`) are left out."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def videos_below(folder):
    """Returns the video files in a folder and in those below it, sorted by path; hidden ones are left out."""
    return sorted(itertools.chain(videos_in(folder), *map(videos_below, folders_in(folder))))


def videos_by_name(folder, pattern, expected):
    """Returns name → video file, of those below a folder.

    Args:
        folder: Folder.
        pattern: Compiled regular expression that each name without suffix must match as a whole.
        expected: What it matches, for the error.
    """
    videos = {}
    for video in videos_below(folder):
        if not pattern.fullmatch(video.stem):
            raise InputError(f"{video} is no recording of this data set. Expected the name {expected}.")
        if video.stem in videos:
            raise InputError(f"{video.stem} lies in two places, {videos[video.stem]} and {video}. Remove one of them.")
        videos[video.stem] = video
    return videos


def folders_in(folder):
    """Returns the folders in a folder, sorted by name; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def require_folder(path):
    """Returns `path` as a Path if it is a folder."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.")
    return path
