"""Ordered class sets, and the maps between the data sets' own labels and ours."""

# AFEW's order, which paper A's authors' code uses too.
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# The order in which FER2013 numbers its classes, and so the published mini-Xception.
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

AFEW = {name.capitalize(): name for name in EMOTIONS}

# The third number of a file's name. Calm is a class of its own, which its authors set beside neutral.
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

# The third part of a file's name, what was acted; and the letters of its raters' votes.
CREMA_D = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
CREMA_D_VOTES = {name[0]: label for name, label in CREMA_D.items()}

# The order of what a regression network gives.
DIMENSIONS = ("valence", "arousal")


def order_classes(names):
    """Returns the distinct names in the project's order.

    Emotions are in the order of `EMOTIONS` and before all other names, which are sorted. A class set is therefore
    the same tuple whatever the order in which its clips are found.

    Args:
        names: Iterable of str; empty names (clips without a label) are left out.

    Returns:
        Tuple of str.
    """
    rank = {name: index for index, name in enumerate(EMOTIONS)}
    return tuple(sorted({name for name in names if name}, key=lambda name: (rank.get(name, len(rank)), name)))
