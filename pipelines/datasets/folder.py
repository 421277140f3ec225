"""Videos in folders that are named by class."""

from dataclasses import replace
from pathlib import Path

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


def folder(source: Path | str) -> Clips:
    """Lists `SOURCE/<split>/<class>/*`, `SOURCE/<class>/*` or, without labels, `SOURCE/*` and `SOURCE/<split>/*`.

    A folder named train, val or test, in any case, is a split. A class with the name of an emotion, in any case,
    becomes that emotion. Other names are kept. If there are classes, a video directly in SOURCE has a `problem`.

    Args:
        source: Folder.

    Returns:
        Clips; a key is the video's path below SOURCE without its suffix. If two videos differ in the suffix only, the
        key includes it. Videos in other places are left out and named.
    """
    root = require_folder(source)
    loose = videos_in(root)
    # A broken link here has no label, and a clip without a label must not be among clips with labels.
    faults = {path: fault for path in loose if (fault := name_fault(path))}
    clips = Clips(Source(key=path.stem, path=path) for path in loose if path not in faults)
    clips.left_out += faults.values()
    for outer in folders_in(root):
        if looks_like_video(outer):
            continue
        if fold(outer.name) not in SPLITS:
            clips += [_make_clip(root, path, outer.name, "all") for path in videos_in(outer)]
            continue
        inner = [each for each in folders_in(outer) if not looks_like_video(each)]
        labelled = [_make_clip(root, path, each.name, outer.name) for each in inner for path in videos_in(each)]
        clips += labelled or [_make_clip(root, path, "", outer.name) for path in videos_in(outer)]
    if any(clip.label for clip in clips):
        problem = "{} is beside the folders of classes, so it has no label."
        clips[:] = [
            replace(clip, problem=problem.format(clip.path)) if clip.path.parent == root else clip for clip in clips
        ]
    expected = "Expected SOURCE/[train|val|test/]CLASS/VIDEO, or SOURCE/VIDEO."
    name_rest(clips, root, expected, known=faults)
    return spell_alike(distinguish_suffixes(clips)).require(f"{root} holds no videos. {expected}")


def _make_clip(source, path, label, split):
    key = path.relative_to(source).with_suffix("").as_posix()
    return Source(key=key, path=path, label=label, split=split)
