"""Ordered class sets, and the maps from the labels of data sets to ours."""

from collections.abc import Iterable

# The order of AFEW, which the code of paper A's authors also uses.
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# The order in which FER2013, and therefore the published mini-Xception, numbers the classes.
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

AFEW = {name.capitalize(): name for name in EMOTIONS}

# The third number of a file's name. Calm is a separate class beside neutral.
RAVDESS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}

# The third part of a file's name, the acted emotion; and the letters of the raters' votes.
CREMA_D = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
CREMA_D_VOTES = {name[0]: label for name, label in CREMA_D.items()}

# The order of the outputs of a regression network.
DIMENSIONS = ("valence", "arousal")


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Returns the distinct names in the project's order.

    Emotions come first, in the order of `EMOTIONS`. All other names follow, sorted. A class set is therefore the same
    tuple in whatever order its clips are found.

    Args:
        names: Empty names (clips without a label) are left out.
    """
    rank = {name: index for index, name in enumerate(EMOTIONS)}
    return tuple(sorted({name for name in names if name}, key=lambda name: (rank.get(name, len(rank)), name)))
