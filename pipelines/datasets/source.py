"""What a data set lists: its clips, what it left out, and what must hold for the clips of every data set."""

import difflib
import itertools
import mimetypes
import os
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from affect.data.labels import EMOTIONS
from affect.data.records import Dimensions
from affect.errors import InputError
from affect.pipelines import video
from affect.pipelines.files import fold, is_open, name_fault, read_start

# In characters: of a key, a label or a subject.
LONGEST_NAME = 1000
# Unicode's categories of control characters, line ends and the surrogates as which Python reads what is not UTF-8.
NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
SPLITS = ("train", "val", "test", "all")
# Other names of splits. They are noted and not mapped, because a data set may have several of them.
OTHER_SPLITS = {
    "train": ("trn",),
    "val": ("dev", "devel", "development", "eval", "evaluation", "valid", "validate", "validation"),
    "test": ("tst", "holdout", "held out"),
}
# Names of one kind that are compared with each other at most.
MOST_COMPARED = 300
# Of files that are taken for videos by their names; FFmpeg reads most of them.
SUFFIXES = (
    *video.SUFFIXES,
    *(".264", ".265", ".3g2", ".3gp", ".amv", ".apng", ".asf", ".av1", ".avs", ".divx", ".dv", ".evo", ".f4v", ".gif"),
    *(".h263", ".h264", ".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4p"),
    *(".m4s", ".mj2", ".mjpeg", ".mjpg", ".mod", ".mp4v", ".mpe", ".mpeg4", ".mpv", ".mts", ".mxf", ".nsv", ".nut"),
    *(".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".swf", ".tod", ".tp", ".trp", ".ts", ".vob", ".wtv", ".y4m"),
)
# What programs add to the name of a file that is not there whole, or is packed.
UNFINISHED = (
    *(".part", ".partial", ".crdownload", ".download", ".tmp", ".icloud", ".lnk"),
    *(".zip", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar"),
)
# Of sounds and pictures in the containers of videos.
NO_VIDEOS = (".m4a", ".m4b", ".mka", ".weba", ".wma", ".heic", ".heif", ".avif", ".cr3")
# The standard library's table of suffixes, without what a machine adds to it.
KINDS = mimetypes.MimeTypes().types_map[True]
# How the content of a video begins, as place → bytes.
SIGNATURES = (
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
        problem: What the data set lacks of this clip, or what is wrong with it, as one sentence; empty where nothing
            is. The video is prepared all the same, and `prepare` names the problem beside those of the video.
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


class Clips(list):
    """A list of `Source`, and what the data set says beside it.

    Args:
        clips: Iterable of `Source`.

    Attributes:
        left_out: List of sentences: what looks like a clip and cannot be listed as one. `prepare` prints each and exits
            with 1.
        notes: List of sentences: what was read otherwise than it is written, said once. `prepare` prints each.
    """

    def __init__(self, clips=()):
        super().__init__(clips)
        self.left_out, self.notes = [], []

    def require(self, message):
        """Returns itself if there is a clip that can be used; else what is wrong with the first, or `message`."""
        faults = [*(clip.problem for clip in self), *self.left_out]
        if self and not all(clip.problem for clip in self):
            return self
        if not faults:
            raise InputError(message)
        if len(faults) == 1:
            raise InputError(faults[0])
        raise InputError(f"{faults[0].removesuffix('.')}. {len(faults) - 1} more cannot be used.")


def check_clips(source, clips):
    """Returns the clips of a data set, whichever it is, that can be prepared, with one spelling of labels and splits.

    Labels and splits that differ in case, outer space or Unicode normal form are one: that of `EMOTIONS` or `SPLITS`
    where it is one of these, else the spelling that most clips have. Names that are merely alike stay apart and are
    noted. A clip whose names cannot be used, or that is there twice, is left out and named.

    Args:
        source: Where the data set lies, for the errors.
        clips: List of `Source`; what `Clips` says beside them is kept.

    Returns:
        `Clips`.

    Raises:
        InputError: When no clip is left, or when a subject is in two splits, so that what is learnt of a face is
            tested on the same face.
    """
    found = Clips()
    found.left_out += getattr(clips, "left_out", ())
    found.notes += getattr(clips, "notes", ())
    for clip in clips:
        fault = next(filter(None, map(_fault_of_name, (clip.key, clip.label, clip.subject))), "")
        if fault:
            found.left_out.append(f"{source}: {fault}")
        else:
            found.append(clip)
    spell_alike(found)
    _note_alike("labels", {name for clip in found for name in (clip.label, *(clip.votes or ()))}, found.notes)
    _note_alike("splits", {*SPLITS[:3], *(clip.split for clip in found)}, found.notes)
    found.notes += [
        f"The label {label!r} looks like the split {split!r}; its clips are of the split {clip.split!r}."
        for label, clip in {clip.label: clip for clip in found}.items()
        for split in SPLITS[:3]
        if _names_split(label, split)
    ]
    found.notes += [
        f"The split {name!r} may be the split {split!r}. If it is, call it {split!r}."
        for name in sorted({clip.split for clip in found})
        for split in OTHER_SPLITS
        if _names_split(name, split) and not _alike(name, split)
    ]
    found[:] = _without_doubles(source, found)
    _note_one_file(source, found)
    found.left_out, found.notes = (
        list(dict.fromkeys(map(_printable, lines))) for lines in (found.left_out, found.notes)
    )
    found.require(f"{source} lists no clip.")
    _check_subjects(source, found)
    return found


def spell_alike(clips):
    """Gives the labels and splits of `Clips` one spelling each, as `check_clips` says, and notes where there were two.

    Returns:
        The same `Clips`, changed.
    """
    labels = [name for clip in clips for name in (clip.label, *(clip.votes or ()))]
    labels = _one_spelling("label", labels, EMOTIONS, clips.notes)
    splits = _one_spelling("split", [clip.split for clip in clips], SPLITS, clips.notes)
    clips[:] = [_respelt(clip, labels, splits) for clip in clips]
    return clips


def _respelt(clip, labels, splits):
    label, split = labels.get(clip.label, ""), splits[clip.split]
    votes = Counter()
    for name, share in (clip.votes or {}).items():
        votes[labels[name]] += share
    return replace(clip, label=label, split=split, votes=dict(votes) if clip.votes else clip.votes)


def _fault_of_name(name):
    if len(name) > LONGEST_NAME:
        return f"a name has {len(name)} characters, more than {LONGEST_NAME}: {name[:40]!r}..."
    if any(unicodedata.category(character) in NO_TEXT for character in name):
        return f"a name has control characters or is not UTF-8: {name!r}. Rename it."
    return ""


def _printable(text):
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in NO_TEXT else character
        for character in text
    )


def _one_spelling(what, names, known, notes):
    """Returns each spelling of a name → the one that is used; several of one are noted."""
    counts, spellings = Counter(filter(None, names)), defaultdict(list)
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        spellings[fold(name)].append(name)
    chosen = {}
    for folded, written in spellings.items():
        best = folded if folded in known else unicodedata.normalize("NFC", " ".join(written[0].split()))
        chosen |= dict.fromkeys(written, best)
        if len(written) > 1:
            notes.append(f"The {what}s {', '.join(map(repr, sorted(written)))} are one, read as {best!r}.")
    return chosen


def _note_alike(what, names, notes):
    if len(names) > MOST_COMPARED:
        return
    notes.extend(
        f"The {what} {one!r} and {two!r} look alike and stay apart. If they are one, rename one of them."
        for one, two in itertools.combinations(sorted(names), 2)
        if _alike(one, two)
    )


def _names_split(name, split):
    return fold(name) in OTHER_SPLITS[split] or _alike(name, split)


def _alike(one, two):
    """Returns whether two names may be one by mistake: another form of a word, other separators, or a slip."""
    one, two = ("".join(filter(str.isalnum, fold(name))) for name in (one, two))
    if re.findall(r"\d+", one) != re.findall(r"\d+", two) or one[:1] != two[:1]:
        return False
    shared, shorter = len(_shared_start(one, two)), min(len(one), len(two))
    starts_alike = shorter >= 3 and shared >= 3 and shared >= 0.75 * shorter
    return bool(one) and (starts_alike or difflib.SequenceMatcher(None, one, two).ratio() >= 0.8)


def _shared_start(one, two):
    return "".join(a for a, b in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, two, strict=False)))


def _without_doubles(source, clips):
    """Returns the clips with keys of their own; the others are named in what `Clips` says beside them."""
    of_key, left_out = defaultdict(list), clips.left_out
    for clip in clips:
        if clip in of_key[clip.key]:
            clips.notes.append(f"{source}: {clip.key} is listed twice and used once.")
        else:
            of_key[clip.key].append(clip)
    kept = []
    for key, (first, *others) in of_key.items():
        # `prepare` names the examples of a clip that is several KEY#000 and KEY@1.
        wholes = (re.sub(r"#\d+$", "", key), re.sub(r"(@\d+)?(#\d+)?$", "", key))
        whole = next((name for name in wholes if name != key and name in of_key), None)
        paths = ", ".join(str(each.path) for each in others[:3])
        twice = f"{source}: two videos have the same key: {key}"
        if whole:
            left_out.append(f"{source}: the key {key} may also be a part of {whole}. Rename one of them.")
        elif len({(each.label, each.subject, each.split) for each in (first, *others)}) > 1:
            left_out.append(
                f"{twice}, and other labels, subjects or splits. None is used: {first.path}, {paths}. "
                "Rename or remove one of them."
            )
        else:
            kept.append(first)
            if others:
                left_out.append(f"{twice}. {first.path} is used, and not {paths}. Rename or remove one of them.")
    return kept


def _note_one_file(source, clips):
    """Notes the clips that are one file under several names, because one video may be in two classes or splits."""
    of_file = defaultdict(list)
    for clip in clips:
        if os.path.lexists(clip.path):
            of_file[os.path.realpath(clip.path), clip.start_s, clip.end_s].append(clip.key)
    clips.notes += [
        f"{source}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''} are one file, {path}."
        for (path, *_), keys in of_file.items()
        if len(keys) > 1
    ]


def _check_subjects(source, clips):
    split_of = {}
    for clip in clips:
        name, split = split_of.setdefault(fold(clip.subject), (clip.subject, clip.split))
        if clip.subject and split != clip.split:
            spelt = "" if name == clip.subject else f" (also as {clip.subject!r})"
            raise InputError(
                f"{source}: subject {name!r}{spelt} is in the splits {split!r} and {clip.split!r}. "
                "Put all clips of a subject into one split."
            )


def distinguish_suffixes(clips):
    """Returns the clips; where two of one key differ in their suffix it is added to their keys: `a.mp4`, `a.mov`."""
    of_key = defaultdict(set)
    for clip in clips:
        of_key[clip.key].add(clip.path.suffix)
    for index, clip in enumerate(clips):
        if len(of_key[clip.key]) > 1:
            is_timed = clip.start_s is not None or clip.end_s is not None
            name, at, times = clip.key.rpartition("@") if is_timed else (clip.key, "", "")
            clips[index] = replace(clip, key=f"{name}{clip.path.suffix}{at}{times}")
    return clips


def name_rest(clips, source, expected, *, videos=None, known=()):
    """Notes in `clips.left_out` the videos below a folder that no clip has, a sentence for each folder of them.

    Args:
        clips: `Clips`.
        source: The data set's folder.
        expected: Sentence on where videos are expected.
        videos: Those that may be named; `None` is all below `source`.
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
        clips.left_out.append(f"{folder}: {len(paths)} videos are no clips of this data set ({names}). {expected}")


def looks_like_video(path):
    """Returns whether a path is a video by its name or by how its content begins, whatever is there.

    A link that leads nowhere, a pipe, a device and a folder count by their names, so that they are named and not
    dropped; a link to nowhere without a suffix counts too, and a folder that may not be read. Hidden files (macOS's
    `._clip.mp4`) never do, but for those of which iCloud holds the content: `.clip.mp4.icloud`.
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


def videos_in(folder):
    """Returns what looks like a video directly in a folder, sorted by name; see `looks_like_video`."""
    return sorted(path for path in _entries(folder) if looks_like_video(path))


def videos_below(folder):
    """Returns what looks like a video in a folder and in those below it, sorted by path; hidden ones are left out."""
    return sorted(path for each in folders_below(folder) for path in videos_in(each))


def files_below(folder, suffix):
    """Returns the files of a suffix in whatever case, in a folder and in those below it, sorted by path."""
    return sorted(
        path
        for each in folders_below(folder)
        for path in _entries(each)
        if path.suffix.lower() == suffix and not path.name.startswith(".")
    )


def folders_below(folder, *, around=()):
    """Yields a folder and those below it. Links are followed, but not to a folder that this one lies in."""
    here = folder.resolve()
    if here not in around:
        yield folder
        for each in folders_in(folder):
            yield from folders_below(each, around=(*around, here))


def videos_by_name(folder, pattern, expected, clips, spell):
    """Returns name → video file, of those below a folder.

    Args:
        folder: Folder.
        pattern: Compiled regular expression that each name without suffix must match as a whole.
        expected: What it matches, for what is left out.
        clips: `Clips` whose `left_out` names videos of other names, and all but the first of one name.
        spell: `spell(name)` → the data set's spelling of a name.
    """
    videos, odd = {}, []
    for path in videos_below(folder):
        if not pattern.fullmatch(path.stem):
            odd.append(path)
        elif (name := spell(path.stem)) in videos:
            clips.left_out.append(f"{name} lies in two places: {videos[name]} is used, and not {path}. Remove one.")
        else:
            videos[name] = path
    name_rest(clips, folder, f"Expected the name {expected}.", videos=odd)
    return videos


def folders_in(folder):
    """Returns the folders in a folder, sorted by name; hidden ones and those that may not be read are left out."""
    paths = (path for path in _entries(folder) if not path.name.startswith("."))
    return sorted(path for path in paths if path.is_dir() and is_open(path))


def _entries(folder):
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}).") from error


def require_folder(path):
    """Returns `path` as a Path if it is a folder."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"There is no folder {path}.")
    return path
