"""The faces of AFEW that its organisers cut and aligned: `AlignedFaces_LBPTOP_Points*/Faces/<id>/*.jpg`."""

from dataclasses import replace
from pathlib import Path

from affect.errors import format_count
from affect.pipelines.aligned import stray_images
from affect.pipelines.datasets.afew import afew, is_of_faces, split_folders
from affect.pipelines.datasets.source import Clips, folders_in, require_folder
from affect.pipelines.files import fold

# The path of the faces, in the folder of the split or beside it, with or without the archive's own folder around it.
PLACE = "AlignedFaces_LBPTOP_Points*/Faces"


def afew_faces(source: Path | str) -> Clips:
    """Lists the clips of AFEW as folders of aligned faces. Labels and splits are taken from the videos of the same id.

    A clip that has a video and no faces is listed too, and `affect prepare` names it. A folder beside Train_AFEW and
    Val_AFEW belongs to the validation split if its name contains `_Val`.

    Args:
        source: The folder that holds Train_AFEW and Val_AFEW, or one of them.

    Returns:
        Clips with `aligned`; a key is `"train/000046280"`. Images that are no frames are noted.
    """
    root = require_folder(source)
    clips = afew(root)
    faces: dict[str, Path] = {}
    places = [(path, "val" if "_val" in fold(path.name) else "train") for path in folders_in(root)]
    places += [(path, split) for folder, split in split_folders(root) for path in folders_in(folder)]
    for outer, split in places:
        for place in (outer, *folders_in(outer)) if is_of_faces(outer) else ():
            for folder in (each for each in folders_in(place) if fold(each.name) == "faces"):
                for path in folders_in(folder):
                    first = faces.setdefault(f"{split}/{path.name}", path)
                    if first != path:
                        clips.left_out.append(f"Two folders belong to {path.name}: {first} is used, and not {path}.")
    known = {clip.key for clip in clips}
    for key in sorted(faces.keys() - known):
        clips.left_out.append(f"{faces[key]} has no label: no video is named {key}.avi in that split.")
    nowhere = root / PLACE
    clips[:] = [replace(clip, path=faces.get(clip.key, nowhere / clip.path.stem), aligned=True) for clip in clips]
    for clip in clips:
        if strays := [path.name for path in stray_images(clip.path)] if clip.path.is_dir() else []:
            left_out = format_count(len(strays), "image")
            clips.notes.append(f"{clip.path}: {left_out} left out (no frame of a video): {_join_few(strays)}.")
    if not known & faces.keys():
        clips.clear()
    return clips.require(f"{root} has no aligned faces. Expected Train_AFEW/{PLACE}/000046280/*.jpg.")


def _join_few(names):
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
