"""How long ratings lag behind faces: the delay at which the faces predict the ratings best."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.config import Data, Windows
from affect.data.labels import DIMENSIONS
from affect.data.recordings import Recording, cut_window
from affect.data.windows import eval_windows
from affect.errors import InputError
from affect.statistics import Moments, ccc

VIEW_SIZE = 16  # side of a face in pixels
COMPONENTS = 64
RIDGE = 0.02  # penalty for each fitted frame; a component has variance 1
FOLDS = 5
LONGEST_S = 6.0


def search_delay(
    recordings: Sequence[Recording], config: Windows, data: Data, candidates_s: Iterable[float] | None = None
) -> tuple[float, dict[float, float]]:
    """Finds how long ratings lag behind faces. Give it the training recordings and no others.

    A linear probe is fitted for every candidate. It reads small grey views of the aligned faces, less their mean over
    the recording, as principal components. Ridge regression maps these to valence and arousal, `delay_s` later. The
    score is the CCC over the recordings concatenated, held out by person, averaged over the dimensions. The probe sees
    single frames and is linear, so its CCC does not predict the CCC of a network. But the score of a weak model has its
    maximum at the same delay. If all scores are near 0, the probe reads nothing and the delay means nothing: look at
    the scores. The search finds one delay for all raters, dimensions and moments.

    All candidates are judged on the same frames: those with a face, and with a rating at every candidate.

    Args:
        recordings: Recordings of two persons or more.
        config: `delay_s` and `stride_s` are not used.
        data: `crop_ratio` and `batch_clips` are used.
        candidates_s: Delays to try; `None` is every step of the ratings from 0 to 6 s.

    Returns:
        `(delay_s, scores)`: the best candidate, the smallest of equals; candidate → mean CCC.

    Raises:
        InputError: If all recordings are of one person, or no frame is rated at every candidate.
    """
    if candidates_s is None:
        step_s = np.median(np.concatenate([np.diff(recording.rating_times_s) for recording in recordings]))
        candidates_s = np.arange(int(LONGEST_S / step_s + 1e-9) + 1) * step_s
    candidates_s = [round(float(candidate), 6) for candidate in candidates_s]  # records hold µs
    persons = [recording.subject or recording.name for recording in recordings]
    if len(set(persons)) < 2:
        raise InputError(
            "The delay of ratings is searched for on some persons and judged on others: expected recordings of two or "
            f"more. Received: {len(recordings)} of {len(set(persons))}. Set windows.delay_s yourself."
        )
    all_views, all_labels, groups = [], [], []
    seen = _read_views(recordings, replace(config, delay_s=0.0), data)
    for recording, person in zip(recordings, persons, strict=True):
        whole = replace(config, length_s=len(seen[recording.name]) / config.frame_rate_hz)
        windows = [cut_window(recording, replace(whole, delay_s=delay_s), 0.0) for delay_s in candidates_s]
        usable = windows[0].frame_mask & np.all([window.is_rated for window in windows], axis=0)
        if usable.any():
            view = seen[recording.name][usable]
            all_views.append(view - view.mean(axis=0))
            all_labels.append(np.stack([window.labels[usable] for window in windows], 1))  # (n, candidates, dimensions)
            groups += [person] * len(view)
    if len(set(groups)) < 2:
        raise InputError(
            f"Recordings of {len(set(groups))} persons have frames with a face and a rating at each delay from "
            f"{min(candidates_s)} to {max(candidates_s)} s; expected two or more. Try shorter delays, or set "
            "windows.delay_s yourself."
        )
    views, labels = np.concatenate(all_views), np.concatenate(all_labels)
    predictions = _predict_held_out(views, labels.reshape(len(labels), -1), groups).reshape(labels.shape)
    scores = {
        delay_s: float(
            np.mean(
                [
                    ccc(Moments.of_series(labels[:, place, dimension], predictions[:, place, dimension]))
                    for dimension in range(len(DIMENSIONS))
                ]
            )
        )
        for place, delay_s in enumerate(candidates_s)
    }
    return max(scores, key=lambda delay_s: (scores[delay_s], -delay_s)), scores


def _read_views(recordings, config, data):
    """Returns recording's name → grey views float32 (T, VIEW_SIZE²) on its grid, 0 without a face."""
    seen = {}
    for batch in eval_windows(recordings, config, data, face_size=VIEW_SIZE).as_numpy_iterator():
        grey = batch["faces"].mean(axis=-1, dtype=np.float32)
        for name, window in zip(batch["recording"], grey.reshape(*grey.shape[:2], -1), strict=True):
            seen.setdefault(name.decode(), []).append(window)
    return {name: np.concatenate(windows) for name, windows in seen.items()}


def _predict_held_out(views, labels, groups):
    """Predicts each person from others. Each fold is fitted once, for the labels of all candidates."""
    predictions = np.empty(labels.shape)
    for fitted, held_out in GroupKFold(min(FOLDS, len(set(groups)))).split(views, groups=groups):
        components = min(COMPONENTS, len(fitted), views.shape[1])
        reader = PCA(components, svd_solver="covariance_eigh", whiten=True)
        probe = make_pipeline(StandardScaler(), reader, Ridge(RIDGE * len(fitted)))
        predictions[held_out] = probe.fit(views[fitted], labels[fitted]).predict(views[held_out])
    return predictions
