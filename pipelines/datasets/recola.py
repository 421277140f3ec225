"""RECOLA as AVEC 2015, AVEC 2016 or its publishers distributed it: valence and arousal are rated each 40 ms."""

import re
from pathlib import Path

import numpy as np

from affect.data.clips import Dimensions
from affect.data.labels import DIMENSIONS
from affect.errors import InputError
from affect.pipelines.datasets.ratings import gold_standard, read_arff, read_semicolons
from affect.pipelines.datasets.source import Clips, Source, files_below, require_folder, videos_by_name
from affect.pipelines.files import find_spelt, fold
from affect.pipelines.tables import read_rows

SPLITS = {"train": "train", "dev": "val", "test": "test"}
# AVEC names recordings train_1, RECOLA's publishers P16.
NAME = re.compile(r"(train|dev|test)_\d+|P\d+", re.IGNORECASE)
# Folder of ratings → suffix of the files, the best first. It holds a folder for each dimension.
PLACES = {"ratings_gold_standard": ".arff", "ratings_individual": ".csv", "emotional_behaviour": ".csv"}
# File of the splits of recordings that are named as RECOLA's publishers name them.
SPLITS_FILE = "splits.csv"


def recola(source: Path | str) -> Clips:
    """Lists the recordings of RECOLA with their gold standard.

    `ratings_gold_standard/arousal|valence/train_1.arff` holds the gold standard. If it is missing, it is computed from
    `ratings_individual/arousal|valence/train_1.csv` (a column of times, and a column for each rater) by the publishers'
    rule. Other columns, such as a mean, are left out and noted. The publishers' own tree is read too:
    `RECOLA-Annotation/emotional_behaviour/arousal|valence/P16.csv`. These names say no split. A file `splits.csv` in
    SOURCE says it, with the columns name and split (train, dev or val, test): `P16,train`. Without it the split is
    `"all"`.

    Ratings are not shifted, because the delay of the raters is a field of the config. A recording without ratings has a
    `problem`, unless it is of the test split. So has a recording whose ratings cannot be read. A video may be anywhere
    below SOURCE and is found by its name. AVEC does not publish who is recorded. Each recording shows another person,
    so the name of the recording is its subject.

    Args:
        source: The folder that holds the ratings and the videos.

    Returns:
        Clips; a key is `"train_1"` or `"P16"`.
    """
    root, clips = require_folder(source), Clips()
    videos = videos_by_name(root, NAME, "train_1, dev_1, test_1 or P16", clips, _spell)
    ratings = _find_ratings(root, clips)
    splits = _read_splits(root, clips.left_out)
    names = sorted({name for _, name in ratings} | videos.keys())
    if not ratings:
        clips.left_out.clear()
        names = []
    for name in names:
        match = NAME.fullmatch(name)
        split = SPLITS[match[1]] if match and match[1] else splits.pop(name, "all")
        dimensions, problem = None, ""
        try:
            dimensions = _read_dimensions(root, ratings, name, split, clips.notes)
        except InputError as error:
            problem = str(error)
        path = videos.get(name, root / "recordings_video" / f"{name}.mp4")
        clips.append(Source(name, path, subject=name, split=split, dimensions=dimensions, problem=problem))
    if splits and names:
        clips.notes.append(f"{root / SPLITS_FILE} names recordings that do not exist: {', '.join(sorted(splits))}.")
    if unknown := [clip.key for clip in clips if clip.split == "all"]:
        clips.notes.append(
            f"The split of {', '.join(unknown)} is unknown, so it is 'all'. Give it in "
            f"{root / SPLITS_FILE}, with the columns name and split."
        )
    return clips.require(f"{root} is not RECOLA. Expected {root}/ratings_gold_standard/arousal/train_1.arff and so on.")


def _spell(name):
    return name.upper() if name[:1] in "pP" else name.lower()


def _find_ratings(source, clips):
    """Returns `(dimension, name)` → path of the best file of ratings.

    Files with other names are noted. Second files of the same kind are left out and named.
    """
    found: dict[tuple[str, str], Path] = {}
    for place, suffix in PLACES.items():
        here: dict[tuple[str, str], Path] = {}
        for path in files_below(source, suffix):
            dimension = fold(path.parent.name)
            if fold(path.parent.parent.name) != place or dimension not in DIMENSIONS:
                continue
            if not NAME.fullmatch(path.stem):
                clips.notes.append(f"{path} belongs to no recording. Expected the name train_1, dev_1, test_1 or P16.")
            elif (key := (dimension, _spell(path.stem))) in here:
                clips.left_out.append(
                    f"{path.stem} has two files of {dimension}: {here[key]} is used, and not {path}. Remove one."
                )
            else:
                here[key] = path
        found = here | found
    return found


def _read_splits(source, left_out):
    """Returns name → split of `splits.csv`, without rows that have a fault; an empty dict if there is no file."""
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
            left_out.append(f"{path}, line {line}: the name {name} means the split {SPLITS[match[1]]!r}.")
        elif not match[1]:
            splits[name] = split
    return splits


def _read_dimensions(source, ratings, name, split, notes):
    arousal, valence = (_read_rating(ratings, dimension, name, notes) for dimension in ("arousal", "valence"))
    if arousal is None and valence is None and split == "test":
        return None
    for dimension, rating in (("arousal", arousal), ("valence", valence)):
        if rating is None:
            expected = source / "ratings_gold_standard" / dimension / f"{name}.arff"
            raise InputError(f"{name} has no ratings of {dimension}. Expected {expected}.")
    times_s, others_s = arousal[0], valence[0]
    # Records store times in microseconds.
    if len(times_s) != len(others_s) or np.abs(times_s - others_s).max() > 1.000001e-6:
        raise InputError(
            f"{source}: arousal and valence of {name} are rated at different times, {len(times_s)} and "
            f"{len(others_s)} of them."
        )
    return Dimensions(*(tuple(values.tolist()) for values in (times_s, valence[1], arousal[1])))


def _read_rating(ratings, dimension, name, notes):
    """Returns `(times_s, values)`, float64 (T,) each, or `None` if the recording is not rated."""
    path = ratings.get((dimension, name))
    if path is None:
        return None
    if path.suffix.lower() == ".arff":
        times_s, values = read_arff(path, name=name, dimension=dimension).T
        return times_s, values
    _, numbers = read_semicolons(path, name=name, dimension=dimension, notes=notes)
    return numbers[:, 0], gold_standard(path, numbers[:, 1:].T)
