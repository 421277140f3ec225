"""Ordered class sets, and the maps between the data sets' own labels and ours."""

# AFEW's order, which paper A's authors' code uses too.
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")

# The order in which FER2013 numbers its classes, and so the published mini-Xception.
FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")

AFEW = {name.capitalize(): name for name in EMOTIONS}


def order_classes(names):
    """Returns the distinct names in the project's order.

    Emotions stand in the order of `EMOTIONS` and before all other names, which are sorted. A class set is therefore
    the same tuple whatever the order in which its clips are found.

    Args:
        names: Iterable of str; empty names (clips without a label) are left out.

    Returns:
        Tuple of str.
    """
    rank = {name: index for index, name in enumerate(EMOTIONS)}
    return tuple(sorted({name for name in names if name}, key=lambda name: (rank.get(name, len(rank)), name)))
