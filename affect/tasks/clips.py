"""The task of clips with one class each: training, evaluation, prediction, figures, table and export.

What imports TensorFlow, Keras or the code of models is imported where it is used, because an exported model predicts
without it.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from affect.config import Data, Experiment, FrameClassifier, Train, check_effects
from affect.config.effects import draws_views
from affect.config.experiment import EvaluationProtocol
from affect.data.clips import Clip, Face
from affect.data.views import view_centre
from affect.errors import InputError, format_count
from affect.models.stream import StreamingClassifier
from affect.progress import Track, hide_progress
from affect.statistics import softmax
from affect.tasks.answers import (
    BATCH_FACES,
    Answer,
    ask_server,
    choose_places,
    list_buckets,
    read_faces,
    run_split,
    summarise,
    tabulate,
)
from affect.tasks.table_rows import count_correct
from affect.tasks.task import (
    Curves,
    Cut,
    Drawing,
    FrozenFaces,
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
    format_number,
)

if TYPE_CHECKING:
    from affect.data.shards import Shards

# Most frames of a prediction in the terminal.
SHOWN_FRAMES = 10


class ClipClassification:
    """Clips with one class each. The network reads each frame alone and pools over time."""

    name = "classification"
    has_classes = True
    layout = TableLayout(
        numbers=count_correct,
        columns={
            "row": "row",
            "reported": "reported",
            "accuracy_mean": "ours",
            "accuracy_sd": "sd",
            "interval": "95 % interval",
            "p_value": "p",
            "uar": "UAR",
            "accuracy_with_a_face": "accuracy with a face",
            "clips": "clips",
            "parameters": "parameters",
            "relative_cost": "relative cost",
        },
        terminal=("row", "reported", "accuracy_mean", "accuracy_sd", "interval", "p_value", "uar"),
        measured=("reported", "accuracy_mean", "accuracy_sd", "uar", "accuracy_with_a_face"),
        write=lambda share: f"{100 * share:.1f}",
        caption="accuracies in %",
        units="clips",
        optimistic="the accuracies are",
    )

    def build(self, config: Any, classes: Sequence[str], train: Train | None = None) -> Any:
        from affect.models.frame_classifier import build_frame_classifier

        return build_frame_classifier(config, classes, train)

    def detail(self, model: Any) -> Any:
        from affect.models.frame_classifier import detail_classifier

        return detail_classifier(model)

    def face_size(self, model: Any, config: Any) -> int:
        from affect.models.frame_classifier import face_size_of

        return face_size_of(model)

    def respond(self, network: Any, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        outputs = network.predict_on_batch(inputs)
        valid = inputs["frame_mask"][..., None]
        return outputs | {
            "probabilities": softmax(outputs["logits"]),
            "frame_probabilities": softmax(outputs["frame_logits"]) * valid,
        }

    def most_frames(self, experiment: Experiment) -> int | None:
        return None

    def check_reads_frames(self, name: str | Path) -> None:
        pass

    def frame_functions(self, model: Any) -> dict[str, Callable[..., Any]]:
        from affect.models.frame_classifier import frame_networks

        return {name: partial(_run, network) for name, network in frame_networks(model).items()}

    def begin_stream(self, trained: LoadedModel, half_life_s: float | None = None) -> StreamingClassifier:
        config = cast(FrameClassifier, trained.experiment.model)
        return StreamingClassifier(trained.frame_functions, config, trained.classes, half_life_s=half_life_s)

    def prepare_training(self, experiment: Experiment, shards: "Shards", workdir: Path | None) -> Training:
        import keras
        import tensorflow as tf

        from affect.data.batches import (
            batch_sizes,
            eval_batches,
            faces_of_table,
            keep_in_memory,
            list_clips,
            split_selection,
            train_batches,
        )
        from affect.data.ranks import ALONE
        from affect.models.published import weights_sha256

        train, config = experiment.train, experiment.model
        if not config.is_trained:
            raise InputError(
                f"{experiment.name} has its backbone's own classifier and needs no training. Use affect predict."
            )
        check_effects(experiment)
        check_selection_metric(train, "accuracy")
        clips = shards.of_split(experiment.data.train_split)
        usable = _filter_usable(clips)
        classes = tuple(name for name in shards.classes if any(clip["label"] == name for clip in usable))
        if len(classes) < 2:
            raise InputError(
                f"{shards.folder}: training needs labelled clips of two classes or more. Received: {list(classes)}"
            )
        if experiment.data.soft_labels and not any(clip["votes"] for clip in usable):
            raise InputError(f"{shards.folder}: no training clip has votes of raters. Set data.soft_labels=false.")
        left_out, selection_split = len(clips) - len(usable), experiment.data.selection_split
        if selection_split is None:
            train_keys, selection_keys = split_selection(usable, experiment.data.selection_ratio, train.seed)
        else:
            train_keys = [clip["key"] for clip in usable]
            selection_keys = _list_selection_keys(shards, selection_split, experiment.data, classes)
            left_out += len(shards.of_split(selection_split)) - len(selection_keys)
        one_hot = partial(tf.one_hot, depth=len(classes))
        is_frozen = config.backbone is not None and train.trainable == "head"
        views = train.feature_views if is_frozen and draws_views(experiment) else None

        def draw_batches(model, first_epoch, table=None, rank=ALONE):
            training, _ = train_batches(
                shards,
                experiment.data,
                classes=classes,
                keys=train_keys,
                face_size=self.face_size(model, config),
                seed=train.seed,
                first_epoch=first_epoch,
                views=views,
                table=table,
                rank=rank,
            )
            if experiment.data.soft_labels:
                return training
            return training.map(lambda inputs, label: (inputs, one_hot(label)))

        def batches(model, first_epoch=0, rank=ALONE):
            shared: dict[str, Any] = {"classes": classes, "face_size": self.face_size(model, config), "rank": rank}
            training = draw_batches(model, first_epoch, rank=rank)
            if not selection_keys:
                return training, None
            split = selection_split or experiment.data.train_split
            selection = eval_batches(shards, experiment.data, split=split, keys=selection_keys, **shared).map(
                lambda clip: ({"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, one_hot(clip["label"]))
            )
            # Without a known number of batches Keras warns that the data ran out.
            steps = rank.count_batches(-(-len(selection_keys) // experiment.data.batch_clips))
            faces = len(selection_keys) * experiment.data.eval_frames // rank.processes
            selection = keep_in_memory(selection, faces, shared["face_size"])
            return training, selection.apply(tf.data.experimental.assert_cardinality(steps))

        def freeze_faces():
            clips = {"classes": classes, "keys": train_keys}
            table = list_clips(shards, experiment.data, **clips, views=views or 1)
            epoch = sum(batch_sizes(len(train_keys), experiment.data))
            return FrozenFaces(
                rows=table.faces * table.views,
                seen=train.epochs * epoch * experiment.data.frames,
                faces=lambda model, batch_faces: faces_of_table(
                    shards,
                    experiment.data,
                    table,
                    **clips,
                    face_size=self.face_size(model, config),
                    seed=train.seed,
                    batch_faces=batch_faces,
                ),
                batches=lambda model, first_epoch: draw_batches(model, first_epoch, table),
            )

        return Training(
            experiment=experiment,
            classes=classes,
            selection=selection_keys,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=train.label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
            weights_sha256=weights_sha256(config.backbone, config.weights) if config.weights else None,
            sizes=batch_sizes(len(train_keys), experiment.data),
            batches=batches,
            counts={
                "train_clips": len(train_keys),
                "selection_clips": len(selection_keys),
                "clips_left_out": left_out,
            },
            class_weights=weigh_classes(usable, train_keys, classes) if train.class_weights else None,
            is_frozen=is_frozen,
            freeze_faces=freeze_faces if is_frozen and (views or not draws_views(experiment)) else None,
        )

    def finish_training(self, training: Training, workdir: Path, load: Callable[[], TrainedModel]) -> dict[str, Any]:
        return {}

    def protocol_of(self, experiment: Experiment, protocol: EvaluationProtocol | None = None) -> str | None:
        if protocol:
            raise InputError(f"{experiment.name} predicts classes and has no protocols. Leave out --protocol.")
        return None

    def evaluate(
        self,
        trained: TrainedModel,
        shards: "Shards",
        *,
        split: str,
        protocol: EvaluationProtocol | None = None,
        track: Track = hide_progress,
    ) -> dict[str, Any]:
        """Evaluates a classifier.

        Args:
            trained: The model.
            shards: The data.
            split: Name of the split.
            protocol: `None`, because classes have no protocols.
            track: Shows progress.

        Returns:
            Dict: `classes`; `all` and `with_a_face`, both from `affect.metrics.classification_metrics`; and `clips`,
            for each its `key`, `label`, `predicted` (`None` without a face), `probabilities` and `peak_s`, the time of
            the most important frame. In `all` a clip without a face counts as wrong. Paper A's authors' code counts as
            `with_a_face` does, and the paper does not say.

        Raises:
            InputError: If the clips have labels that the model does not know, or a protocol is given.
        """
        from affect.metrics import classification_metrics

        self.protocol_of(trained.experiment, protocol)
        entries = shards.of_split(split)
        unknown = sorted({entry["label"] for entry in entries} - set(trained.classes))
        if unknown:
            unknown = [name or "(no label)" for name in unknown]
            raise InputError(
                f"{shards.folder} has clips labelled {unknown} in split {split!r}; the model's classes are "
                f"{list(trained.classes)}."
            )
        clips, pairs = [], []
        for batch, outputs in run_split(trained, shards, split, track, "evaluate"):
            probabilities = softmax(outputs["logits"])
            for row, key in enumerate(batch["key"]):
                has_face = bool(batch["frame_mask"][row].any())
                label = int(batch["label"][row])
                predicted = int(np.argmax(probabilities[row])) if has_face else -1
                peak = int(np.argmax(outputs["frame_importance"][row]))
                clips.append(
                    {
                        "key": key.decode(),
                        "label": trained.classes[label],
                        "predicted": trained.classes[predicted] if has_face else None,
                        "probabilities": [float(p) for p in probabilities[row]] if has_face else None,
                        "peak_s": float(batch["timestamp_s"][row, peak]) if has_face else None,
                    }
                )
                pairs.append((label, predicted))
        labels, predictions = np.array(pairs).T
        seen = predictions >= 0
        return {
            "classes": list(trained.classes),
            "all": classification_metrics(labels, predictions, trained.classes),
            "with_a_face": classification_metrics(labels[seen], predictions[seen], trained.classes),
            "clips": clips,
        }

    def answer(
        self, trained: LoadedModel, clip: Clip, *, batch_faces: int = BATCH_FACES, track: Track = hide_progress
    ) -> Answer | None:
        return read_faces(trained, clip.faces, batch_faces, track) if len(clip.faces) else None

    def served_frames(self, experiment: Experiment) -> list[int]:
        return list_buckets(experiment.data.eval_frames)

    def answer_served(self, served: ServedModel, clip: Clip, *, track: Track = hide_progress) -> Answer | None:
        if len(clip.faces):
            is_whole = served.most_frames is not None or len(clip.faces) <= served.experiment.data.eval_frames
            # One face is enough to check the classes.
            places = choose_places(served, len(clip.faces)) if is_whole else np.array([0])
            answer = ask_server(served, clip, places)
            if is_whole:
                return answer
        return self.answer(served, clip, batch_faces=served.batch_faces, track=track)

    def summarise(
        self, trained: LoadedModel, clip: Clip, answer: Answer | None, cut: Cut | None = None
    ) -> dict[str, Any]:
        return summarise(trained.classes, clip, answer, cut)

    def tabulate(self, trained: LoadedModel, clip: Clip, answer: Answer | None, cut: Cut | None = None) -> Curves:
        return tabulate(trained.classes, clip, answer, cut)

    def attend(self, trained: LoadedModel, faces: Sequence[Face]) -> np.ndarray | None:
        if trained.most_frames is not None:
            return None
        crop_ratio = trained.experiment.data.crop_ratio
        pixels = np.stack([view_centre(face.jpeg, crop_ratio, trained.face_size) for face in faces])
        attention = trained.frame_functions["frame"](faces=pixels).get("attention")
        if attention is None:
            return None
        side = math.isqrt(attention.shape[-1])
        return np.asarray(attention).reshape(*attention.shape[:-1], side, side)

    def draw(
        self, trained: LoadedModel, clip: Clip, result: dict[str, Any], out: str | Path, drawing: Drawing
    ) -> list[str]:
        from affect.tasks.figures import draw_clip

        return draw_clip(trained, clip, result, out, drawing)

    def draw_means(
        self, trained: LoadedModel, shards: "Shards", out: str | Path, *, split: str, track: Track = hide_progress
    ) -> dict[str, np.ndarray]:
        from affect.tasks.figures import draw_class_means

        return draw_class_means(trained, shards, out, split=split, track=track)

    def check_plots(self, name: str) -> NoReturn:
        raise InputError(
            f"{name} predicts classes, and the plots of an evaluation are of valence and arousal. Draw a video with "
            "affect explain, or many with affect predict --out."
        )

    def plot_evaluation(self, report: dict[str, Any], folder: str | Path) -> list[Path]:
        self.check_plots("This model")

    def plot_predictions(self, predictions: Sequence[dict[str, Any]], out: str | Path) -> None:
        from affect.drawing import plot_class_predictions

        plot_class_predictions(predictions, out)

    def read_evaluation_inputs(
        self, artefact: LoadedModel, shards: "Shards", data: Data, *, split: str, most: int, frames: int | None
    ) -> Any:
        from affect.data.batches import eval_batches

        keys = [clip["key"] for clip in shards.of_split(split) if clip["frames_with_a_face"]]
        keys = keys[:: -(-len(keys) // most)] if keys else []
        return eval_batches(
            shards, data, split=split, classes=artefact.classes, face_size=artefact.face_size, keys=keys
        )

    def graph(self, trained: TrainedModel) -> Graph:
        from affect.tasks.signatures import build_frame_signatures, classify_clips

        return Graph(
            trained.network,
            classify_clips(trained.network, trained.classes),
            ("probabilities", "label", "frame_importance", "frame_probabilities"),
            build_frame_signatures(trained.model) if trained.most_frames is None else {},
        )

    def format_training(self, result: dict[str, Any]) -> Printout:
        left_out = result["clips_left_out"]
        line = f"{format_count(result['train_clips'], 'clip')} trained on, {result['selection_clips']} for selection"
        return Printout(lines=[line + (f", {left_out} left out (no face or no label)" if left_out else "")])

    def format_evaluation(self, report: dict[str, Any]) -> Printout:
        rows = [
            [name.replace("_", " "), str(report[name]["clips"])]
            + [format_number(report[name][key]) for key in ("accuracy", "uar", "macro_f1")]
            for name in ("all", "with_a_face")
        ]
        if reported := report["reported"].get("accuracy"):
            rows.append(["reported by the paper", "", f"{reported:.3f}", "", ""])
        confusion = zip(report["classes"], report["all"]["confusion"], strict=True)
        return Printout(
            [
                PrintedTable(["", "clips", "accuracy", "UAR", "macro F1"], rows, f"split {report['split']}"),
                PrintedTable(
                    ["label \\ predicted", *report["classes"], "no face"],
                    [[name, *map(str, counts)] for name, counts in confusion],
                ),
            ]
        )

    def format_prediction(self, reading: Prediction) -> Printout:
        curves, classes = reading.curves, reading.predictor.classes
        read = np.flatnonzero(~np.isnan(curves.importance))
        rows = [["clip", "", *(f"{p:.2f}" for p in curves.overall)]]
        for frame in read[:: -(-len(read) // SHOWN_FRAMES)]:
            probabilities = (f"{p:.2f}" for p in curves.values[frame])
            rows.append([f"{curves.times_s[frame]:.2f} s", f"{curves.importance[frame]:.1%}", *probabilities])
        return Printout([PrintedTable(["", "import.", *classes], rows, compact=True, first_apart=True)])

    def sentence(self, reading: Prediction) -> str:
        return f" is {reading.label}, p = {max(reading.curves.overall):.3f}"


class WholeClipClassification(ClipClassification):
    """Clips with one class each. The network sees several frames at once, so it reads whole clips."""

    def build(self, config: Any, classes: Sequence[str], train: Train | None = None) -> Any:
        from affect.models.video_networks import build_video_classifier

        return build_video_classifier(config, classes)

    def most_frames(self, experiment: Experiment) -> int | None:
        return experiment.data.eval_frames

    def check_reads_frames(self, name: str | Path) -> None:
        raise InputError(f"{name} reads whole clips, and does not judge their frames one by one. Use affect predict.")


def _run(network, **inputs):
    return network.predict_on_batch(inputs)


def _filter_usable(clips):
    """Returns the clips that can train or select the epoch: those with a label and a face."""
    return [clip for clip in clips if clip["label"] and clip["frames_with_a_face"]]


def _list_selection_keys(shards, split, data, classes):
    """Returns the keys of the clips of the selection split, which select the epoch."""
    check_selection_split(data)
    clips = _filter_usable(shards.of_split(split))
    if not clips:
        raise InputError(f"Split {split!r} of {shards.folder} has no labelled clip with a face to select the epoch on.")
    if unknown := sorted({clip["label"] for clip in clips} - set(classes)):
        raise InputError(
            f"Split {split!r} of {shards.folder}, which selects the epoch, has clips labelled {unknown}; the training "
            f"clips are labelled {list(classes)}."
        )
    return [clip["key"] for clip in clips]


def weigh_classes(clips: Sequence[dict[str, Any]], keys: Sequence[str], classes: Sequence[str]) -> dict[int, float]:
    """Weighs each class inversely to its number of clips. The mean weight over the clips is 1.

    Args:
        clips: Entries of the manifest with `key` and `label`.
        keys: Keys of the clips that count.
        classes: Class names in order.

    Returns:
        Class index → weight.
    """
    counted = set(keys)
    counts = Counter(clip["label"] for clip in clips if clip["key"] in counted)
    return {index: len(counted) / (len(classes) * counts[name]) for index, name in enumerate(classes)}
