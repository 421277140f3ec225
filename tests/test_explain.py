import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from skimage.io import imread

from affect.config import Data, Experiment, Faces, FrameClassifier, VideoClassifier
from affect.data.batches import eval_batches
from affect.data.shards import Shards
from affect.drawing import (
    DPI,
    attention_maps,
    begin_figure,
    draw_classes,
    draw_importance,
    draw_probabilities,
    joint_probabilities,
    split_heads,
    style_of,
)
from affect.errors import InputError
from affect.models.frame_classifier import build_frame_classifier
from affect.models.video_networks import build_video_classifier
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import cut_clip
from affect.reading.explain import explain, explain_classes
from affect.reading.predict import predict
from affect.reading.run import Trained
from affect.tasks.figures import choose_peaks
from tests.commands import affect, refused


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
    height = begin_figure(2, [1.0, 0.7], 8).figure.get_figheight()  # frames, attention; probabilities, importance
    assert imread(tmp_path / "figure.png").shape[0] == pytest.approx(DPI * height, abs=2)


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


def texts_of(svg):
    """Returns the texts of an SVG file, in order."""
    return ["".join(node.itertext()) for node in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_says_what_it_shows(trained, clip, tmp_path):
    out = tmp_path / "figure.svg"
    result = explain(trained, replace(clip, key="$a_b$/ü.mp4"), out, frames=3)
    texts = texts_of(out)
    label = result["label"]
    assert f"$a_b$/ü.mp4: {label}, p = {result['probabilities'][label]:.2f} (labelled happy)" in texts
    for frame in (result["frames"][index] for index in (0, 4, 7)):
        likeliest = max(frame["probabilities"], key=frame["probabilities"].get)
        assert {f"{frame['timestamp_s']:.2f} s", f"{likeliest} {frame['probabilities'][likeliest]:.2f}"} <= {*texts}
    assert {"happy", "sad", "attention", "time in s", "p(class | frame)", "importance,", "share of peak"} <= {*texts}


def test_each_head_has_a_row_if_asked_for(trained, clip, tmp_path):
    explain(trained, clip, tmp_path / "one.svg", frames=3)
    explain(trained, clip, tmp_path / "each.svg", frames=3, each_head=True)
    named = [[text for text in texts_of(tmp_path / name) if "head" in text] for name in ("one.svg", "each.svg")]
    assert named == [[], ["heads", "head 1", "head 2"]]


def test_classes_have_colours_and_styles_of_their_own():
    looks = [style_of(place) for place in range(49)]
    assert len({look["color"] for look in looks[:7]}) == len({str(look["linestyle"]) for look in looks[:7]}) == 7
    assert len({str(look) for look in looks}) == 49


def test_frames_without_a_face_are_gaps_and_grey():
    seen = {"happy": 0.75, "sad": 0.25}
    frames = [{"timestamp_s": index / 10, "probabilities": seen} for index in range(6)]
    for index in (1, 3, 4):
        frames[index]["probabilities"] = None
    axes = Figure().subplots()
    draw_classes(axes, frames, ("happy", "sad"), "happy")
    lines = {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}
    np.testing.assert_array_equal(lines["sad"].get_ydata(), [0.25, np.nan, 0.25, np.nan, np.nan, 0.25])
    assert lines["happy"].get_linewidth() > lines["sad"].get_linewidth()
    points = [line for line in axes.get_lines() if line.get_marker() == "."]  # a frame between two gaps has no line
    assert [list(np.round(line.get_xdata(), 1)) for line in points] == [[0.0, 0.2, 0.5]] * 2
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert spans == [pytest.approx((0.0, 0.2)), pytest.approx((0.2, 0.5))]
    assert axes.get_legend_handles_labels()[1] == ["happy", "sad", "no face"]


def test_importance_is_drawn_as_a_share_of_the_peak():
    frames = [{"timestamp_s": index, "importance": share} for index, share in enumerate([0.5, None, 0.25, 0.25])]
    axes = Figure().subplots()
    draw_importance(axes, frames, np.array([2]))
    curve, *_, marked = axes.get_lines()
    np.testing.assert_array_equal(curve.get_ydata(), [1, np.nan, 0.5, 0.5])
    assert (list(marked.get_xdata()), list(marked.get_ydata())) == ([2], [0.5])
    assert axes.get_ylabel() == "importance,\nshare of peak"


def test_the_most_important_frames_are_apart():
    times_s = np.arange(10) / 10
    importance = np.array([0.1, 0.2, 0.9, 0.8, 0.7, 0.1, 0.1, 0.5, 0.6, 0.1])
    assert choose_peaks(times_s, importance, 3, 0.0).tolist() == [2, 3, 4]
    assert choose_peaks(times_s, importance, 3, 0.2).tolist() == [2, 4, 8]
    assert choose_peaks(times_s, importance, 8, 0.3).tolist() == [2, 5, 8]
    assert choose_peaks(times_s, np.ones(10), 2, 0.3).tolist() == [0, 3]
    for most in range(1, 12):  # with the default there is room for all
        apart_s = times_s[-1] / (2 * most)
        assert len(choose_peaks(times_s, importance, most, apart_s)) == min(most, 10)


def test_fewer_frames_are_said(exported, face_videos, tmp_path):
    reading = exported("joint_softmax")[1].read(face_videos / "moving.mp4")  # 8 frames in 0.7 s
    out = tmp_path / "figure.png"
    assert reading.save_figure(out, by_importance=True) == []
    (remark,) = reading.save_figure(out, by_importance=True, apart_s=0.3)
    assert remark.startswith(f"{out} shows ") and "frames and not 8, because they are at least 0.3 s apart" in remark
    path, video = exported("joint_softmax")[1].path, face_videos / "moving.mp4"
    code, _, lines = affect("explain", path, video, "--out", out, "--by-importance", "--apart", 0.3)
    assert code == 0 and lines == [f"affect: {remark}"]


@pytest.mark.parametrize("name", ["joint_softmax", "lstm", "average", "video_sta", "regression", "regression_sta"])
def test_exported_models_are_drawn_as_runs_are(exported, face_videos, tmp_path, name):
    trained, artefact = exported(name)
    pictures = []
    for reader in (trained, artefact):
        reading = reader.read(face_videos / "moving.mp4")
        assert reading.save_figure(tmp_path / "figure.png", frames=3) == []
        pictures.append(imread(tmp_path / "figure.png")[..., :3].astype(int))
    np.testing.assert_allclose(*pictures, atol=8)


def test_a_tflite_file_is_drawn_and_has_attention_if_it_gives_it(converted, face_videos, tmp_path):
    heights = []
    for part in ("clip", "frame"):
        reading = converted("joint_softmax", part=part)[1].read(face_videos / "moving.mp4")
        reading.save_figure(tmp_path / "figure.svg", frames=3)
        texts = texts_of(tmp_path / "figure.svg")
        assert {"p(class | frame)", "importance,"} <= {*texts}
        heights.append("attention" in texts)
    assert heights == [False, True]


def test_attention_of_classes_by_an_exported_model(exported, converted, shards, tmp_path):
    trained, artefact = exported("joint_softmax")
    expected, found = (
        explain_classes(model, shards, tmp_path / "classes.png", split="test") for model in (trained, artefact)
    )
    assert expected.keys() == found.keys() == {"happy", "sad"}
    for name, maps in expected.items():
        np.testing.assert_allclose(found[name], maps, atol=1e-5)
    with pytest.raises(InputError, match="joint_softmax has no spatial attention to average, or does not give it"):
        explain_classes(converted("joint_softmax")[1], shards, tmp_path / "classes.png", split="test")


def test_faces_are_drawn_in_the_pixels_in_which_they_were_cut(trained, clip, tmp_path, monkeypatch):
    """The model sees 32 pixels; the view of the stored face that it gets has many more."""
    drawn = []
    imshow = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axes, image, **named: drawn.append(image) or imshow(axes, image, **named)
    )
    explain(trained, clip, tmp_path / "figure.png", frames=2)
    side = round(trained.faces.face_size * trained.experiment.data.crop_ratio)
    assert {image.shape[:2] for image in drawn} == {(side, side)} and len(drawn) == 4
    image = imread(tmp_path / "figure.png")
    explain(trained, clip, tmp_path / "column.png", frames=8, width_cm=8.5)
    column = imread(tmp_path / "column.png")
    assert image.shape[1] >= 4 * side  # two columns on a page of four
    assert column.shape[1] == pytest.approx(8.5 / 2.54 * 600, abs=2)  # as many pixels as a journal asks for


def test_a_figure_of_a_papers_column_holds_its_fonts(trained, clip, tmp_path):
    for name in ("figure.pdf", "figure.svg", "figure.png"):
        explain(trained, clip, tmp_path / name, width_cm=8.5)
    pdf = (tmp_path / "figure.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    width, height = map(float, re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf).groups())
    assert width == pytest.approx(8.5 / 2.54 * 72, abs=0.5) and height < 1.5 * width
    texts = texts_of(tmp_path / "figure.svg")
    assert {"importance,", "share of peak", "0.00 s"} <= {*texts}
    sizes = re.findall(r"font-size: ([\d.]+)px", (tmp_path / "figure.svg").read_text())
    assert min(map(float, sizes)) >= 5


def test_mistakes_of_a_figure_are_one_line(exported, face_videos, tmp_path):
    path, video = exported("average")[1].path, face_videos / "moving.mp4"
    for options, text in (
        (["--apart", 1], "--apart has an effect only on the most important frames. Add --by-importance."),
        (["--apart", -1, "--by-importance"], "--apart must be seconds, 0 or more. Received: -1.0"),
        (["--width-cm", 2], "--width-cm must be from 5 to 60 cm. Received: 2.0"),
        (["--style", "paper", "--each-head"], "--style paper draws the mean of the heads. Leave out --each-head."),
    ):
        assert refused("explain", path, video, "--out", tmp_path / "f.png", *options) == f"affect: {text}"
    assert "A figure must be a file .avif, .eps, " in refused("explain", path, video, "--out", tmp_path / "f.txt")
    assert list(tmp_path.iterdir()) == []


def test_the_papers_style_draws_the_joint_on_one_scale_and_one_row_of_attention(trained, clip, tmp_path):
    heights = {}
    for style in ("ours", "paper"):
        result = explain(trained, clip, tmp_path / "figure.png", frames=4, style=style)
        assert result == predict(trained, clip)
        heights[style] = imread(tmp_path / "figure.png").shape[0]
    assert heights["paper"] == pytest.approx(heights["ours"], rel=0.05)  # rows of attention, probabilities, importance
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
