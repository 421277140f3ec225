"""AFEW, the audio-video sub-challenge of EmotiW: `Train_AFEW|Val_AFEW/<Emotion>/<id>.avi`."""

from affect.errors import InputError
from affect.labels import AFEW, EMOTIONS
from pipelines.datasets.source import Source, folders_in, require_folder, videos_in

SPLITS = {"Train_AFEW": "train", "Val_AFEW": "val"}
# Clips of AFEW 7.0 as published, 773 and 383, in the order of `affect.labels.EMOTIONS`.
PUBLISHED = {
    **{("train", label): count for label, count in zip(EMOTIONS, (133, 74, 81, 150, 144, 117, 74), strict=True)},
    **{("val", label): count for label, count in zip(EMOTIONS, (64, 40, 46, 63, 63, 61, 46), strict=True)},
}


def afew(source):
    """Lists the clips of AFEW in its published layout; subjects are not published.

    Args:
        source: The folder that holds Train_AFEW and Val_AFEW, or one of them.

    Returns:
        List of `Source`; a key is `"train/000046280"`.
    """
    source = require_folder(source)
    clips = []
    for folder, split in SPLITS.items():
        for emotion in folders_in(source / folder) if (source / folder).is_dir() else []:
            if emotion.name.startswith("AlignedFaces"):  # see afew_faces
                continue
            if emotion.name not in AFEW:
                raise InputError(f"{emotion} is not one of AFEW's classes. Expected one of {sorted(AFEW)}.")
            clips += [
                Source(key=f"{split}/{video.stem}", path=video, label=AFEW[emotion.name], split=split)
                for video in videos_in(emotion)
            ]
    if not clips:
        raise InputError(f"{source} is not AFEW. Expected {source}/Train_AFEW/Angry/*.avi and so on.")
    return clips
