"""RAVDESS: 24 actors who speak and sing in eight emotions."""

import re
from pathlib import Path

from affect.data.labels import RAVDESS
from affect.pipelines.datasets.source import Clips, Source, name_rest, require_folder, videos_below

# Modality, vocal channel, emotion, intensity, statement, repetition, actor.
NAME = re.compile(r"(?P<modality>0[12])-(?P<take>0[12]-(?P<emotion>0[1-8])-0[12]-0[12]-0[12]-(?P<actor>\d\d))")


def ravdess(source: Path | str) -> Clips:
    """Lists the clips of RAVDESS in all folders below SOURCE: `Actor_01/02-01-06-01-02-01-01.mp4`.

    Each take is published with sound (modality 01) and without (02); the pictures are the same. It is listed once: the
    file without sound if there is one. Speech and song are both listed, and calm is a class of its own. There are no
    official splits; `affect prepare --dataset csv` accepts your own.

    Args:
        source: Folder.

    Returns:
        Clips; a key is `"02-01-06-01-02-01-12"`, a subject `"12"`. Videos of other names are left out and named.
    """
    root = require_folder(source)
    clips, odd = Clips(), []
    takes: dict[str, list[tuple[re.Match, Path]]] = {}
    for video in videos_below(root):
        if name := NAME.fullmatch(video.stem):
            takes.setdefault(name["take"], []).append((name, video))
        else:
            odd.append(video)
    expected = "Expected 01 or 02, then six numbers: 02-01-06-01-02-01-12."
    name_rest(clips, root, f"A name is not as RAVDESS names its videos. {expected}", videos=odd)
    for versions in takes.values():
        best = max(name["modality"] for name, _ in versions)
        clips += [
            Source(key=video.stem, path=video, label=RAVDESS[name["emotion"]], subject=name["actor"])
            for name, video in versions
            if name["modality"] == best
        ]
    return clips.require(f"{root} is not RAVDESS. Expected {root}/Actor_01/02-01-01-01-01-01-01.mp4 and so on.")
