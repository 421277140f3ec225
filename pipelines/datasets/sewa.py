"""SEWA as AVEC 2017 and 2018 gave it out: recordings rated in arousal, valence and liking each 100 ms."""

import re

from affect.errors import InputError
from affect.records import Dimensions
from pipelines.datasets.ratings import read_semicolons
from pipelines.datasets.source import Source, require_folder, videos_by_name

SPLITS = {"Train": "train", "Devel": "val", "Test": "test"}
# AVEC 2018 names the country too: Train_DE_01.
NAME = re.compile(r"(Train|Devel|Test)(_[A-Z]{2})?_\d+")
# Of the numbers in a row, behind the recording's name, where there is no header.
COLUMNS = ("timestamp", "arousal", "valence", "liking")


def sewa(source):
    """Lists the recordings of SEWA with their ratings of valence and arousal; those of liking are not kept.

    `labels/Train_01.csv` is separated by `;`. A row is the recording's name, the time and the ratings: with a header
    that names timestamp, arousal and valence in any order, or without one in the order of `COLUMNS`. Only recordings of
    the test split may lack ratings. A video may lie anywhere below SOURCE and is known by its name, `Train_01.avi`.
    AVEC does not say who is recorded; each recording is another person, so its name is its subject.

    Args:
        source: The folder that holds `labels`, and the videos.

    Returns:
        List of `Source`; a key is `"Train_01"`.
    """
    source = require_folder(source)
    videos = videos_by_name(source, NAME, "Train_01, Devel_01 or Test_01")
    labels = {path.stem: path for path in source.glob("labels/*.csv") if NAME.fullmatch(path.stem)}
    if not labels:
        raise InputError(f"{source} is not SEWA. Expected {source}/labels/Train_01.csv and so on.")
    clips = []
    for name in sorted(labels.keys() | videos.keys()):
        split = SPLITS[NAME.fullmatch(name)[1]]
        if name not in labels and split != "test":
            raise InputError(f"{name} has no ratings. Expected {source / 'labels' / name}.csv.")
        clips.append(
            Source(
                key=name,
                path=videos.get(name, source / "video" / f"{name}.avi"),
                subject=name,
                split=split,
                dimensions=_dimensions(labels[name]) if name in labels else None,
            )
        )
    return clips


def _dimensions(path):
    header, numbers = read_semicolons(path, texts=1, columns=len(COLUMNS))
    header = header or COLUMNS
    if header[0] != "timestamp" or not {"arousal", "valence"} <= set(header):
        raise InputError(f"{path}: expected the columns name;{';'.join(COLUMNS)}. Received: name;{';'.join(header)}")
    columns = dict(zip(header, numbers.T.tolist(), strict=True))
    times_s, valence, arousal = (tuple(columns[name]) for name in ("timestamp", "valence", "arousal"))
    return Dimensions(times_s=times_s, valence=valence, arousal=arousal)
