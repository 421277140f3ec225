"""explain(): the papers' figure of one clip (frames, attention, probabilities), or the mean attention of each class."""

from pathlib import Path
from typing import Any

import numpy as np

from affect.data.records import Clip
from affect.data.shards import Shards, names_damage
from affect.models.device import leave_accelerator_to_backend
from affect.progress import Track, hide_progress
from affect.reading.predict import predict
from affect.reading.run import Trained
from affect.tasks.task import Cut, Style


def explain(
    trained: Trained,
    clip: Clip,
    out: str | Path,
    cut: Cut | None = None,
    *,
    frames: int = 8,
    by_importance: bool = False,
    style: Style = "ours",
) -> dict[str, Any]:
    """Draws figure 2 of paper A for one clip.

    The rows are (a) frames with their times; (b) the attention to them, white where it is high: first the maximum over
    the heads, then each head; (c) the class probabilities of each frame, with the clip's class in red; and (d) the
    importance of all frames in per cent of the highest, with the shown frames marked. A model without spatial attention
    has no rows (b). For a regression, one row of valence and arousal over time replaces (c) and (d).

    Args:
        trained: The model.
        clip: Clip with at least one face.
        out: Image file; its suffix sets the format. It is written under a temporary name and renamed.
        cut: As in `affect.reading.predict.predict`.
        frames: Most frames that are shown.
        by_importance: Whether the most important frames are shown, instead of frames evenly spaced over those with a
            face.
        style: `"ours"`, as above; or `"paper"`, in which (b) is one row, the mean of the heads, and (c) draws
            p(c, f | S), the class probabilities of a frame times its importance, on one scale for all frames, with each
            frame's own class in red.

    Returns:
        The dict of `affect.reading.predict.predict`.

    Raises:
        InputError: On an unknown style; for a regression, on `by_importance` and on the style `"paper"`.
    """
    result = predict(trained, clip, cut)
    trained.task.draw(trained, clip, result, out, frames=frames, by_importance=by_importance, style=style)
    return result


@names_damage
def explain_classes(
    trained: Trained, data: str | Path, out: str | Path, *, split: str, track: Track = hide_progress
) -> dict[str, np.ndarray]:
    """Draws the attention averaged over the aligned faces of each class.

    Frames are weighted by their importance, and all clips alike. The columns are the mean face of the class and the
    mean attention: first the maximum over the heads, then each head.

    Args:
        trained: Model with spatial attention.
        data: Folder of shards.
        out: Image file, as in `explain`.
        split: Split whose clips are averaged, by their labels.
        track: Shows progress.

    Returns:
        Class → mean attention, float (N, h, w). The map of each head sums to 1; spatiotemporal attention by softmax
        sums to h · w. Classes without a face are left out.

    Raises:
        InputError: If the model has no classes or no spatial attention.
    """
    leave_accelerator_to_backend()
    return trained.task.draw_means(trained, Shards(data), out, split=split, track=track)
