"""Faces one by one → the class of the clip so far, or valence and arousal window by window, in constant memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from affect.config import FrameClassifier, Windows
from affect.errors import InputError
from affect.statistics import softmax

# A function of named arrays that returns a dict of arrays, such as a network of
# `affect.models.frame_classifier.frame_networks`.
NetworkFunction = Callable[..., Mapping[str, Any]]


class RunningPooling(Protocol):
    """A temporal pooling that reads the frames of one clip one by one.

    After all frames it equals its layer on the whole clip. Sums are float64, because float32 would lose a frame beside
    the sum of a million frames.

    Args:
        networks: `classify` or `step`, if the pooling needs them, as from
            `affect.models.frame_classifier.frame_networks`.
        config: `lstm_units` is used.
    """

    forgets: ClassVar[bool]  # Whether the weight of earlier frames can be reduced.

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None: ...

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Adds the next frame.

        Args:
            frame: Outputs of the network `frame` for one face, float64, without the batch axis.
            log_keep: Logarithm of the factor for the weights of earlier frames; 0 keeps them.

        Returns:
            `(clip logits, frame logits, importance)`: float64 (E,), (E,) and a number.
        """

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        """Returns the importance (F,) of all F frames so far, if the weights were not reduced.

        Args:
            frame_logits: float64 (F, E), from `add`.
        """


class RunningJointSoftmax(RunningPooling):
    """`JointSoftmaxPooling`: z_c ← log(keep · e^{z_c} + e^{o_c}) and p(f | S) = Σ_c e^{o_cf} / Σ_c e^{z_c}."""

    forgets = True

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None:
        self.logits: Any = -math.inf  # a number before the first frame, then (E,)

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        scores = frame["frame_logits"]
        self.logits = np.logaddexp(self.logits + log_keep, scores)
        return self.logits, scores, math.exp(np.logaddexp.reduce(scores) - np.logaddexp.reduce(self.logits))

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        return np.exp(np.logaddexp.reduce(frame_logits, axis=1) - np.logaddexp.reduce(self.logits))


class RunningAverage(RunningPooling):
    """`AverageScorePooling`: w ← keep · w + 1, z ← z + (o - z) / w and p(f | S) = 1 / w."""

    forgets = True

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None:
        self.logits: Any = 0.0  # a number before the first frame, then (E,)
        self.weight = 0.0

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        scores = frame["frame_logits"]
        self.weight = self.weight * math.exp(log_keep) + 1
        self.logits = self.logits + (scores - self.logits) / self.weight
        return self.logits, scores, 1 / self.weight

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        return np.full(len(frame_logits), 1 / self.weight)


class RunningMax(RunningPooling):
    """`MaxScorePooling`: z_c ← max(z_c, o_c); the frames that reach a class's maximum share its p(c | S)."""

    forgets = False

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None:
        self.logits: Any = -math.inf  # a number before the first frame, then (E,), like `ties`
        self.ties: Any = 0

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        scores = frame["frame_logits"]
        self.ties = np.where(scores > self.logits, 1, self.ties + (scores == self.logits))
        self.logits = np.maximum(self.logits, scores)
        importance = np.sum(softmax(self.logits) * (scores == self.logits) / self.ties)
        return self.logits, scores, float(importance)

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        return np.sum(softmax(self.logits) * (frame_logits == self.logits) / self.ties, axis=1)


class RunningStatistics(RunningPooling):
    """`StatisticsPooling`: the mean and Σ (x - mean)² by Welford's updates, which do not cancel as Σ x² would."""

    forgets = False

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None:
        self.classify = networks["classify"]
        self.frames = 0
        self.mean: Any = 0.0  # a number before the first frame, then (K,), like `squares`
        self.squares: Any = 0.0

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        features = frame["frame_features"]
        self.frames += 1
        difference = features - self.mean
        self.mean = self.mean + difference / self.frames
        self.squares = self.squares + difference * (features - self.mean)
        clip = np.concatenate([self.mean, np.sqrt(self.squares / self.frames)])
        alone = np.concatenate([features, np.zeros_like(features)])
        logits = self.classify(pooled_features=np.stack([clip, alone]).astype(np.float32))["logits"]
        clip_logits, frame_logits = np.asarray(logits, np.float64)
        return clip_logits, frame_logits, 1 / self.frames

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        return np.full(len(frame_logits), 1 / self.frames)


class RunningLSTM(RunningPooling):
    """`LSTMPooling`, by its two states. The logits of a frame are the logits of the clip up to it."""

    forgets = False

    def __init__(self, networks: Mapping[str, NetworkFunction], config: FrameClassifier) -> None:
        self.step = networks["step"]
        self.frames, self.hidden = 0, np.zeros((1, config.lstm_units), np.float32)
        self.cell = self.hidden

    def add(self, frame: Mapping[str, np.ndarray], log_keep: float) -> tuple[np.ndarray, np.ndarray, float]:
        self.frames += 1
        features = frame["frame_features"][None].astype(np.float32)
        after = self.step(frame_features=features, hidden=self.hidden, cell=self.cell)
        self.hidden, self.cell = np.asarray(after["hidden"]), np.asarray(after["cell"])
        logits = np.asarray(after["logits"], np.float64)[0]
        return logits, logits, 1 / self.frames

    def shares(self, frame_logits: np.ndarray) -> np.ndarray:
        return np.full(len(frame_logits), 1 / self.frames)


# The keys are the same as in `affect.layers.TEMPORAL_POOLINGS`.
RUNNING_POOLINGS: dict[str, type[RunningPooling]] = {
    "joint_softmax": RunningJointSoftmax,
    "average": RunningAverage,
    "max": RunningMax,
    "lstm": RunningLSTM,
    "statistics": RunningStatistics,
}


@dataclass(frozen=True)
class Reading:
    """The result after a frame.

    Args:
        timestamp_s: Of the frame.
        frames: Number of frames so far.
        frames_with_a_face: Number of them that have a face.
        label: The most probable class; `None` before the first face.
        probabilities: Class → p(c | S), where S is all frames so far; `None` before the first face.
        frame_probabilities: Class → p(c | f, S) of this frame; `None` without a face.
        importance: p(f | S) of this frame among all frames so far; 0 without a face.
        attention: float (N, L), the attention of the heads in this face; `None` without a face or without attention.
    """

    timestamp_s: float
    frames: int
    frames_with_a_face: int
    label: str | None
    probabilities: dict[str, float] | None
    frame_probabilities: dict[str, float] | None
    importance: float
    attention: np.ndarray | None


def _check_time(timestamp_s: float, before_s: float) -> None:
    if not before_s < timestamp_s < math.inf:
        raise InputError(f"Times of frames must rise. Received: {timestamp_s!r} after {before_s!r}")


class StreamingClassifier:
    """Classifies a clip frame by frame: `affect.reading.predict` gives the same for all frames so far.

    All frames have the same weight, however old they are. For endless streams, `half_life_s` reduces the weight of old
    frames: at the time t, a frame of the time t_f has the weight w_f = 2^(-(t - t_f) / half_life_s). For joint softmax
    z_c = log Σ_f w_f e^{o_cf}, computed as z_c ← logaddexp(z_c - log 2 · Δt / half_life_s, o_c); for the average
    z_c = Σ_f w_f o_cf / Σ_f w_f. The importance of a frame is its share with these weights. A maximum, statistics and
    an LSTM have no such weights.

    Args:
        networks: `frame`, and `classify` or `step` if the pooling needs them, as from
            `affect.models.frame_classifier.frame_networks`.
        config: `temporal_pooling` and `lstm_units` are used.
        classes: Class names in the order of the logits.
        half_life_s: Seconds after which the weight of a frame is halved; `None` keeps all weights.

    Raises:
        InputError: When the half-life is not positive, or the pooling cannot forget.

    Example:

    >>> trained = load_trained("runs/a")
    >>> stream = StreamingClassifier(trained.frame_functions, trained.experiment.model, trained.classes)
    >>> stream.add(0.04, face).probabilities
    {'angry': 0.1, 'happy': 0.7, 'sad': 0.2}
    """

    def __init__(
        self,
        networks: Mapping[str, NetworkFunction],
        config: FrameClassifier,
        classes: Sequence[str],
        *,
        half_life_s: float | None = None,
    ) -> None:
        pooling = RUNNING_POOLINGS[config.temporal_pooling]
        if half_life_s is not None and not 0 < half_life_s < math.inf:
            raise InputError(f"half_life_s must be a positive number of seconds. Received: {half_life_s!r}")
        if half_life_s is not None and not pooling.forgets:
            forgetting = sorted(name for name, row in RUNNING_POOLINGS.items() if row.forgets)
            raise InputError(
                f"A half-life needs a `temporal_pooling` that can forget: one of {forgetting}. "
                f"Received: temporal_pooling={config.temporal_pooling!r}. Leave the half-life out."
            )
        self.classes, self.half_life_s = tuple(classes), half_life_s
        self._frame, self._pooling = networks["frame"], pooling(networks, config)
        self._frames, self._frames_with_a_face = 0, 0
        self._time_s = -math.inf
        self._face_s: float | None = None
        self._probabilities: dict[str, float] | None = None

    def add(self, timestamp_s: float, face: np.ndarray | None) -> Reading:
        """Reads the next frame.

        Args:
            timestamp_s: Time of the frame in seconds, later than the one before.
            face: uint8 (S, S, 3), RGB; or `None`, which does not change the probabilities.

        Raises:
            InputError: When the time does not rise.
        """
        _check_time(timestamp_s, self._time_s)
        self._time_s = timestamp_s
        self._frames += 1
        frame_probabilities, importance, attention = None, 0.0, None
        if face is not None:
            frame = self._frame(faces=np.asarray(face)[None])
            attention = np.asarray(frame["attention"])[0] if "attention" in frame else None
            frame = {name: np.asarray(value, np.float64)[0] for name, value in frame.items() if name != "attention"}
            logits, frame_logits, importance = self._pooling.add(frame, self._compute_log_keep())
            self._face_s = timestamp_s
            self._frames_with_a_face += 1
            self._probabilities = self._name_probabilities(logits)
            frame_probabilities = self._name_probabilities(frame_logits)
        return Reading(
            timestamp_s=timestamp_s,
            frames=self._frames,
            frames_with_a_face=self._frames_with_a_face,
            label=max(self._probabilities, key=self._probabilities.__getitem__) if self._probabilities else None,
            probabilities=self._probabilities,
            frame_probabilities=frame_probabilities,
            importance=importance,
            attention=attention,
        )

    def _compute_log_keep(self) -> float:
        if self.half_life_s is None or self._face_s is None:
            return 0.0
        return -math.log(2) * (self._time_s - self._face_s) / self.half_life_s

    def _name_probabilities(self, logits: np.ndarray) -> dict[str, float]:
        return dict(zip(self.classes, map(float, softmax(logits)), strict=True))


@dataclass(frozen=True)
class WindowReading:
    """Valence and arousal of a window.

    Args:
        times_s: float64 (F,), times of the grid.
        frame_mask: bool (F,): points of the grid with a face.
        dimensions: float32 (F, 2), in the order of `affect.data.labels.DIMENSIONS`, 0 where masked; from a network that
            predicts ends (2,), of the last point with a face.
    """

    times_s: np.ndarray
    frame_mask: np.ndarray
    dimensions: np.ndarray


class StreamingRegressor:
    """Predicts valence and arousal of a recording window by window.

    The windows, and therefore the numbers, are the same as in `affect.data.windows.eval_windows`. There is no
    post-processing, because it needs the whole recording.

    A window is complete with the first frame, with or without a face, that is more than half a step after its last
    point. The first of its F points therefore waits for `latency_s`, (F - 1/2) steps of the grid, and for that frame.
    One window of faces is in memory.

    Args:
        network: Function of `faces` uint8 (1, F, S, S, 3) and `frame_mask` bool (1, F), both by name, that returns
            float (1, F, 2) or (1, 2).
        windows: Length and frame rate are used. Windows follow each other without overlap.
        face_size: Height and width of the faces in pixels.
    """

    def __init__(self, network: NetworkFunction, windows: Windows, *, face_size: int) -> None:
        self._network, self._windows, self._face_size = network, windows, face_size
        self._time_s, self._index = -math.inf, 0
        self._last: tuple[float, np.ndarray] | None = None
        self._open()

    @property
    def latency_s(self) -> float:
        """Longest time in seconds from a point of the grid to the end of its window."""
        return (self._windows.frames - 0.5) / self._windows.frame_rate_hz

    def add(self, timestamp_s: float, face: np.ndarray | None) -> list[WindowReading]:
        """Reads the next frame.

        Args:
            timestamp_s: Seconds since the start of the recording, later than the frame before.
            face: uint8 (S, S, 3), RGB; or `None`.

        Returns:
            The windows that this frame completes, mostly none.

        Raises:
            InputError: When the time does not rise.
        """
        _check_time(timestamp_s, self._time_s)
        self._time_s = round(timestamp_s * 1e6) / 1e6  # as in records
        complete = []
        while self._time_s > self._times_s[-1] + self._reach_s:
            complete.append(self._close())
        if face is not None:
            self._last = self._time_s, np.asarray(face)
            self._place(*self._last)
        return complete

    def flush(self) -> list[WindowReading]:
        """Ends the recording.

        Returns:
            The last window, masked after the last frame; empty if no frame has reached it.
        """
        return [self._close()] if self._time_s >= self._start_s else []

    @property
    def _reach_s(self) -> float:
        return 0.5 / self._windows.frame_rate_hz + 1e-6  # as in `affect.data.recordings.cut_window`

    def _open(self) -> None:
        frames, rate_hz = self._windows.frames, self._windows.frame_rate_hz
        self._start_s = self._index * (frames / rate_hz)
        self._times_s = self._start_s + np.arange(frames) / rate_hz
        self._distances_s = np.full(frames, np.inf)
        self._faces = np.zeros((frames, self._face_size, self._face_size, 3), np.uint8)
        if self._last:  # It may be nearest to the first point, if it is at most half a step before the window.
            self._place(*self._last)

    def _place(self, timestamp_s: float, face: np.ndarray) -> None:
        distances_s = np.abs(timestamp_s - self._times_s)
        is_nearest = (distances_s <= self._reach_s) & (distances_s < self._distances_s)
        self._faces[is_nearest] = face
        self._distances_s[is_nearest] = distances_s[is_nearest]

    def _close(self) -> WindowReading:
        """Runs the network on the window and opens the next one."""
        frame_mask = np.isfinite(self._distances_s)
        outputs = self._network(faces=self._faces[None], frame_mask=frame_mask[None])
        reading = WindowReading(self._times_s, frame_mask, np.asarray(outputs)[0])
        self._index += 1
        self._open()
        return reading
