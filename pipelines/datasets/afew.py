"""AFEW, the audio-video sub-challenge of EmotiW: `Train_AFEW|Val_AFEW/<Emotion>/<id>.avi`."""

from affect.errors import InputError
from affect.labels import AFEW
from pipelines.datasets.source import Source, require_folder, videos_in

SPLITS = {"Train_AFEW": "train", "Val_AFEW": "val"}


def afew(source):
    """Lists the clips of AFEW in its published layout; subjects are not published.

    Args:
        source: The folder that holds Train_AFEW and Val_AFEW, or one of them.

    Returns:
        List of `Source`; a key is `"train/000046280"`.
    """
    source = require_folder(source)
    clips = [
        Source(key=f"{split}/{video.stem}", path=video, label=label, split=split)
        for folder, split in SPLITS.items()
        for emotion, label in AFEW.items()
        if (source / folder / emotion).is_dir()
        for video in videos_in(source / folder / emotion)
    ]
    if not clips:
        raise InputError(f"{source} is not AFEW. Expected {source}/Train_AFEW/Angry/*.avi and so on.")
    return clips
