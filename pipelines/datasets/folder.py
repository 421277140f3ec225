"""Folders of videos named by class."""

from dataclasses import replace

from affect.pipelines.datasets.source import (
    Clips,
    Source,
    distinguish_suffixes,
    folders_in,
    looks_like_video,
    name_rest,
    require_folder,
    spell_alike,
    videos_in,
)
from affect.pipelines.files import fold, name_fault

SPLITS = ("train", "val", "test")


def folder(source):
    """Lists `SOURCE/<split>/<class>/*`, `SOURCE/<class>/*` or, without labels, `SOURCE/*` and `SOURCE/<split>/*`.

    A folder named train, val or test in whatever case is a split. A class named as an emotion in whatever case becomes
    that emotion; any other name is kept. Where there are classes, a video directly in
    SOURCE has a `problem`.

    Args:
        source: Folder.

    Returns:
        `Clips`; a key is the video's path below SOURCE without its suffix, and with it where two videos differ in
        nothing else. Videos that lie elsewhere are left out and named.
    """
    source = require_folder(source)
    loose = videos_in(source)
    # A link to nowhere has no label here, and a clip without one would be among those that have.
    faults = {path: fault for path in loose if (fault := name_fault(path))}
    clips = Clips(Source(key=path.stem, path=path) for path in loose if path not in faults)
    clips.left_out += faults.values()
    for outer in folders_in(source):
        if looks_like_video(outer):
            continue
        if fold(outer.name) not in SPLITS:
            clips += [_clip(source, path, outer.name, "all") for path in videos_in(outer)]
            continue
        inner = [each for each in folders_in(outer) if not looks_like_video(each)]
        labelled = [_clip(source, path, each.name, outer.name) for each in inner for path in videos_in(each)]
        clips += labelled or [_clip(source, path, "", outer.name) for path in videos_in(outer)]
    if any(clip.label for clip in clips):
        problem = "{} lies beside the folders of classes, and so it has no label."
        clips[:] = [
            replace(clip, problem=problem.format(clip.path)) if clip.path.parent == source else clip for clip in clips
        ]
    expected = "Expected SOURCE/[train|val|test/]CLASS/VIDEO, or SOURCE/VIDEO."
    name_rest(clips, source, expected, known=faults)
    return spell_alike(distinguish_suffixes(clips)).require(f"{source} holds no videos. {expected}")


def _clip(source, path, label, split):
    key = path.relative_to(source).with_suffix("").as_posix()
    return Source(key=key, path=path, label=label, split=split)
