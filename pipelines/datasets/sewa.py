"""SEWA as AVEC 2017 and 2018 gave it out: recordings rated in arousal, valence and liking each 100 ms."""

import re

from affect.data.records import Dimensions
from affect.errors import InputError
from affect.pipelines.datasets.ratings import read_semicolons
from affect.pipelines.datasets.source import Clips, Source, files_below, require_folder, videos_by_name
from affect.pipelines.files import fold

SPLITS = {"Train": "train", "Devel": "val", "Test": "test"}
# AVEC 2018 names the country too: Train_DE_01.
NAME = re.compile(r"(Train|Devel|Test)(_[A-Z]{2})?_\d+", re.IGNORECASE)
# In this order where there is no header; with one, liking may be missing.
COLUMNS = ("name", "timestamp", "arousal", "valence", "liking")


def sewa(source):
    """Lists the recordings of SEWA with their ratings of valence and arousal; those of liking are not kept.

    `labels/Train_01.csv` is separated by `;`. A row is the recording's name, the time and the ratings: with a header
    that names name, timestamp, arousal and valence in any order, or without one in the order of `COLUMNS`. A recording
    that lacks ratings, but for those of the test split, has a `problem`, and so has one whose ratings cannot be read.
    A video may lie anywhere below SOURCE and is known by its name, `Train_01.avi`. AVEC does not say who is recorded;
    each recording is another person, so its name is its subject.

    Args:
        source: The folder that holds `labels`, and the videos.

    Returns:
        `Clips`; a key is `"Train_01"`.
    """
    source, clips, labels = require_folder(source), Clips(), {}
    videos = videos_by_name(source, NAME, "Train_01, Devel_01 or Test_01", clips, _spell)
    for path in files_below(source, ".csv"):
        if fold(path.parent.name) != "labels":
            continue
        if not NAME.fullmatch(path.stem):
            clips.notes.append(f"{path} is of no recording: expected the name Train_01, Devel_01 or Test_01.")
        elif (name := _spell(path.stem)) in labels:
            clips.left_out.append(
                f"{name} has two files of ratings: {labels[name]} is used, and not {path}. Remove one."
            )
        else:
            labels[name] = path
    if not labels:
        clips.left_out.clear()
    for name in sorted(labels.keys() | videos.keys()) if labels else ():
        split, dimensions, problem = SPLITS[NAME.fullmatch(name)[1]], None, ""
        try:
            if name in labels:
                dimensions = _dimensions(labels[name], name)
            elif split != "test":
                problem = f"{name} has no ratings. Expected {source / 'labels' / name}.csv."
        except InputError as error:
            problem = str(error)
        path = videos.get(name, source / "video" / f"{name}.avi")
        clips.append(Source(name, path, subject=name, split=split, dimensions=dimensions, problem=problem))
    return clips.require(f"{source} is not SEWA. Expected {source}/labels/Train_01.csv and so on.")


def _spell(name):
    split, *country, number = name.split("_")
    return "_".join([split.capitalize(), *map(str.upper, country), number])


def _dimensions(path, name):
    header, numbers = read_semicolons(path, name=name, columns=COLUMNS, optional=COLUMNS[4:])
    columns = dict(zip(header or COLUMNS[1:], numbers.T.tolist(), strict=True))
    times_s, valence, arousal = (tuple(columns[each]) for each in ("timestamp", "valence", "arousal"))
    return Dimensions(times_s=times_s, valence=valence, arousal=arousal)
