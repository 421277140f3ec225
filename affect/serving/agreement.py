"""A converted model beside the SavedModel: how far the outputs differ, and what of the answers is the same."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from affect.config import FrameClassifier
from affect.models.stream import RUNNING_POOLINGS
from affect.reading.artefact import Artefact, measure_difference
from affect.serving.check import TOLERANCE
from affect.statistics import softmax

# Share of the rows whose differences are bounded. The largest of all is a stricter bound the more rows there are.
QUANTILE = 0.99
# Bound of the largest difference of a float32 model, in units of `TOLERANCE`. It finds a single wrong face.
LARGEST = 10


@dataclass(frozen=True)
class Limits:
    """What a form of a model must keep.

    Args:
        labels: Share of the clips with the same label.
        difference: Mean difference of the probabilities, or of valence and arousal.
        importance: Mean total variation of the importance of the frames.
    """

    labels: float
    difference: float
    importance: float


# Form → its limits. float32 is also held to `find_fault`.
LIMITS = {
    "float32": Limits(labels=1.0, difference=1e-5, importance=1e-3),
    "float16": Limits(labels=0.99, difference=1e-3, importance=0.01),
    "dynamic": Limits(labels=0.95, difference=0.02, importance=0.1),
    "int8": Limits(labels=0.95, difference=0.02, importance=0.1),
}


@dataclass(frozen=True)
class Sample:
    """A clip that both models read.

    Args:
        name: Key of the clip, or what else it is.
        inputs: faces uint8 (1, F, S, S, 3), frame_mask bool (1, F).
    """

    name: str
    inputs: dict[str, np.ndarray]

    @property
    def faces(self) -> np.ndarray:
        """The faces of the frames that exist, uint8 (K, S, S, 3)."""
        return self.inputs["faces"][self.inputs["frame_mask"]]


@dataclass(frozen=True)
class Request:
    """A call of a signature.

    Args:
        where: What it is of.
        signature: Name of the signature.
        inputs: Arrays by name.
    """

    where: str
    signature: str
    inputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Answer:
    """What a classifier says of a clip: probabilities (E,), importance (K,), frame_probabilities (K, E)."""

    probabilities: np.ndarray
    importance: np.ndarray
    frame_probabilities: np.ndarray


@dataclass(frozen=True)
class Reference:
    """The SavedModel's side, which every form of it is compared with.

    Args:
        requests: Calls, and the outputs of the SavedModel.
        answers: Name of each clip, the sample, and the answer; empty for a regression.
    """

    requests: tuple[tuple[Request, Mapping[str, np.ndarray]], ...]
    answers: tuple[tuple[Sample, Answer], ...]


def make_requests(artefact: Artefact, names: Sequence[str], sample: Sample) -> Iterator[Request]:
    """Yields the calls of a clip: the whole clip; or its faces, and the features that an app pools.

    Args:
        artefact: The SavedModel.
        names: Names of the signatures.
        sample: The clip.
    """
    if list(names) == ["serving_default"]:
        yield Request(sample.name, "serving_default", sample.inputs)
        return
    answers = []
    for place, face in enumerate(sample.faces):
        yield Request(f"{sample.name}, face {place}", "frame", {"faces": face[None]})
        if "classify" in names:
            answers.append(artefact.signature("frame")({"faces": face[None]})["frame_features"])
    if "step" in names and answers:
        step = artefact.signature("step")
        shapes = artefact.description["signatures"]["step"]["inputs"]
        state = {key: np.zeros((1, shapes[key]["shape"][1]), np.float32) for key in ("hidden", "cell")}
        for place, features in enumerate(answers):
            request = Request(f"{sample.name}, face {place}", "step", {"frame_features": features, **state})
            yield request
            after = step(request.inputs)
            state = {key: after[key] for key in state}
        yield Request(sample.name, "classify", {"pooled_features": state["hidden"]})
    elif answers:
        features = np.concatenate(answers)
        pooled = np.concatenate([features.mean(axis=0), features.std(axis=0)])[None]
        yield Request(sample.name, "classify", {"pooled_features": pooled})


def make_reference(artefact: Artefact, names: Sequence[str], samples: Iterable[Sample]) -> Reference:
    """Runs the SavedModel.

    Args:
        artefact: The SavedModel.
        names: Names of the signatures that are converted.
        samples: Clips with a face.
    """
    samples = tuple(samples)
    requests = tuple(
        (request, artefact.signature(request.signature)(request.inputs))
        for sample in samples
        for request in make_requests(artefact, names, sample)
    )
    answers = ((sample, answer_clip(artefact, names, sample)) for sample in samples)
    return Reference(requests, tuple((sample, answer) for sample, answer in answers if answer))


def answer_clip(artefact: Artefact, names: Sequence[str], sample: Sample) -> Answer | None:
    """Returns a classifier's answer for a clip; `None` for a regression.

    Args:
        artefact: The SavedModel, or a file that was converted from it.
        names: Names of the signatures that are converted. Without `serving_default`, frames are pooled as an app does.
        sample: The clip.
    """
    if list(names) != ["serving_default"]:
        config, networks = cast(FrameClassifier, artefact.experiment.model), artefact.frame_functions
        pooling: Any = RUNNING_POOLINGS[config.temporal_pooling](networks, config)
        rows = []
        for face in sample.faces:
            found = networks["frame"](faces=face[None])
            frame = {name: np.asarray(value, np.float64)[0] for name, value in found.items() if name != "attention"}
            logits, frame_logits, _ = pooling.add(frame, log_keep=0.0)
            rows.append(frame_logits)
        return Answer(softmax(logits), pooling.shares(np.stack(rows)), softmax(np.stack(rows)))
    outputs, valid = artefact.signature("serving_default")(sample.inputs), sample.inputs["frame_mask"]
    if "probabilities" not in outputs:
        return None
    return Answer(
        outputs["probabilities"][0], outputs["frame_importance"][valid], outputs["frame_probabilities"][valid]
    )


def compare(artefact: Artefact, names: Sequence[str], reference: Reference) -> dict[str, Any]:
    """Compares a converted model with the SavedModel.

    Args:
        artefact: The converted model.
        names: Names of its signatures.
        reference: The SavedModel's side.

    Returns:
        Dict: `differences`, signature → output → `largest`, `quantile` (99 %) and `mean` difference, relative as in
        `affect.reading.artefact.measure_difference`, and `worst`, where the largest is; logits are compared after a
        softmax too, as `probabilities of LOGITS`. `agreement`, `None` for a regression, is of the answers for clips,
        over all and `by_class` that the SavedModel names: `clips`, their number; the shares with the same `labels` and
        `top_frame`, the most important frame, and of faces with the same label, `frame_labels`; the `largest` and
        `mean` difference of `probabilities`; and the same of the total variation of the `importance` of frames, 0 if
        nothing moved and 1 if all of it did. What is equal up to 1e-5 counts as the same label or frame.
    """
    found: dict[str, dict[str, list[tuple[float, float, str]]]] = {}
    for request, expected in reference.requests:
        outputs = artefact.signature(request.signature)(request.inputs)
        rows = found.setdefault(request.signature, {})
        for key, value in expected.items():
            if value.dtype.kind != "f":
                continue
            rows.setdefault(key, []).append(_measure(outputs[key], value, request.where))
            if key.endswith("logits"):
                pair = softmax(outputs[key]), softmax(value)
                rows.setdefault(f"probabilities of {key}", []).append(_measure(*pair, request.where))
    answers = [(sample, expected, answer_clip(artefact, names, sample)) for sample, expected in reference.answers]
    return {
        "differences": {
            name: {key: _summarise(rows) for key, rows in outputs.items()} for name, outputs in found.items()
        },
        "agreement": _agree(artefact.classes, answers) if answers else None,
    }


def _measure(value, expected, where):
    largest = float(np.abs(expected).max(initial=1.0))
    return measure_difference(value, expected), float(np.abs(value - expected).mean()) / largest, where


def _summarise(rows):
    largest = [row[0] for row in rows]
    return {
        "largest": max(largest),
        "quantile": float(np.quantile(largest, QUANTILE, method="higher")),
        "mean": float(np.mean([row[1] for row in rows])),
        "worst": max(rows)[2],
    }


def _agree(classes, answers):
    """Returns the `agreement` of `compare`."""
    rows = []
    for _, expected, found in answers:
        differences = np.abs(found.probabilities - expected.probabilities)
        rows.append(
            {
                "class": classes[int(np.argmax(expected.probabilities))],
                "labels": _is_top(found.probabilities, expected.probabilities),
                "frame_labels": list(map(_is_top, found.frame_probabilities, expected.frame_probabilities)),
                "top_frame": _is_top(found.importance, expected.importance),
                "largest": float(differences.max()),
                "mean": float(differences.mean()),
                "importance": float(np.abs(found.importance - expected.importance).sum() / 2),
            }
        )
    by_class = {name: [row for row in rows if row["class"] == name] for name in classes}
    return _count(rows) | {"by_class": {name: _count(some) for name, some in by_class.items() if some}}


def _is_top(found, expected):
    """Returns whether the largest of some values is the largest of the expected ones."""
    return bool(expected[int(np.argmax(found))] >= expected.max() - TOLERANCE)


def _count(rows):
    moved = [row["importance"] for row in rows]
    return {
        "clips": len(rows),
        "labels": float(np.mean([row["labels"] for row in rows])),
        "frame_labels": float(np.mean(np.concatenate([row["frame_labels"] for row in rows]))),
        "probabilities": {
            "largest": max(row["largest"] for row in rows),
            "mean": float(np.mean([row["mean"] for row in rows])),
        },
        "top_frame": float(np.mean([row["top_frame"] for row in rows])),
        "importance": {"largest": max(moved), "mean": float(np.mean(moved))},
    }


def find_fault(report: Mapping[str, Any]) -> str:
    """Returns why a float32 model is not the SavedModel, one clause; empty if it is.

    99 % of the rows of every output may differ by `TOLERANCE` and all by ten times that. Probabilities may differ by
    `TOLERANCE` and labels not at all. The importance of frames is left to `LIMITS`: if frames tie for the maximum,
    rounding decides between them.

    Args:
        report: From `compare`.
    """
    for outputs in report["differences"].values():
        for key, found in outputs.items():
            if key == "frame_importance":
                continue
            bound = TOLERANCE if "probabilities" in key else LARGEST * TOLERANCE
            for name, value, limit in (("largest", found["largest"], bound), ("99 %", found["quantile"], TOLERANCE)):
                if not value <= limit:
                    return f"{key} by {value:.1e} ({name}), above {limit:g}, most in {found['worst']}"
    agreement = report["agreement"]
    if agreement and min(agreement["labels"], agreement["frame_labels"]) < 1:
        return f"the label in {1 - min(agreement['labels'], agreement['frame_labels']):.2%} of the clips or faces"
    return ""


def list_losses(report: Mapping[str, Any], to: str) -> list[str]:
    """Returns a sentence for each thing that a form loses beyond its limits.

    Args:
        report: From `compare`.
        to: Form of the model.
    """
    limits, agreement = LIMITS[to], report["agreement"]
    if agreement is None:
        means = [found["mean"] for outputs in report["differences"].values() for found in outputs.values()]
        return [f"outputs differ by {max(means):.2g} on average, above {limits.difference:g}"][
            : max(means) > limits.difference
        ]
    lost = []
    if agreement["labels"] < limits.labels:
        lost.append(f"the label is the same for {agreement['labels']:.0%} of the clips, below {limits.labels:.0%}")
    if (mean := agreement["probabilities"]["mean"]) > limits.difference:
        lost.append(f"probabilities differ by {mean:.2g} on average, above {limits.difference:g}")
    if (mean := agreement["importance"]["mean"]) > limits.importance:
        lost.append(f"{mean:.0%} of the importance lies on other frames, above {limits.importance:.0%}")
    return lost
