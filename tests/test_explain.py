from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from skimage.io import imread

from affect.config import Data, Experiment, Faces, FrameClassifier, VideoClassifier
from affect.data.shards import Shards, eval_batches
from affect.drawing import attention_maps, draw_probabilities, joint_probabilities, split_heads
from affect.errors import InputError
from affect.models.frame_classifier import build_frame_classifier
from affect.models.video_networks import build_video_classifier
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import cut_clip
from affect.reading.explain import explain, explain_classes
from affect.reading.predict import predict
from affect.reading.run import Trained


@pytest.fixture(scope="module")
def trained():
    config = FrameClassifier(backbone="mini_xception", weights=None, face_size=32)
    return Trained(
        build_frame_classifier(config, ("happy", "sad")), Experiment("x", config, Data()), ("happy", "sad"), Faces()
    )


@pytest.fixture(scope="module")
def clip(trained, face_videos):
    return cut_clip(face_videos / "still.mp4", trained.faces, Mtcnn(trained.faces), key="still", label="happy")[0]


def test_attention_is_laid_out_row_by_row_and_scaled_to_its_peak():
    maps = attention_maps(np.array([[[0.1, 0.4, 0.2, 0.3]]]))
    np.testing.assert_allclose(maps, [[[[0.25, 1.0], [0.5, 0.75]]]])


def test_heads_together_are_the_one_that_looks_hardest():
    maps = split_heads(np.array([[[0.5, 0.25, 0.25, 0.0], [0.1, 0.1, 0.4, 0.4]]]))
    assert list(maps) == ["heads", "head 1", "head 2"]
    np.testing.assert_allclose(maps["heads"], [[[1.0, 0.5], [1.0, 1.0]]])
    np.testing.assert_allclose(maps["head 2"], [[[0.25, 0.25], [1.0, 1.0]]])
    assert list(split_heads(np.full((3, 1, 4), 0.25))) == ["attention"]


def test_attention_of_a_class_is_the_mean_over_its_clips_weighted_by_importance(trained, shards, tmp_path):
    means = explain_classes(trained, shards, tmp_path / "classes.png", split="test")
    assert imread(tmp_path / "classes.png").shape[0] > 200
    assert list(means) == ["happy", "sad"]
    expected = []
    batches = eval_batches(Shards(shards), Data(batch_clips=1), split="test", classes=("happy", "sad"), face_size=32)
    for batch in batches:
        outputs = trained.network.predict_on_batch({name: batch[name] for name in ("faces", "frame_mask")})
        if int(batch["label"][0]) == 0:
            expected.append(
                sum(p * a for p, a in zip(outputs["frame_importance"][0], outputs["attention"][0], strict=True))
            )
    assert len(expected) == 2
    np.testing.assert_allclose(means["happy"].reshape(2, -1), np.mean(expected, axis=0), atol=1e-5)
    np.testing.assert_allclose(means["sad"].sum(axis=(1, 2)), 1, atol=1e-5)


def test_spatiotemporal_attention_is_one_head(clip, shards, tmp_path):
    config = VideoClassifier(
        "conv3d", "softmax", face_size=16, blocks=2, filters=2, attention_filters=2, hidden_units=4
    )
    classes = ("happy", "sad")
    trained = Trained(build_video_classifier(config, classes), Experiment("video", config, Data()), classes, Faces())
    means = explain_classes(trained, shards, tmp_path / "classes.png", split="test")
    assert {name: maps.shape for name, maps in means.items()} == {"happy": (1, 4, 4), "sad": (1, 4, 4)}
    np.testing.assert_allclose(means["sad"].mean(), 1, atol=1e-5)
    assert explain(trained, clip, tmp_path / "figure.png") == predict(trained, clip)
    inches = 1.7 * (1 + 1 + 0.9 + 0.8) + 0.9  # frames, attention, probabilities and importance
    assert imread(tmp_path / "figure.png").shape[0] == pytest.approx(110 * inches, abs=2)


def test_classes_of_a_model_without_attention(shards, tmp_path):
    config = FrameClassifier(backbone="mini_xception", weights="fer2013", spatial_pooling=None)
    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    trained = Trained(build_frame_classifier(config, classes), Experiment("fer", config, Data()), classes, Faces())
    with pytest.raises(InputError, match="fer has no spatial attention to average"):
        explain_classes(trained, shards, tmp_path / "classes.png", split="test")


@pytest.mark.parametrize("frames", [1, 4, 100])
def test_figure_is_written_whole(trained, clip, tmp_path, frames):
    out = tmp_path / "new" / "figure.png"
    result = explain(trained, clip, out, frames=frames, by_importance=frames == 4)
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


def test_the_papers_style_draws_the_joint_on_one_scale_and_one_row_of_attention(trained, clip, tmp_path):
    heights = {}
    for style in ("ours", "paper"):
        result = explain(trained, clip, tmp_path / "figure.png", frames=4, style=style)
        assert result == predict(trained, clip)
        heights[style] = imread(tmp_path / "figure.png").shape[0]
    assert heights["paper"] < heights["ours"]  # no rows of single heads
    joint = [joint_probabilities(frame) for frame in result["frames"] if frame["probabilities"]]
    assert sum(sum(frame.values()) for frame in joint) == pytest.approx(1)
    for name, probability in result["probabilities"].items():
        assert sum(frame[name] for frame in joint) == pytest.approx(probability, abs=1e-6)
    with pytest.raises(InputError, match=r"one of \['ours', 'paper'\]\. Received: 'theirs'"):
        explain(trained, clip, tmp_path / "figure.png", style="theirs")


def test_bars_share_a_scale_and_have_one_in_red():
    axes = Figure().subplots()
    draw_probabilities(axes, {"a": 0.01, "b": 0.03}, "b", with_names=True, scale=0.05)
    assert axes.get_xlim() == (0, 0.05)
    assert [bar.get_width() for bar in axes.patches] == [0.01, 0.03]
    assert axes.patches[0].get_facecolor() != axes.patches[1].get_facecolor()


def test_a_model_without_attention_has_no_such_row(clip, tmp_path):
    config = FrameClassifier(backbone="mini_xception", weights="fer2013", spatial_pooling=None)
    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    with_attention = FrameClassifier(backbone="mini_xception", weights="fer2013")
    heights = []
    for model in (config, with_attention):
        trained = Trained(build_frame_classifier(model, classes), Experiment("x", model, Data()), classes, Faces())
        explain(trained, replace(clip, label=""), tmp_path / "figure.png", frames=4)
        heights.append(imread(tmp_path / "figure.png").shape[0])
    assert heights[0] < heights[1]
