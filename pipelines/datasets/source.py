"""What a data set lists: its clips and what it left out; checks of the clips of every data set."""

import difflib
import itertools
import mimetypes
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from affect.data.clips import Dimensions
from affect.data.labels import EMOTIONS
from affect.errors import NO_TEXT, InputError, escape_text, format_count
from affect.pipelines import video
from affect.pipelines.files import fold, is_open, name_fault, read_start

# Largest number of characters of a key, a label or a subject.
LONGEST_NAME = 1000
SPLITS = ("train", "val", "test", "all")
# Other names of splits. They are noted and not mapped, because a data set may have several of them.
OTHER_SPLITS = {
    "train": ("trn",),
    "val": ("dev", "devel", "development", "eval", "evaluation", "valid", "validate", "validation"),
    "test": ("tst", "holdout", "held out"),
}
# If there are more names of one kind, they are not compared with each other.
MOST_COMPARED = 300
# Suffixes of videos. FFmpeg reads most of them.
SUFFIXES = (
    *video.SUFFIXES,
    *(".264", ".265", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".av1", ".avs", ".divx", ".dv", ".evo", ".f4v", ".gif"),
    *(".h263", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4p"),
    *(".m4s", ".mj2", ".mjpeg", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpeg4", ".mpv", ".mts", ".mxf", ".nsv", ".nut"),
    *(".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".swf", ".tod", ".tp", ".trp", ".ts", ".vob", ".wtv", ".y4m"),
)
# Suffixes that programs add to the name of an incomplete or packed file.
UNFINISHED = (
    *(".part", ".partial", ".crdownload", ".download", ".tmp", ".icloud", ".lnk"),
    *(".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
)
# Suffixes of sounds and pictures in the containers of videos.
NO_VIDEOS = (".m4a", ".m4b", ".mka", ".weba", ".wma", ".heic", ".heif", ".avif", ".cr3")
# The standard library's table of suffixes, without the entries that a machine adds.
KINDS = mimetypes.MimeTypes().types_map[True]
# Starts of videos: place in the file → bytes.
SIGNATURES: tuple[dict[int, bytes], ...] = (
    {4: b"ftyp"},
    {0: b"RIFF", 8: b"AVI "},
    {0: b"RIFF", 8: b"WEBPVP8X", 30: b"ANIM"},
    {0: b"\x1a\x45\xdf\xa3"},
    {0: b"FLV\x01"},
    {0: b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"},
    {0: b"\x00\x00\x01\xba"},
    {0: b"\x47", 188: b"\x47", 376: b"\x47"},
    {4: b"\x47", 196: b"\x47", 388: b"\x47"},
)


@dataclass(frozen=True)
class Source:
    """One clip of a data set, before its video is read.

    Args:
        key: Unique name in the data set.
        path: Video file; with `aligned` a folder of images.
        label: Class name; empty if there is none.
        subject: Person; empty if unknown.
        split: `"train"`, `"val"`, `"test"`, a name of the data set's own, or `"all"` if it has no splits.
        start_s, end_s: Section of the video in seconds; `None` is the start or the end of the video.
        votes: Class name → share of raters, for the classes that got votes; `None` if there were no raters.
        dimensions: Valence and arousal of the whole recording; `None` if it was not rated.
        aligned: Whether the images are faces that others have cut and aligned.
        problem: Fault of the clip in the data set, as one sentence; empty if there is none. The video is prepared all
            the same, and `prepare` names the problem beside the faults of the video.
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
    problem: str = ""


class Clips(list[Source]):
    """A list of clips, with sentences on what is not in the list.

    Args:
        clips: The clips.

    Attributes:
        left_out: Sentences on files or rows that look like a clip and cannot be used. `prepare` prints each and exits
            with 1.
        notes: Sentences on names that were not read as they are written. `prepare` prints each.
    """

    def __init__(self, clips: Iterable[Source] = ()):
        super().__init__(clips)
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def require(self, message: str) -> "Clips":
        """Returns itself if there is a clip that can be used.

        Raises:
            InputError: Otherwise, with the first fault and the number of others, or with `message` if there is none.
        """
        faults = [*(clip.problem for clip in self), *self.left_out]
        if self and not all(clip.problem for clip in self):
            return self
        if not faults:
            raise InputError(message)
        if len(faults) == 1:
            raise InputError(faults[0])
        raise InputError(f"{faults[0].removesuffix('.')}. {len(faults) - 1} more cannot be used.")


def check_clips(source: Path | str, clips: Iterable[Source]) -> Clips:
    """Returns the clips of any data set that can be prepared, with one spelling of each label and split.

    Labels and splits that differ in case, outer space or Unicode normal form only are one name. It is spelt as in
    `EMOTIONS` or `SPLITS` if it is one of these, otherwise as most clips spell it. Names that are similar stay separate
    and are noted. A clip whose names cannot be used, or that is listed twice, is left out and named.

    Args:
        source: Path of the data set, for the errors.
        clips: The clips that a data set lists. The sentences of `Clips` are kept.

    Raises:
        InputError: When no clip is left, or when a subject is in two splits, because then a model would be tested on
            people from its training clips.
    """
    found = Clips()
    found.left_out += getattr(clips, "left_out", ())
    found.notes += getattr(clips, "notes", ())
    for clip in clips:
        fault = next(filter(None, map(_name_text_fault, (clip.key, clip.label, clip.subject))), "")
        if fault:
            found.left_out.append(f"{source}: {fault}")
        else:
            found.append(clip)
    spell_alike(found)
    _note_alike("labels", {name for clip in found for name in (clip.label, *(clip.votes or ()))}, found.notes)
    _note_alike("splits", {*SPLITS[:3], *(clip.split for clip in found)}, found.notes)
    found.notes += [
        f"The label {label!r} looks like the split {split!r}. Its clips are in the split {clip.split!r}."
        for label, clip in {clip.label: clip for clip in found}.items()
        for split in SPLITS[:3]
        if _names_split(label, split)
    ]
    found.notes += [
        f"The split {name!r} may mean the split {split!r}. If it does, rename it to {split!r}."
        for name in sorted({clip.split for clip in found})
        for split in OTHER_SPLITS
        if _names_split(name, split) and not _is_alike(name, split)
    ]
    found[:] = _drop_doubles(source, found)
    _note_one_file(source, found)
    sentences = (found.left_out, found.notes)
    found.left_out, found.notes = (list(dict.fromkeys(map(escape_text, lines))) for lines in sentences)
    found.require(f"{source} lists no clip.")
    _check_subjects(source, found)
    return found


def spell_alike(clips: Clips) -> Clips:
    """Changes the labels and splits to one spelling of each, as `check_clips` says, and notes names with several.

    Returns:
        The same object.
    """
    names = [name for clip in clips for name in (clip.label, *(clip.votes or ()))]
    labels = _choose_spellings("label", names, EMOTIONS, clips.notes)
    splits = _choose_spellings("split", [clip.split for clip in clips], SPLITS, clips.notes)
    clips[:] = [_respell(clip, labels, splits) for clip in clips]
    return clips


def _respell(clip, labels, splits):
    label, split = labels.get(clip.label, ""), splits[clip.split]
    votes: dict[str, float] = defaultdict(float)
    for name, share in (clip.votes or {}).items():
        votes[labels[name]] += share
    return replace(clip, label=label, split=split, votes=dict(votes) if clip.votes else clip.votes)


def _name_text_fault(name):
    """Returns why a name cannot be used; empty if it can."""
    if len(name) > LONGEST_NAME:
        return f"a name has {len(name)} characters, more than {LONGEST_NAME}: {name[:40]!r}..."
    if any(unicodedata.category(character) in NO_TEXT for character in name):
        return f"a name has control characters or is not UTF-8: {name!r}. Rename it."
    return ""


def _choose_spellings(what, names, known, notes):
    """Returns each spelling of a name → the spelling that is used. A name with several spellings is noted."""
    counts, spellings = Counter(filter(None, names)), defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        spellings[fold(name)].append(name)
    chosen = {}
    for folded, written in spellings.items():
        best = folded if folded in known else unicodedata.normalize("NFC", " ".join(written[0].split()))
        chosen |= dict.fromkeys(written, best)
        if len(written) > 1:
            notes.append(f"The {what}s {', '.join(map(repr, sorted(written)))} are read as one, {best!r}.")
    return chosen


def _note_alike(what, names, notes):
    if len(names) > MOST_COMPARED:
        return
    notes.extend(
        f"The {what} {one!r} and {two!r} are similar and are kept separate. If they mean the same, rename one."
        for one, two in itertools.combinations(sorted(names), 2)
        if _is_alike(one, two)
    )


def _names_split(name, split):
    return fold(name) in OTHER_SPLITS[split] or _is_alike(name, split)


def _is_alike(one, two):
    """Returns whether two names may be meant as one: another form of a word, other separators, or a typing error."""
    one, two = ("".join(filter(str.isalnum, fold(name))) for name in (one, two))
    if re.findall(r"\d+", one) != re.findall(r"\d+", two) or one[:1] != two[:1]:
        return False
    shared, shorter = len(_find_shared_start(one, two)), min(len(one), len(two))
    starts_alike = shorter >= 3 and shared >= 3 and shared >= 0.75 * shorter
    return bool(one) and (starts_alike or difflib.SequenceMatcher(None, one, two).ratio() >= 0.8)


def _find_shared_start(one, two):
    return "".join(a for a, b in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def _drop_doubles(source, clips):
    """Returns the clips whose keys are unique; the others are named in `clips.left_out` or `clips.notes`."""
    of_key, left_out = defaultdict(list), clips.left_out
    for clip in clips:
        if clip in of_key[clip.key]:
            clips.notes.append(f"{source}: {clip.key} is listed twice and used once.")
        else:
            of_key[clip.key].append(clip)
    kept = []
    for key, (first, *others) in of_key.items():
        # If a clip becomes several examples, `prepare` names them KEY#000 and KEY@1.
        wholes = (re.sub(r"#\d+$", "", key), re.sub(r"(@\d+)?(#\d+)?$", "", key))
        whole = next((name for name in wholes if name != key and name in of_key), None)
        paths = ", ".join(str(each.path) for each in others[:3])
        twice = f"{source}: two videos have the same key: {key}"
        if whole:
            left_out.append(f"{source}: the key {key} may also be a part of {whole}. Rename one of them.")
        elif len({(each.label, each.subject, each.split) for each in (first, *others)}) > 1:
            left_out.append(
                f"{twice}, and different labels, subjects or splits. None is used: {first.path}, {paths}. "
                "Rename or remove one of them."
            )
        else:
            kept.append(first)
            if others:
                left_out.append(f"{twice}. {first.path} is used, and not {paths}. Rename or remove one of them.")
    return kept


def _note_one_file(source, clips):
    """Notes the clips that are one file under several names, because one video may be in two classes or splits."""
    of_file: dict[tuple, list[str]] = defaultdict(list)
    for clip in clips:
        if os.path.lexists(clip.path):
            of_file[os.path.realpath(clip.path), clip.start_s, clip.end_s].append(clip.key)
    clips.notes += [
        f"{source}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''} are one file, {path}."
        for (path, *_), keys in of_file.items()
        if len(keys) > 1
    ]


def _check_subjects(source, clips):
    split_of: dict[str, tuple[str, str]] = {}
    for clip in clips:
        name, split = split_of.setdefault(fold(clip.subject), (clip.subject, clip.split))
        if clip.subject and split != clip.split:
            spelt = "" if name == clip.subject else f" (also as {clip.subject!r})"
            raise InputError(
                f"{source}: subject {name!r}{spelt} is in the splits {split!r} and {clip.split!r}. "
                "Put all clips of a subject into one split."
            )


def distinguish_suffixes(clips: Clips) -> Clips:
    """Adds the suffix to the keys of videos that have the same key and different suffixes: `a.mp4`, `a.mov`.

    Returns:
        The same object.
    """
    of_key = defaultdict(set)
    for clip in clips:
        of_key[clip.key].add(clip.path.suffix)
    for index, clip in enumerate(clips):
        if len(of_key[clip.key]) > 1:
            is_timed = clip.start_s is not None or clip.end_s is not None
            name, at, times = clip.key.rpartition("@") if is_timed else (clip.key, "", "")
            clips[index] = replace(clip, key=f"{name}{clip.path.suffix}{at}{times}")
    return clips


def name_rest(
    clips: Clips, source: Path, expected: str, *, videos: Iterable[Path] | None = None, known: Iterable[Path] = ()
) -> None:
    """Adds to `clips.left_out` a sentence for each folder with videos that no clip has.

    Args:
        clips: The clips.
        source: The data set's folder.
        expected: Sentence on where videos are expected.
        videos: Videos that are looked at; `None` looks at all below `source`.
        known: Paths that are named elsewhere.
    """
    listed, rest = {*known, *(clip.path for clip in clips)}, defaultdict(list)
    for path in videos_below(source) if videos is None else videos:
        if path not in listed and path.is_dir() and not is_open(path):
            clips.left_out.append(name_fault(path))
        elif path not in listed:
            rest[path.parent].append(path)
    for folder, paths in sorted(rest.items()):
        names = ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")
        clips.left_out.append(
            f"{folder}: {format_count(len(paths), 'video')} not of this data set ({names}). {expected}"
        )


def looks_like_video(path: Path) -> bool:
    """Returns whether a path is a video by its name or by the start of its content.

    A broken link, a pipe, a device and a folder are judged by their names, so that they are named and not dropped. A
    broken link without a suffix and a folder that may not be read count as videos. Hidden files (macOS's
    `._clip.mp4`) do not, except files whose content is in iCloud: `.clip.mp4.icloud`.
    """
    suffix, before = (part.suffix.lower().strip() for part in (path, path.with_suffix("")))
    if path.name.startswith("."):
        return suffix == ".icloud" and before in SUFFIXES
    if suffix in SUFFIXES or (suffix in UNFINISHED and before in SUFFIXES):
        return True
    if suffix in NO_VIDEOS:
        return False
    kind = KINDS.get(suffix, "")
    if kind.startswith("video/"):
        return True
    if kind.partition("/")[0] in ("audio", "image", "text", "font") and suffix != ".webp":
        return False
    if path.is_symlink() and not path.exists():
        return not suffix
    if path.is_dir():
        return not is_open(path)
    start = read_start(path, 400)
    return any(all(start[at:].startswith(piece) for at, piece in each.items()) for each in SIGNATURES)


def videos_in(folder: Path) -> list[Path]:
    """Returns the paths directly in a folder that look like videos, sorted by name; see `looks_like_video`."""
    return sorted(path for path in _list_entries(folder) if looks_like_video(path))


def videos_below(folder: Path) -> list[Path]:
    """Returns the paths in a folder and its subfolders that look like videos, sorted. Hidden folders are left out."""
    return sorted(path for each in folders_below(folder) for path in videos_in(each))


def files_below(folder: Path, suffix: str) -> list[Path]:
    """Returns the files in a folder and its subfolders that have a suffix, sorted. Hidden ones are left out.

    Args:
        folder: Folder.
        suffix: In lower case, `".csv"`; the files may have it in any case.
    """
    return sorted(
        path
        for each in folders_below(folder)
        for path in _list_entries(each)
        if path.suffix.lower() == suffix and not path.name.startswith(".")
    )


def folders_below(folder: Path, *, around: Collection[Path] = ()) -> Iterator[Path]:
    """Yields a folder and its subfolders. Links are followed, except links to a folder that contains the link.

    Args:
        folder: Folder.
        around: Resolved paths of the folders that contain it; for the function's own calls.
    """
    here = folder.resolve()
    if here not in around:
        yield folder
        for each in folders_in(folder):
            yield from folders_below(each, around=(*around, here))


def videos_by_name(
    folder: Path, pattern: re.Pattern[str], expected: str, clips: Clips, spell: Callable[[str], str]
) -> dict[str, Path]:
    """Returns name → path of the videos in a folder and its subfolders.

    Args:
        folder: Folder.
        pattern: Each name without suffix must match it as a whole.
        expected: Example of a name, for the sentence on other names.
        clips: Videos with other names, and all but the first video of a name, are added to its `left_out`.
        spell: Returns the data set's spelling of a name.
    """
    videos: dict[str, Path] = {}
    odd: list[Path] = []
    for path in videos_below(folder):
        if not pattern.fullmatch(path.stem):
            odd.append(path)
        elif (name := spell(path.stem)) in videos:
            clips.left_out.append(f"{name} is in two places: {videos[name]} is used, and not {path}. Remove one.")
        else:
            videos[name] = path
    name_rest(clips, folder, f"Expected the name {expected}.", videos=odd)
    return videos


def folders_in(folder: Path) -> list[Path]:
    """Returns the folders in a folder, sorted by name. Hidden and unreadable ones are left out."""
    paths = (path for path in _list_entries(folder) if not path.name.startswith("."))
    return sorted(path for path in paths if path.is_dir() and is_open(path))


def _list_entries(folder):
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}).") from error


def require_folder(path: Path | str) -> Path:
    """Returns `path` as a Path.

    Raises:
        InputError: When it is no folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.")
    return path
