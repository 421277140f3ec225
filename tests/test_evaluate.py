from dataclasses import replace

import numpy as np
import pytest

from affect.config import Data, Experiment, Faces, FrameClassifier
from affect.errors import InputError
from affect.models.frame_classifier import build_frame_classifier
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import cut_clip
from affect.reading.predict import predict
from affect.reading.run import Trained
from affect.training.evaluate import evaluate


@pytest.fixture(scope="module")
def trained():
    """A model whose classifier looks at nothing: it always says sad."""
    config = FrameClassifier(backbone="mini_xception", weights=None, face_size=32)
    model = build_frame_classifier(config, ("happy", "sad"))
    kernel, bias = model.get_layer("frame_logits").get_weights()
    model.get_layer("frame_logits").set_weights([kernel, bias + [0, 100]])
    experiment = Experiment("constant", config, Data(batch_clips=3, eval_frames=4), reported={"accuracy": 0.49})
    return Trained(model, experiment, ("happy", "sad"), Faces(face_size=64))


def test_no_clip_is_dropped(trained, shards):
    report = evaluate(trained, shards, split="test")
    # Two happy clips, two sad ones; one of the sad ones has no face.
    assert report["all"]["confusion"] == [[0, 2, 0], [0, 1, 1]]
    assert (report["all"]["clips"], report["all"]["accuracy"], report["all"]["uar"]) == (4, 0.25, 0.25)
    assert (report["with_a_face"]["clips"], report["with_a_face"]["uar"]) == (3, 0.5)
    assert report["with_a_face"]["accuracy"] == pytest.approx(1 / 3)
    assert report["reported"] == {"accuracy": 0.49}
    assert report["is_selection_split"] is False
    assert {clip["key"]: clip["predicted"] for clip in report["clips"]} == {
        "test/happy/0": "sad",
        "test/happy/1": "sad",
        "test/sad/0": "sad",
        "test/sad/1": None,
    }
    assert {clip["key"]: clip["label"] for clip in report["clips"]}["test/happy/1"] == "happy"


def test_a_split_that_selected_the_epoch_is_named(trained, shards):
    data = replace(trained.experiment.data, selection_split="test", selection_ratio=0.0)
    chosen = replace(trained, experiment=replace(trained.experiment, data=data))
    assert evaluate(chosen, shards, split="test")["is_selection_split"] is True


def test_a_video_and_its_shard_give_the_same_numbers(shards, labelled_videos):
    """The seam between disk and memory: predict on the file equals evaluate on the shards."""
    config = FrameClassifier(backbone="mini_xception", weights="fer2013", spatial_pooling=None)
    classes = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    experiment = Experiment("fer", config, Data(batch_clips=3, crop_ratio=0.9))
    trained = Trained(build_frame_classifier(config, classes), experiment, classes, Faces(face_size=64, min_face_px=40))
    clips = {clip["key"]: clip for clip in evaluate(trained, shards, split="test")["clips"]}
    video = labelled_videos / "test/happy/1.mp4"
    clip, _ = cut_clip(video, trained.faces, Mtcnn(trained.faces), key="x")
    result = predict(trained, clip)
    expected = clips["test/happy/1"]
    np.testing.assert_allclose(list(result["probabilities"].values()), expected["probabilities"], atol=1e-5)
    peak = max(result["frames"], key=lambda frame: frame["importance"])
    assert peak["timestamp_s"] == pytest.approx(expected["peak_s"], abs=1e-6)


def test_labels_that_the_model_does_not_know(trained, shards):
    other = replace(trained, classes=("happy", "angry"))
    with pytest.raises(InputError, match=r"clips labelled \['sad'\] in split 'test'; the model's classes are"):
        evaluate(other, shards, split="test")
