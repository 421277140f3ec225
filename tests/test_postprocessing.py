"""Post-processing of predicted series: each step by hand, and what holds of any fit."""

import numpy as np
import pytest

from affect.config import from_json, to_json
from affect.errors import InputError
from affect.tasks.postprocessing import Postprocessing, fit

TIMES_S = np.arange(400) * 0.1


def series_of(labels, predictions, weights=None):
    weights = np.ones(len(labels)) if weights is None else weights
    return {"times_s": TIMES_S[: len(labels)], "labels": labels, "predictions": predictions, "weights": weights}


def ccc_of(x, y):
    return 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture(scope="module")
def curves():
    rng = np.random.default_rng(0)
    return {
        name: 0.3 * np.sin(2 * np.pi * (TIMES_S[:, None] * [0.05, 0.08, 0.13] + rng.random(3))).sum(1) for name in "ab"
    }


def test_the_defaults_change_nothing():
    values = np.random.default_rng(0).normal(size=400)
    np.testing.assert_array_equal(Postprocessing().apply(TIMES_S, values, np.ones(400)), values)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"median_s": 0.2}, [3, 1, 1, 2, 5, 3.5]),  # of three; at the ends of two
        ({"median_s": 0.35}, [3, 1, 1, 2, 5, 3.5]),  # reaches no further frame
        ({"median_s": 20.0}, [3.5] * 6),
        ({"scale": 2.0, "offset": 1.0}, [11, 3, 3, 15, 5, 11]),
        ({"shift_s": 0.1}, [5, 5, 1, 1, 7, 2]),
        ({"shift_s": -0.1}, [1, 1, 7, 2, 5, 5]),
        ({"shift_s": 0.05}, [5, 3, 1, 4, 4.5, 3.5]),
        ({"median_s": 0.2, "scale": -1.0, "shift_s": 0.1}, [-3, -3, -1, -1, -2, -5]),
    ],
)
def test_steps_by_hand(steps, expected):
    np.testing.assert_allclose(Postprocessing(**steps).apply(TIMES_S[:6], [5, 1, 1, 7, 2, 5], np.ones(6)), expected)


def test_masked_frames_are_not_read_and_stay():
    steps = Postprocessing(median_s=0.2, scale=2.0)
    found = steps.apply(TIMES_S[:5], [1, 3, 99, 5, np.nan], [1, 1, 0, 1, 0])
    np.testing.assert_allclose(found, [4, 4, 99, 10, np.nan])
    found = Postprocessing(shift_s=0.1).apply(TIMES_S[:5], [1, 3, 99, 5, 7], [1, 1, 0, 1, 1])
    np.testing.assert_allclose(found, [1, 1, 99, 4, 5])  # at 0.2 s half-way between 3 and 5
    np.testing.assert_array_equal(steps.apply(TIMES_S[:2], [1, 2], [0, 0]), [1, 2])


def test_a_planted_offset_scale_and_shift_are_found(curves):
    """Predictions y / 2 - 0.2, 0.8 s late: scale 2, offset 0.4, and 0.8 s earlier. Recordings differ in their mean."""
    predictions = {name: np.interp(TIMES_S - 0.8, TIMES_S, curve) / 2 - 0.2 for name, curve in curves.items()}
    steps, gains = fit({name: series_of(curves[name], predictions[name]) for name in curves})
    assert steps.shift_s == pytest.approx(-0.8)
    assert steps.scale == pytest.approx(2, rel=0.02)
    assert steps.offset == pytest.approx(0.4, abs=0.02)
    assert min(gains[name] for name in ("centring", "scaling", "shift")) > 0.01
    restored = [steps.apply(TIMES_S, predictions[name], np.ones(400)) for name in curves]
    before, after = (
        ccc_of(np.concatenate([*curves.values()]), np.concatenate(values))
        for values in ([*predictions.values()], restored)
    )
    assert after > 0.98
    assert sum(gains.values()) == pytest.approx(after - before)


def test_outliers_are_filtered(curves):
    spikes = {name: np.where(np.arange(400) % 5 == 0, 3.0, curve) for name, curve in curves.items()}
    steps, gains = fit({name: series_of(curves[name], spikes[name]) for name in curves})
    assert steps.median_s > 0 and gains["median"] > 0.3


def test_a_step_that_gains_nothing_is_left_out(curves):
    steps, gains = fit({name: series_of(curve, curve) for name, curve in curves.items()})
    assert steps == Postprocessing()
    assert gains == dict.fromkeys(("median", "centring", "scaling", "shift"), 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_no_fit_lowers_the_ccc_it_was_fitted_for(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.normal(size=(2, 100)) + rng.normal(size=(2, 1))
    weights = rng.integers(0, 2, 100)
    steps, gains = fit({"one": series_of(labels, predictions, weights)})
    assert min(gains.values()) >= 0
    found, valid = steps.apply(TIMES_S[:100], predictions, weights), weights > 0
    assert ccc_of(labels[valid], found[valid]) >= ccc_of(labels[valid], predictions[valid])
    np.testing.assert_array_equal(found[~valid], predictions[~valid])


def test_constant_predictions_stay_finite():
    steps, _ = fit({"one": series_of(np.arange(10.0), np.full(10, 0.5))})
    assert np.isfinite(steps.apply(TIMES_S[:10], np.full(10, 0.5), np.ones(10))).all()


def test_survives_json():
    steps = Postprocessing(median_s=0.8, scale=1.5, offset=-0.1, shift_s=0.2)
    assert from_json(Postprocessing, to_json(steps), "valence") == steps
    with pytest.raises(InputError, match="unknown fields"):
        from_json(Postprocessing, {"median": 1.0}, "valence")


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(InputError, match="Expected frames with a prediction and a label"):
        fit({"one": series_of(np.ones(4), np.ones(4), np.zeros(4))})
    with pytest.raises(InputError, match="prediction"):
        fit({"one": series_of(np.ones(4), np.array([1, np.nan, 1, 1]))})
    with pytest.raises(InputError, match="median_s ≥ 0"):
        Postprocessing(median_s=-1.0)
