"""The figures of `affect explain`: a clip, the mean attention of each class, and a recording."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from affect import drawing
from affect.data.augment import central_view, view_face
from affect.data.records import Clip
from affect.data.shards import Shards, clip_inputs
from affect.data.windows import eval_windows, recording_of
from affect.progress import Track, hide_progress
from affect.tasks.answers import choose_places, run_split
from affect.tasks.task import Style, TrainedModel


def draw_clip(
    trained: TrainedModel,
    clip: Clip,
    result: dict[str, Any],
    out: str | Path,
    *,
    frames: int,
    by_importance: bool,
    style: Style,
) -> None:
    """Draws frames of a clip with attention, probabilities and importance (`affect.reading.explain.explain`).

    Args:
        trained: A classifier.
        clip: The clip, with at least one face.
        result: From `affect.reading.predict.predict`.
        out: Image file.
        frames: Most frames that are shown.
        by_importance: Whether the most important frames are shown, instead of evenly spaced ones.
        style: How it is drawn.
    """
    read = [frame for frame in result["frames"] if frame["probabilities"] is not None]
    count = min(frames, len(read))
    if by_importance:
        shown = np.sort(np.argsort([-frame["importance"] for frame in read], kind="stable")[:count])
    else:
        shown = np.unique(np.linspace(0, len(read) - 1, count).round().astype(int))
    faces, attention = _look_at_clip(trained, clip, shown)
    maps: dict[str, np.ndarray] = {}
    if attention is not None and style == "paper":
        maps = {"attention": drawing.attention_maps(np.mean(attention, axis=1, keepdims=True))[:, 0]}
    elif attention is not None:
        maps = drawing.split_heads(attention)
    scale = max(max(drawing.joint_probabilities(read[index]).values()) for index in shown)  # of the shown frames

    figure, grid = drawing.begin_figure([1.0] * (1 + len(maps)) + [0.9, 0.8], len(shown))
    drawing.draw_faces(figure, grid, faces, [read[index]["timestamp_s"] for index in shown], maps)
    for column, index in enumerate(shown):
        axes, with_names = figure.add_subplot(grid[-2, column]), column == 0
        if style == "paper":
            joint = drawing.joint_probabilities(read[index])
            likeliest = max(joint, key=lambda name: joint[name])
            drawing.draw_probabilities(axes, joint, likeliest, with_names=with_names, scale=scale)
        else:
            drawing.draw_probabilities(axes, read[index]["probabilities"], result["label"], with_names=with_names)
    drawing.draw_importance(figure.add_subplot(grid[-1, :]), read, shown)
    figure.suptitle(
        f"{clip.key}: {result['label']}, p = {result['probabilities'][result['label']]:.2f}"
        + (f" (labelled {clip.label})" if clip.label else ""),
        fontsize=11,
    )
    drawing.save_figure(figure, out)


def draw_class_means(
    trained: TrainedModel, shards: Shards, out: str | Path, *, split: str, track: Track = hide_progress
) -> dict[str, np.ndarray]:
    """Draws the mean face and the mean attention of each class (`affect.reading.explain.explain_classes`).

    Args:
        trained: A classifier with spatial attention.
        shards: The data.
        out: Image file.
        split: Name of the split.
        track: Shows progress.

    Returns:
        Class → mean attention (N, h, w).
    """
    faces: dict[int, Any] = Counter()
    attention: dict[int, Any] = Counter()
    clips: dict[int, int] = Counter()
    for batch, outputs in run_split(trained, shards, split, track, "explain"):
        for row, label in enumerate(batch["label"]):
            if label >= 0 and batch["frame_mask"][row].any():
                importance = outputs["frame_importance"][row]
                faces[label] += np.tensordot(importance, batch["faces"][row], axes=1)
                attention[label] += np.tensordot(importance, outputs["attention"][row], axes=1)
                clips[label] += 1
    means = {label: drawing.as_square(attention[label] / clips[label]) for label in sorted(clips)}

    heads = len(next(iter(means.values()))) if means else 0
    columns = 1 + (1 if heads == 1 else 1 + heads)
    figure = drawing.Figure(figsize=(1.7 * columns, 1.7 * max(len(means), 1) + 0.5), layout="constrained")
    for row, (label, maps) in enumerate(means.items()):
        face = faces[label] / clips[label]
        drawn = drawing.split_heads(maps.reshape(1, heads, -1))
        for column in range(columns):
            axes = figure.add_subplot(max(len(means), 1), columns, row * columns + column + 1)
            if column == 0:
                axes.imshow(face.round().astype(np.uint8))
                axes.set_title(f"{trained.classes[label]} ({clips[label]})", fontsize=9)
                axes.set_axis_off()
            else:
                name = list(drawn)[column - 1]
                drawing.draw_attention(axes, face, drawn[name][0], name=name)
    drawing.save_figure(figure, out)
    return {trained.classes[label]: maps for label, maps in means.items()}


def draw_recording(trained: TrainedModel, clip: Clip, result: dict[str, Any], out: str | Path, *, frames: int) -> None:
    """Draws frames of a recording with attention, and valence and arousal (`affect.reading.explain.explain`).

    Args:
        trained: A regression.
        clip: The recording as a clip, with at least one face.
        result: From `affect.reading.predict.predict`.
        out: Image file.
        frames: Most frames that are shown, evenly spaced.
    """
    seen = [place for place, frame in enumerate(result["frames"]) if frame["has_face"]]
    chosen = np.unique(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int))
    shown = [seen[index] for index in chosen]
    faces, looked_at = _look_at_recording(trained, clip, shown)
    attention = drawing.split_heads(looked_at) if looked_at is not None else {}
    times_s = [result["frames"][place]["timestamp_s"] for place in shown]

    figure, grid = drawing.begin_figure([1.0] * (1 + len(attention)) + [1.2], len(shown))
    drawing.draw_faces(figure, grid, faces, times_s, attention)
    axes = figure.add_subplot(grid[-1, :])
    for name in trained.classes:
        drawing.draw_curve(axes, result["frames"], name)
    axes.plot(times_s, [0] * len(times_s), "|", color="black")
    axes.legend(loc="upper right", fontsize=8)
    figure.suptitle(clip.key, fontsize=11)
    drawing.save_figure(figure, out)


def _look_at_clip(trained, clip, shown):
    """Returns faces (P, H, W, 3), by index among those read, and the attention (P, N, L) to them, `None` without."""
    places = choose_places(trained, len(clip.faces))
    if trained.most_frames is not None:  # Attention to a frame depends on the frames around it.
        chosen = replace(clip, faces=tuple(clip.faces[place] for place in places))
        inputs, _ = clip_inputs(chosen, trained.experiment.data, trained.face_size)
        outputs = trained.respond(inputs)
        return inputs["faces"][0, shown], outputs["attention"][0, shown] if "attention" in outputs else None
    view = central_view(trained.experiment.data.crop_ratio)
    faces = [view_face(clip.faces[place].jpeg, view, trained.face_size).numpy() for place in places[shown]]
    return faces, trained.frame_functions["frame"](faces=np.stack(faces)).get("attention")


def _look_at_recording(trained, clip, places):
    """Returns the faces (H, W, 3) at places on the grid, and the attention (P, N, L) to them, `None` without."""
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
    shown = [faces[place] for place in places]
    if not has_attention:
        return shown, None
    maps = np.stack([attention[place] for place in places])
    is_spatiotemporal = trained.experiment.model.attention is not None  # maps (h, w)
    return shown, maps.reshape(len(places), 1, -1) if is_spatiotemporal else maps
