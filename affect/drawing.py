"""Drawing with matplotlib: attention on faces, probabilities, importance and curves over time; writing a figure."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from skimage.transform import resize

from affect.files import replace_file

# Colours that people with a colour vision deficiency tell apart (Okabe and Ito), RGB.
COLOURS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((230, 159, 0), (86, 180, 233), (240, 228, 66)),
)
_RED, _GREY, _BLUE = "#c0392b", "#b0b7bf", "#2471a3"


def begin_figure(heights: Sequence[float], columns: int) -> tuple[Figure, GridSpec]:
    """Returns a figure and its grid.

    Args:
        heights: Relative heights of the rows.
        columns: Number of columns.
    """
    figure = Figure(figsize=(1.7 * max(columns, 4), 1.7 * sum(heights) + 0.9), layout="constrained")
    return figure, figure.add_gridspec(len(heights), columns, height_ratios=heights)


def draw_faces(
    figure: Figure,
    grid: GridSpec,
    faces: Sequence[np.ndarray],
    times_s: Sequence[float],
    attention: Mapping[str, Sequence[np.ndarray] | np.ndarray],
) -> None:
    """Draws the first rows of a figure: faces with their times, and below them their attention.

    Args:
        figure: From `begin_figure`.
        grid: From `begin_figure`.
        faces: P arrays uint8 (H, W, 3).
        times_s: P times in seconds.
        attention: Name of a row → P maps (h, w) in [0, 1].
    """
    for column, (face, time_s) in enumerate(zip(faces, times_s, strict=True)):
        axes = figure.add_subplot(grid[0, column])
        axes.imshow(face)
        axes.set_title(f"{time_s:.2f} s", fontsize=9)
        axes.set_axis_off()
        for row, (name, maps) in enumerate(attention.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            draw_attention(axes, face, maps[column], name="" if column else name)


def split_heads(attention: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the maps that are drawn: the maximum over the heads, and each head.

    Args:
        attention: Float (F, N, L); L is a square number.

    Returns:
        Dict of `heads` and `head 1` to `head N`, or of `attention` alone if N = 1: maps (F, h, w) in [0, 1], where 1 is
        the highest weight of each head's map.
    """
    maps = attention_maps(attention)
    of_heads = {f"head {head + 1}": maps[:, head] for head in range(maps.shape[1])}
    return {"heads": maps.max(axis=1), **of_heads} if len(of_heads) > 1 else {"attention": maps[:, 0]}


def attention_maps(attention: np.ndarray) -> np.ndarray:
    """Returns attention (F, N, L), where L is a square number, as maps (F, N, h, w) in [0, 1].

    Each map is divided by its highest weight.
    """
    maps = as_square(np.asarray(attention))
    return maps / np.maximum(maps.max(axis=(-2, -1), keepdims=True), 1e-9)


def draw_attention(axes: Axes, face: np.ndarray, attention: np.ndarray, *, name: str = "") -> None:
    """Draws a face in grey, whiter where it has more attention.

    Args:
        axes: Of matplotlib.
        face: (H, W, 3), 0 to 255.
        attention: (h, w), in [0, 1].
        name: Label on the left.
    """
    white = 0.9 * resize(attention, face.shape[:2], order=1, mode="edge")
    axes.imshow(face.mean(axis=-1) / 255 * 0.5 * (1 - white) + white, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[], ylabel=name)
    axes.spines[:].set_visible(False)


def joint_probabilities(frame: Mapping[str, Any]) -> dict[str, float]:
    """Returns p(c, f | S) of a frame of a prediction for each class: its importance times p(c | f, S)."""
    return {name: frame["importance"] * value for name, value in frame["probabilities"].items()}


def draw_probabilities(
    axes: Axes, probabilities: Mapping[str, float], chosen: str, *, with_names: bool, scale: float = 1.0
) -> None:
    """Draws a bar for each class.

    Args:
        axes: Of matplotlib.
        probabilities: Class → probability.
        chosen: The class that is drawn in red.
        with_names: Whether the bars are labelled with their classes.
        scale: End of the axis of probabilities.
    """
    names = list(probabilities)
    colours = [_RED if name == chosen else _GREY for name in names]
    axes.barh(range(len(names)), list(probabilities.values()), color=colours)
    axes.set(xlim=(0, scale), xticks=[0, scale], ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.set_yticks(range(len(names)), names if with_names else [""] * len(names))
    axes.tick_params(labelsize=8)


def draw_importance(axes: Axes, frames: Sequence[Mapping[str, Any]], shown: Sequence[int] | np.ndarray) -> None:
    """Draws the importance of the frames over time, in per cent of the highest importance.

    Args:
        axes: Of matplotlib.
        frames: Dicts with `timestamp_s` and `importance`.
        shown: Indices of the frames that are marked.
    """
    times = np.array([frame["timestamp_s"] for frame in frames])
    importance = np.array([frame["importance"] for frame in frames])
    importance = 100 * importance / importance.max()
    axes.fill_between(times, importance, color=_GREY, alpha=0.5)
    axes.plot(times, importance, color="black", linewidth=1)
    axes.plot(times[shown], importance[shown], "o", color=_RED, markersize=4)
    axes.set(ylim=(0, 105), xlabel="time in s", ylabel="importance in %")
    axes.margins(x=0.01)
    axes.tick_params(labelsize=8)


def draw_curve(
    axes: Axes, frames: Sequence[Mapping[str, Any]], name: str, *, label: str | None = None, style: str = "-"
) -> None:
    """Draws valence or arousal over time, with gaps where it is `None`.

    Args:
        axes: Of matplotlib.
        frames: Dicts with `timestamp_s` and the dimension.
        name: The dimension: `"valence"`, which is drawn in red, or `"arousal"`, in blue.
        label: In the legend; `None` is the name.
        style: Of the line, in matplotlib's notation.
    """
    times_s = [frame["timestamp_s"] for frame in frames]
    values = np.array([frame[name] for frame in frames], float)
    colour = _BLUE if name == "arousal" else _RED
    axes.plot(times_s, values, style, color=colour, linewidth=1.2, label=label or name)
    axes.axhline(0, color=_GREY, linewidth=0.6)
    axes.set(xlabel="time in s", ylabel="in [-1, 1]")
    axes.margins(x=0.01)
    axes.tick_params(labelsize=8)


def as_square(attention: np.ndarray) -> np.ndarray:
    """Returns attention (..., L), where L is a square number, as (..., h, w)."""
    side = math.isqrt(attention.shape[-1])
    return attention.reshape(*attention.shape[:-1], side, side)


def save_figure(figure: Figure, out: Path | str) -> None:
    """Writes a figure under a temporary name and renames it.

    Args:
        figure: Of matplotlib.
        out: Image file; its suffix gives the format. Its folder is created.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as temporary:
        figure.savefig(temporary, dpi=110)


def plot_evaluation(report: Mapping[str, Any], folder: Path | str) -> list[Path]:
    """Draws the gold standard and the estimate of each recording over time, and all of them as a scatter plot.

    Args:
        report: From `affect.training.evaluate.evaluate`, of a regression.
        folder: Where `recordings/<name>.png` and `scatter.png` are written. It is created.

    Returns:
        The files written.
    """
    written = []
    for recording in report["recordings"]:
        figure = Figure(figsize=(10, 2.6 * len(report["dimensions"])), layout="constrained")
        for row, dimension in enumerate(report["dimensions"]):
            axes = figure.add_subplot(len(report["dimensions"]), 1, row + 1)
            for kind, label, style in (("labels", "gold standard", ":"), ("predictions", "estimated", "-")):
                draw_curve(axes, _pair_times(recording, kind, dimension), dimension, label=label, style=style)
            axes.set_ylabel(dimension)
            axes.set_title(_format_metrics(recording["metrics"][dimension]), fontsize=9)
            axes.legend(loc="upper right", fontsize=8)
        figure.suptitle(recording["name"], fontsize=11)
        written.append(Path(folder) / "recordings" / f"{recording['name']}.png")
        save_figure(figure, written[-1])

    figure = Figure(figsize=(4.5 * len(report["dimensions"]), 4.7), layout="constrained")
    for column, dimension in enumerate(report["dimensions"]):
        axes = figure.add_subplot(1, len(report["dimensions"]), column + 1)
        for recording in report["recordings"]:
            series = recording["series"]
            pairs = zip(series["labels"][dimension], series["predictions"][dimension], strict=True)
            points = [pair for pair in pairs if None not in pair]
            axes.plot(*zip(*points, strict=True) if points else ([], []), ".", markersize=2, alpha=0.4)
        axes.axline((0, 0), slope=1, color="black", linewidth=0.6)
        axes.set_aspect("equal", "datalim")
        axes.set(xlabel=f"{dimension}, gold standard", ylabel="estimated")
        axes.set_title(_format_metrics(report["metrics"][dimension]["concatenated"]), fontsize=9)
    written.append(Path(folder) / "scatter.png")
    save_figure(figure, written[-1])
    return written


def plot_predictions(predictions: Sequence[Mapping[str, Any]], out: Path | str) -> None:
    """Draws valence and arousal over time, with one row for each video.

    Args:
        predictions: From `affect.reading.predict.predict`, of a regression.
        out: Image file; its suffix gives the format. Its folder is created.
    """
    figure = Figure(figsize=(10, 2.6 * len(predictions)), layout="constrained")
    for row, prediction in enumerate(predictions):
        axes = figure.add_subplot(len(predictions), 1, row + 1)
        for name in ("valence", "arousal"):
            draw_curve(axes, prediction["frames"], name)
        axes.set_title(prediction["key"], fontsize=9)
        axes.legend(loc="upper right", fontsize=8)
    save_figure(figure, out)


def _pair_times(recording: Mapping[str, Any], kind: str, dimension: str) -> list[dict[str, Any]]:
    series = recording["series"]
    values = zip(series["times_s"], series[kind][dimension], strict=True)
    return [{"timestamp_s": time_s, dimension: value} for time_s, value in values]


def _format_metrics(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name.upper()} {'–' if value is None else f'{value:.3f}'}" for name, value in metrics.items())
