"""The task of recordings with valence and arousal over time: training, evaluation, prediction, figures, table, export.

What imports TensorFlow, Keras or the code of models is imported where it is used, because an exported model predicts
without it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from affect.config import Data, Experiment, Train, VideoRegressor, check_effects, read_json, to_json, write_json
from affect.config.experiment import EvaluationProtocol
from affect.config.values import check_value
from affect.data.clips import Clip, Face
from affect.data.labels import DIMENSIONS
from affect.data.recordings import EvaluationGrid, is_rated_at, recording_of
from affect.errors import InputError, format_count
from affect.progress import Track, hide_progress
from affect.statistics import FORMULAS
from affect.tasks.postprocessing import POSTPROCESSING, fit, hash_weights
from affect.tasks.series import Series, at_ratings, estimate
from affect.tasks.table_rows import COLUMNS, average_series
from affect.tasks.task import (
    Curves,
    Cut,
    Drawing,
    Graph,
    LoadedModel,
    Prediction,
    PrintedTable,
    Printout,
    ServedModel,
    TableLayout,
    TrainedModel,
    Training,
    check_selection_metric,
    check_selection_split,
    count_faces,
    format_number,
    list_frames,
    name_values,
    pair_frames,
)

if TYPE_CHECKING:
    from affect.data.shards import Shards


class RecordingRegression:
    """Recordings with valence and arousal over time."""

    name = "regression"
    has_classes = False
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

    def build(self, config: Any, classes: Sequence[str], train: Train | None = None) -> Any:
        from affect.models.video_networks import build_video_regressor

        return build_video_regressor(config)

    def detail(self, model: Any) -> Any:
        from affect.models.video_networks import detail_regressor

        return detail_regressor(model)

    def face_size(self, model: Any, config: Any) -> int:
        return config.face_size  # also where features are computed from the faces

    def respond(self, network: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return network.predict_on_batch(inputs)

    def most_frames(self, experiment: Experiment) -> int | None:
        return None

    def check_reads_frames(self, name: str | Path) -> NoReturn:
        raise InputError(f"{name} reads windows of frames. Use affect.models.stream.StreamingRegressor.")

    def frame_functions(self, model: Any) -> dict[str, Callable[..., Any]]:
        return {}

    def begin_stream(self, trained: LoadedModel, half_life_s: float | None = None) -> NoReturn:
        raise InputError(
            f"{trained.experiment.name} is a regression network, and affect watch needs classes. "
            "Use affect.models.stream.StreamingRegressor."
        )

    def prepare_training(self, experiment: Experiment, shards: "Shards", workdir: Path | None) -> Training:
        from affect.data.batches import keep_in_memory, split_selection
        from affect.data.ranks import ALONE
        from affect.data.windows import as_triple, at_end, eval_windows, train_windows
        from affect.losses import ConcordanceLoss
        from affect.metrics import SeriesMetric
        from affect.tasks.delay import search_delay

        train, data, windows = experiment.train, experiment.data, experiment.windows
        config = cast(VideoRegressor, experiment.model)
        delay = read_delay(workdir)  # an earlier call of the same run has searched it
        check_effects(experiment)
        check_selection_metric(train, "ccc")
        usable, left_out = _read_usable(shards, data.train_split)
        if data.selection_split is None:
            entries = [{"key": r.name, "recording": r.name, "label": "", "subject": r.subject} for r in usable]
            _, selected = split_selection(entries, data.selection_ratio, train.seed)
            training = [recording for recording in usable if recording.name not in selected]
            selection = [recording for recording in usable if recording.name in selected]
        else:
            check_selection_split(data)
            training, (selection, others_left_out) = usable, _read_usable(shards, data.selection_split)
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
        training = _filter_rated(training, windows, shards, data.train_split)
        if selection:
            selection = _filter_rated(selection, windows, shards, data.selection_split or data.train_split)
        left_out += before - len(training) - len(selection)
        as_learnt = at_end if config.predicts == "end" else lambda *window: window
        shared: dict[str, Any] = {"face_size": config.face_size, "features": config.features}

        def batches(_, first_epoch=0, rank=ALONE):
            batches, _, _ = train_windows(
                training, windows, data, seed=train.seed, first_epoch=first_epoch, rank=rank, **shared
            )
            if not selection:
                return batches.map(as_learnt), None
            held_out = eval_windows(selection, windows, data, rank=rank, **shared).map(as_triple)
            faces = EvaluationGrid(windows).count(selection) * windows.frames // rank.processes
            held_out = keep_in_memory(held_out, faces, config.face_size)
            return batches.map(as_learnt), held_out.map(as_learnt)

        _, sizes, windows_left_out = train_windows(training, windows, data, seed=train.seed, **shared)
        return Training(
            experiment=replace(experiment, windows=windows),
            classes=DIMENSIONS,
            selection=[recording.name for recording in selection],
            loss=ConcordanceLoss(train.concordance),
            weighted_metrics=[
                SeriesMetric(formula, output, name=f"{dimension}_{formula}")
                for output, dimension in enumerate(DIMENSIONS)
                for formula in FORMULAS
            ],
            sizes=sizes,
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

    def finish_training(self, training: Training, workdir: Path, load: Callable[[], TrainedModel]) -> dict[str, Any]:
        fitted, path = None, workdir / POSTPROCESSING
        if training.fitted_on:
            if not path.is_file():
                write_json(path, _fit_postprocessing(load(), training))
            fitted = read_json(path)
        return {"delay": training.delay, "postprocessing": fitted}

    def protocol_of(self, experiment: Experiment, protocol: EvaluationProtocol | None = None) -> str:
        windows = experiment.windows
        return replace(windows, protocol=protocol or windows.protocol).protocol  # `replace` checks it

    def evaluate(
        self,
        trained: TrainedModel,
        shards: "Shards",
        *,
        split: str,
        protocol: EvaluationProtocol | None = None,
        track: Track = hide_progress,
    ) -> dict[str, Any]:
        """Evaluates a regression over time.

        An estimate is post-processed as the run has fitted it, and is compared with the rating `windows.delay_s` later.
        The protocol `"avec"`, of AVEC's challenges, compares at each rating. Without a face there, the estimates before
        and after it are interpolated, or the only one is held (`affect.tasks.series.at_ratings`). The protocol
        `"faces"` compares at each point of a regular grid. It leaves out points without a face, because they have no
        estimate, and points without a rating, at the end of a recording.

        Args:
            trained: The model.
            shards: The data.
            split: Name of the split.
            protocol: What counts; `None` is the experiment's own.
            track: Shows progress.

        Returns:
            Dict: `protocol`; `dimensions`, their names; `metrics`, dimension → the dict of
            `affect.metrics.regression_metrics`, over all recordings concatenated and as the mean over recordings;
            `raw_metrics`, the same for the network's own estimates, and `postprocessing`, dimension → the steps (both
            `None` without post-processing); `frames`, counts of ratings or of points of the grid: `all`, `labelled`,
            those of them that are `without_a_face`, and `counted`; `delay_s`; `unrated`, names of recordings without
            ratings; and `recordings`. Each of these has its `name`, its `frames` in the same form, `other_faces`, which
            are left out because they are not the main face, `metrics` by dimension (`None` without a frame), and its
            `series`: `times_s`, and `labels`, `predictions` and, with post-processing, `raw_predictions` by dimension,
            `None` without a rating or an estimate.

        Raises:
            InputError: If no recording of the split is rated, or the protocol is unknown.
        """
        from affect.data.windows import read_recordings

        followed = self.protocol_of(trained.experiment, protocol)
        recordings, unrated = read_recordings(shards, split)
        all_series = estimate(trained, recordings, track=track)
        if followed == "avec":
            windows = trained.experiment.windows
            delay_s = cast(float, windows.delay_s)  # the config of a trained model has a number
            all_series = [at_ratings(series, delay_s, windows.frame_rate_hz) for series in all_series]
        moments = _compute_moments(trained.classes, all_series, "predictions")
        raw = _compute_moments(trained.classes, all_series, "raw") if trained.postprocessing else None
        reports = [
            {
                "name": series.recording.name,
                "frames": _count_frames(series),
                "other_faces": series.recording.other_faces,
                "metrics": {name: _apply_formulas(found[series.recording.name]) for name, found in moments.items()},
                "series": {
                    "times_s": series.times_s.tolist(),
                    "labels": _list_columns(trained.classes, series.labels, series.is_rated),
                    "predictions": _list_columns(trained.classes, series.predictions, series.is_estimated),
                }
                | ({"raw_predictions": _list_columns(trained.classes, series.raw, series.is_estimated)} if raw else {}),
            }
            for series in all_series
        ]
        return {
            "protocol": followed,
            "dimensions": list(trained.classes),
            "metrics": _compute_metrics(moments),
            "raw_metrics": _compute_metrics(raw) if raw else None,
            "postprocessing": {name: to_json(steps) for name, steps in trained.postprocessing.items()} or None,
            "frames": {key: sum(report["frames"][key] for report in reports) for key in reports[0]["frames"]},
            "delay_s": trained.experiment.windows.delay_s,
            "unrated": unrated,
            "recordings": reports,
        }

    def answer(
        self, trained: LoadedModel, clip: Clip, *, batch_faces: int | None = None, track: Track = hide_progress
    ) -> Series | None:
        if not len(clip.faces):
            return None
        (series,) = estimate(trained, [recording_of(clip)], track=track)
        return series

    def served_frames(self, experiment: Experiment) -> list[int]:
        return [experiment.windows.frames]

    def answer_served(self, served: ServedModel, clip: Clip, *, track: Track = hide_progress) -> Series | None:
        return self.answer(served, clip, track=track)

    def summarise(
        self, trained: LoadedModel, clip: Clip, answer: Series | None, cut: Cut | None = None
    ) -> dict[str, Any]:
        nothing = dict.fromkeys(trained.classes)
        grid, rate_hz = [], trained.experiment.windows.frame_rate_hz
        if answer is not None:
            grid = [
                {
                    "timestamp_s": float(time_s),
                    "has_face": bool(has_face),
                    **(name_values(trained.classes, row) if has_face else nothing),
                }
                for time_s, row, has_face in zip(answer.times_s, answer.predictions, answer.frame_mask, strict=True)
            ]
        decoded = []
        for time_s, place in pair_frames(clip, cut):
            values = nothing
            if place is not None:  # the nearest point is at most half a step away, so it has this face or a nearer one
                point = grid[min(round(time_s * rate_hz), len(grid) - 1)]
                values = {name: point[name] for name in trained.classes}
            decoded.append({"timestamp_s": time_s, "has_face": place is not None, **values})
        return {"key": clip.key, **count_faces(clip, cut), "frames": grid, "decoded_frames": decoded}

    def tabulate(self, trained: LoadedModel, clip: Clip, answer: Series | None, cut: Cut | None = None) -> Curves:
        frames, count = list_frames(clip, cut), len(trained.classes)
        values = np.full((len(frames["times_s"]), count), np.nan)
        overall = np.full(count, np.nan)
        if answer is not None:
            seen = frames["places"] >= 0
            points = np.rint(frames["times_s"][seen] * trained.experiment.windows.frame_rate_hz).astype(int)
            values[seen] = answer.predictions[np.minimum(points, len(answer.predictions) - 1)]
            overall = values[seen].mean(axis=0)
        importance = np.full(len(values), np.nan)
        return Curves(None, overall, len(clip.faces), importance=importance, values=values, **frames)

    def attend(self, trained: LoadedModel, faces: Sequence[Face]) -> None:
        return None  # the network reads windows of a grid, and not single faces

    def draw(
        self, trained: LoadedModel, clip: Clip, result: dict[str, Any], out: str | Path, drawing: Drawing
    ) -> list[str]:
        if drawing.style != "ours":
            raise InputError(
                f"{trained.experiment.name} has no classes to draw in the style of paper A. Leave out --style."
            )
        if drawing.by_importance:
            raise InputError(f"{trained.experiment.name} has no importance of frames. Leave out --by-importance.")
        from affect.tasks.figures import draw_recording

        return draw_recording(trained, clip, result, out, drawing)

    def draw_means(
        self, trained: LoadedModel, shards: "Shards", out: str | Path, *, split: str, track: Track = hide_progress
    ) -> NoReturn:
        raise InputError(
            f"{trained.experiment.name} has no classes to average over. Name a VIDEO and leave out --data."
        )

    def check_plots(self, name: str) -> None:
        pass

    def plot_evaluation(self, report: dict[str, Any], folder: str | Path) -> list[Path]:
        from affect.drawing import plot_evaluation

        return plot_evaluation(report, folder)

    def plot_predictions(self, predictions: Sequence[dict[str, Any]], out: str | Path) -> None:
        from affect.drawing import plot_predictions

        plot_predictions(predictions, out)

    def read_evaluation_inputs(
        self, artefact: LoadedModel, shards: "Shards", data: Data, *, split: str, most: int, frames: int | None
    ) -> Any:
        import tensorflow as tf

        from affect.data.windows import eval_windows, read_recordings

        recordings, _ = read_recordings(shards, split)
        batches = eval_windows(recordings, artefact.experiment.windows, data, face_size=artefact.face_size)
        return batches.filter(lambda batch: tf.reduce_any(batch["frame_mask"][:, :frames])).take(most)

    def graph(self, trained: TrainedModel) -> Graph:
        from affect.tasks.signatures import run_clips

        return Graph(trained.network, run_clips(trained.network), ("dimensions",))

    def format_training(self, result: dict[str, Any]) -> Printout:
        left_out, windows = result["recordings_left_out"], result["windows_left_out"]
        lines = [
            f"{format_count(result['train_recordings'], 'recording')} trained on, "
            f"{result['selection_recordings']} for selection"
            + (f", {left_out} left out (no face or no label)" if left_out else "")
            + (f"; {format_count(windows, 'window')} left out" if windows else "")
        ]
        if delay := result["delay"]:
            found_s = delay["delay_s"]
            probe = delay["scores"][str(found_s)]
            lines.append(f"delay searched: {found_s:g} s, where a linear probe has a CCC of {probe:.3f}")
        if fitted := result["postprocessing"]:
            gains = (f"{name} {sum(found['gains'].values()):+.3f}" for name, found in fitted["dimensions"].items())
            is_seen = fitted["fitted_on"] == "training"
            hint = " (optimistic, because the network has learnt from them)" if is_seen else ""
            lines.append(f"post-processing fitted on {fitted['fitted_on']} recordings{hint}: CCC {', '.join(gains)}")
        return Printout(lines=lines)

    def format_evaluation(self, report: dict[str, Any]) -> Printout:
        rows = []
        for dimension, metrics in report["metrics"].items():
            for name, title in (("concatenated", "recordings concatenated"), ("mean", "mean over recordings")):
                rows.append([f"{dimension}, {title}", *map(format_number, metrics[name].values())])
            if raw := report["raw_metrics"]:
                numbers = [format_number(value) for value in raw[dimension]["concatenated"].values()]
                rows.append([f"{dimension}, concatenated, before post-processing", *numbers])
        if reported := report["reported"]:
            numbers = [format_number(reported.get(name)) for name in ("rmse", "cc", "ccc")]
            rows.append(["valence, reported by the paper", *numbers])
        title = f"split {report['split']}, protocol {report['protocol']}"
        frames, recordings = report["frames"], report["recordings"]
        counted = format_count(len(recordings), "recording")
        if report["protocol"] == "avec":
            lines = [
                f"{counted} of {frames['all']} ratings, all counted; {frames['without_a_face']} of "
                "them without a face at their time: the estimates before and after are interpolated or held"
            ]
        else:
            lines = [
                f"{counted} of {frames['all']} frames: {frames['counted']} counted, "
                f"{frames['without_a_face']} left out without a face, {frames['all'] - frames['labelled']} without a "
                "rating"
            ]
        if others := sum(recording["other_faces"] for recording in recordings):
            lines.append(f"{format_count(others, 'face')} other than the main one left out")
        unrated = [f"{name} has no ratings." for name in report["unrated"]]
        return Printout([PrintedTable(["", "RMSE", "CC", "CCC"], rows, title)], lines, unrated)

    def format_prediction(self, reading: Prediction) -> Printout:
        """Shows valence and arousal about each second."""
        predictor, series = reading.predictor, reading.answer
        seconds = slice(None, None, max(1, round(predictor.experiment.windows.frame_rate_hz)))
        points = zip(series.times_s[seconds], series.predictions[seconds], series.frame_mask[seconds], strict=True)
        rows = [
            [f"{time_s:.2f} s", *(format_number(float(value) if has_face else None) for value in values)]
            for time_s, values, has_face in points
        ]
        return Printout([PrintedTable(["", *predictor.classes], rows, compact=True)])

    def sentence(self, reading: Prediction) -> str:
        return f", valence and arousal over {format_count(len(reading.answer.times_s), 'frame')}"


def read_delay(workdir: Path | None) -> dict[str, Any] | None:
    """Returns what `delay.json` of a run holds; `None` if it has none, or is no run yet.

    Args:
        workdir: Folder of the run; `None` for none.

    Raises:
        InputError: If the file is damaged.
    """
    if workdir is None:
        return None
    # config.json is written after it. Without config.json it belongs to a call that was stopped.
    is_run = (workdir / "config.json").is_file() and (workdir / "delay.json").is_file()
    if not is_run:
        return None
    delay = read_json(workdir / "delay.json")
    for name, expected in (("delay_s", float), ("scores", dict[str, float])):
        check_value(expected, delay.get(name), f"{workdir / 'delay.json'}: {name}")
    if str(delay["delay_s"]) not in delay["scores"]:
        raise InputError(f"{workdir / 'delay.json'} has no score of its delay. Train in another --workdir.")
    return delay


def _fit_postprocessing(trained, training):
    """Fits post-processing on the best epoch and returns the content of `postprocessing.json`."""
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
    return {
        "fitted_on": "selection" if training.selection else "training",
        "weights": hash_weights(trained.model),
        "dimensions": dimensions,
    }


def _read_usable(shards, split):
    """Returns the recordings of a split that can train or select the epoch at some delay, and how many cannot."""
    from affect.data.windows import read_recordings

    recordings, unrated = read_recordings(shards, split)
    usable = [r for r in recordings if len(r.times_s) and r.times_s[0] <= r.rating_times_s[-1]]
    if not usable:
        raise InputError(f"{shards.folder}: no recording of split {split!r} shows a face before its last rating.")
    return usable, len(recordings) + len(unrated) - len(usable)


def _filter_rated(recordings, windows, shards, split):
    """Returns the recordings with a rated face at the delay; one at least."""
    usable = [recording for recording in recordings if is_rated_at(recording, recording.times_s, windows.delay_s).any()]
    if not usable:
        raise InputError(
            f"{shards.folder}: no recording of split {split!r} has a frame with both a face and a rating "
            f"{windows.delay_s} s later. Lower windows.delay_s, or prepare recordings that show a face."
        )
    return usable


def _compute_moments(names, all_series, what):
    """Returns dimension → name of a recording → `Moments`; `what` is `"raw"` or `"predictions"`."""
    return {
        name: {series.recording.name: series.moments(getattr(series, what), index) for series in all_series}
        for index, name in enumerate(names)
    }


def _compute_metrics(moments):
    from affect.metrics import regression_metrics

    return {name: regression_metrics(found) for name, found in moments.items()}


def _count_frames(series):
    return {
        "all": len(series.times_s),
        "labelled": int(series.is_rated.sum()),
        "without_a_face": int((series.is_rated & ~series.frame_mask).sum()),
        "counted": int(series.is_counted.sum()),
    }


def _apply_formulas(moments):
    return {name: float(formula(moments)) if moments.count else None for name, formula in FORMULAS.items()}


def _list_columns(names, values, is_present):
    """Returns name → list of a column of `values` (N, 2), with `None` where `is_present` is false."""
    nothing = np.array(None)
    return {name: np.where(is_present, values[:, index], nothing).tolist() for index, name in enumerate(names)}
