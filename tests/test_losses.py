"""The loss of regression: by hand, beside NumPy, masked, and its gradient beside finite differences."""

import keras
import numpy as np
import pytest
from keras import ops

from affect.losses import ConcordanceLoss
from tests.contracts import gradient

RANDOM = np.random.default_rng(0)
LABELS, PREDICTIONS = RANDOM.normal(size=(2, 3, 5, 2)).astype("float32")
VALID = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0]], "bool")
WEIGHTS = [0.0, 0.3, 1.0]


def reference(labels, predictions, weight):
    """Returns the mean loss over both dimensions in float64; labels and predictions are (n, 2)."""
    losses = []
    for y, x in zip(np.float64(labels).T, np.float64(predictions).T, strict=True):
        covariance = np.mean((y - y.mean()) * (x - x.mean()))
        concordance = 2 * covariance / (y.var() + x.var() + (y.mean() - x.mean()) ** 2)
        losses.append((1 - weight) * np.mean((x - y) ** 2) + weight * (1 - concordance))
    return np.mean(losses)


def test_by_hand():
    # As in the metrics' test: mean square error 5 and CCC 4/9.
    labels, predictions = np.array([[0.0], [2.0]]), np.array([[1.0], [5.0]])
    assert float(ConcordanceLoss(0.0)(labels, predictions)) == pytest.approx(5)
    assert float(ConcordanceLoss()(labels, predictions)) == pytest.approx(5 / 9)
    assert float(ConcordanceLoss(0.5)(labels, predictions)) == pytest.approx((5 + 5 / 9) / 2)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_equals_numpy_and_leaves_out_what_has_no_weight(weight):
    loss = ConcordanceLoss(weight)
    expected = reference(LABELS.reshape(-1, 2), PREDICTIONS.reshape(-1, 2), weight)
    assert float(loss(LABELS, PREDICTIONS)) == pytest.approx(expected, rel=1e-5)
    labels = np.where(VALID[..., None], LABELS, np.nan)
    predictions = np.where(VALID[..., None], PREDICTIONS, 1e30)
    found = float(loss(labels, predictions, sample_weight=VALID.astype("float32")))
    assert found == pytest.approx(reference(LABELS[VALID], PREDICTIONS[VALID], weight), rel=1e-5)


@pytest.mark.parametrize("weight", WEIGHTS)
def test_gradient_equals_finite_differences(weight):
    labels = np.where(VALID[..., None], LABELS, np.nan)

    def loss(predictions):
        return ConcordanceLoss(weight)(labels, predictions, sample_weight=VALID.astype("float32"))

    found = gradient(loss, PREDICTIONS)
    assert (found[~VALID] == 0).all()
    for place in np.argwhere(VALID):
        for output in range(2):
            step = np.zeros(PREDICTIONS.shape)
            step[(*place, output)] = 1e-5
            above, below = (reference(LABELS[VALID], (PREDICTIONS + sign * step)[VALID], weight) for sign in (1, -1))
            assert found[(*place, output)] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize(
    ("labels", "predictions", "valid", "expected"),
    [
        (np.full((2, 2), 0.25), np.full((2, 2), 0.25), [1.0, 1.0], [0, 0]),  # constants that are equal concord
        (np.full((2, 2), 0.25), np.full((2, 2), 0.75), [1.0, 1.0], [0.25, 1]),
        (np.full((2, 2), 0.25), np.full((2, 2), 0.75), [1.0, 0.0], [0.25, 1]),
        (np.full((2, 2), 0.25), np.full((2, 2), 0.75), [0.0, 0.0], [0, 0]),
    ],
)
def test_series_that_do_not_vary_have_a_finite_loss_and_gradient(weight, labels, predictions, valid, expected):
    def loss(x):
        return ConcordanceLoss(weight)(labels, x, sample_weight=np.array(valid))

    assert float(loss(predictions)) == pytest.approx((1 - weight) * expected[0] + weight * expected[1], abs=1e-6)
    assert np.isfinite(gradient(loss, predictions)).all()


def test_it_trains_by_the_weights_of_frames_and_is_saved_with_its_model(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5, 4)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.05), ConcordanceLoss(0.8), jit_compile=keras.backend.backend() == "jax")
    x = RANDOM.normal(size=(16, 5, 4)).astype("float32")
    y = ops.convert_to_numpy(x)[..., :2] * 0.3 + 0.1
    valid = RANDOM.random((16, 5)) < 0.6
    y = np.where(valid[..., None], y, 50)
    for _ in range(100):
        model.train_on_batch(x, y, sample_weight=valid.astype("float32"))
    assert reference(y[valid], ops.convert_to_numpy(model(x))[valid], 1.0) < 0.05
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert loaded.loss.get_config() == {"weight": 0.8, "name": "concordance_loss"}


def test_a_weight_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"Invalid `weight`. Expected a number in \[0, 1\]. Received: weight=1.5"):
        ConcordanceLoss(1.5)
