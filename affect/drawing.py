"""Drawing with matplotlib: attention on faces, probabilities, importance and curves over time; writing a figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import ConnectionPatch
from skimage.transform import resize

from affect.colours import COLOURS
from affect.errors import InputError
from affect.files import replace_file

# Pixels in an inch of a figure, at least.
DPI = 200
_RED, _GREY, _BLUE = "#c0392b", "#b0b7bf", "#2471a3"
# Styles of lines, which differ in print too. A class has one by its place.
_STYLES: tuple[Any, ...] = (
    *("-", (0, (6, 2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1))),
    *((0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (10, 2))),
)
_CM_PER_INCH = 2.54
# Width in inches of a column of faces, where the figure has no width of its own.
_COLUMN_INCHES = 1.7


@dataclass(frozen=True)
class Page:
    """A figure of columns of faces above curves over time.

    Args:
        figure: Of matplotlib.
        grid: Its rows and columns.
        column_inches: Width of a column.
        points: Size of letters.
    """

    figure: Figure
    grid: GridSpec
    column_inches: float
    points: float


def begin_figure(rows: int, heights: Sequence[float], columns: int, width_cm: float | None = None) -> Page:
    """Returns a figure and its grid: rows of squares, then rows that span the columns.

    Args:
        rows: Number of rows of squares.
        heights: Heights of the other rows, as shares of the width of a column of the default width.
        columns: Number of columns.
        width_cm: Width of the figure; `None` gives each column 4.3 cm.
    """
    width = width_cm / _CM_PER_INCH if width_cm else _COLUMN_INCHES * max(columns, 4)
    points = min(9.0, max(6.0, 1.1 * width))
    column = (width - 7 * points / 72) / columns  # beside the columns are the names of the rows
    tallest = max(0.5 * _COLUMN_INCHES, min(_COLUMN_INCHES, width / 6))
    # Between the squares and the curves is room for the lines of `join_to_times`.
    others = [0.12 * tallest, *(height * tallest for height in heights)] if heights else []
    # A column is at most as wide as by default, so that few faces do not fill a page.
    squares = [min(column, 1.2 * _COLUMN_INCHES)] * rows
    letters = 10 * points / 72  # title, times, names below the axis
    close = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, sum(squares) + sum(others) + letters), layout=close)
    grid = figure.add_gridspec(rows + len(others), columns, height_ratios=squares + others)
    return Page(figure, grid, column, points)


def style_of(place: int) -> dict[str, Any]:
    """Returns the colour and the style of the line of a class, for matplotlib, by its place among the classes."""
    turns, index = divmod(place, len(COLOURS))
    return {"color": COLOURS[index], "linestyle": _STYLES[(index + turns) % len(_STYLES)]}


def shorten(text: str, most: int) -> str:
    """Returns a text without its beginning if it is too long.

    Args:
        text: The text.
        most: Most letters that are returned.
    """
    return text if len(text) <= most else f"…{text[1 - most :]}"


def add_title(page: Page, text: str) -> None:
    """Writes the title of a figure. If it is too long, its beginning is left out.

    Args:
        page: From `begin_figure`.
        text: The title.
    """
    points = page.points + 2
    most = int(page.figure.get_figwidth() * 72 / (0.58 * points))
    page.figure.suptitle(shorten(text, most), fontsize=points, parse_math=False)


def draw_faces(
    page: Page,
    faces: Sequence[np.ndarray],
    titles: Sequence[Sequence[str]],
    attention: Mapping[str, Sequence[np.ndarray] | np.ndarray],
    colours: Sequence[str] = (),
    *,
    as_heat: bool = True,
) -> list[Axes]:
    """Draws the first rows of a figure: faces with their titles, and below them their attention.

    Args:
        page: From `begin_figure`.
        faces: P arrays uint8 (H, W, 3).
        titles: P lists of lines. A line that is wider than its face has smaller letters.
        attention: Name of a row → P maps (h, w) in [0, 1].
        colours: P colours of the titles below their first lines; empty for black.
        as_heat: As of `draw_attention`.

    Returns:
        The axes of the last row, one for each face.
    """
    last = []
    for column, (face, lines) in enumerate(zip(faces, titles, strict=True)):
        axes = page.figure.add_subplot(page.grid[0, column])
        axes.imshow(face)
        axes.set_title("\n" * (len(lines) - 1), fontsize=page.points, pad=2)  # makes room for the lines
        for above, line in enumerate(reversed(lines)):
            room = 72 * page.column_inches / (0.62 * max(len(line), 1))
            written = axes.annotate(
                line,
                (0.5, 1),
                (0, 2 + above * 1.25 * page.points),
                xycoords="axes fraction",
                textcoords="offset points",
                horizontalalignment="center",
                fontsize=min(page.points, room),
                fontweight="bold" if colours and above < len(lines) - 1 else "normal",
                color=colours[column] if colours and above < len(lines) - 1 else "black",
                parse_math=False,
            )
            written.set_in_layout(False)
        axes.set_axis_off()
        for row, (name, maps) in enumerate(attention.items(), start=1):
            axes = page.figure.add_subplot(page.grid[row, column])
            draw_attention(axes, face, maps[column], name="" if column else name, as_heat=as_heat, points=page.points)
        last.append(axes)
    return last


def join_to_times(page: Page, columns: Sequence[Axes], axes: Axes, times_s: Sequence[float]) -> None:
    """Draws a line from each column of faces to its time in the curves below, and on through the curves.

    Args:
        page: From `begin_figure`.
        columns: From `draw_faces`.
        axes: Of curves over time.
        times_s: Time in seconds of each column.
    """
    for above, time_s in zip(columns, times_s, strict=True):
        line = ConnectionPatch(
            xyA=(0.5, 0),
            coordsA="axes fraction",
            axesA=above,
            xyB=(time_s, 1),
            coordsB=axes.get_xaxis_transform(),
            axesB=axes,
            color=_GREY,
            linewidth=0.8,
        )
        line.set_in_layout(False)
        page.figure.add_artist(line)
        axes.axvline(time_s, color=_GREY, linewidth=0.8, zorder=0.5)


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


def draw_attention(
    axes: Axes, face: np.ndarray, attention: np.ndarray, *, name: str = "", as_heat: bool = False, points: float = 9
) -> None:
    """Draws a face in grey with its attention over it.

    Args:
        axes: Of matplotlib.
        face: (H, W, 3), 0 to 255.
        attention: (h, w), in [0, 1].
        name: Label on the left.
        as_heat: Whether high attention is yellow and low attention is violet. Otherwise the face is whiter where it
            has more attention, as in paper A.
        points: Size of the label.
    """
    grey = face.mean(axis=-1) / 255
    if as_heat:
        smooth = np.clip(resize(attention, face.shape[:2], order=3, mode="edge"), 0, 1)[..., None]
        over = 0.25 + 0.4 * smooth
        axes.imshow(np.clip(over * colormaps["plasma"](smooth[..., 0])[..., :3] + (1 - over) * grey[..., None], 0, 1))
    else:
        share = resize(attention, face.shape[:2], order=1, mode="edge")
        axes.imshow(grey * 0.5 * (1 - 0.9 * share) + 0.9 * share, cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel(name, fontsize=points)
    axes.spines[:].set_visible(False)


def joint_probabilities(frame: Mapping[str, Any]) -> dict[str, float]:
    """Returns p(c, f | S) of a frame of a prediction for each class: its importance times p(c | f, S)."""
    return {name: frame["importance"] * value for name, value in frame["probabilities"].items()}


def draw_probabilities(
    axes: Axes,
    probabilities: Mapping[str, float],
    chosen: str,
    *,
    with_names: bool,
    scale: float = 1.0,
    points: float = 8,
) -> None:
    """Draws a bar for each class.

    Args:
        axes: Of matplotlib.
        probabilities: Class → probability.
        chosen: The class that is drawn in red.
        with_names: Whether the bars are labelled with their classes.
        scale: End of the axis of probabilities.
        points: Size of letters.
    """
    names = list(probabilities)
    colours = [_RED if name == chosen else _GREY for name in names]
    axes.barh(range(len(names)), list(probabilities.values()), color=colours)
    axes.set(xlim=(0, scale), xticks=[0, scale], ylim=(len(names) - 0.5, -0.5))
    axes.xaxis.set_major_formatter("{x:.2g}")
    axes.set_yticks(range(len(names)), names if with_names else [""] * len(names), parse_math=False)
    axes.tick_params(labelsize=0.9 * points)


def draw_classes(
    axes: Axes, frames: Sequence[Mapping[str, Any]], classes: Sequence[str], chosen: str, *, points: float = 8
) -> None:
    """Draws p(c | f, S) of each class over time, in its own colour and style, with grey gaps where there is no face.

    Args:
        axes: Of matplotlib.
        frames: Dicts with `timestamp_s` and `probabilities`, which is `None` without a face.
        classes: Names of the classes.
        chosen: The class whose line is thick.
        points: Size of letters.
    """
    times_s = [frame["timestamp_s"] for frame in frames]
    for place, name in enumerate(classes):
        values = [(frame["probabilities"] or {}).get(name, np.nan) for frame in frames]
        is_chosen = name == chosen
        width = (0.25 if is_chosen else 0.14) * points
        _draw_line(axes, times_s, values, label=name, linewidth=width, zorder=2 + is_chosen / 2, **style_of(place))
    shade_gaps(axes, times_s, [frame["probabilities"] is not None for frame in frames])
    axes.set(ylim=(-0.03, 1.03), yticks=[0, 0.5, 1])
    _finish(axes, points, "p(class | frame)")


def draw_importance(
    axes: Axes, frames: Sequence[Mapping[str, Any]], shown: Sequence[int] | np.ndarray, *, points: float = 8
) -> None:
    """Draws the importance of the frames over time, relative to the highest importance, as its label says.

    Args:
        axes: Of matplotlib.
        frames: Dicts with `timestamp_s` and `importance`, which is `None` without a face.
        shown: Indices of the frames that are marked.
        points: Size of letters.
    """
    times = np.array([frame["timestamp_s"] for frame in frames])
    importance = np.array([frame["importance"] for frame in frames], float)
    importance = importance / (np.nanmax(importance) or 1)
    axes.fill_between(times, importance, color=_GREY, alpha=0.5, linewidth=0)
    _draw_line(axes, times, importance, color="black", linewidth=0.12 * points)
    shade_gaps(axes, times.tolist(), (~np.isnan(importance)).tolist())
    axes.plot(times[shown], importance[shown], "o", color=_RED, markersize=0.45 * points, clip_on=False, zorder=3)
    axes.set(ylim=(0, 1.08), yticks=[0, 0.5, 1])
    _finish(axes, points, "importance,\nshare of peak")


def shade_gaps(axes: Axes, times_s: Sequence[float], has_face: Sequence[bool]) -> None:
    """Shades the times without a face, and names them in the legend.

    Args:
        axes: Of curves over time.
        times_s: Times of the frames in seconds, ascending.
        has_face: Whether each of them shows the face.
    """
    label = "no face"
    places = np.flatnonzero(np.diff([True, *has_face, True]))
    for start, stop in zip(places[::2], places[1::2], strict=True):
        span = times_s[max(start - 1, 0)], times_s[min(stop, len(times_s) - 1)]
        axes.axvspan(*span, color="#e8eaed", linewidth=0, zorder=0.4, label=label)
        label = "_"  # which the legend leaves out


def _draw_line(axes, times_s, values, **style):
    """Draws a line with gaps where values are NaN; a value between two gaps is a point."""
    values = np.asarray(values, float)
    axes.plot(times_s, values, **style)
    known = np.concatenate([[False], ~np.isnan(values), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    if alone.any():
        axes.plot(np.asarray(times_s)[alone], values[alone], ".", color=style["color"], markersize=3)


def _finish(axes, points, name):
    axes.autoscale(axis="x")
    axes.margins(x=0.01)
    axes.tick_params(labelsize=0.9 * points)
    axes.set_xlabel("time in s", fontsize=points)
    axes.set_ylabel(name, fontsize=points)
    axes.spines[["top", "right"]].set_visible(False)


def add_legend(page: Page, axes: Axes) -> None:
    """Draws the legend of some curves below the figure.

    Args:
        page: From `begin_figure`.
        axes: Of the curves.
    """
    handles, labels = axes.get_legend_handles_labels()
    lengths = [len(label) for label in labels] or [0]
    letters = 0.3 * (max(lengths) + sum(lengths) / len(lengths)) + 4.5
    columns = max(1, min(len(labels), int(page.figure.get_figwidth() * 72 / (letters * page.points))))
    legend = page.figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        fontsize=page.points,
        frameon=False,
        columnspacing=1.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def draw_curve(
    axes: Axes,
    frames: Sequence[Mapping[str, Any]],
    name: str,
    *,
    label: str | None = None,
    style: str = "-",
    points: float = 8,
) -> None:
    """Draws valence or arousal over time, with gaps where it is `None`.

    Args:
        axes: Of matplotlib.
        frames: Dicts with `timestamp_s` and the dimension.
        name: The dimension: `"valence"`, which is drawn in red, or `"arousal"`, in blue.
        label: In the legend; `None` is the name.
        style: Of the line, in matplotlib's notation.
        points: Size of letters.
    """
    times_s = [frame["timestamp_s"] for frame in frames]
    colour = _BLUE if name == "arousal" else _RED
    values = [frame[name] for frame in frames]
    _draw_line(axes, times_s, values, linestyle=style, color=colour, linewidth=1.2, label=label or name)
    if label is None and name == "valence":
        shade_gaps(axes, times_s, [value is not None for value in values])
    axes.axhline(0, color=_GREY, linewidth=0.6)
    _finish(axes, points, "in [-1, 1]")


def as_square(attention: np.ndarray) -> np.ndarray:
    """Returns attention (..., L), where L is a square number, as (..., h, w)."""
    side = math.isqrt(attention.shape[-1])
    return attention.reshape(*attention.shape[:-1], side, side)


def save_figure(figure: Figure, out: Path | str, dpi: float = DPI) -> None:
    """Writes a figure under a temporary name and renames it. A PDF holds its fonts, and an SVG has text as text.

    Args:
        figure: Of matplotlib.
        out: Image file; its suffix gives the format. Its folder is created.
        dpi: Pixels in an inch.

    Raises:
        InputError: If there is no such format.
    """
    check_format(out)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Journals refuse fonts of type 3. An SVG with paths instead of text cannot be edited or searched.
    with rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}), replace_file(out) as temporary:
        figure.savefig(temporary, dpi=dpi)


def check_format(out: Path | str) -> None:
    """Refuses the name of a figure whose suffix is no format.

    Args:
        out: Image file.

    Raises:
        InputError: If there is no such format.
    """
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if Path(out).suffix.lower().removeprefix(".") not in formats:
        raise InputError(f"A figure must be a file {', '.join(f'.{name}' for name in formats)}. Received: {out}")


def choose_dpi(page: Page, faces: Sequence[np.ndarray]) -> float:
    """Returns how many pixels an inch must have so that the largest face keeps its own, from `DPI` to 600.

    Args:
        page: From `begin_figure`.
        faces: Faces (H, W, 3).
    """
    side = max(len(face) for face in faces)
    return min(600.0, max(float(DPI), np.ceil(side / (0.9 * page.column_inches))))


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
        figure.suptitle(recording["name"], fontsize=11, parse_math=False)
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
        axes.set_title(prediction["key"], fontsize=9, parse_math=False)
        axes.legend(loc="upper right", fontsize=8)
    save_figure(figure, out)


def plot_class_predictions(predictions: Sequence[Mapping[str, Any]], out: Path | str) -> None:
    """Draws the classes over time, with one row for each video.

    Args:
        predictions: From `affect.reading.predict.predict`, of a classifier, each with a face.
        out: Image file; its suffix gives the format. Its folder is created.
    """
    figure = Figure(figsize=(10, 2.6 * len(predictions)), layout="constrained")
    for row, prediction in enumerate(predictions):
        axes = figure.add_subplot(len(predictions), 1, row + 1)
        draw_classes(axes, prediction["frames"], list(prediction["probabilities"]), prediction["label"])
        axes.set_title(f"{prediction['key']}: {prediction['label']}", fontsize=9, parse_math=False)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    save_figure(figure, out)


def _pair_times(recording: Mapping[str, Any], kind: str, dimension: str) -> list[dict[str, Any]]:
    series = recording["series"]
    values = zip(series["times_s"], series[kind][dimension], strict=True)
    return [{"timestamp_s": time_s, dimension: value} for time_s, value in values]


def _format_metrics(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name.upper()} {'–' if value is None else f'{value:.3f}'}" for name, value in metrics.items())
