"""explain(): the papers' figure of one clip: frames, attention, class probabilities, importance; or means by class."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage.transform import resize

from affect.data import Shards, clip_inputs, eval_batches, names_damage
from affect.errors import InputError
from affect.predict import summarise

_RED, _GREY = "#c0392b", "#b0b7bf"


def explain(trained, clip, out, *, frames=8, by_importance=False):
    """Draws figure 2 of paper A for one clip.

    The rows are (a) frames with their times, (b) where the model looks in them (whiter is more): all heads together,
    which is the head that looks hardest, and below it each head apart; (c) the class probabilities of each frame with
    the clip's class in red, and (d) the importance of all frames in per cent of the highest, those shown marked. A
    model without spatial attention has no rows (b).

    Args:
        trained: `affect.model.Trained`.
        clip: `affect.records.Clip` with at least one face.
        out: Image file; matplotlib takes the format from its suffix. Written under a temporary name and renamed.
        frames: Frames that are shown.
        by_importance: Whether the most important frames are shown, or frames evenly spaced over those with a face.

    Returns:
        The dict of `affect.predict.predict`.
    """
    inputs, faces = clip_inputs(clip, trained.experiment.data, trained.face_size)
    outputs = trained.network.predict_on_batch(inputs)
    result = summarise(trained.classes, clip, faces, outputs)
    count = min(frames, len(faces))
    if by_importance:
        shown = np.sort(np.argsort(-outputs["frame_importance"][0], kind="stable")[:count])
    else:
        shown = np.unique(np.linspace(0, len(faces) - 1, count).round().astype(int))
    attention = heads_together_and_apart(outputs["attention"][0]) if "attention" in outputs else {}

    heights = [1.0] * (1 + len(attention)) + [0.9, 0.8]
    figure = Figure(figsize=(1.7 * max(len(shown), 4), 1.7 * sum(heights) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(shown), height_ratios=heights)
    for column, index in enumerate(shown):
        face = inputs["faces"][0, index]
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(face)
        axes.set_title(f"{faces[index].timestamp_s:.2f} s", fontsize=9)
        axes.set_axis_off()
        for row, (name, maps) in enumerate(attention.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            draw_attention(axes, face, maps[index], name=name if column == 0 else "")
        axes = figure.add_subplot(grid[-2, column])
        draw_probabilities(axes, result["frames"][index]["probabilities"], result["label"], with_names=column == 0)
    axes = figure.add_subplot(grid[-1, :])
    draw_importance(axes, result["frames"], shown)
    figure.suptitle(
        f"{clip.key}: {result['label']}, p = {result['probabilities'][result['label']]:.2f}"
        + (f" (labelled {clip.label})" if clip.label else ""),
        fontsize=11,
    )
    save_figure(figure, out)
    return result


@names_damage
def explain_classes(trained, data, out, *, split, track=None):
    """Draws where the model looks, averaged over the aligned faces of each class.

    Every frame counts by its importance, and every clip alike. The columns are the mean face of the class and the mean
    attention over it: of all heads together and of each apart.

    Args:
        trained: `affect.model.Trained`, with spatial attention.
        data: Folder of shards.
        out: Image file, as in `explain`.
        split: Split whose clips are averaged, by their labels.
        track: `track(iterable, total, description)` → iterable, to show progress.

    Returns:
        Dict: class → mean attention, float (N, h, w), each head's map summing to 1; classes without a face are left
        out.

    Raises:
        InputError: When the model has no spatial attention.
    """
    if "attention" not in trained.network.output:
        raise InputError(f"{trained.experiment.name} has no spatial attention to average.")
    shards = Shards(data)
    steps = -(-len(shards.of_split(split)) // trained.experiment.data.batch_clips)
    batches = eval_batches(
        shards, trained.experiment.data, split=split, classes=trained.classes, face_size=trained.face_size
    )
    faces, attention, clips = Counter(), Counter(), Counter()
    for batch in track(batches, steps, "explain") if track else batches:
        inputs = {"faces": batch["faces"].numpy(), "frame_mask": batch["frame_mask"].numpy()}
        outputs = trained.network.predict_on_batch(inputs)
        for row, label in enumerate(batch["label"].numpy()):
            if label >= 0 and inputs["frame_mask"][row].any():
                importance = outputs["frame_importance"][row]
                faces[label] += np.tensordot(importance, inputs["faces"][row], axes=1)
                attention[label] += np.tensordot(importance, outputs["attention"][row], axes=1)
                clips[label] += 1
    means = {label: _square(attention[label] / clips[label]) for label in sorted(clips)}

    heads = len(next(iter(means.values()))) if means else 0
    columns = 1 + (1 if heads == 1 else 1 + heads)
    figure = Figure(figsize=(1.7 * columns, 1.7 * max(len(means), 1) + 0.5), layout="constrained")
    for row, (label, maps) in enumerate(means.items()):
        face = faces[label] / clips[label]
        drawn = heads_together_and_apart(maps.reshape(1, heads, -1))
        for column in range(columns):
            axes = figure.add_subplot(max(len(means), 1), columns, row * columns + column + 1)
            if column == 0:
                axes.imshow(face.round().astype(np.uint8))
                axes.set_title(f"{trained.classes[label]} ({clips[label]})", fontsize=9)
                axes.set_axis_off()
            else:
                name = list(drawn)[column - 1]
                draw_attention(axes, face, drawn[name][0], name=name)
    save_figure(figure, out)
    return {trained.classes[label]: maps for label, maps in means.items()}


def heads_together_and_apart(attention):
    """Returns attention (F, N, L) as drawn: name → maps (F, h, w) in [0, 1], 1 being each map's highest weight."""
    maps = attention_maps(attention)
    apart = {f"head {head + 1}": maps[:, head] for head in range(maps.shape[1])}
    return {"heads": maps.max(axis=1), **apart} if len(apart) > 1 else {"attention": maps[:, 0]}


def attention_maps(attention):
    """Returns attention (F, N, L) as float maps (F, N, h, w) in [0, 1]; 1 is each map's highest weight. L is square."""
    maps = _square(np.asarray(attention))
    return maps / maps.max(axis=(-2, -1), keepdims=True)


def draw_attention(axes, face, attention, *, name=""):
    """Draws a face (H, W, 3) of 0 to 255, whitened by its attention (h, w) in [0, 1]."""
    white = 0.9 * resize(attention, face.shape[:2], order=1, mode="edge")
    axes.imshow(face.mean(axis=-1) / 255 * 0.5 * (1 - white) + white, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], ylabel=name)
    axes.spines[:].set_visible(False)


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


def _square(attention):
    """Returns (..., L) as (..., h, w); L is square."""
    side = math.isqrt(attention.shape[-1])
    return attention.reshape(*attention.shape[:-1], side, side)


def save_figure(figure, out):
    """Writes a figure under a temporary name and renames it."""
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f"tmp-{out.name}")
    figure.savefig(temporary, dpi=110)
    temporary.replace(out)
