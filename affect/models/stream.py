"""Faces one by one → what a clip shows so far, in constant memory; and valence and arousal window by window."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from affect.errors import InputError

# A running pooling takes the frames of one clip as they come and equals its layer on all of them. It is built from the
# networks and the `affect.config.FrameClassifier` of a `StreamingClassifier` and has
#   add(frame, log_keep) -> (clip logits, frame logits, importance), float64 (E,), (E,) and a number,
#   shares(frame_logits) -> importance (F,) of all F frames so far, of logits (F, E), where nothing was forgotten,
# where `frame` is what the network `frame` says of one face, float64 without the batch, and e^log_keep is the share of
# their weight that the frames before keep. Sums are float64: next to a million frames, another is lost in float32.


class RunningJointSoftmax:
    """`JointSoftmaxPooling`: z_c ← log(keep · e^{z_c} + e^{o_c}) and p(f | S) = Σ_c e^{o_cf} / Σ_c e^{z_c}."""

    forgets = True

    def __init__(self, networks, config):
        self.logits = -math.inf

    def add(self, frame, log_keep):
        scores = frame["frame_logits"]
        self.logits = np.logaddexp(self.logits + log_keep, scores)
        return self.logits, scores, math.exp(np.logaddexp.reduce(scores) - np.logaddexp.reduce(self.logits))

    def shares(self, frame_logits):
        return np.exp(np.logaddexp.reduce(frame_logits, axis=1) - np.logaddexp.reduce(self.logits))


class RunningAverage:
    """`AverageScorePooling`: w ← keep · w + 1, z ← z + (o - z) / w and p(f | S) = 1 / w."""

    forgets = True

    def __init__(self, networks, config):
        self.logits, self.weight = 0.0, 0.0

    def add(self, frame, log_keep):
        scores = frame["frame_logits"]
        self.weight = self.weight * math.exp(log_keep) + 1
        self.logits = self.logits + (scores - self.logits) / self.weight
        return self.logits, scores, 1 / self.weight

    def shares(self, frame_logits):
        return np.full(len(frame_logits), 1 / self.weight)


class RunningMax:
    """`MaxScorePooling`: z_c ← max(z_c, o_c); the frames that reach a class's maximum share its p(c | S)."""

    forgets = False

    def __init__(self, networks, config):
        self.logits, self.ties = -math.inf, 0

    def add(self, frame, log_keep):
        scores = frame["frame_logits"]
        self.ties = np.where(scores > self.logits, 1, self.ties + (scores == self.logits))
        self.logits = np.maximum(self.logits, scores)
        importance = np.sum(softmax(self.logits) * (scores == self.logits) / self.ties)
        return self.logits, scores, float(importance)

    def shares(self, frame_logits):
        return np.sum(softmax(self.logits) * (frame_logits == self.logits) / self.ties, axis=1)


class RunningStatistics:
    """`StatisticsPooling`: the mean and Σ (x - mean)² by Welford's updates, which do not cancel as Σ x² would."""

    forgets = False

    def __init__(self, networks, config):
        self.classify = networks["classify"]
        self.frames, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, frame, log_keep):
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

    def shares(self, frame_logits):
        return np.full(len(frame_logits), 1 / self.frames)


class RunningLSTM:
    """`LSTMPooling`, by its two states. What a frame says is what the clip shows by then."""

    forgets = False

    def __init__(self, networks, config):
        self.step = networks["step"]
        self.frames, self.hidden = 0, np.zeros((1, config.lstm_units), np.float32)
        self.cell = self.hidden

    def add(self, frame, log_keep):
        self.frames += 1
        features = frame["frame_features"][None].astype(np.float32)
        after = self.step(frame_features=features, hidden=self.hidden, cell=self.cell)
        self.hidden, self.cell = np.asarray(after["hidden"]), np.asarray(after["cell"])
        logits = np.asarray(after["logits"], np.float64)[0]
        return logits, logits, 1 / self.frames

    def shares(self, frame_logits):
        return np.full(len(frame_logits), 1 / self.frames)


# The names of `affect.layers.TEMPORAL_POOLINGS`.
RUNNING_POOLINGS = {
    "joint_softmax": RunningJointSoftmax,
    "average": RunningAverage,
    "max": RunningMax,
    "lstm": RunningLSTM,
    "statistics": RunningStatistics,
}


@dataclass(frozen=True)
class Reading:
    """What is known after a frame.

    Args:
        timestamp_s: Of the frame.
        frames: Frames so far.
        frames_with_a_face: Of them, those with a face.
        label: The likeliest class; `None` before any face.
        probabilities: Class → p(c | S), S being all frames so far; `None` before any face.
        frame_probabilities: Class → p(c | f, S) of this frame; `None` without a face.
        importance: p(f | S) of this frame among all so far; 0 without a face.
        attention: float (N, L), where the heads look in this face; `None` without a face or without attention.
    """

    timestamp_s: float
    frames: int
    frames_with_a_face: int
    label: str | None
    probabilities: dict[str, float] | None
    frame_probabilities: dict[str, float] | None
    importance: float
    attention: np.ndarray | None


class StreamingClassifier:
    """Reads a clip frame by frame: after each, what `affect.reading.predict` would say of all frames so far.

    A frame weighs as much as any other, however long ago it was. For endless streams `half_life_s` lets frames fade:
    a frame that came t_f seconds into the stream weighs w_f = 2^(-(t - t_f) / half_life_s) at the time t. For joint
    softmax z_c = log Σ_f w_f e^{o_cf}, kept as z_c ← logaddexp(z_c - log 2 · Δt / half_life_s, o_c); for the average
    z_c = Σ_f w_f o_cf / Σ_f w_f. The importance of a frame then is its share with these weights. A maximum, deviations
    and an LSTM have no such weights.

    Args:
        networks: Dict: name → function of named arrays that returns a dict of arrays, as
            `affect.models.frame_classifier.frame_networks`
            describes them: `frame`, and what else its pooling needs.
        config: `affect.config.FrameClassifier`: its `temporal_pooling` and `lstm_units` are used.
        classes: Class names in the order of the logits.
        half_life_s: Seconds after which a frame weighs half; `None` forgets nothing.

    Raises:
        InputError: On a half-life that is not positive, or with a pooling that does not forget.

    Example:

    >>> trained = load_trained("runs/a")
    >>> stream = StreamingClassifier(trained.frame_functions, trained.experiment.model, trained.classes)
    >>> stream.add(0.04, face).probabilities
    {'angry': 0.1, 'happy': 0.7, 'sad': 0.2}
    """

    def __init__(self, networks, config, classes, *, half_life_s=None):
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
        self._time_s, self._face_s, self._probabilities = -math.inf, None, None

    def add(self, timestamp_s, face):
        """Reads the next frame.

        Args:
            timestamp_s: Time of the frame in seconds, later than the one before.
            face: uint8 (S, S, 3), RGB; or `None`, which leaves the clip as it was.

        Returns:
            `Reading`.

        Raises:
            InputError: When the time does not rise.
        """
        if not self._time_s < timestamp_s < math.inf:
            raise InputError(f"Times of frames must rise. Received: {timestamp_s!r} after {self._time_s!r}")
        self._time_s = timestamp_s
        self._frames += 1
        frame_probabilities, importance, attention = None, 0.0, None
        if face is not None:
            frame = self._frame(faces=np.asarray(face)[None])
            attention = np.asarray(frame["attention"])[0] if "attention" in frame else None
            frame = {name: np.asarray(value, np.float64)[0] for name, value in frame.items() if name != "attention"}
            logits, frame_logits, importance = self._pooling.add(frame, self._log_keep())
            self._face_s = timestamp_s
            self._frames_with_a_face += 1
            self._probabilities, frame_probabilities = self._named(logits), self._named(frame_logits)
        return Reading(
            timestamp_s=timestamp_s,
            frames=self._frames,
            frames_with_a_face=self._frames_with_a_face,
            label=self._probabilities and max(self._probabilities, key=self._probabilities.get),
            probabilities=self._probabilities,
            frame_probabilities=frame_probabilities,
            importance=importance,
            attention=attention,
        )

    def _log_keep(self):
        if self.half_life_s is None or self._face_s is None:
            return 0.0
        return -math.log(2) * (self._time_s - self._face_s) / self.half_life_s

    def _named(self, logits):
        return dict(zip(self.classes, map(float, softmax(logits)), strict=True))


@dataclass(frozen=True)
class WindowReading:
    """Valence and arousal of a window.

    Args:
        times_s: float64 (F,), of the grid.
        frame_mask: bool (F,): points of the grid that have a face.
        dimensions: float32 (F, 2), in the order of `affect.data.labels.DIMENSIONS`, 0 where masked; (2,), of the last
            point with a face, from a network that predicts ends.
    """

    times_s: np.ndarray
    frame_mask: np.ndarray
    dimensions: np.ndarray


class StreamingRegressor:
    """Reads a recording window by window: the inputs, and so the numbers, of `affect.data.windows.eval_windows`.

    Post-processing, which needs the whole recording, is left out.

    A window is complete with the first frame, of a face or none, that is more than half a step later than its last
    point. So each of its F points waits for the last one: the first of them for `latency_s`, (F - 1/2) steps of the
    grid, and for that frame. One window of faces is held.

    Args:
        network: Function of `faces` uint8 (1, F, S, S, 3) and `frame_mask` bool (1, F), both by name, that returns
            float (1, F, 2) or (1, 2).
        windows: `affect.config.Windows`; windows follow each other without overlap, and `stride_s` is not used.
        face_size: Side of the faces in pixels.
    """

    def __init__(self, network, windows, *, face_size):
        self._network, self._windows, self._face_size = network, windows, face_size
        self._time_s, self._last, self._index = -math.inf, None, 0
        self._open()

    @property
    def latency_s(self):
        """Longest time from a point of the grid to the end of the wait for its window's faces, in seconds."""
        return (self._windows.frames - 0.5) / self._windows.frame_rate_hz

    def add(self, timestamp_s, face):
        """Reads the next frame.

        Args:
            timestamp_s: Seconds since the recording began, later than the frame before.
            face: uint8 (S, S, 3), RGB; `None` where there is none.

        Returns:
            List of `WindowReading`: the windows that are complete by now, mostly none.

        Raises:
            InputError: When the time does not rise.
        """
        if not self._time_s < timestamp_s < math.inf:
            raise InputError(f"Times of frames must rise. Received: {timestamp_s!r} after {self._time_s!r}")
        self._time_s = round(timestamp_s * 1e6) / 1e6  # as records hold it
        complete = []
        while self._time_s > self._times_s[-1] + self._reach_s:
            complete.append(self._close())
        if face is not None:
            self._last = self._time_s, np.asarray(face)
            self._place(*self._last)
        return complete

    def flush(self):
        """Ends the recording.

        Returns:
            List of `WindowReading`: the last window, masked beyond the last frame; empty where no frame has reached it.
        """
        return [self._close()] if self._time_s >= self._start_s else []

    @property
    def _reach_s(self):
        return 0.5 / self._windows.frame_rate_hz + 1e-6  # as in `affect.data.windows.cut_window`

    def _open(self):
        frames, rate_hz = self._windows.frames, self._windows.frame_rate_hz
        self._start_s = self._index * (frames / rate_hz)
        self._times_s = self._start_s + np.arange(frames) / rate_hz
        self._distances_s = np.full(frames, np.inf)
        self._faces = np.zeros((frames, self._face_size, self._face_size, 3), np.uint8)
        if self._last:  # half a step before the window it is the nearest to its first point, until another comes
            self._place(*self._last)

    def _place(self, timestamp_s, face):
        distances_s = np.abs(timestamp_s - self._times_s)
        is_nearest = (distances_s <= self._reach_s) & (distances_s < self._distances_s)
        self._faces[is_nearest] = face
        self._distances_s[is_nearest] = distances_s[is_nearest]

    def _close(self):
        """Runs the network on the window and opens the next one."""
        frame_mask = np.isfinite(self._distances_s)
        outputs = self._network(faces=self._faces[None], frame_mask=frame_mask[None])
        reading = WindowReading(self._times_s, frame_mask, np.asarray(outputs)[0])
        self._index += 1
        self._open()
        return reading
