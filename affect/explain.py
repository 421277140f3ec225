"""explain(): the papers' figure of one clip: frames, attention over them, class probabilities, frame importance."""

import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage.transform import resize

from affect.data import clip_inputs
from affect.predict import summarise

_RED, _GREY = "#c0392b", "#b0b7bf"


def explain(trained, clip, out, *, frames=8):
    """Draws figure 2 of paper A for one clip.

    The rows are (a) frames evenly spaced over those with a face, with their times, (b) where the heads look in them
    (whiter is more; of the heads the one that looks hardest), (c) the class probabilities of each frame with the
    clip's class in red, and (d) the importance of all frames in per cent of the highest, those shown marked. A model
    without spatial attention has no row (b).

    Args:
        trained: `affect.model.Trained`.
        clip: `affect.records.Clip` with at least one face.
        out: Image file; matplotlib takes the format from its suffix. Written under a temporary name and renamed.
        frames: Frames that are shown.

    Returns:
        The dict of `affect.predict.predict`.
    """
    inputs, faces = clip_inputs(clip, trained.experiment.data, trained.face_size)
    outputs = trained.network.predict_on_batch(inputs)
    result = summarise(trained.classes, clip, faces, outputs)
    shown = np.unique(np.linspace(0, len(faces) - 1, min(frames, len(faces))).round().astype(int))
    attention = attention_maps(outputs["attention"][0]).max(axis=1) if "attention" in outputs else None

    heights = [1.0, 1.0, 0.9, 0.8] if attention is not None else [1.0, 0.9, 0.8]
    figure = Figure(figsize=(1.7 * max(len(shown), 4), 1.7 * sum(heights) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(shown), height_ratios=heights)
    for column, index in enumerate(shown):
        face = inputs["faces"][0, index]
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(face)
        axes.set_title(f"{faces[index].timestamp_s:.2f} s", fontsize=9)
        axes.set_axis_off()
        if attention is not None:
            axes = figure.add_subplot(grid[1, column])
            draw_attention(axes, face, attention[index])
        axes = figure.add_subplot(grid[-2, column])
        draw_probabilities(axes, result["frames"][index]["probabilities"], result["label"], with_names=column == 0)
    axes = figure.add_subplot(grid[-1, :])
    draw_importance(axes, result["frames"], shown)
    figure.suptitle(
        f"{clip.key}: {result['label']}, p = {result['probabilities'][result['label']]:.2f}"
        + (f" (labelled {clip.label})" if clip.label else ""),
        fontsize=11,
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"tmp-{out.name}")
    figure.savefig(temporary, dpi=110)
    temporary.replace(out)
    return result


def attention_maps(attention):
    """Returns attention (F, N, L) as float maps (F, N, h, w) in [0, 1]; 1 is each map's highest weight. L is square."""
    side = math.isqrt(attention.shape[-1])
    maps = np.asarray(attention).reshape(*attention.shape[:-1], side, side)
    return maps / maps.max(axis=(-2, -1), keepdims=True)


def draw_attention(axes, face, attention):
    """Draws a face whitened by its attention (h, w) in [0, 1]."""
    white = 0.9 * resize(attention, face.shape[:2], order=1, mode="edge")
    axes.imshow(face.mean(axis=-1) / 255 * 0.5 * (1 - white) + white, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def draw_probabilities(axes, probabilities, chosen, *, with_names):
    """Draws a bar a class, the chosen one in red."""
    names = list(probabilities)
    colours = [_RED if name == chosen else _GREY for name in names]
    axes.barh(range(len(names)), list(probabilities.values()), color=colours)
    axes.set(xlim=(0, 1), xticks=[0, 1], ylim=(len(names) - 0.5, -0.5))
    axes.set_yticks(range(len(names)), names if with_names else [""] * len(names))
    axes.tick_params(labelsize=8)


def draw_importance(axes, frames, shown):
    """Draws the importance of the frames over time, in per cent of the highest, and marks those shown."""
    times = np.array([frame["timestamp_s"] for frame in frames])
    importance = np.array([frame["importance"] for frame in frames])
    importance = 100 * importance / importance.max()
    axes.fill_between(times, importance, color=_GREY, alpha=0.5)
    axes.plot(times, importance, color="black", linewidth=1)
    axes.plot(times[shown], importance[shown], "o", color=_RED, markersize=4)
    axes.set(ylim=(0, 105), xlabel="time in s", ylabel="importance in %")
    axes.margins(x=0.01)
    axes.tick_params(labelsize=8)
