"""SEWA as AVEC 2017 and 2018 distributed it: arousal, valence and liking are rated each 100 ms."""

import re
from pathlib import Path

from affect.data.clips import Dimensions
from affect.errors import InputError
from affect.pipelines.datasets.ratings import read_semicolons
from affect.pipelines.datasets.source import Clips, Source, files_below, require_folder, videos_by_name
from affect.pipelines.files import fold

SPLITS = {"Train": "train", "Devel": "val", "Test": "test"}
# AVEC 2018 names the country too: Train_DE_01.
NAME = re.compile(r"(Train|Devel|Test)(_[A-Z]{2})?_\d+", re.IGNORECASE)
# The order of the columns in a file without a header. With a header, liking may be missing.
COLUMNS = ("name", "timestamp", "arousal", "valence", "liking")


def sewa(source: Path | str) -> Clips:
    """Lists the recordings of SEWA with their ratings of valence and arousal. Ratings of liking are not kept.

    `labels/Train_01.csv` is separated by `;`. A row holds the recording's name, the time and the ratings. With a
    header, the columns name, timestamp, arousal and valence may be in any order. Without a header they are in the order
    of `COLUMNS`. A recording without ratings has a `problem`, unless it is of the test split. So has a recording whose
    ratings cannot be read. A video may be anywhere below SOURCE and is found by its name, `Train_01.avi`. AVEC does not
    publish who is recorded. Each recording shows another person, so the name of the recording is its subject.

    Args:
        source: The folder that holds `labels`, and the videos.

    Returns:
        Clips; a key is `"Train_01"`.
    """
    root, clips = require_folder(source), Clips()
    labels: dict[str, Path] = {}
    videos = videos_by_name(root, NAME, "Train_01, Devel_01 or Test_01", clips, _spell)
    for path in files_below(root, ".csv"):
        if fold(path.parent.name) != "labels":
            continue
        if not NAME.fullmatch(path.stem):
            clips.notes.append(f"{path} belongs to no recording. Expected the name Train_01, Devel_01 or Test_01.")
        elif (name := _spell(path.stem)) in labels:
            clips.left_out.append(
                f"{name} has two files of ratings: {labels[name]} is used, and not {path}. Remove one."
            )
        else:
            labels[name] = path
    if not labels:
        clips.left_out.clear()
    for name in sorted(labels.keys() | videos.keys()) if labels else ():
        split, dimensions, problem = SPLITS[name.partition("_")[0]], None, ""
        try:
            if name in labels:
                dimensions = _read_dimensions(labels[name], name)
            elif split != "test":
                problem = f"{name} has no ratings. Expected {root / 'labels' / name}.csv."
        except InputError as error:
            problem = str(error)
        path = videos.get(name, root / "video" / f"{name}.avi")
        clips.append(Source(name, path, subject=name, split=split, dimensions=dimensions, problem=problem))
    return clips.require(f"{root} is not SEWA. Expected {root}/labels/Train_01.csv and so on.")


def _spell(name):
    split, *country, number = name.split("_")
    return "_".join([split.capitalize(), *map(str.upper, country), number])


def _read_dimensions(path, name):
    header, numbers = read_semicolons(path, name=name, columns=COLUMNS, optional=COLUMNS[4:])
    columns = dict(zip(header or COLUMNS[1:], numbers.T.tolist(), strict=True))
    times_s, valence, arousal = (tuple(columns[each]) for each in ("timestamp", "valence", "arousal"))
    return Dimensions(times_s=times_s, valence=valence, arousal=arousal)
