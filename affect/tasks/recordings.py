"""The task of recordings with valence and arousal over time: what is learnt, evaluated, said, drawn and exported.

The code of models is imported where it is used, because an exported model predicts without it.
"""

import re
from dataclasses import replace

import numpy as np
import tensorflow as tf

from affect.config import check_effects, read_json, to_json, write_json
from affect.data.labels import DIMENSIONS
from affect.data.shards import split_selection
from affect.data.windows import (
    as_triple,
    at_end,
    eval_windows,
    is_rated_at,
    read_recordings,
    recording_of,
    train_windows,
)
from affect.errors import InputError
from affect.losses import ConcordanceLoss
from affect.metrics import FORMULAS, Moments, SeriesMetric, ccc, regression_metrics
from affect.progress import Track, hide_progress
from affect.tasks.delay import search_delay
from affect.tasks.postprocessing import POSTPROCESSING, fit
from affect.tasks.series import at_ratings, estimate
from affect.tasks.statistics import compare, mean, standard_deviation
from affect.tasks.task import (
    Graph,
    Sheet,
    TableLayout,
    Training,
    View,
    check_selection_metric,
    check_selection_split,
    count_faces,
    format_number,
    pair_frames,
)

# Of a paper's table. Without a dimension's name: of valence, which is what paper B reports.
COLUMNS = {
    "row": "row",
    "reported_rmse": "RMSE",
    "rmse": "ours",
    "reported_cc": "CC",
    "cc": "ours",
    "reported_ccc": "CCC",
    "ccc": "ours",
    "ccc_sd": "sd",
    "interval": "95 % interval",
    "p_value": "p",
    "ccc_of_recordings": "CCC, mean over recordings",
    "rmse_sd": "sd of RMSE",
    "cc_sd": "sd of CC",
    "arousal_rmse": "arousal: RMSE",
    "arousal_cc": "CC",
    "arousal_ccc": "CCC",
    "arousal_ccc_of_recordings": "CCC, mean over recordings",
    "protocol": "protocol",
    "recordings": "recordings",
    "frames": "ratings or frames",
    "frames_without_a_face": "without a face",
    "parameters": "parameters",
    "relative_cost": "relative cost",
}

# With fewer recordings no difference can be told from chance: two-sided, p is 2 / 2^5 at best.
LEAST_RECORDINGS = 6


def average_series(reported, reports, base):
    """Returns the numbers of a row, given the reported ones and the evaluations of its seeds and of the first row's."""
    numbers = {}
    for dimension, prefix in zip(DIMENSIONS, ("", "arousal_"), strict=True):
        found = [report["metrics"][dimension] for report in reports]
        for name in FORMULAS:
            values = [metrics["concatenated"][name] for metrics in found]
            numbers |= {f"{prefix}{name}": mean(values), f"{prefix}{name}_sd": standard_deviation(values)}
        numbers[f"{prefix}ccc_of_recordings"] = mean([metrics["mean"]["ccc"] for metrics in found])
    sums = series_sums(reports)
    has_enough = base is not None and len(sums) >= LEAST_RECORDINGS
    numbers |= compare(sums, series_sums(base) if has_enough else None, statistic=concatenated_ccc)
    numbers |= {f"reported_{name}": reported.get(name) for name in FORMULAS}
    numbers |= {
        "protocol": reports[0]["protocol"],
        "recordings": reports[0]["metrics"][DIMENSIONS[0]]["recordings"],
        "frames": reports[0]["frames"]["counted"],
        "frames_without_a_face": reports[0]["frames"]["without_a_face"],
    }
    return {name: numbers[name] for name in COLUMNS if name in numbers}


class RecordingRegression:
    """Recordings with valence and arousal over time."""

    name = "regression"
    layout = TableLayout(
        numbers=average_series,
        columns=COLUMNS,
        terminal=("row", *(f"{of}{name}" for name in FORMULAS for of in ("reported_", "")), "interval", "p_value"),
        measured=tuple(name for name in COLUMNS if re.search("rmse|cc", name)),
        write=lambda value: re.sub(r"^(-?)0\.", r"\1.", f"{value:.3f}"),  # as the paper does
        caption=(
            "valence of recordings concatenated, reported and ours; the protocol avec counts each rating and "
            "interpolates where no face is seen, the protocol faces leaves frames without a face out"
        ),
        units="recordings, of CCC",
        optimistic="the numbers are",
    )

    def build(self, config, classes, train=None):
        from affect.models.video_networks import build_video_regressor

        return build_video_regressor(config)

    def detail(self, model):
        from affect.models.video_networks import detail_regressor

        return detail_regressor(model)

    def face_size(self, model, config):
        return config.face_size  # also of faces that features are taken of

    def respond(self, network, inputs):
        return network.predict_on_batch(inputs)

    def most_frames(self, experiment):
        return None

    def check_reads_frames(self, name):
        raise InputError(f"{name} reads windows of frames. Use affect.models.stream.StreamingRegressor.")

    def frame_functions(self, model):
        return {}

    def begin_stream(self, trained, half_life_s=None):
        raise InputError(
            f"{trained.experiment.name} is a regression network, and affect watch reads classes. "
            "Use affect.models.stream.StreamingRegressor."
        )

    def prepare_training(self, experiment, shards, workdir):
        settings, data, windows = experiment.train, experiment.data, experiment.windows
        delay = _read_delay(workdir)  # of an earlier call of the same run, instead of a search
        check_effects(experiment)
        check_selection_metric(settings, "ccc")
        usable, left_out = _with_a_face_and_ratings(shards, data.train_split)
        if data.selection_split is None:
            entries = [{"key": r.name, "recording": r.name, "label": "", "subject": r.subject} for r in usable]
            _, selected = split_selection(entries, data.selection_ratio, settings.seed)
            training = [recording for recording in usable if recording.name not in selected]
            selection = [recording for recording in usable if recording.name in selected]
        else:
            check_selection_split(data)
            training, (selection, others_left_out) = usable, _with_a_face_and_ratings(shards, data.selection_split)
            left_out += others_left_out
        if windows.delay_s is None:
            if delay is None:
                delay_s, scores = search_delay(training, windows, data)
                delay = {
                    "delay_s": delay_s,
                    "scores": {str(candidate_s): score for candidate_s, score in scores.items()},
                }
            windows = replace(windows, delay_s=delay["delay_s"])
        else:
            delay = None
        before = len(training) + len(selection)
        training = _rated_at_the_delay(training, windows, shards, data.train_split)
        if selection:
            selection = _rated_at_the_delay(selection, windows, shards, data.selection_split or data.train_split)
        left_out += before - len(training) - len(selection)
        as_learnt = at_end if experiment.model.predicts == "end" else lambda *window: window
        shared = {"face_size": experiment.model.face_size, "features": experiment.model.features}

        def batches(_, first_epoch=0):
            batches, _, _ = train_windows(
                training, windows, data, seed=settings.seed, first_epoch=first_epoch, **shared
            )
            if not selection:
                return batches.map(as_learnt), None
            return batches.map(as_learnt), eval_windows(selection, windows, data, **shared).map(as_triple).map(
                as_learnt
            )

        _, steps, windows_left_out = train_windows(training, windows, data, seed=settings.seed, **shared)
        return Training(
            experiment=replace(experiment, windows=windows),
            classes=DIMENSIONS,
            selection=[recording.name for recording in selection],
            loss=ConcordanceLoss(settings.concordance),
            weighted_metrics=[
                SeriesMetric(formula, output, name=f"{dimension}_{formula}")
                for output, dimension in enumerate(DIMENSIONS)
                for formula in FORMULAS
            ],
            steps=steps,
            batches=batches,
            counts={
                "train_recordings": len(training),
                "selection_recordings": len(selection),
                "recordings_left_out": left_out,
                "windows_left_out": windows_left_out,
            },
            delay=delay,
            fitted_on=tuple(selection or training) if windows.postprocess else (),
        )

    def finish_training(self, training, workdir, load):
        fitted, path = None, workdir / POSTPROCESSING
        if training.fitted_on:
            if not path.is_file():
                write_json(path, _fit_postprocessing(load(), training))
            fitted = read_json(path)
        return {"delay": training.delay, "postprocessing": fitted}

    def protocol_of(self, experiment, protocol=None):
        windows = experiment.windows
        return replace(windows, protocol=protocol or windows.protocol).protocol  # which checks it

    def evaluate(self, trained, shards, *, split, protocol=None, track: Track = hide_progress):
        """Evaluates a regression over time.

        An estimate, post-processed as the run has fitted it, is compared with the rating `windows.delay_s` later. By
        the protocol of AVEC's challenges that is done at each rating: where there is no face, the estimates before and
        after are interpolated, or the only one is held (`affect.tasks.series.at_ratings`). By the protocol `"faces"` it
        is
        done at each point of a regular grid: points without a face have no estimate and are left out of the metrics,
        and so are points without a rating, at the end of a recording.

        Args:
            trained: `affect.reading.run.Trained`.
            shards: `affect.data.shards.Shards`.
            split: Name of the split.
            protocol: `"avec"` or `"faces"`; `None` is the experiment's own.
            track: Shows progress.

        Returns:
            Dict: `protocol`; `dimensions`, their names; `metrics`, of each dimension as
            `affect.metrics.regression_metrics` describes them, over all recordings concatenated and as the mean over
            recordings; `raw_metrics`, the same of the network's own estimates, and `postprocessing`, the steps that lie
            between them, of each dimension (both `None` without post-processing); `frames`, ratings or points of the
            grid: `all`, `labelled`, `without_a_face` of those, and `counted`; `delay_s`; `unrated`, names of recordings
            that have no ratings; and `recordings`, for each its `name`, `frames` likewise, `other_faces` (of others
            than the main one, left out), `metrics` of each dimension (`None` without a frame), and its `series`:
            `times_s`, and `labels`, `predictions` and, with post-processing, `raw_predictions` of each dimension,
            `None` where there is no rating or no estimate.

        Raises:
            InputError: When no recording of the split is rated, or the protocol is unknown.
        """
        protocol = self.protocol_of(trained.experiment, protocol)
        recordings, unrated = read_recordings(shards, split)
        all_series = estimate(trained, recordings, track=track)
        if protocol == "avec":
            windows = trained.experiment.windows
            all_series = [at_ratings(series, windows.delay_s, windows.frame_rate_hz) for series in all_series]
        moments = _moments(trained.classes, all_series, "predictions")
        raw = _moments(trained.classes, all_series, "raw") if trained.postprocessing else None
        reports = [
            {
                "name": series.recording.name,
                "frames": _frames(series),
                "other_faces": series.recording.other_faces,
                "metrics": {name: _formulas(found[series.recording.name]) for name, found in moments.items()},
                "series": {
                    "times_s": series.times_s.tolist(),
                    "labels": _columns(trained.classes, series.labels, series.is_rated),
                    "predictions": _columns(trained.classes, series.predictions, series.is_estimated),
                    **({"raw_predictions": _columns(trained.classes, series.raw, series.is_estimated)} if raw else {}),
                },
            }
            for series in all_series
        ]
        return {
            "protocol": protocol,
            "dimensions": list(trained.classes),
            "metrics": _metrics(moments),
            "raw_metrics": _metrics(raw) if raw else None,
            "postprocessing": {name: to_json(steps) for name, steps in trained.postprocessing.items()} or None,
            "frames": {key: sum(report["frames"][key] for report in reports) for key in reports[0]["frames"]},
            "delay_s": trained.experiment.windows.delay_s,
            "unrated": unrated,
            "recordings": reports,
        }

    def predict(self, trained, clip, cut=None, *, batch_faces=None):
        nothing = dict.fromkeys(trained.classes)
        grid, rate_hz = [], trained.experiment.windows.frame_rate_hz
        if len(clip.faces):
            (series,) = estimate(trained, [recording_of(clip)])
            grid = [
                {
                    "timestamp_s": float(time_s),
                    "has_face": bool(has_face),
                    **(_named(trained.classes, row) if has_face else nothing),
                }
                for time_s, row, has_face in zip(series.times_s, series.predictions, series.frame_mask, strict=True)
            ]
        decoded = []
        for time_s, place in pair_frames(clip, cut):
            values = nothing
            if place is not None:  # A point at most half a step away has a face: this one, or a nearer one.
                point = grid[min(round(time_s * rate_hz), len(grid) - 1)]
                values = {name: point[name] for name in trained.classes}
            decoded.append({"timestamp_s": time_s, "has_face": place is not None, **values})
        return {"key": clip.key, **count_faces(clip, cut), "frames": grid, "decoded_frames": decoded}

    def predict_served(self, served, clip, cut=None):
        return self.predict(served, clip, cut)

    def draw(self, trained, clip, result, out, *, frames, by_importance, style):
        from affect import drawing

        if style != "ours":
            raise InputError(
                f"{trained.experiment.name} has no classes to draw in the style of paper A. Leave out --style."
            )
        if by_importance:
            raise InputError(f"{trained.experiment.name} has no importance of frames. Leave out --by-importance.")
        seen = [place for place, frame in enumerate(result["frames"]) if frame["has_face"]]
        shown = np.array(seen)[np.unique(np.linspace(0, len(seen) - 1, min(frames, len(seen))).round().astype(int))]
        faces, looked_at = _shown(trained, clip, shown.tolist())
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

    def draw_means(self, trained, shards, out, *, split, track: Track = hide_progress):
        raise InputError(
            f"{trained.experiment.name} has no classes to average over. Name a VIDEO and leave out --data."
        )

    def check_plots(self, name):
        pass

    def plot_evaluation(self, report, folder):
        from affect.drawing import plot_evaluation

        return plot_evaluation(report, folder)

    def plot_predictions(self, predictions, out):
        from affect.drawing import plot_predictions

        plot_predictions(predictions, out)

    def read_evaluation_inputs(self, artefact, shards, data, *, split, most, frames):
        recordings, _ = read_recordings(shards, split)
        batches = eval_windows(recordings, artefact.experiment.windows, data, face_size=artefact.face_size)
        return batches.filter(lambda batch: tf.reduce_any(batch["frame_mask"][:, :frames])).take(most)

    def graph(self, trained):
        from affect.tasks.signatures import run_clips

        return Graph(trained.network, run_clips(trained.network), ("dimensions",))

    def view_training(self, result):
        left_out, windows = result["recordings_left_out"], result["windows_left_out"]
        lines = [
            f"{result['train_recordings']} recordings trained on, {result['selection_recordings']} for selection"
            + (f", {left_out} left out (no face or no label)" if left_out else "")
            + (f"; {windows} windows left out" if windows else "")
        ]
        if delay := result["delay"]:
            found_s = delay["delay_s"]
            probe = delay["scores"][str(found_s)]
            lines.append(f"delay searched: {found_s:g} s, where a linear probe has a CCC of {probe:.3f}")
        if fitted := result["postprocessing"]:
            gains = (f"{name} {sum(found['gains'].values()):+.3f}" for name, found in fitted["dimensions"].items())
            on = "selection" if fitted["fitted_on"] == "selection" else "training, and optimistic"
            lines.append(f"post-processing, CCC on the recordings it was fitted on (those of {on}): {', '.join(gains)}")
        return View(lines=lines)

    def view_evaluation(self, report):
        rows = []
        for dimension, metrics in report["metrics"].items():
            for name, title in (("concatenated", "recordings concatenated"), ("mean", "mean over recordings")):
                rows.append([f"{dimension}, {title}", *map(format_number, metrics[name].values())])
            if raw := report["raw_metrics"]:
                numbers = map(format_number, raw[dimension]["concatenated"].values())
                rows.append([f"{dimension}, concatenated, before post-processing", *numbers])
        if reported := report["reported"]:
            numbers = (format_number(reported.get(name)) for name in ("rmse", "cc", "ccc"))
            rows.append(["valence, reported by the paper", *numbers])
        title = f"split {report['split']}, protocol {report['protocol']}"
        frames, recordings = report["frames"], report["recordings"]
        if report["protocol"] == "avec":
            lines = [
                f"{len(recordings)} recordings of {frames['all']} ratings, all counted; {frames['without_a_face']} of "
                "them without a face at their time: the estimates before and after are interpolated or held"
            ]
        else:
            lines = [
                f"{len(recordings)} recordings of {frames['all']} frames: {frames['counted']} counted, "
                f"{frames['without_a_face']} left out without a face, {frames['all'] - frames['labelled']} without a "
                "rating"
            ]
        if others := sum(recording["other_faces"] for recording in recordings):
            lines.append(f"{others} faces of others than the main one left out")
        unrated = [f"{name} has no ratings." for name in report["unrated"]]
        return View([Sheet(["", "RMSE", "CC", "CCC"], rows, title)], lines, unrated)

    def view_prediction(self, trained, result):
        """Shows valence and arousal about each second."""
        frames = result["frames"][:: max(1, round(trained.experiment.windows.frame_rate_hz))]
        rows = [
            [f"{frame['timestamp_s']:.2f} s", *(format_number(frame[name]) for name in trained.classes)]
            for frame in frames
        ]
        return View([Sheet(["", *trained.classes], rows, compact=True)])

    def headline(self, result):
        return ""

    def sentence(self, result):
        return f", valence and arousal over {len(result['frames'])} frames"

    def frame_columns(self, classes):
        return ["timestamp_s", "has_face", *classes]

    def frame_rows(self, result):
        return result["decoded_frames"]


def _read_delay(workdir):
    """Returns what `delay.json` of a run holds, or `None`."""
    if workdir is None:
        return None
    # Without config.json, which is written after it, it is of no run.
    is_run = (workdir / "config.json").is_file() and (workdir / "delay.json").is_file()
    return read_json(workdir / "delay.json") if is_run else None


def _fit_postprocessing(trained, training):
    """Returns what `postprocessing.json` holds, of a run that has none yet."""
    all_series, dimensions = estimate(trained, training.fitted_on), {}
    for index, name in enumerate(trained.classes):
        steps, gains = fit(
            {
                series.recording.name: {
                    "times_s": series.times_s,
                    "labels": series.labels[:, index],
                    "predictions": series.raw[:, index],
                    "weights": series.is_counted,
                }
                for series in all_series
            }
        )
        dimensions[name] = {"steps": to_json(steps), "gains": gains}
    return {"fitted_on": "selection" if training.selection else "training", "dimensions": dimensions}


def _with_a_face_and_ratings(shards, split):
    """Returns the recordings of a split that can be learnt from or selected on at some delay, and how many cannot."""
    recordings, unrated = read_recordings(shards, split)
    usable = [r for r in recordings if len(r.times_s) and r.times_s[0] <= r.rating_times_s[-1]]
    if not usable:
        raise InputError(f"{shards.folder}: no recording of split {split!r} shows a face before its last rating.")
    return usable, len(recordings) + len(unrated) - len(usable)


def _rated_at_the_delay(recordings, windows, shards, split):
    """Returns those of the recordings that can be learnt from or selected on; one at least."""
    usable = [recording for recording in recordings if is_rated_at(recording, recording.times_s, windows.delay_s).any()]
    if not usable:
        raise InputError(
            f"{shards.folder}: no recording of split {split!r} has a frame with both a face and a rating "
            f"{windows.delay_s} s later. Lower windows.delay_s, or prepare recordings that show a face."
        )
    return usable


def moments_of(recording, dimension):
    """Returns the `Moments` of a dimension, by name, of a recording in a report."""
    series = recording["series"]
    labels, predictions = (np.array(series[name][dimension], float) for name in ("labels", "predictions"))
    return Moments.of_series(labels, predictions, ~np.isnan(labels) & ~np.isnan(predictions))


def _moments(names, all_series, what):
    """Returns dimension → name of a recording → `Moments`, of `raw` or `predictions`."""
    return {
        name: {series.recording.name: series.moments(getattr(series, what), index) for series in all_series}
        for index, name in enumerate(names)
    }


def _metrics(moments):
    return {name: regression_metrics(found) for name, found in moments.items()}


def _frames(series):
    return {
        "all": len(series.times_s),
        "labelled": int(series.is_rated.sum()),
        "without_a_face": int((series.is_rated & ~series.frame_mask).sum()),
        "counted": int(series.is_counted.sum()),
    }


def _formulas(moments):
    return {name: float(formula(moments)) if moments.count else None for name, formula in FORMULAS.items()}


def _columns(names, values, is_there):
    """Returns name → list of a column (N, 2), with `None` where nothing is there."""
    return {name: np.where(is_there, values[:, index], None).tolist() for index, name in enumerate(names)}


def series_sums(reports):
    """Returns what the CCC of valence of any choice of recordings is computed from.

    Args:
        reports: Evaluations of the same recordings, one a seed.

    Returns:
        float (M, seeds, 7): of each recording that has a frame that counts, in the order of their names, the sums that
        `Moments.of_sums` takes.
    """
    seeds = [{recording["name"]: recording for recording in report["recordings"]} for report in reports]
    names = sorted(name for name, recording in seeds[0].items() if recording["frames"]["counted"])
    rows = [[moments_of(seed[name], DIMENSIONS[0]).plain_sums() for seed in seeds] for name in names]
    return np.reshape(rows, (len(names), len(seeds), 7))


def concatenated_ccc(sums, axis):
    """Returns the CCC of recordings concatenated, averaged over the seeds.

    Args:
        sums: float (..., seeds, 7), with recordings on `axis`, from `series_sums`.
        axis: int; counted over the axes before the last two where it is negative.
    """
    whole = np.sum(sums, axis=axis - 2 if axis < 0 else axis)  # (..., seeds, 7)
    return ccc(Moments.of_sums(whole)).mean(axis=-1)


def _shown(trained, clip, places):
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


def _named(classes, row):
    return {name: float(value) for name, value in zip(classes, row, strict=True)}
