"""AFEW's faces as its organisers cut and aligned them: `AlignedFaces_LBPTOP_Points*/Faces/<id>/*.jpg`."""

from dataclasses import replace

from affect.errors import InputError
from pipelines.datasets.afew import SPLITS, afew
from pipelines.datasets.source import folders_in, require_folder

# In the folder of the split or beside it, with or without the archive's own folder around it.
PLACES = ("AlignedFaces_LBPTOP_Points*/Faces", "AlignedFaces_LBPTOP_Points*/*/Faces")


def afew_faces(source):
    """Lists the clips of AFEW as folders of aligned faces. Labels and splits are those of the videos of the same ids.

    A clip whose video is there and whose faces are not is listed too, and `affect prepare` names it. Of the folders
    beside Train_AFEW and Val_AFEW, those with `_Val` in their name are of the validation split.

    Args:
        source: The folder that holds Train_AFEW and Val_AFEW, or one of them.

    Returns:
        List of `Source` with `aligned`; a key is `"train/000046280"`.
    """
    source = require_folder(source)
    clips, faces = {clip.key: clip for clip in afew(source)}, {}
    for place in PLACES:
        found = [(path, "val" if "_Val" in str(path.relative_to(source)) else "train") for path in source.glob(place)]
        found += [(path, split) for name, split in SPLITS.items() for path in source.glob(f"{name}/{place}")]
        faces |= {f"{split}/{folder.name}": folder for path, split in found for folder in folders_in(path)}
    if not faces:
        raise InputError(f"{source} has no aligned faces. Expected Train_AFEW/{PLACES[0]}/000046280/*.jpg.")
    if unknown := sorted(faces.keys() - clips.keys()):
        raise InputError(f"{faces[unknown[0]]} has no label: no video is named {unknown[0]}.avi in that split.")
    nowhere = source / PLACES[0]
    return [replace(clip, path=faces.get(key, nowhere / clip.path.stem), aligned=True) for key, clip in clips.items()]
