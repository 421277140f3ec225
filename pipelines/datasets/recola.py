"""RECOLA as AVEC 2015 and 2016 gave it out: recordings rated in valence and arousal each 40 ms."""

import re

from affect.errors import InputError
from affect.records import Dimensions
from pipelines.datasets.ratings import gold_standard, read_arff, read_semicolons
from pipelines.datasets.source import Source, require_folder, videos_by_name

SPLITS = {"train": "train", "dev": "val", "test": "test"}
NAME = re.compile(r"(train|dev|test)_\d+")


def recola(source):
    """Lists the recordings of RECOLA with their gold standard.

    `ratings_gold_standard/arousal|valence/train_1.arff` hold it; where that is missing, it is made from
    `ratings_individual/arousal|valence/train_1.csv` (time, then a column for each rater) by the rule that its
    publishers used. Ratings are kept as they are: how far raters lag is a setting of training. Only recordings of the
    test split may lack ratings. A video may lie anywhere below SOURCE and is known by its name, `train_1.mp4`. AVEC
    does not say who is recorded; each recording is another person, so its name is its subject.

    Args:
        source: The folder that holds ratings_gold_standard or ratings_individual, and the videos.

    Returns:
        List of `Source`; a key is `"train_1"`.
    """
    source = require_folder(source)
    videos = videos_by_name(source, NAME, "train_1, dev_1 or test_1")
    rated = {path.stem for path in source.glob("ratings_gold_standard/*/*.arff") if NAME.fullmatch(path.stem)}
    rated |= {path.stem for path in source.glob("ratings_individual/*/*.csv") if NAME.fullmatch(path.stem)}
    if not rated:
        raise InputError(
            f"{source} is not RECOLA. Expected {source}/ratings_gold_standard/arousal/train_1.arff and so on."
        )
    return [
        Source(
            key=name,
            path=videos.get(name, source / "recordings_video" / f"{name}.mp4"),
            subject=name,
            split=SPLITS[NAME.fullmatch(name)[1]],
            dimensions=_dimensions(source, name),
        )
        for name in sorted(rated | videos.keys())
    ]


def _dimensions(source, name):
    arousal, valence = (_rating(source, dimension, name) for dimension in ("arousal", "valence"))
    if arousal is None and valence is None and name.startswith("test"):
        return None
    for dimension, rating in (("arousal", arousal), ("valence", valence)):
        if rating is None:
            expected = source / "ratings_gold_standard" / dimension / f"{name}.arff"
            raise InputError(f"{name} has no ratings of {dimension}. Expected {expected}.")
    if arousal[0] != valence[0]:
        raise InputError(
            f"{source}: arousal and valence of {name} are rated at other times, {len(arousal[0])} and "
            f"{len(valence[0])} of them."
        )
    return Dimensions(times_s=arousal[0], valence=valence[1], arousal=arousal[1])


def _rating(source, dimension, name):
    """Returns `(times_s, values)` as tuples, or `None` where the recording is not rated."""
    gold = source / "ratings_gold_standard" / dimension / f"{name}.arff"
    individual = source / "ratings_individual" / dimension / f"{name}.csv"
    if gold.is_file():
        times_s, values = read_arff(gold).T
    elif individual.is_file():
        _, numbers = read_semicolons(individual, texts=0)
        times_s, values = numbers[:, 0], gold_standard(individual, numbers[:, 1:].T)
    else:
        return None
    return tuple(times_s.tolist()), tuple(values.tolist())
