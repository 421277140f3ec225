"""RECOLA as AVEC 2015 and 2016 or its publishers gave it out: valence and arousal rated each 40 ms."""

import re

import numpy as np

from affect.data.labels import DIMENSIONS
from affect.data.records import Dimensions
from affect.errors import InputError
from affect.pipelines.datasets.ratings import gold_standard, read_arff, read_semicolons
from affect.pipelines.datasets.source import Clips, Source, files_below, require_folder, videos_by_name
from affect.pipelines.files import find_spelt, fold
from affect.pipelines.tables import read_rows

SPLITS = {"train": "train", "dev": "val", "test": "test"}
# AVEC names recordings train_1, RECOLA's publishers P16.
NAME = re.compile(r"(train|dev|test)_\d+|P\d+", re.IGNORECASE)
# Folders of ratings → suffix of the files, the best first; a folder for each dimension is below.
PLACES = {"ratings_gold_standard": ".arff", "ratings_individual": ".csv", "emotional_behaviour": ".csv"}
# Says of which split the recordings are that are named as RECOLA's publishers do.
SPLITS_FILE = "splits.csv"


def recola(source):
    """Lists the recordings of RECOLA with their gold standard.

    `ratings_gold_standard/arousal|valence/train_1.arff` hold it; where that is missing, it is made from
    `ratings_individual/arousal|valence/train_1.csv` (a column of times and one for each rater) by the rule that its
    publishers used; other columns, such as a mean, are left out and noted. RECOLA's own tree is read too:
    `RECOLA-Annotation/emotional_behaviour/arousal|valence/P16.csv`. Such names say no split; a file `splits.csv` in
    SOURCE does, with the columns name and split (train, dev or val, test): `P16,train`. Without it they are of the
    split `"all"`.

    Ratings are kept as they are: how far raters lag is a setting of training. A recording that lacks ratings, but for
    those of the test split, has a `problem`, and so has one whose ratings cannot be read. A video may lie anywhere
    below SOURCE and is known by its name. AVEC does not say who is recorded; each recording is another person, so its
    name is its subject.

    Args:
        source: The folder that holds the ratings and the videos.

    Returns:
        `Clips`; a key is `"train_1"` or `"P16"`.
    """
    source, clips = require_folder(source), Clips()
    videos = videos_by_name(source, NAME, "train_1, dev_1, test_1 or P16", clips, _spell)
    ratings = _find_ratings(source, clips)
    splits = _read_splits(source, clips.left_out)
    names = sorted({name for _, name in ratings} | videos.keys())
    if not ratings:
        clips.left_out.clear()
        names = []
    for name in names:
        known = NAME.fullmatch(name)[1]
        split = SPLITS[known] if known else splits.pop(name, "all")
        dimensions, problem = None, ""
        try:
            dimensions = _dimensions(source, ratings, name, split, clips.notes)
        except InputError as error:
            problem = str(error)
        path = videos.get(name, source / "recordings_video" / f"{name}.mp4")
        clips.append(Source(name, path, subject=name, split=split, dimensions=dimensions, problem=problem))
    if splits and names:
        clips.notes.append(f"{source / SPLITS_FILE} names what is not there: {', '.join(sorted(splits))}.")
    if unknown := [clip.key for clip in clips if clip.split == "all"]:
        clips.notes.append(
            f"No split is known of {', '.join(unknown)}: they are of the split 'all'. Say it in "
            f"{source / SPLITS_FILE}, with the columns name and split."
        )
    return clips.require(
        f"{source} is not RECOLA. Expected {source}/ratings_gold_standard/arousal/train_1.arff and so on."
    )


def _spell(name):
    return name.upper() if name[:1] in "pP" else name.lower()


def _find_ratings(source, clips):
    """Returns `(dimension, name)` → path of the best file of ratings; those of other names and second ones are named.

    All files are looked at, so that a second file of the same kind does not pass for the first.
    """
    found = {}
    for place, suffix in PLACES.items():
        here = {}
        for path in files_below(source, suffix):
            dimension = fold(path.parent.name)
            if fold(path.parent.parent.name) != place or dimension not in DIMENSIONS:
                continue
            if not NAME.fullmatch(path.stem):
                clips.notes.append(f"{path} is of no recording: expected the name train_1, dev_1, test_1 or P16.")
            elif (key := (dimension, _spell(path.stem))) in here:
                clips.left_out.append(
                    f"{path.stem} has two files of {dimension}: {here[key]} is used, and not {path}. Remove one."
                )
            else:
                here[key] = path
        found = here | found
    return found


def _read_splits(source, left_out):
    """Returns name → split of `splits.csv`, without its rows that are none; an empty dict where there is no file."""
    path, splits = find_spelt(source, SPLITS_FILE), {}
    for line, row in read_rows(path, ("name", "split"), faults=left_out) if path else ():
        name, split = _spell(row["name"].strip()), fold(row["split"])
        split = SPLITS.get(split, split)
        match = NAME.fullmatch(name)
        if not match or split not in SPLITS.values() or splits.get(name, split) != split:
            left_out.append(
                f"{path}, line {line}: expected a recording such as P16 and its one split, train, dev or test. "
                f"Received: {row['name'][:40]!r} and {row['split'][:40]!r}"
            )
        elif match[1] and SPLITS[match[1]] != split:
            left_out.append(f"{path}, line {line}: {name} is of the split {SPLITS[match[1]]!r} by its name.")
        elif not match[1]:
            splits[name] = split
    return splits


def _dimensions(source, ratings, name, split, notes):
    arousal, valence = (_rating(ratings, dimension, name, notes) for dimension in ("arousal", "valence"))
    if arousal is None and valence is None and split == "test":
        return None
    for dimension, rating in (("arousal", arousal), ("valence", valence)):
        if rating is None:
            expected = source / "ratings_gold_standard" / dimension / f"{name}.arff"
            raise InputError(f"{name} has no ratings of {dimension}. Expected {expected}.")
    times_s, others_s = arousal[0], valence[0]
    # Records hold microseconds.
    if len(times_s) != len(others_s) or np.abs(times_s - others_s).max() > 1.000001e-6:
        raise InputError(
            f"{source}: arousal and valence of {name} are rated at other times, {len(times_s)} and "
            f"{len(others_s)} of them."
        )
    return Dimensions(*(tuple(values.tolist()) for values in (times_s, valence[1], arousal[1])))


def _rating(ratings, dimension, name, notes):
    """Returns `(times_s, values)`, float64 (T,) each, or `None` where the recording is not rated."""
    path = ratings.get((dimension, name))
    if path is None:
        return None
    if path.suffix.lower() == ".arff":
        times_s, values = read_arff(path, name=name, dimension=dimension).T
        return times_s, values
    _, numbers = read_semicolons(path, name=name, dimension=dimension, notes=notes)
    return numbers[:, 0], gold_standard(path, numbers[:, 1:].T)
