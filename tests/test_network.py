"""What a network is given: pixels, and a mask of each frame. These tests hold on the TensorFlow and the JAX backend."""

import re

import keras
import numpy as np
import pytest

from affect.config import FrameClassifier, VideoClassifier, VideoRegressor
from affect.data.lgbp import FEATURES
from affect.models.frame_classifier import build_frame_classifier, detail_classifier, frame_networks
from affect.models.video_networks import build_video_classifier, build_video_regressor, detail_regressor

SMALL = {"face_size": 8, "blocks": 1, "filters": 2, "hidden_units": 3, "recurrent_units": 2}
NETWORKS = {
    "images": lambda: build_frame_classifier(
        FrameClassifier("mini_xception", None, face_size=32, hidden_units=3), ("happy", "sad")
    ),
    "video": lambda: build_video_classifier(VideoClassifier("lstm", **SMALL), ("happy", "sad")),
    "cnn": lambda: build_video_regressor(VideoRegressor(None, **SMALL)),
    "bilstm": lambda: build_video_regressor(VideoRegressor("bilstm", **SMALL, predicts="end")),
    "features": lambda: build_video_regressor(
        VideoRegressor("rnn", features="lgbp_top", recurrent_units=2, hidden_units=3)
    ),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def given(network, batch=2, frames=3):
    """Returns inputs of the network, of random numbers."""
    random, inputs = np.random.default_rng(0), {"frame_mask": np.ones((batch, frames), bool)}
    if "faces" in network.input:
        size = network.input["faces"].shape[2]
        inputs["faces"] = random.integers(0, 256, (batch, frames, size, size, 3), dtype=np.uint8)
    else:
        inputs["features"] = random.normal(size=(batch, frames, FEATURES)).astype("float32")
    return inputs


def all_of(network):
    """Returns the network, the one with what lies between, and the one that reads a file's."""
    return network, (detail_classifier if network.name != "affect_regression" else detail_regressor)(network)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 3), (2, 4)])
def test_a_mask_is_of_each_frame(network, shape):
    for model in all_of(network):
        inputs = given(network) | {"frame_mask": np.ones(shape, bool)}
        with pytest.raises(ValueError, match=re.escape(f"frame_mask of shape {shape}")):
            model(inputs)


def test_a_mask_is_of_each_frame_in_a_graph_of_any_size(network):
    """A graph that was traced for masks of several sizes knows none of them."""
    for frames in (3, 4, 5):
        network.predict_on_batch(given(network, frames=frames))
    for frames in (3, 7):
        with pytest.raises(ValueError, match=r"frame_mask of shape \(2, 1\)"):
            network.predict_on_batch(given(network, frames=frames) | {"frame_mask": np.ones((2, 1), bool)})


def test_faces_are_pixels_and_not_shares(network, tmp_path):
    if "faces" not in network.input:
        return
    network.save(tmp_path / "network.keras")
    for model in (*all_of(network), keras.saving.load_model(tmp_path / "network.keras")):
        inputs = given(network)
        expected = model.predict_on_batch(inputs)
        for faces in (inputs["faces"] / 255, (inputs["faces"] / 255).astype("float32"), inputs["faces"] * 1.0):
            with pytest.raises(ValueError, match=r"Expected pixels of 0 to 255, uint8; multiply those that are scaled"):
                model(inputs | {"faces": faces})
            with pytest.raises(ValueError, match=r"Expected pixels of 0 to 255, uint8; multiply those that are scaled"):
                model.predict_on_batch(inputs | {"faces": faces})
        found = model.predict_on_batch(inputs | {"faces": inputs["faces"].astype("int32")})
        for one, other in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_one_face_is_pixels_too():
    frame = frame_networks(NETWORKS["images"]())["frame"]
    faces = np.full((1, 32, 32, 3), 128, np.uint8)
    frame.predict_on_batch({"faces": faces})
    with pytest.raises(ValueError, match=r"Expected pixels of 0 to 255, uint8; multiply those that are scaled"):
        frame.predict_on_batch({"faces": faces / 255})
