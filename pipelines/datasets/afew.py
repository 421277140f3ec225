"""AFEW, the audio-video sub-challenge of EmotiW: `Train_AFEW|Val_AFEW/<Emotion>/<id>.avi`."""

from pathlib import Path

from affect.data.labels import AFEW, EMOTIONS
from affect.pipelines.datasets.source import (
    Clips,
    Source,
    folders_in,
    name_rest,
    require_folder,
    videos_below,
    videos_in,
)
from affect.pipelines.files import fold

SPLITS = {"Train_AFEW": "train", "Val_AFEW": "val"}
# Published numbers of clips of AFEW 7.0, 773 and 383 in all, in the order of `affect.data.labels.EMOTIONS`.
PUBLISHED = {
    **{("train", label): count for label, count in zip(EMOTIONS, (133, 74, 81, 150, 144, 117, 74), strict=True)},
    **{("val", label): count for label, count in zip(EMOTIONS, (64, 40, 46, 63, 63, 61, 46), strict=True)},
}


def afew(source: Path | str) -> Clips:
    """Lists the clips of AFEW in its published layout. Names of folders may be in any case. Subjects are not published.

    Args:
        source: The folder that holds Train_AFEW and Val_AFEW, or one of them.

    Returns:
        Clips; a key is `"train/000046280"`. Videos in other folders are left out and named.
    """
    root = require_folder(source)
    clips, labels = Clips(), {fold(name): label for name, label in AFEW.items()}
    for folder, split in split_folders(root):
        for emotion in folders_in(folder):
            if is_of_faces(emotion):
                continue
            if fold(emotion.name) not in labels:
                said = clips.left_out if videos_below(emotion) else clips.notes
                said.append(f"{emotion} is not one of AFEW's classes. Expected one of {sorted(AFEW)}.")
                continue
            label = labels[fold(emotion.name)]
            clips += [
                Source(key=f"{split}/{video.stem}", path=video, label=label, split=split)
                for video in videos_in(emotion)
            ]
    name_rest(clips, root, "Expected Train_AFEW|Val_AFEW/CLASS/VIDEO.")
    if not clips and not any(split_folders(root)):
        clips.left_out.clear()
    return clips.require(f"{root} is not AFEW. Expected {root}/Train_AFEW/Angry/*.avi and so on.")


def split_folders(source: Path) -> list[tuple[Path, str]]:
    """Returns `(folder, split)` of the folders of AFEW's splits."""
    splits = {fold(name): split for name, split in SPLITS.items()}
    return [(path, splits[fold(path.name)]) for path in folders_in(source) if fold(path.name) in splits]


def is_of_faces(path: Path) -> bool:
    """Returns whether a folder holds the organisers' faces; see `afew_faces`."""
    return fold(path.name).startswith("alignedfaces")
