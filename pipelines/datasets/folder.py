"""Folders of videos named by class."""

from affect.errors import InputError
from affect.labels import EMOTIONS
from pipelines.datasets.source import Source, folders_in, require_folder, videos_below, videos_in

SPLITS = ("train", "val", "test")


def folder(source):
    """Lists `SOURCE/<split>/<class>/*`, `SOURCE/<class>/*` or, without labels, `SOURCE/*`.

    A folder named train, val or test is a split. A class named as an emotion in whatever case becomes that emotion;
    any other name is kept.

    Args:
        source: Folder.

    Returns:
        List of `Source`; a key is the video's path below SOURCE without its suffix.
    """
    source = require_folder(source)
    clips = [Source(key=video.stem, path=video) for video in videos_in(source)]
    for outer in folders_in(source):
        if outer.name in SPLITS:
            for inner in folders_in(outer):
                clips += [_clip(source, video, outer.name) for video in videos_in(inner)]
        else:
            clips += [_clip(source, video, "all") for video in videos_in(outer)]
    expected = "Expected SOURCE/[train|val|test/]CLASS/VIDEO, or SOURCE/VIDEO."
    if lost := sorted({*videos_below(source)} - {clip.path for clip in clips}):
        raise InputError(f"{source}: {len(lost)} videos lie where no class is expected, such as {lost[0]}. {expected}")
    if not clips:
        raise InputError(f"{source} holds no videos. {expected}")
    return clips


def _clip(source, video, split):
    name = video.parent.name
    label = name.lower() if name.lower() in EMOTIONS else name
    return Source(key=video.relative_to(source).with_suffix("").as_posix(), path=video, label=label, split=split)
