"""Plots of valence and arousal: estimated against gold standard over time, their scatter, and those of videos."""

from pathlib import Path

from matplotlib.figure import Figure

from affect.drawing import draw_curve, save_figure


def plot_evaluation(report, folder):
    """Draws `recordings/<name>.png`, each recording's gold standard and estimate over time, and `scatter.png`.

    Args:
        report: Of `affect.evaluate.evaluate`, of a regression.
        folder: Created.

    Returns:
        List of the files written.
    """
    written = []
    for recording in report["recordings"]:
        figure = Figure(figsize=(10, 2.6 * len(report["dimensions"])), layout="constrained")
        for row, dimension in enumerate(report["dimensions"]):
            axes = figure.add_subplot(len(report["dimensions"]), 1, row + 1)
            for kind, label, style in (("labels", "gold standard", ":"), ("predictions", "estimated", "-")):
                draw_curve(axes, _frames(recording, kind, dimension), dimension, label=label, style=style)
            axes.set_ylabel(dimension)
            axes.set_title(_numbers(recording["metrics"][dimension]), fontsize=9)
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
        axes.set_title(_numbers(report["metrics"][dimension]["concatenated"]), fontsize=9)
    written.append(Path(folder) / "scatter.png")
    save_figure(figure, written[-1])
    return written


def plot_predictions(predictions, out):
    """Draws valence and arousal over time, a row a video.

    Args:
        predictions: Dicts of `affect.predict.predict`, of a regression.
        out: Image file, as in `affect.explain.explain`.
    """
    figure = Figure(figsize=(10, 2.6 * len(predictions)), layout="constrained")
    for row, prediction in enumerate(predictions):
        axes = figure.add_subplot(len(predictions), 1, row + 1)
        for name in ("valence", "arousal"):
            draw_curve(axes, prediction["frames"], name)
        axes.set_title(prediction["key"], fontsize=9)
        axes.legend(loc="upper right", fontsize=8)
    save_figure(figure, out)


def _frames(recording, kind, dimension):
    series = recording["series"]
    values = zip(series["times_s"], series[kind][dimension], strict=True)
    return [{"timestamp_s": time_s, dimension: value} for time_s, value in values]


def _numbers(metrics):
    return ", ".join(f"{name.upper()} {'–' if value is None else f'{value:.3f}'}" for name, value in metrics.items())
