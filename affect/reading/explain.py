"""explain(): the papers' figure of one clip: frames, attention, and what is read of them; or means by class."""

from affect.data.shards import Shards, names_damage
from affect.models.device import leave_accelerator_to_backend
from affect.progress import Track, hide_progress


def explain(trained, clip, out, cut=None, *, frames=8, by_importance=False, style="ours"):
    """Draws figure 2 of paper A for one clip.

    The rows are (a) frames with their times, (b) where the model looks in them (whiter is more): all heads together,
    which is the head that looks hardest, and below it each head apart; (c) the class probabilities of each frame with
    the clip's class in red, and (d) the importance of all frames in per cent of the highest, those shown marked. A
    model without spatial attention has no rows (b). Of a regression (c) and (d) are one: valence and arousal over time.

    Args:
        trained: `affect.reading.run.Trained`.
        clip: `affect.data.records.Clip` with at least one face.
        out: Image file; matplotlib takes the format from its suffix. Written under a temporary name and renamed.
        cut: As in `affect.reading.predict.predict`.
        frames: Frames that are shown.
        by_importance: Whether the most important frames are shown, or frames evenly spaced over those with a face.
        style: `"ours"`, as above; or `"paper"`, in which (b) is one row, the mean of the heads, and (c) draws
            p(c, f | S), the class probabilities of a frame times its importance, on one scale for all frames, with each
            frame's own class in red.

    Returns:
        The dict of `affect.reading.predict.predict`.

    Raises:
        InputError: On an unknown style, and when the most important frames or the paper's style of a regression are
            asked for, which has neither.
    """
    result = trained.predict(clip, cut)
    trained.task.draw(trained, clip, result, out, frames=frames, by_importance=by_importance, style=style)
    return result


@names_damage
def explain_classes(trained, data, out, *, split, track: Track = hide_progress):
    """Draws where the model looks, averaged over the aligned faces of each class.

    Every frame counts by its importance, and every clip alike. The columns are the mean face of the class and the mean
    attention over it: of all heads together and of each apart.

    Args:
        trained: `affect.reading.run.Trained`, with spatial attention.
        data: Folder of shards.
        out: Image file, as in `explain`.
        split: Split whose clips are averaged, by their labels.
        track: Shows progress.

    Returns:
        Dict: class → mean attention, float (N, h, w), each head's map summing to 1 (spatiotemporal attention by softmax
        to h · w); classes without a face are left out.

    Raises:
        InputError: When the model has no classes, or no spatial attention.
    """
    leave_accelerator_to_backend()
    return trained.task.draw_means(trained, Shards(data), out, split=split, track=track)
