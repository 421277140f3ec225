from dataclasses import replace

import numpy as np
import pytest
from skimage.io import imread

from affect.config import Data, Experiment, Faces, Model
from affect.explain import attention_maps, explain
from affect.model import Trained, build_model
from affect.predict import predict
from pipelines.detectors.mtcnn import Mtcnn
from pipelines.faces import cut_clip


@pytest.fixture(scope="module")
def trained():
    config = Model(backbone="mini_xception", weights=None, face_size=32)
    return Trained(build_model(config, ("happy", "sad")), Experiment("x", config, Data()), ("happy", "sad"), Faces())


@pytest.fixture(scope="module")
def clip(trained, face_videos):
    return cut_clip(face_videos / "still.mp4", trained.faces, Mtcnn(trained.faces), key="still", label="happy")[0]


def test_attention_is_laid_out_row_by_row_and_scaled_to_its_peak():
    maps = attention_maps(np.array([[[0.1, 0.4, 0.2, 0.3]]]))
    np.testing.assert_allclose(maps, [[[[0.25, 1.0], [0.5, 0.75]]]])


@pytest.mark.parametrize("frames", [1, 4, 100])
def test_figure_is_written_whole(trained, clip, tmp_path, frames):
    out = tmp_path / "new" / "figure.png"
    result = explain(trained, clip, out, frames=frames)
    assert result == predict(trained, clip)
    image = imread(out)
    assert image.shape[0] > 300 and image.shape[1] > 300
    assert [path.name for path in out.parent.iterdir()] == ["figure.png"]


def test_the_chosen_class_is_red(trained, clip, tmp_path):
    """Colour enough for the bars of the chosen class in (c); the frames themselves are not that red."""
    explain(trained, clip, tmp_path / "figure.png", frames=4)
    image = imread(tmp_path / "figure.png")[..., :3].astype(int)
    red = np.abs(image - [0xC0, 0x39, 0x2B]).max(axis=-1) < 3
    assert red.sum() > 500


def test_a_model_without_attention_has_no_such_row(clip, tmp_path):
    config = Model(backbone="mini_xception", weights="fer2013", spatial_pooling=None)
    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    with_attention = Model(backbone="mini_xception", weights="fer2013")
    heights = []
    for model in (config, with_attention):
        trained = Trained(build_model(model, classes), Experiment("x", model, Data()), classes, Faces())
        explain(trained, replace(clip, label=""), tmp_path / "figure.png", frames=4)
        heights.append(imread(tmp_path / "figure.png").shape[0])
    assert heights[0] < heights[1]
