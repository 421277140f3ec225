"""explain(): the papers' figure of one clip: frames, attention, and what is read of them; or means by class."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from skimage.transform import resize

from affect.augment import central_view, view_face
from affect.data import Shards, clip_inputs, eval_batches, names_damage
from affect.device import leave_accelerator_to_backend
from affect.errors import InputError
from affect.predict import places_read, predict
from affect.windows import eval_windows, recording_of

_RED, _GREY, _BLUE = "#c0392b", "#b0b7bf", "#2471a3"


STYLES = ("ours", "paper")


def explain(trained, clip, out, cut=None, *, frames=8, by_importance=False, style="ours"):
    """Draws figure 2 of paper A for one clip.

    The rows are (a) frames with their times, (b) where the model looks in them (whiter is more): all heads together,
    which is the head that looks hardest, and below it each head apart; (c) the class probabilities of each frame with
    the clip's class in red, and (d) the importance of all frames in per cent of the highest, those shown marked. A
    model without spatial attention has no rows (b). Of a regression (c) and (d) are one: valence and arousal over time.

    Args:
        trained: `affect.model.Trained`.
        clip: `affect.records.Clip` with at least one face.
        out: Image file; matplotlib takes the format from its suffix. Written under a temporary name and renamed.
        cut: As in `affect.predict.predict`.
        frames: Frames that are shown.
        by_importance: Whether the most important frames are shown, or frames evenly spaced over those with a face.
        style: `"ours"`, as above; or `"paper"`, in which (b) is one row, the mean of the heads, and (c) draws
            p(c, f | S), the class probabilities of a frame times its importance, on one scale for all frames, with each
            frame's own class in red.

    Returns:
        The dict of `affect.predict.predict`.

    Raises:
        InputError: On an unknown style, and when the most important frames or the paper's style of a regression are
            asked for, which has neither.
    """
    if style not in STYLES:
        raise InputError(f"The style of a figure must be one of {list(STYLES)}. Received: {style!r}")
    if trained.is_regression and style != "ours":
        raise InputError(
            f"{trained.experiment.name} has no classes to draw in the style of paper A. Leave out --style."
        )
    if trained.is_regression:
        return _explain_over_time(trained, clip, out, cut, frames, by_importance)
    result = predict(trained, clip, cut)
    read = [frame for frame in result["frames"] if frame["probabilities"] is not None]
    count = min(frames, len(read))
    if by_importance:
        shown = np.sort(np.argsort([-frame["importance"] for frame in read], kind="stable")[:count])
    else:
        shown = np.unique(np.linspace(0, len(read) - 1, count).round().astype(int))
    faces, attention = _shown(trained, clip, shown)
    if attention is None:
        attention = {}
    elif style == "paper":
        attention = {"attention": attention_maps(np.mean(attention, axis=1, keepdims=True))[:, 0]}
    else:
        attention = heads_together_and_apart(attention)
    scale = max(max(joint_probabilities(read[index]).values()) for index in shown)  # of the frames shown

    heights = [1.0] * (1 + len(attention)) + [0.9, 0.8]
    figure = Figure(figsize=(1.7 * max(len(shown), 4), 1.7 * sum(heights) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(shown), height_ratios=heights)
    for column, index in enumerate(shown):
        face = faces[column]
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(face)
        axes.set_title(f"{read[index]['timestamp_s']:.2f} s", fontsize=9)
        axes.set_axis_off()
        for row, (name, maps) in enumerate(attention.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            draw_attention(axes, face, maps[column], name=name if column == 0 else "")
        axes = figure.add_subplot(grid[-2, column])
        if style == "paper":
            joint = joint_probabilities(read[index])
            draw_probabilities(axes, joint, max(joint, key=joint.get), with_names=column == 0, scale=scale)
        else:
            draw_probabilities(axes, read[index]["probabilities"], result["label"], with_names=column == 0)
    axes = figure.add_subplot(grid[-1, :])
    draw_importance(axes, read, shown)
    figure.suptitle(
        f"{clip.key}: {result['label']}, p = {result['probabilities'][result['label']]:.2f}"
        + (f" (labelled {clip.label})" if clip.label else ""),
        fontsize=11,
    )
    save_figure(figure, out)
    return result


def _shown(trained, clip, shown):
    """Returns faces (P, H, W, 3) of those that were read, and the attention (P, N, L) to them, or `None` without."""
    places = places_read(trained, len(clip.faces))
    if trained.most_frames is not None:  # Attention to a frame depends on the frames around it.
        chosen = replace(clip, faces=tuple(clip.faces[place] for place in places))
        inputs, _ = clip_inputs(chosen, trained.experiment.data, trained.face_size)
        outputs = trained.respond(inputs)
        return inputs["faces"][0, shown], outputs["attention"][0, shown] if "attention" in outputs else None
    view = central_view(trained.experiment.data.crop_ratio)
    faces = [view_face(clip.faces[place].jpeg, view, trained.face_size).numpy() for place in places[shown]]
    return faces, trained.frame_functions["frame"](faces=np.stack(faces)).get("attention")


def _explain_over_time(trained, clip, out, cut, frames, by_importance):
    if by_importance:
        raise InputError(f"{trained.experiment.name} has no importance of frames. Leave out --by-importance.")
    result = predict(trained, clip, cut)
    seen = [place for place, frame in enumerate(result["frames"]) if frame["has_face"]]
    shown = np.array(seen)[np.unique(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int))]
    faces, looked_at = _looked_at(trained, clip, shown.tolist())
    attention = heads_together_and_apart(looked_at) if looked_at is not None else {}

    heights = [1.0] * (1 + len(attention)) + [1.2]
    figure = Figure(figsize=(1.7 * max(len(shown), 4), 1.7 * sum(heights) + 0.9), layout="constrained")
    grid = figure.add_gridspec(len(heights), len(shown), height_ratios=heights)
    for column, place in enumerate(shown):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(faces[column])
        axes.set_title(f"{result['frames'][place]['timestamp_s']:.2f} s", fontsize=9)
        axes.set_axis_off()
        for row, (name, maps) in enumerate(attention.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            draw_attention(axes, faces[column], maps[column], name="" if column else name)
    axes = figure.add_subplot(grid[-1, :])
    for name in trained.classes:
        draw_curve(axes, result["frames"], name)
    axes.plot([result["frames"][place]["timestamp_s"] for place in shown], [0] * len(shown), "|", color="black")
    axes.legend(loc="upper right", fontsize=8)
    figure.suptitle(clip.key, fontsize=11)
    save_figure(figure, out)
    return result


def _looked_at(trained, clip, places):
    """Returns the faces (H, W, 3) at places on the grid, and the attention (P, N, L) to them, or `None` without."""
    settings, faces, attention, start = trained.experiment.windows, {}, {}, 0
    batches = eval_windows([recording_of(clip)], settings, trained.experiment.data, face_size=trained.face_size)
    has_attention = "attention" in trained.network.output
    for batch in batches:
        windows = range(start, start + len(batch["times_s"]) * settings.frames)
        wanted = set(places).intersection(windows)
        outputs = {}
        if wanted and has_attention:
            outputs = trained.network.predict_on_batch({name: batch[name] for name in trained.model.input})
        for place in wanted:
            row, frame = divmod(place - start, settings.frames)
            faces[place] = batch["faces"][row, frame].numpy()
            if has_attention:
                attention[place] = outputs["attention"][row, frame]
        start = windows.stop
    faces = [faces[place] for place in places]
    if not has_attention:
        return faces, None
    attention = np.stack([attention[place] for place in places])
    is_spatiotemporal = trained.experiment.model.attention is not None  # maps (h, w)
    return faces, attention.reshape(len(places), 1, -1) if is_spatiotemporal else attention


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
        Dict: class → mean attention, float (N, h, w), each head's map summing to 1 (spatiotemporal attention by softmax
        to h · w); classes without a face are left out.

    Raises:
        InputError: When the model has no classes, or no spatial attention.
    """
    if trained.is_regression:
        raise InputError(f"{trained.experiment.name} has no classes to average over. Name a VIDEO in place of --data.")
    if "attention" not in trained.network.output:
        raise InputError(f"{trained.experiment.name} has no spatial attention to average.")
    leave_accelerator_to_backend()
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
    return maps / np.maximum(maps.max(axis=(-2, -1), keepdims=True), 1e-9)


def draw_attention(axes, face, attention, *, name=""):
    """Draws a face (H, W, 3) of 0 to 255, whitened by its attention (h, w) in [0, 1]."""
    white = 0.9 * resize(attention, face.shape[:2], order=1, mode="edge")
    axes.imshow(face.mean(axis=-1) / 255 * 0.5 * (1 - white) + white, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], ylabel=name)
    axes.spines[:].set_visible(False)


def joint_probabilities(frame):
    """Returns p(c, f | S) of a frame of `affect.predict.predict`, by class: its importance times p(c | f, S)."""
    return {name: frame["importance"] * value for name, value in frame["probabilities"].items()}


def draw_probabilities(axes, probabilities, chosen, *, with_names, scale=1.0):
    """Draws a bar a class up to `scale`, the chosen one in red."""
    names = list(probabilities)
    colours = [_RED if name == chosen else _GREY for name in names]
    axes.barh(range(len(names)), list(probabilities.values()), color=colours)
    axes.set(xlim=(0, scale), xticks=[0, scale], ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:.2g}")
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


def draw_curve(axes, frames, name, *, label=None, style="-"):
    """Draws valence or arousal over time, with gaps where it is `None`.

    Args:
        axes: Of matplotlib.
        frames: List of dicts with `timestamp_s` and `name`.
        name: `"valence"`, drawn in red, or `"arousal"`, in blue.
        label: For the legend; by default the name.
        style: Of the line, as matplotlib names it.
    """
    times_s = [frame["timestamp_s"] for frame in frames]
    values = np.array([frame[name] for frame in frames], float)
    colour = _BLUE if name == "arousal" else _RED
    axes.plot(times_s, values, style, color=colour, linewidth=1.2, label=label or name)
    axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set(xlabel="time in s", ylabel="in [-1, 1]")
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
