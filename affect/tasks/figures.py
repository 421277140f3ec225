"""The figures of `affect explain`: a clip, the mean attention of each class, and a recording."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affect import drawing as draw
from affect.colours import LETTER_COLOURS
from affect.data.clips import Clip, Face
from affect.data.recordings import EvaluationGrid, read_windows, recording_of
from affect.data.views import clip_inputs, view_centre
from affect.errors import InputError
from affect.progress import Track, hide_progress
from affect.tasks.answers import choose_places
from affect.tasks.task import Drawing, LoadedModel

if TYPE_CHECKING:
    from affect.data.shards import Shards

# In a narrower column, the class of a frame and its probability are on two lines.
NARROW_INCHES = 0.9


def draw_clip(trained: LoadedModel, clip: Clip, result: dict[str, Any], out: str | Path, drawing: Drawing) -> list[str]:
    """Draws frames of a clip with attention, probabilities and importance (`affect.reading.explain.explain`).

    Args:
        trained: A classifier.
        clip: The clip, with at least one face.
        result: From `affect.reading.predict.predict`.
        out: Image file.
        drawing: How it is drawn.

    Returns:
        Sentences on what the figure lacks.
    """
    read = [frame for frame in result["frames"] if frame["probabilities"] is not None]
    times_s = np.array([frame["timestamp_s"] for frame in read])
    if drawing.by_importance:
        apart_s = drawing.apart_s
        if apart_s is None:
            apart_s = (times_s[-1] - times_s[0]) / (2 * drawing.frames)
        shown = choose_peaks(times_s, [frame["importance"] for frame in read], drawing.frames, apart_s)
    else:
        shown = _space_evenly(len(read), drawing.frames)
    remarks = []
    if drawing.by_importance and len(shown) < min(drawing.frames, len(read)):
        remarks.append(
            f"{out} shows {len(shown)} frames and not {drawing.frames}, because they are at least {apart_s:g} s apart. "
            "For more, lower --apart."
        )
    faces, attention = _look_at_clip(trained, clip, shown)
    maps: dict[str, Sequence[np.ndarray] | np.ndarray] = {}
    if attention is not None and drawing.style == "paper":
        maps = {"attention": draw.attention_maps(np.mean(attention, axis=1, keepdims=True))[:, 0]}
    elif attention is not None:
        maps = _select_maps(attention, drawing)

    label, is_paper = result["label"], drawing.style == "paper"
    heights = [0.9, 0.7] if is_paper else [1.0, 0.7]
    page = draw.begin_figure(1 + len(maps), heights, len(shown), drawing.width_cm)
    classes = list(result["probabilities"])
    if is_paper:
        titles = [[f"{times_s[index]:.2f} s"] for index in shown]
        draw.draw_faces(page, faces, titles, maps, as_heat=False)
        joint = [draw.joint_probabilities(read[index]) for index in shown]
        scale = max(max(row.values()) for row in joint)  # of the shown frames
        for column, row in enumerate(joint):
            axes = page.figure.add_subplot(page.grid[-2, column])
            own = max(row, key=lambda name: row[name])
            draw.draw_probabilities(axes, row, own, with_names=column == 0, scale=scale, points=page.points)
        importance = page.figure.add_subplot(page.grid[-1, :])
    else:
        likeliest = [max(classes, key=lambda name: read[index]["probabilities"][name]) for index in shown]
        between = "\n" if page.column_inches < NARROW_INCHES else " "
        titles = [
            [f"{times_s[index]:.2f} s", *f"{name}{between}{read[index]['probabilities'][name]:.2f}".split("\n")]
            for index, name in zip(shown, likeliest, strict=True)
        ]
        colours = [LETTER_COLOURS[classes.index(name) % len(LETTER_COLOURS)] for name in likeliest]
        columns = draw.draw_faces(page, faces, titles, maps, colours)
        curves = page.figure.add_subplot(page.grid[-2, :])
        importance = page.figure.add_subplot(page.grid[-1, :], sharex=curves)
        drawn = [frame for frame in result["frames"] if frame["probabilities"] is not None or not frame["has_face"]]
        draw.draw_classes(curves, drawn, classes, label, points=page.points)
        curves.set_xlabel("")
        curves.tick_params(labelbottom=False)
        draw.join_to_times(page, columns, curves, times_s[shown])
        draw.add_legend(page, curves)
    drawn = [frame for frame in result["frames"] if frame["importance"] is not None or not frame["has_face"]]
    marked = [place for place, frame in enumerate(drawn) if frame["importance"] is not None]
    draw.draw_importance(importance, drawn, np.array(marked)[shown], points=page.points)
    draw.add_title(
        page,
        f"{clip.key}: {label}, p = {result['probabilities'][label]:.2f}"
        + (f" (labelled {clip.label})" if clip.label else ""),
    )
    draw.save_figure(page.figure, out, draw.choose_dpi(page, faces))
    return remarks


def choose_peaks(
    times_s: Sequence[float] | np.ndarray, importance: Sequence[float] | np.ndarray, most: int, apart_s: float
) -> np.ndarray:
    """Chooses the most important frames that are far enough from each other.

    The most important frame is taken first, then the most important one that is far enough from those taken, and so on.

    Args:
        times_s: F times in seconds.
        importance: F numbers. Of equal ones the first is taken.
        most: Largest number of frames.
        apart_s: Least time between two of them in seconds.

    Returns:
        int (P,), their indices, ascending.
    """
    times_s, chosen = np.asarray(times_s), []
    for index in np.argsort(-np.asarray(importance), kind="stable"):
        if len(chosen) == most:
            break
        if all(abs(times_s[index] - times_s[other]) >= apart_s - 1e-6 for other in chosen):
            chosen.append(index)
    return np.sort(np.array(chosen, int))


def draw_class_means(
    trained: LoadedModel, shards: "Shards", out: str | Path, *, split: str, track: Track = hide_progress
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

    Raises:
        InputError: If the model has no spatial attention, or does not give it.
    """
    from affect.data.batches import eval_batches  # it imports TensorFlow

    faces: dict[int, Any] = Counter()
    attention: dict[int, Any] = Counter()
    clips: dict[int, int] = Counter()
    data = trained.experiment.data
    if trained.most_frames is not None:
        data = replace(data, eval_frames=trained.most_frames)
    batches = eval_batches(shards, data, split=split, classes=trained.classes, face_size=trained.face_size)
    for tensors in track(batches, -(-len(shards.of_split(split)) // data.batch_clips), "explain"):
        batch = {name: value.numpy() for name, value in tensors.items()}
        outputs = trained.respond_with_attention({name: batch[name] for name in ("faces", "frame_mask")})
        if "attention" not in outputs:
            raise InputError(f"{trained.experiment.name} has no spatial attention to average, or does not give it.")
        for row, label in enumerate(batch["label"]):
            if label >= 0 and batch["frame_mask"][row].any():
                importance = outputs["frame_importance"][row]
                faces[label] += np.tensordot(importance, batch["faces"][row], axes=1)
                attention[label] += np.tensordot(importance, outputs["attention"][row], axes=1)
                clips[label] += 1
    means = {label: draw.as_square(attention[label] / clips[label]) for label in sorted(clips)}

    heads = len(next(iter(means.values()))) if means else 0
    columns = 1 + (1 if heads == 1 else 1 + heads)
    page = draw.begin_figure(max(len(means), 1), [], columns)
    for row, (label, maps) in enumerate(means.items()):
        face = faces[label] / clips[label]
        drawn = draw.split_heads(maps.reshape(1, heads, -1))
        for column in range(columns):
            axes = page.figure.add_subplot(page.grid[row, column])
            if column == 0:
                axes.imshow(face.round().astype(np.uint8))
                title = f"{trained.classes[label]} ({clips[label]})"
                axes.set_title(title, fontsize=page.points, parse_math=False)
                axes.set_axis_off()
            else:
                name = list(drawn)[column - 1]
                draw.draw_attention(axes, face, drawn[name][0], name=name, as_heat=True)
    draw.save_figure(page.figure, out)
    return {trained.classes[label]: maps for label, maps in means.items()}


def draw_recording(
    trained: LoadedModel, clip: Clip, result: dict[str, Any], out: str | Path, drawing: Drawing
) -> list[str]:
    """Draws frames of a recording with attention, and valence and arousal (`affect.reading.explain.explain`).

    Args:
        trained: A regression.
        clip: The recording as a clip, with at least one face.
        result: From `affect.reading.predict.predict`.
        out: Image file.
        drawing: How it is drawn.

    Returns:
        Sentences on what the figure lacks: none.
    """
    seen = [place for place, frame in enumerate(result["frames"]) if frame["has_face"]]
    shown = [seen[index] for index in _space_evenly(len(seen), drawing.frames)]
    times_s = [result["frames"][place]["timestamp_s"] for place in shown]
    faces_s = recording_of(clip).times_s
    faces = _read_faces(trained, [clip.faces[int(np.argmin(abs(faces_s - time_s)))] for time_s in times_s])
    looked_at = _look_at_recording(trained, clip, shown)
    maps = _select_maps(looked_at, drawing) if looked_at is not None else {}

    page = draw.begin_figure(1 + len(maps), [1.2], len(shown), drawing.width_cm)
    columns = draw.draw_faces(page, faces, [[f"{time_s:.2f} s"] for time_s in times_s], maps)
    axes = page.figure.add_subplot(page.grid[-1, :])
    for name, style in zip(trained.classes, ("-", "--"), strict=True):
        draw.draw_curve(axes, result["frames"], name, style=style, points=page.points)
    draw.join_to_times(page, columns, axes, times_s)
    draw.add_legend(page, axes)
    draw.add_title(page, clip.key)
    draw.save_figure(page.figure, out, draw.choose_dpi(page, faces))
    return []


def _space_evenly(total, most):
    return np.unique(np.linspace(0, total - 1, min(most, total)).round().astype(int))


def _select_maps(attention, drawing):
    maps = draw.split_heads(attention)
    return maps if drawing.each_head else {"attention": next(iter(maps.values()))}


def _read_faces(trained: LoadedModel, faces: Sequence[Face]) -> list[np.ndarray]:
    """Returns the parts of faces that the model sees, (H, W, 3), in the pixels in which they are stored."""
    return [view_centre(face.jpeg, trained.experiment.data.crop_ratio, None) for face in faces]


def _look_at_clip(trained, clip, shown):
    """Returns faces (P, H, W, 3), by index among those read, and the attention (P, N, L) to them, `None` without."""
    places = choose_places(trained, len(clip.faces))
    faces = _read_faces(trained, [clip.faces[place] for place in places[shown]])
    if trained.most_frames is not None:  # Attention to a frame depends on the frames around it.
        chosen = replace(clip, faces=tuple(clip.faces[place] for place in places))
        data = replace(trained.experiment.data, eval_frames=trained.most_frames)
        inputs, _ = clip_inputs(chosen, data, trained.face_size)
        outputs = trained.respond_with_attention(inputs)
        return faces, outputs["attention"][0, shown] if "attention" in outputs else None
    attention = trained.task.attend(trained, [clip.faces[place] for place in places[shown]])
    return faces, None if attention is None else attention.reshape(*attention.shape[:2], -1)


def _look_at_recording(trained, clip, places):
    """Returns the attention (P, N, L) to the points of the grid at these places; `None` without attention."""
    if trained.experiment.model.features != "faces":  # such a network sees no pixels
        return None
    settings, attention, start = trained.experiment.windows, {}, 0
    data, grid = trained.experiment.data, EvaluationGrid(settings)
    batches = read_windows([recording_of(clip)], grid, data, face_size=trained.face_size)
    for batch in batches:
        windows = range(start, start + len(batch["times_s"]) * settings.frames)
        wanted = set(places).intersection(windows)
        if wanted:
            inputs = {name: batch[name] for name in ("faces", "frame_mask")}
            outputs = trained.respond_with_attention(inputs)
            if "attention" not in outputs:
                return None
            for place in wanted:
                attention[place] = outputs["attention"][divmod(place - start, settings.frames)]
        start = windows.stop
    maps = np.stack([attention[place] for place in places])
    is_spatiotemporal = trained.experiment.model.attention is not None  # maps (h, w)
    return maps.reshape(len(places), 1, -1) if is_spatiotemporal else maps
