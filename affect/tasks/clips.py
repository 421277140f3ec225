"""The task of clips with one class each: what is learnt, evaluated, said, drawn and exported.

The code of models is imported where it is used, because an exported model predicts without it.
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from affect.config import check_effects
from affect.data.augment import central_view, view_face
from affect.data.records import Clip
from affect.data.shards import batch_sizes, clip_inputs, eval_batches, space_evenly, split_selection, train_batches
from affect.errors import InputError
from affect.metrics import classification_metrics
from affect.models.stream import RUNNING_POOLINGS, StreamingClassifier
from affect.progress import Track, hide_progress
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

STYLES = ("ours", "paper")
# Frames of a prediction that are shown.
SHOWN_FRAMES = 10
# Faces that are decoded and read at once.
BATCH_FACES = 32


@dataclass(frozen=True)
class Answer:
    """What a model that classifies says of the faces of a clip.

    Args:
        places: int (K,), the faces that were read, by their places in the clip, ascending.
        probabilities: float (E,), p(c|S).
        importance: float (K,), p(f|S).
        frame_probabilities: float (K, E), p(c|f,S).
    """

    places: np.ndarray
    probabilities: np.ndarray
    importance: np.ndarray
    frame_probabilities: np.ndarray


def count_correct(reported, reports, base):
    """Returns the numbers of a row, given the reported ones and the evaluations of its seeds and of the first row's."""
    accuracies = [report["all"]["accuracy"] for report in reports]
    return {
        "reported": reported.get("accuracy"),
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_sd": standard_deviation(accuracies),
        **compare(correctness(reports), None if base is None else correctness(base)),
        "uar": float(np.mean([report["all"]["uar"] for report in reports])),
        "accuracy_with_a_face": mean([report["with_a_face"]["accuracy"] for report in reports]),
        "clips": reports[0]["all"]["clips"],
    }


def correctness(reports):
    """Returns for each clip, in the order of their keys, the share of seeds with which it was recognised."""
    seeds = [{clip["key"]: clip["predicted"] == clip["label"] for clip in report["clips"]} for report in reports]
    return np.array([np.mean([seed[key] for seed in seeds]) for key in sorted(seeds[0])])


class ClipClassification:
    """Clips with one class each, by a network that reads each frame on its own and pools over time."""

    name = "classification"
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

    def build(self, config, classes, train=None):
        from affect.models.frame_classifier import build_frame_classifier

        return build_frame_classifier(config, classes, train)

    def detail(self, model):
        from affect.models.frame_classifier import detail_classifier

        return detail_classifier(model)

    def face_size(self, model, config):
        from affect.models.frame_classifier import face_size_of

        return face_size_of(model)

    def respond(self, network, inputs):
        outputs = network.predict_on_batch(inputs)
        valid = inputs["frame_mask"][..., None]
        return outputs | {
            "probabilities": softmax(outputs["logits"], axis=-1),
            "frame_probabilities": softmax(outputs["frame_logits"], axis=-1) * valid,
        }

    def most_frames(self, experiment):
        return None

    def check_reads_frames(self, name):
        pass

    def frame_functions(self, model):
        from affect.models.frame_classifier import frame_networks

        return {part: partial(_run, network) for part, network in frame_networks(model).items()}

    def begin_stream(self, trained, half_life_s=None):
        return StreamingClassifier(
            trained.frame_functions, trained.experiment.model, trained.classes, half_life_s=half_life_s
        )

    def prepare_training(self, experiment, shards, workdir):
        from affect.models.backbones import weights_sha256

        settings, config = experiment.train, experiment.model
        if not config.is_trained:
            raise InputError(
                f"{experiment.name} has its backbone's own classifier and needs no training: affect predict."
            )
        check_effects(experiment)
        check_selection_metric(settings, "accuracy")
        clips = shards.of_split(experiment.data.train_split)
        usable = _usable(clips)
        classes = tuple(name for name in shards.classes if any(clip["label"] == name for clip in usable))
        if len(classes) < 2:
            raise InputError(
                f"{shards.folder}: training needs labelled clips of two classes or more. Received: {list(classes)}"
            )
        if experiment.data.soft_labels and not any(clip["votes"] for clip in usable):
            raise InputError(f"{shards.folder}: no training clip has votes of raters. Set data.soft_labels=false.")
        left_out, selection_split = len(clips) - len(usable), experiment.data.selection_split
        if selection_split is None:
            train_keys, selection_keys = split_selection(usable, experiment.data.selection_ratio, settings.seed)
        else:
            train_keys, selection_keys = (
                [clip["key"] for clip in usable],
                _selection_keys(shards, experiment.data, classes),
            )
            left_out += len(shards.of_split(selection_split)) - len(selection_keys)
        one_hot = partial(tf.one_hot, depth=len(classes))

        def batches(model, first_epoch=0):
            shared = {"classes": classes, "face_size": self.face_size(model, config)}
            training, _ = train_batches(
                shards, experiment.data, keys=train_keys, seed=settings.seed, first_epoch=first_epoch, **shared
            )
            if not experiment.data.soft_labels:
                training = training.map(lambda inputs, label: (inputs, one_hot(label)))
            if not selection_keys:
                return training, None
            split = selection_split or experiment.data.train_split
            selection = eval_batches(shards, experiment.data, split=split, keys=selection_keys, **shared).map(
                lambda clip: ({"faces": clip["faces"], "frame_mask": clip["frame_mask"]}, one_hot(clip["label"]))
            )
            # Keras warns of data that ran out when it is not told how many there are.
            steps = -(-len(selection_keys) // experiment.data.batch_clips)
            return training, selection.apply(tf.data.experimental.assert_cardinality(steps))

        return Training(
            experiment=experiment,
            classes=classes,
            selection=selection_keys,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
            metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
            weights_sha256=weights_sha256(config.backbone, config.weights) if config.weights else None,
            steps=len(batch_sizes(len(train_keys), experiment.data)),
            batches=batches,
            counts={
                "train_clips": len(train_keys),
                "selection_clips": len(selection_keys),
                "clips_left_out": left_out,
            },
            class_weights=weigh_classes(usable, train_keys, classes) if settings.class_weights else None,
        )

    def finish_training(self, training, workdir, load):
        return {}

    def protocol_of(self, experiment, protocol=None):
        if protocol:
            raise InputError(f"A protocol is for valence and arousal, and {experiment.name} gives classes.")
        return None

    def evaluate(self, trained, shards, *, split, protocol=None, track: Track = hide_progress):
        """Evaluates a model that classifies.

        Args:
            trained: `affect.reading.run.Trained`.
            shards: `affect.data.shards.Shards`.
            split: Name of the split.
            protocol: `None`: classes have no other.
            track: Shows progress.

        Returns:
            Dict: `classes`; `all` and `with_a_face` (see `affect.metrics.classification_metrics`); and `clips`: for
            each its `key`, `label`, `predicted` (`None` without a face), `probabilities` and `peak_s`, the time of the
            frame of highest importance. In `all` a clip without a face counts as wrong; paper A's authors' code counts
            as `with_a_face` does, and the paper does not say.

        Raises:
            InputError: When the clips have labels that the model does not know, or a protocol is given.
        """
        self.protocol_of(trained.experiment, protocol)
        entries = shards.of_split(split)
        unknown = sorted({entry["label"] for entry in entries} - set(trained.classes))
        if unknown:
            unknown = [name or "(no label)" for name in unknown]
            raise InputError(
                f"{shards.folder} has clips labelled {unknown} in split {split!r}; the model's classes are "
                f"{list(trained.classes)}."
            )
        batches = eval_batches(
            shards, trained.experiment.data, split=split, classes=trained.classes, face_size=trained.face_size
        )
        clips, labels, predictions = [], [], []
        steps = -(-len(entries) // trained.experiment.data.batch_clips)
        for batch in track(batches, steps, "evaluate"):
            inputs = {name: batch[name].numpy() for name in ("faces", "frame_mask")}  # for any backend
            outputs = trained.network.predict_on_batch(inputs)
            probabilities = softmax(outputs["logits"], axis=-1)
            for row, key in enumerate(batch["key"].numpy()):
                has_face = bool(batch["frame_mask"][row].numpy().any())
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
                labels.append(label)
                predictions.append(predicted)
        labels, predictions = np.array(labels), np.array(predictions)
        seen = predictions >= 0
        return {
            "classes": list(trained.classes),
            "all": classification_metrics(labels, predictions, trained.classes),
            "with_a_face": classification_metrics(labels[seen], predictions[seen], trained.classes),
            "clips": clips,
        }

    def predict(self, trained, clip, cut=None, *, batch_faces=BATCH_FACES):
        answer = read_faces(trained, clip.faces, batch_faces) if len(clip.faces) else None
        return summarise(trained.classes, clip, answer, cut)

    def predict_served(self, served, clip, cut=None):
        if len(clip.faces):
            is_whole = served.most_frames is not None or len(clip.faces) <= served.experiment.data.eval_frames
            places = places_read(served, len(clip.faces)) if is_whole else [0]  # One is enough to check the classes.
            answer = _ask_by_jpeg(served, clip.key, clip.faces, places)
            if is_whole:
                return summarise(served.classes, clip, answer, cut)
        return self.predict(served, clip, cut, batch_faces=served.batch_faces)

    def draw(self, trained, clip, result, out, *, frames, by_importance, style):
        from affect import drawing

        if style not in STYLES:
            raise InputError(f"The style of a figure must be one of {list(STYLES)}. Received: {style!r}")
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
            attention = {"attention": drawing.attention_maps(np.mean(attention, axis=1, keepdims=True))[:, 0]}
        else:
            attention = drawing.split_heads(attention)
        scale = max(max(drawing.joint_probabilities(read[index]).values()) for index in shown)  # of the frames shown

        figure, grid = drawing.begin_figure([1.0] * (1 + len(attention)) + [0.9, 0.8], len(shown))
        drawing.draw_faces(figure, grid, faces, [read[index]["timestamp_s"] for index in shown], attention)
        for column, index in enumerate(shown):
            axes, with_names = figure.add_subplot(grid[-2, column]), column == 0
            if style == "paper":
                joint = drawing.joint_probabilities(read[index])
                drawing.draw_probabilities(axes, joint, max(joint, key=joint.get), with_names=with_names, scale=scale)
            else:
                drawing.draw_probabilities(axes, read[index]["probabilities"], result["label"], with_names=with_names)
        drawing.draw_importance(figure.add_subplot(grid[-1, :]), read, shown)
        figure.suptitle(
            f"{clip.key}: {result['label']}, p = {result['probabilities'][result['label']]:.2f}"
            + (f" (labelled {clip.label})" if clip.label else ""),
            fontsize=11,
        )
        drawing.save_figure(figure, out)

    def draw_means(self, trained, shards, out, *, split, track: Track = hide_progress):
        from affect import drawing

        if "attention" not in trained.network.output:
            raise InputError(f"{trained.experiment.name} has no spatial attention to average.")
        steps = -(-len(shards.of_split(split)) // trained.experiment.data.batch_clips)
        batches = eval_batches(
            shards, trained.experiment.data, split=split, classes=trained.classes, face_size=trained.face_size
        )
        faces, attention, clips = Counter(), Counter(), Counter()
        for batch in track(batches, steps, "explain"):
            inputs = {"faces": batch["faces"].numpy(), "frame_mask": batch["frame_mask"].numpy()}
            outputs = trained.network.predict_on_batch(inputs)
            for row, label in enumerate(batch["label"].numpy()):
                if label >= 0 and inputs["frame_mask"][row].any():
                    importance = outputs["frame_importance"][row]
                    faces[label] += np.tensordot(importance, inputs["faces"][row], axes=1)
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

    def check_plots(self, name):
        raise InputError(f"{name} gives classes, and --plot draws valence and arousal. Draw a video by affect explain.")

    def plot_evaluation(self, report, folder):
        self.check_plots("This model")

    def plot_predictions(self, predictions, out):
        self.check_plots("This model")

    def read_evaluation_inputs(self, artefact, shards, data, *, split, most, frames):
        keys = [clip["key"] for clip in shards.of_split(split) if clip["frames_with_a_face"]]
        keys = keys[:: -(-len(keys) // most)] if keys else []
        return eval_batches(
            shards, data, split=split, classes=artefact.classes, face_size=artefact.face_size, keys=keys
        )

    def graph(self, trained):
        from affect.tasks.signatures import build_frame_signatures, classify_clips

        return Graph(
            trained.network,
            classify_clips(trained.network, trained.classes),
            ("probabilities", "label", "frame_importance", "frame_probabilities"),
            build_frame_signatures(trained.model) if trained.most_frames is None else {},
        )

    def view_training(self, result):
        return View(lines=[_count_clips(result)])

    def view_evaluation(self, report):
        rows = [
            [name.replace("_", " "), str(report[name]["clips"])]
            + [format_number(report[name][key]) for key in ("accuracy", "uar", "macro_f1")]
            for name in ("all", "with_a_face")
        ]
        if reported := report["reported"].get("accuracy"):
            rows.append(["reported by the paper", "", f"{reported:.3f}", "", ""])
        confusion = zip(report["classes"], report["all"]["confusion"], strict=True)
        return View(
            [
                Sheet(["", "clips", "accuracy", "UAR", "macro F1"], rows, f"split {report['split']}"),
                Sheet(
                    ["label \\ predicted", *report["classes"], "no face"],
                    [[name, *map(str, counts)] for name, counts in confusion],
                ),
            ]
        )

    def view_prediction(self, trained, result):
        read = [frame for frame in result["frames"] if frame["probabilities"] is not None]
        rows = [["clip", "", *(f"{p:.2f}" for p in result["probabilities"].values())]]
        for frame in read[:: -(-len(read) // SHOWN_FRAMES)]:
            probabilities = (f"{p:.2f}" for p in frame["probabilities"].values())
            rows.append([f"{frame['timestamp_s']:.2f} s", f"{frame['importance']:.1%}", *probabilities])
        return View([Sheet(["", "import.", *result["probabilities"]], rows, compact=True, first_apart=True)])

    def headline(self, result):
        return result["label"]

    def sentence(self, result):
        return f" is {result['label']}, p = {result['probabilities'][result['label']]:.3f}"

    def frame_columns(self, classes):
        return ["timestamp_s", "has_face", "importance", *classes]

    def frame_rows(self, result):
        return [frame | (frame["probabilities"] or {}) for frame in result["frames"]]


class WholeClipClassification(ClipClassification):
    """Clips with one class each, by a network that sees several frames at once and so reads whole clips."""

    def build(self, config, classes, train=None):
        from affect.models.video_networks import build_video_classifier

        return build_video_classifier(config, classes)

    def most_frames(self, experiment):
        return experiment.data.eval_frames

    def check_reads_frames(self, name):
        raise InputError(f"{name} reads whole clips, and does not judge their frames one by one. Use affect predict.")


def _run(network, **inputs):
    return network.predict_on_batch(inputs)


def _count_clips(result):
    left_out = result["clips_left_out"]
    return f"{result['train_clips']} clips trained on, {result['selection_clips']} for selection" + (
        f", {left_out} left out (no face or no label)" if left_out else ""
    )


def _usable(clips):
    """Returns the clips that can be learnt from or selected on: labelled, with a face."""
    return [clip for clip in clips if clip["label"] and clip["frames_with_a_face"]]


def _selection_keys(shards, data, classes):
    """Returns the keys of the clips of another split that select the epoch."""
    check_selection_split(data)
    split = data.selection_split
    clips = _usable(shards.of_split(split))
    if not clips:
        raise InputError(f"Split {split!r} of {shards.folder} has no labelled clip with a face to select the epoch on.")
    if unknown := sorted({clip["label"] for clip in clips} - set(classes)):
        raise InputError(
            f"Split {split!r} of {shards.folder}, which selects the epoch, has clips labelled {unknown}; those trained "
            f"on are labelled {list(classes)}."
        )
    return [clip["key"] for clip in clips]


def weigh_classes(clips, keys, classes):
    """Returns class index → weight, inverse to how many clips have the class; the mean over clips is 1."""
    keys = set(keys)
    counts = Counter(clip["label"] for clip in clips if clip["key"] in keys)
    return {index: len(keys) / (len(classes) * counts[name]) for index, name in enumerate(classes)}


def places_read(trained, total):
    """Returns which of the `total` faces of a clip a model that classifies reads: int (K,), ascending."""
    if trained.most_frames is None:
        return np.arange(total)
    return space_evenly(total, trained.most_frames, trained.experiment.data.frame_spacing).numpy()


def read_faces(trained, faces, batch_faces=BATCH_FACES):
    """Returns the `Answer` of a model that classifies to the faces of a clip, a Sequence of one or more."""
    places = places_read(trained, len(faces))
    if trained.most_frames is not None:
        data = replace(trained.experiment.data, eval_frames=trained.most_frames)
        chosen = [faces[place] for place in places]
        inputs, _ = clip_inputs(Clip("", faces=chosen), data, trained.face_size)
        outputs = trained.respond(inputs)
        return Answer(
            places, outputs["probabilities"][0], outputs["frame_importance"][0], outputs["frame_probabilities"][0]
        )
    config, networks = trained.experiment.model, trained.frame_functions
    pooling = RUNNING_POOLINGS[config.temporal_pooling](networks, config)
    view = central_view(trained.experiment.data.crop_ratio)
    frame_logits = np.empty((len(faces), len(trained.classes)))
    for start in range(0, len(faces), batch_faces):
        batch = faces[start : start + batch_faces]
        pixels = np.stack([view_face(face.jpeg, view, trained.face_size).numpy() for face in batch])
        found = networks["frame"](faces=pixels)
        found = {name: np.asarray(value, np.float64) for name, value in found.items() if name != "attention"}
        for index in range(len(batch)):
            frame = {name: value[index] for name, value in found.items()}
            logits, frame_logits[start + index], _ = pooling.add(frame, log_keep=0.0)
    return Answer(places, softmax(logits), pooling.shares(frame_logits), softmax(frame_logits, axis=-1))


def summarise(classes, clip, answer, cut=None):
    """Returns the `Answer` to a clip, `None` where it has no face, as `predict` describes it."""
    nothing = {"importance": None, "probabilities": None}
    rows, result = {}, {"key": clip.key, "label": None, "probabilities": None}
    if answer is not None:
        result["label"] = classes[int(np.argmax(answer.probabilities))]
        result["probabilities"] = _named(classes, answer.probabilities)
        shares = zip(answer.places, answer.importance, answer.frame_probabilities, strict=True)
        rows = {
            place: {"importance": float(importance), "probabilities": _named(classes, row)}
            for place, importance, row in shares
        }
    frames = [
        {"timestamp_s": time_s, "has_face": place is not None, **rows.get(place, nothing)}
        for time_s, place in pair_frames(clip, cut)
    ]
    return result | count_faces(clip, cut) | {"frames_read": len(rows), "frames": frames}


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


def _named(classes, probabilities):
    return {name: float(p) for name, p in zip(classes, probabilities, strict=True)}


def _ask_by_jpeg(served, key, faces, places):
    """Returns the server's `Answer` to the faces at some places as one clip; it must know these classes."""
    # All clips are of one length: a server runs only such in one batch.
    jpegs = np.full((1, served.experiment.data.eval_frames), b"", object)
    jpegs[0, : len(places)] = [faces[place].jpeg for place in places]
    outputs = served.client.signature("jpeg")({"jpegs": jpegs})
    lost = len(places) - int(outputs["frame_mask"][0].sum())
    if lost:
        raise InputError(f"{key}: {served.client} could not decode {lost} of {len(places)} faces. Cut them again.")
    probabilities, label = outputs["probabilities"][0], outputs["label"][0].decode()
    if len(probabilities) != len(served.classes) or label != served.classes[int(np.argmax(probabilities))]:
        raise InputError(
            f"{served.client} answers {label!r} for class {int(np.argmax(probabilities))} of {len(probabilities)}, and "
            f"the classes of {served.path} are {', '.join(served.classes)}. Serve this folder, or name the served one."
        )
    importance, rows = (outputs[name][0, : len(places)] for name in ("frame_importance", "frame_probabilities"))
    return Answer(np.asarray(places), probabilities, importance, rows)
