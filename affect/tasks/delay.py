"""How long raters lag: the delay at which the faces of recordings say most about their ratings."""

from dataclasses import replace

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from affect.data.labels import DIMENSIONS
from affect.data.windows import cut_window, eval_windows
from affect.errors import InputError
from affect.metrics import Moments, ccc

VIEW_SIZE = 16  # of a face, in pixels
COMPONENTS = 64
RIDGE = 0.02  # of the frames that are fitted, in each of which a component has variance 1
FOLDS = 5
LONGEST_S = 6.0


def search_delay(recordings, settings, data, candidates_s=None):
    """Finds how long ratings lag behind faces, on the recordings given: those of training and no others.

    A linear probe is fitted for every candidate: small grey views of the aligned faces, less their mean over the
    recording, as principal components → ridge regression to valence and arousal that much later. Its score is the CCC
    over the recordings concatenated, held out by person, averaged over the dimensions. The probe knows single frames
    and straight lines, and its CCC is no forecast of a network's. It need not be: how well faces are read and how late
    ratings come are different questions, and a weak reader's score has its maximum at the same delay. Where it reads
    nothing, all scores are near 0 and the delay means nothing: look at them. It finds one delay for all raters,
    dimensions and moments.

    All candidates are judged on the same frames: those with a face and a rating at each of them.

    Args:
        recordings: List of `affect.data.windows.Recording` of two persons or more.
        settings: `affect.config.Windows`; `delay_s` is not used, nor is `stride_s`.
        data: `affect.config.Data`; `crop_ratio` and `batch_clips` are used.
        candidates_s: Delays to try; `None` is every step of the ratings from 0 to 6 s.

    Returns:
        `(delay_s, scores)`: the best candidate, the smallest of equals; dict of all candidates → mean CCC.

    Raises:
        InputError: On recordings of one person alone, and where no frame is rated at every candidate.
    """
    if candidates_s is None:
        step_s = np.median(np.concatenate([np.diff(recording.rating_times_s) for recording in recordings]))
        candidates_s = np.arange(int(LONGEST_S / step_s + 1e-9) + 1) * step_s
    candidates_s = [round(float(candidate), 6) for candidate in candidates_s]  # ratings are stored in µs
    persons = [recording.subject or recording.name for recording in recordings]
    if len(set(persons)) < 2:
        raise InputError(
            "The delay of ratings is searched for on some persons and judged on others: expected recordings of two or "
            f"more. Received: {len(recordings)} of {len(set(persons))}. Set windows.delay_s yourself."
        )
    views, labels, groups = [], [], []
    seen = _views(recordings, replace(settings, delay_s=0.0), data)
    for recording, person in zip(recordings, persons, strict=True):
        whole = replace(settings, length_s=len(seen[recording.name]) / settings.frame_rate_hz)
        windows = [cut_window(recording, replace(whole, delay_s=delay_s), 0.0) for delay_s in candidates_s]
        usable = windows[0].frame_mask & np.all([window.is_rated for window in windows], axis=0)
        if usable.any():
            view = seen[recording.name][usable]
            views.append(view - view.mean(axis=0))
            labels.append(np.stack([window.labels[usable] for window in windows], 1))  # (n, candidates, dimensions)
            groups += [person] * len(view)
    if len(set(groups)) < 2:
        raise InputError(
            f"Recordings of {len(set(groups))} persons have frames with a face and a rating at each delay from "
            f"{min(candidates_s)} to {max(candidates_s)} s; expected two or more. Try shorter delays, or set "
            "windows.delay_s yourself."
        )
    views, labels = np.concatenate(views), np.concatenate(labels)
    predictions = _held_out(views, labels.reshape(len(labels), -1), groups).reshape(labels.shape)
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


def _views(recordings, settings, data):
    """Returns name → grey views float32 (T, VIEW_SIZE²) of a recording's grid, 0 where there is no face."""
    seen = {}
    for batch in eval_windows(recordings, settings, data, face_size=VIEW_SIZE).as_numpy_iterator():
        grey = batch["faces"].mean(axis=-1, dtype=np.float32)
        for name, window in zip(batch["recording"], grey.reshape(*grey.shape[:2], -1), strict=True):
            seen.setdefault(name.decode(), []).append(window)
    return {name: np.concatenate(windows) for name, windows in seen.items()}


def _held_out(views, labels, groups):
    """Returns predictions of each person from the others: one fit a fold, for labels of all candidates at once."""
    predictions = np.empty(labels.shape)
    for fitted, held_out in GroupKFold(min(FOLDS, len(set(groups)))).split(views, groups=groups):
        components = min(COMPONENTS, len(fitted), views.shape[1])
        reader = PCA(components, svd_solver="covariance_eigh", whiten=True)
        probe = make_pipeline(StandardScaler(), reader, Ridge(RIDGE * len(fitted)))
        predictions[held_out] = probe.fit(views[fitted], labels[fitted]).predict(views[held_out])
    return predictions
