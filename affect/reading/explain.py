"""explain(): a figure of one clip (frames, attention, probabilities over time), or the mean attention of each class."""

from pathlib import Path
from typing import Any

import numpy as np

from affect.data.clips import Clip
from affect.progress import Track, hide_progress
from affect.reading.predict import predict
from affect.reading.predictor import Predictor
from affect.tasks.task import Cut, Drawing, Style


def explain(
    trained: Predictor,
    clip: Clip,
    out: str | Path,
    cut: Cut | None = None,
    *,
    frames: int = 8,
    by_importance: bool = False,
    apart_s: float | None = None,
    style: Style = "ours",
    width_cm: float | None = None,
    each_head: bool = False,
) -> dict[str, Any]:
    """Draws a clip: when, what and where in the face the model saw.

    The rows are (a) frames, each with its time, its own class and p(c | f, S), in the pixels in which the face was cut;
    (b) the attention over them, yellow where it is high and violet where it is low, the maximum over the heads; (c)
    p(c | f, S) of each class over time, with a gap where no face is seen, and the clip's class as a thick line; and (d)
    the importance of all frames as a share of the highest importance, with the shown frames marked. The importance
    itself, as in the result, sums to 1 over the clip. A model without spatial attention, and a TFLite file of whole
    clips, which does not give it, have no row (b). For a regression, valence and arousal over time replace (c) and (d).

    Args:
        trained: The model: a run, an exported model, a TFLite file or a server.
        clip: Clip with at least one face.
        out: Image file; its suffix sets the format. It is written under a temporary name and renamed.
        cut: As in `affect.reading.predict.predict`.
        frames: Most frames that are shown.
        by_importance: Whether the most important frames are shown, instead of frames evenly spaced over those with a
            face. The most important one is taken first, then the most important one that is at least `apart_s` from
            those taken. If there are not enough, fewer are shown.
        apart_s: Least time between two of them in seconds; `None` is the length of the clip divided by twice `frames`.
        style: `"ours"`, as above; or `"paper"`, as figure 2 of paper A, in which (b) is the mean of the heads, white
            where it is high, and (c) is a chart for each shown frame of p(c, f | S), the class probabilities of the
            frame times its importance, on one scale for all frames, with the frame's own class in red.
        width_cm: Width of the figure in centimetres, such as 8.5 for a paper's column; `None` gives each frame 4.3 cm.
        each_head: Whether each head has a row of attention too.

    Returns:
        The dict of `affect.reading.predict.predict`.

    Raises:
        InputError: As `affect.tasks.task.Drawing`; for a regression, on `by_importance` and on the style `"paper"`.
    """
    drawing = Drawing(frames, by_importance, apart_s, style, width_cm, each_head)
    result = predict(trained, clip, cut)
    trained.task.draw(trained, clip, result, out, drawing)
    return result


def explain_classes(
    trained: Predictor, data: str | Path, out: str | Path, *, split: str, track: Track = hide_progress
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
    from affect.data.batches import names_damage
    from affect.data.shards import Shards  # they import TensorFlow
    from affect.models.device import leave_accelerator_to_backend

    @names_damage
    def draw(data: str | Path) -> dict[str, np.ndarray]:
        return trained.task.draw_means(trained, Shards(data), out, split=split, track=track)

    leave_accelerator_to_backend()
    return draw(data)
