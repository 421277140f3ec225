"""RMSE, CC and CCC: by hand, beside SciPy and NumPy, on series that break naive sums, however they are cut."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from scipy.stats import pearsonr

from affect.errors import InputError
from affect.metrics import SeriesMetric, regression_metrics
from affect.statistics import Moments, cc, ccc, rmse

RANDOM = np.random.default_rng(0)
WAVE = np.sin(np.arange(400) / 20)
NOISY = 0.6 * WAVE + 0.2 * RANDOM.normal(size=400) + 0.1
SERIES = {
    "noisy": (WAVE, NOISY),
    "inverted": (WAVE, -NOISY),
    "shifted": (WAVE, WAVE + 3),
    "offset of 1e8": (WAVE + 1e8, NOISY + 1e8),
    "offset of one alone": (WAVE + 1e8, NOISY),
    "first value far off": (np.r_[0.0, WAVE + 1e8], np.r_[1e8, NOISY + 1e8]),
    "tiny": (WAVE * 1e-100, NOISY * 1e-100),
    "constant prediction": (WAVE, np.full(400, 0.1)),
    "constant label": (np.full(400, 0.1), NOISY),
    "constants": (np.full(400, 0.1), np.full(400, 0.3)),
    "two frames": (np.array([0.0, 1.0]), np.array([0.5, 0.25])),
}


def reference(y, x):
    """The definitions in NumPy and SciPy; a correlation that is not defined is 0 by our rule."""
    correlation = 0.0 if np.ptp(y) == 0 or np.ptp(x) == 0 else pearsonr(y, x).statistic
    covariance = np.mean((y - y.mean()) * (x - x.mean()))
    return {
        "rmse": np.sqrt(np.mean((x - y) ** 2)),
        "cc": correlation,
        "ccc": 2 * covariance / (y.var() + x.var() + np.mean(x - y) ** 2),
    }


def numbers(moments):
    return {"rmse": rmse(moments), "cc": cc(moments), "ccc": ccc(moments)}


def check(moments, y, x):
    for name, expected in reference(y, x).items():
        assert numbers(moments)[name] == pytest.approx(expected, rel=1e-9, abs=1e-9 if abs(expected) > 1e-50 else 0)


def cut(y, x, places):
    """Moments of the parts between the places, added."""
    parts = zip(np.split(y, sorted(places)), np.split(x, sorted(places)), strict=True)
    return sum((Moments.of_series(*part) for part in parts), Moments())


def test_by_hand():
    # y = 0, 2 and x = 1, 5: means 1 and 3, variances 1 and 4, covariance 2, errors 1 and 3.
    moments = Moments.of_series([0, 2], [1, 5])
    assert rmse(moments) == pytest.approx(np.sqrt(5))
    assert cc(moments) == pytest.approx(1)
    assert ccc(moments) == pytest.approx(2 * 2 / (1 + 4 + 4))


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_equal_their_definitions_whatever_the_batch(name, size):
    y, x = SERIES[name]
    check(cut(y, x, range(size, len(y), size)), y, x)


@given(st.sampled_from(sorted(SERIES)), st.lists(st.integers(0, 400), max_size=20))
def test_equal_their_definitions_however_they_are_cut(name, places):
    y, x = SERIES[name]
    check(cut(y, x, places), y, x)


def test_workers_may_merge_in_any_order():
    y, x = SERIES["offset of 1e8"]
    parts = [Moments.of_series(y[k::5], x[k::5]) for k in range(5)]
    check((parts[3] + parts[0]) + (parts[4] + (parts[2] + parts[1])), y, x)


@pytest.mark.parametrize("name", ["noisy", "shifted", "constant prediction", "constant label", "constants"])
def test_plain_sums_add_up_to_the_same_moments(name):
    y, x = SERIES[name]
    sums = np.stack([Moments.of_series(*part).plain_sums() for part in ((y[:150], x[:150]), (y[150:], x[150:]))])
    check(Moments.of_sums(sums.sum(axis=0)), y, x)
    np.testing.assert_allclose(Moments.of_sums(sums).count, [150, 250])


def test_constants():
    equal = cut(np.full(9, 0.1), np.full(9, 0.1), [2, 3])
    assert numbers(equal) == {"rmse": 0, "cc": 0, "ccc": 1}
    apart = numbers(cut(np.full(9, 0.1), np.full(9, 0.3), [2, 3]))
    assert (apart["cc"], apart["ccc"]) == (0, 0)
    assert apart["rmse"] == pytest.approx(0.2)


def test_a_series_is_in_full_concord_with_itself():
    assert numbers(cut(NOISY + 1e8, NOISY + 1e8, [5, 300])) == pytest.approx({"rmse": 0, "cc": 1, "ccc": 1}, abs=1e-12)


def test_frames_that_are_not_valid_are_left_out_and_counted():
    valid = RANDOM.random(400) < 0.5
    labels, predictions = np.where(valid, WAVE, np.nan), np.where(valid, NOISY, 1e30)
    moments = Moments.of_series(labels, predictions, valid)
    assert (moments.count, moments.left_out) == (valid.sum(), (~valid).sum())
    check(moments, WAVE[valid], NOISY[valid])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["label", "prediction"])
def test_what_is_not_finite_is_refused(name, value):
    series = {"label": WAVE.copy(), "prediction": NOISY.copy()}
    series[name][7] = value
    text = f"A {name} is not a finite number: {value} in valid frame 7 of 400. Mark frames without one as not valid."
    with pytest.raises(InputError, match=text):
        Moments.of_series(*series.values())


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"must have one shape. Received: \(400,\), \(400, 1\) and \(400,\)"):
        Moments.of_series(WAVE, NOISY[:, None])


def test_all_recordings_and_their_mean_are_different_numbers():
    recordings = {"a": (WAVE, NOISY), "b": (WAVE[:100], 0 * WAVE[:100]), "c": (WAVE + 2, NOISY)}
    found = regression_metrics({name: Moments.of_series(*series) for name, series in recordings.items()})
    each = [reference(*series) for series in recordings.values()]
    whole = reference(*(np.concatenate(parts) for parts in zip(*recordings.values(), strict=True)))
    for name in ("rmse", "cc", "ccc"):
        assert found["mean"][name] == pytest.approx(np.mean([numbers[name] for numbers in each]), rel=1e-9)
        assert found["concatenated"][name] == pytest.approx(whole[name], rel=1e-9)
    assert found["concatenated"] != pytest.approx(found["mean"], rel=0.01)
    assert (found["recordings"], found["frames"], found["constant"]) == (3, 900, ["b"])
    assert json.loads(json.dumps(found)) == found


def test_a_recording_without_a_valid_frame_is_named():
    empty = Moments.of_series(WAVE, NOISY, np.zeros(400, bool))
    found = regression_metrics({"a": Moments.of_series(WAVE, NOISY), "b": empty})
    assert (found["recordings"], found["recordings_left_out"], found["frames_left_out"]) == (1, ["b"], 400)
    assert found["mean"] == found["concatenated"]
    for recordings in ({}, {"b": empty}):
        found = regression_metrics(recordings)
        assert found["mean"] == found["concatenated"] == {"rmse": None, "cc": None, "ccc": None}


TOLERANCE = 1e-4 if keras.backend.backend() == "jax" else 1e-9  # JAX has float32 alone


@pytest.mark.parametrize("name", ["noisy", "inverted", "shifted", "constant prediction", "constant label", "constants"])
@pytest.mark.parametrize("formula", ["rmse", "cc", "ccc"])
def test_the_metric_of_training_gives_the_same(formula, name):
    y, x = SERIES[name]
    metric = SeriesMetric(formula, output=1)
    for repeat in range(2):  # again after a reset
        for start in range(0, 400, 30):
            batch = [np.stack([WAVE, series], -1)[start : start + 30] for series in (y, x)]
            metric.update_state(*batch)
        assert float(metric.result()) == pytest.approx(reference(y, x)[formula], rel=TOLERANCE, abs=TOLERANCE), repeat
        metric.reset_state()
    assert float(metric.result()) == (1 if formula == "ccc" else 0)


@pytest.mark.parametrize("formula", ["rmse", "cc", "ccc"])
def test_the_metric_leaves_out_what_has_no_weight(formula):
    valid = RANDOM.random((4, 100)) < 0.5
    y, x = (np.where(valid, series.reshape(4, 100), np.nan)[..., None] for series in (WAVE, NOISY))
    metric = SeriesMetric(formula)
    metric.update_state(y, x, sample_weight=valid.astype("float32"))
    expected = reference(WAVE[valid.ravel()], NOISY[valid.ravel()])[formula]
    assert float(metric.result()) == pytest.approx(expected, rel=TOLERANCE)


def test_states_of_workers_add_up():
    whole, *parts = (SeriesMetric("ccc") for _ in range(3))
    whole.update_state(WAVE[:, None], NOISY[:, None])
    for part, rows in zip(parts, (slice(0, 150), slice(150, 400)), strict=True):
        part.update_state(WAVE[rows, None], NOISY[rows, None])
    total = sum(ops.convert_to_numpy(part.variables[0]) for part in parts)
    np.testing.assert_allclose(total, ops.convert_to_numpy(whole.variables[0]), rtol=1e-5)


def test_the_metric_runs_in_fit_and_comes_back_from_its_config():
    model = keras.Sequential([keras.Input((3, 2)), keras.layers.Dense(2, kernel_initializer="identity")])
    metrics = [SeriesMetric("rmse", name="valence_rmse"), SeriesMetric("ccc", output=1, name="arousal_ccc")]
    model.compile("sgd", "mse", weighted_metrics=metrics, jit_compile=False)
    x, y = RANDOM.normal(size=(2, 8, 3, 2))
    valid = RANDOM.random((8, 3)) < 0.7
    found = model.evaluate(x, y, sample_weight=valid.astype("float32"), batch_size=3, verbose=0, return_dict=True)
    assert found["valence_rmse"] == pytest.approx(reference(y[valid][:, 0], x[valid][:, 0])["rmse"], rel=1e-5)
    assert found["arousal_ccc"] == pytest.approx(reference(y[valid][:, 1], x[valid][:, 1])["ccc"], rel=1e-4, abs=1e-5)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metrics[1]))
    assert twin.get_config() == {"formula": "ccc", "output": 1, "name": "arousal_ccc"}
    with pytest.raises(ValueError, match=r"Unknown `formula`. Expected one of \['cc', 'ccc', 'rmse'\]. Received"):
        SeriesMetric("mse")
