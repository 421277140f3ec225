"""Valence and arousal from a data set's files to its table: trees shaped as RECOLA and AVEC'17, and what users run."""

import csv
import io
import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.stats import pearsonr
from skimage.io import imread
from sklearn.linear_model import Ridge

from affect.config import (
    Data,
    Experiment,
    Faces,
    Train,
    VideoRegressor,
    Windows,
    find_without_effect,
    load_rows,
    read_json,
)
from affect.data.labels import DIMENSIONS
from affect.data.recordings import Recording
from affect.data.shards import Shards
from affect.data.windows import read_recordings
from affect.drawing import DPI, begin_figure
from affect.errors import InputError
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import cut_clip
from affect.pipelines.prepare import prepare
from affect.reading.explain import explain, explain_classes
from affect.reading.predict import predict
from affect.reading.run import load_trained
from affect.serving.export import export
from affect.statistics import compare
from affect.tasks import TASKS
from affect.tasks.delay import search_delay
from affect.tasks.postprocessing import Postprocessing
from affect.tasks.series import Series, at_ratings
from affect.tasks.table_rows import compute_concatenated_ccc
from affect.training.evaluate import evaluate
from affect.training.table import format_cells, markdown, table
from affect.training.train import read_log, train
from tests.commands import affect
from tests.pictures import portrait, write_video
from tests.stopped import stop_before_the_second_epoch
from tests.watched import fields_of, watched

FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"
# Videos of 5 s at 4 frames/s; the grid has 2 points a second, so that a face lies on each but for those left out.
FRAMES, RATE_HZ = 20, 4
BASE = Experiment(
    name="sta",
    model=VideoRegressor("conv3d", "softmax", face_size=16, blocks=2, filters=2, attention_filters=2, hidden_units=4),
    data=Data(batch_clips=4, selection_ratio=0.5),
    train=Train(
        epochs=2,
        head_learning_rate=0.05,
        restart_epochs=1,
        concordance=0.5,
        selection_metric="ccc",
    ),
    reported={"rmse": 0.102, "cc": 0.572, "ccc": 0.546},
    windows=Windows(length_s=4.0, stride_s=2.0, frame_rate_hz=2.0, delay_s=0.6, protocol="faces"),
)
CNN = replace(
    BASE,
    name="cnn",
    model=replace(BASE.model, temporal=None, attention=None, attention_filters=64),
    reported={},
    windows=replace(BASE.windows, postprocess=False),
)
LGBP = replace(
    BASE,
    name="lgbp",
    model=VideoRegressor(None, features="lgbp_top", face_size=16, hidden_units=4),
    data=Data(
        batch_clips=2, random_crop=False, flip=False, rotation_deg=0.0, selection_ratio=0.0, selection_split="val"
    ),
    train=replace(BASE.train, optimizer="adam"),
    reported={},
    windows=replace(BASE.windows, delay_s=None),
)
RNN = replace(BASE, name="rnn", model=replace(CNN.model, temporal="rnn", recurrent_units=4))


def valence(time_s, number):
    return np.sin(time_s + number) / 2


def arousal(time_s, number):
    return 0.3 - time_s / 1000 + number / 10


def videos_and_boxes(folder, names, without_a_face):
    """Writes a video of a face for each name, and the boxes of the faces by the videos' names and by their paths."""
    rows = ["key,timestamp_s,x0,y0,x1,y1"]
    for index, name in enumerate(names):
        path = folder / "video" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        gains = 0.7 + 0.3 * np.sin(np.arange(FRAMES) / RATE_HZ + index)
        write_video(path, [portrait(size=64, gain=gain) for gain in gains], frame_rate_hz=RATE_HZ)
        times_s = [frame / RATE_HZ for frame in range(FRAMES) if frame / RATE_HZ not in without_a_face.get(name, ())]
        rows += [f"{key},{time_s},16,16,48,48" for key in (name, path) for time_s in times_s]
    boxes = folder.parent / f"{folder.name}.csv"
    boxes.write_text("\n".join(rows) + "\n")
    return Faces(detector="boxes", boxes=str(boxes), face_size=32)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def recola(tmp_path_factory):
    """Shards of a RECOLA: two recordings trained on, two of dev, of which dev_2 has its raters alone and dev_1 no
    face from 1 to 1.75 s; test_1 is not rated. Rated from 0 to 300 s, 7,501 rows."""
    source, out = tmp_path_factory.mktemp("recola") / "RECOLA", tmp_path_factory.mktemp("shards") / "recola"
    times_s = np.arange(7501) * 0.04
    for number, name in enumerate(("train_1", "train_2", "dev_1", "dev_2")):
        for dimension, rated in (("valence", valence), ("arousal", arousal)):
            values = rated(times_s, number)
            raters = values[:, None] + np.linspace(-0.05, 0.05, 6)
            lines = [f"{t:g};" + ";".join(f"{v:.6f}" for v in row) for t, row in zip(times_s, raters, strict=True)]
            header = "time;FM1;FM2;FM3;FF1;FF2;FF3\n"
            write(source / f"ratings_individual/{dimension}/{name}.csv", header + "\n".join(lines) + "\n")
            if name != "dev_2":
                text = "@relation GOLDSTANDARD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n"
                text += "@attribute GoldStandard numeric\n\n@data\n\n"
                text += "".join(f"{name},{t:g},{v:.6f}\n" for t, v in zip(times_s, values, strict=True))
                write(source / f"ratings_gold_standard/{dimension}/{name}.arff", text)
    names = ("train_1", "train_2", "dev_1", "dev_2", "test_1")
    faces = videos_and_boxes(source, names, {"dev_1": (1.0, 1.25, 1.5, 1.75)})
    prepare(source, dataset="recola", out=out, faces=faces, workers=1)
    return source, out


@pytest.fixture(scope="module")
def sewa(tmp_path_factory):
    """Shards of an AVEC'17: two recordings trained on and six of devel, rated each 100 ms for 6 s."""
    source, out = tmp_path_factory.mktemp("sewa") / "SEWA", tmp_path_factory.mktemp("shards") / "sewa"
    names = [f"Train_0{number}" for number in (1, 2)] + [f"Devel_0{number}" for number in range(1, 7)]
    for number, name in enumerate(names):
        rows = [(t / 10, arousal(t / 10, number), valence(t / 10, number), 0) for t in range(61)]
        text = "".join(f"'{name}';" + ";".join(f"{value:g}" for value in row) + "\n" for row in rows)
        write(source / f"labels/{name}.csv", text)
    prepare(source, dataset="sewa", out=out, faces=videos_and_boxes(source, names, {}), workers=1)
    return source, out


def rows(folder, *experiments):
    """Writes the file of a table into a folder, and returns its path."""
    path = folder / "rows.py"
    by_name = ", ".join(f"{row.name!r}: {row!r}" for row in experiments)
    path.write_text(f"from affect.config import *\nROWS = {{{by_name}}}\n")
    assert list(load_rows(path).values()) == list(experiments)
    return path


@pytest.fixture(scope="module")
def runs(recola, tmp_path_factory):
    """`(workdir, result)` of the table on RECOLA; its first row learns by Adam, at a delay that is searched."""
    workdir = tmp_path_factory.mktemp("table")
    folder = rows(workdir, LGBP, BASE)
    return workdir, table(folder, data=recola[1], workdir=workdir, seeds=1, split="val")


@pytest.fixture(scope="module")
def trained(runs):
    return load_trained(runs[0] / "sta" / "seed-0")


@pytest.fixture(scope="module")
def report(runs):
    return read_json(runs[0] / "sta" / "seed-0" / "evaluation-val.json")


def by_definition(y, x):
    covariance = np.mean((y - y.mean()) * (x - x.mean()))
    return {
        "rmse": np.sqrt(np.mean((x - y) ** 2)),
        "cc": pearsonr(y, x).statistic,
        "ccc": 2 * covariance / (y.var() + x.var() + (y.mean() - x.mean()) ** 2),
    }


def test_recola_from_its_files_to_the_table(runs, report):
    workdir, result = runs
    assert [row["row"] for row in result["rows"]] == ["lgbp", "sta"]
    lgbp, sta = result["rows"]
    assert set(sta) == set(TASKS["regression"].layout.columns)
    assert [sta[f"reported_{name}"] for name in ("rmse", "cc", "ccc")] == [0.102, 0.572, 0.546]
    assert (lgbp["reported_ccc"], sta["recordings"], sta["frames"], sta["ccc_sd"]) == (None, 2, 21, None)
    for prefix, dimension in (("", "valence"), ("arousal_", "arousal")):
        found = report["metrics"][dimension]
        assert {name: sta[f"{prefix}{name}"] for name in ("rmse", "cc", "ccc")} == found["concatenated"]
        assert sta[f"{prefix}ccc_of_recordings"] == found["mean"]["ccc"]
    # Two recordings are too few to compare rows by.
    assert (lgbp["p_value"], sta["p_value"]) == (None, None)
    assert sta["interval"][0] <= sta["interval"][1]
    assert lgbp["relative_cost"] == 1.0 and lgbp["parameters"] != sta["parameters"]

    assert read_json(workdir / "table.json") == result
    with open(workdir / "table.csv", newline="", encoding="utf-8") as file:
        assert [row["row"] for row in csv.DictReader(file)] == ["lgbp", "sta"]
    text = (workdir / "table.md").read_text(encoding="utf-8")
    assert text == markdown(result) and "| sta | .102 | " in text and "| lgbp | – | " in text


@pytest.mark.large
def test_avec17_from_its_files_to_the_table(sewa, tmp_path):
    folder = rows(tmp_path, CNN, RNN)
    options = ["--data", sewa[1], "--workdir", tmp_path, "--seeds", 1, "--split", "val"]
    options += ["--set", "train.epochs=1", "--set", "data.selection_ratio=0", "--set", "train.selection_metric=loss"]
    code, out, _ = affect("table", folder, *options)
    assert code == 0 and "table.md, table.csv, table.json" in out
    result = read_json(tmp_path / "table.json")
    cnn, rnn = result["rows"]
    assert (rnn["recordings"], rnn["frames"], rnn["reported_cc"], cnn["p_value"]) == (6, 66, 0.572, None)
    assert 2 / 2**6 <= rnn["p_value"] <= 1
    printed = format_cells(TASKS["regression"].layout, rnn)
    assert all(printed[key] in out for key in ("rmse", "cc", "ccc", "interval", "p_value")), out
    # No recording is set aside; and the other row has none.
    assert read_json(tmp_path / "rnn" / "seed-0" / "postprocessing.json")["fitted_on"] == "training"
    assert not (tmp_path / "cnn" / "seed-0" / "postprocessing.json").exists()
    without = read_json(tmp_path / "cnn" / "seed-0" / "evaluation-val.json")
    assert (without["raw_metrics"], without["postprocessing"]) == (None, None)
    assert "raw_predictions" not in without["recordings"][0]["series"]


def test_the_series_are_those_of_the_recordings(report):
    """Of the grid's 61 points, 59 are rated 0.6 s later. Points from 0 to 4.5 s have a face, and the face at 4.75 s is
    nearest to 5 s. dev_1 has none at 1.5 s, because its face at 0.75 s is nearest to 1 s."""
    dev_1, dev_2 = report["recordings"]
    assert (dev_1["name"], dev_2["name"], report["unrated"]) == ("dev_1", "dev_2", [])
    assert dev_1["frames"] == {"all": 601, "labelled": 599, "without_a_face": 589, "counted": 10}
    assert dev_2["frames"] == {"all": 601, "labelled": 599, "without_a_face": 588, "counted": 11}
    assert report["frames"] == {"all": 1202, "labelled": 1198, "without_a_face": 1177, "counted": 21}
    for number, recording in enumerate(report["recordings"], start=2):
        series = recording["series"]
        np.testing.assert_allclose(series["times_s"], np.arange(601) / 2)
        face_s = np.array(series["times_s"][:599])
        face_s[10] = 4.75
        if recording is dev_1:
            face_s[2] = 0.75
        for dimension, rated in (("valence", valence), ("arousal", arousal)):
            assert series["labels"][dimension][599:] == [None, None]
            labels = series["labels"][dimension][:599]
            np.testing.assert_allclose(labels, rated(face_s + 0.6, number), atol=1e-3)
            seen = [place for place, value in enumerate(series["predictions"][dimension]) if value is not None]
            assert seen == [place for place in range(11) if recording is dev_2 or place != 3]


def test_metrics_are_those_of_the_series(report):
    for dimension in DIMENSIONS:
        pairs = []
        for recording in report["recordings"]:
            series = recording["series"]
            zipped = zip(series["labels"][dimension], series["predictions"][dimension], strict=True)
            pairs.append(np.array([pair for pair in zipped if None not in pair]))
            assert recording["metrics"][dimension] == pytest.approx(by_definition(*pairs[-1].T), rel=1e-6)
        found = report["metrics"][dimension]
        assert found["concatenated"] == pytest.approx(by_definition(*np.concatenate(pairs).T), rel=1e-6)
        ccc = np.mean([by_definition(*pair.T)["ccc"] for pair in pairs])
        assert found["mean"]["ccc"] == pytest.approx(ccc, rel=1e-6)
        raw = []
        for recording in report["recordings"]:
            series = recording["series"]
            zipped = zip(series["labels"][dimension], series["raw_predictions"][dimension], strict=True)
            raw += [pair for pair in zipped if None not in pair]
        found = report["raw_metrics"][dimension]["concatenated"]
        assert found == pytest.approx(by_definition(*np.array(raw).T), rel=1e-6)
    assert report["reported"] == BASE.reported and report["is_selection_split"] is False


def test_what_is_predicted_is_what_the_network_gives_after_the_steps_of_the_run(runs, report, trained):
    fitted = read_json(runs[0] / "sta" / "seed-0" / "postprocessing.json")
    assert fitted["fitted_on"] == "selection" and set(fitted["dimensions"]) == set(DIMENSIONS)
    for name, found in fitted["dimensions"].items():
        assert min(found["gains"].values()) >= 0 < sum(found["gains"].values())
        assert report["postprocessing"][name] == found["steps"]
        assert trained.postprocessing[name] == Postprocessing(**found["steps"])
        for recording in report["recordings"]:
            series = recording["series"]
            raw = np.array(series["raw_predictions"][name], float)
            steps = Postprocessing(**found["steps"])
            expected = steps.apply(series["times_s"], np.nan_to_num(raw), ~np.isnan(raw))
            expected[np.isnan(raw)] = np.nan
            np.testing.assert_allclose(np.array(series["predictions"][name], float), expected, atol=1e-5)


def test_the_run_holds_all_that_is_needed(runs, trained):
    workdir = runs[0] / "sta" / "seed-0"
    config = read_json(workdir / "config.json")
    assert config["classes"] == list(DIMENSIONS) and len(config["selection"]) == 1
    assert set(config["selection"]) < {"train_1", "train_2"}
    assert trained.experiment == BASE and trained.classes == DIMENSIONS
    assert set(trained.network.output) == {"dimensions", "attention"}
    logged = read_log(workdir)
    assert {f"val_{name}_{formula}" for name in DIMENSIONS for formula in ("rmse", "cc", "ccc")} < set(logged[0])
    means = [sum(row[f"val_{name}_ccc"] for name in DIMENSIONS) for row in logged]
    saved = [keras.saving.load_model(workdir / f"{name}.keras").get_weights() for name in ("best", "last")]
    is_last = all(np.array_equal(best, last) for best, last in zip(*saved, strict=True))
    assert is_last == (means[1] > means[0])


def everything(path):
    """All numbers of a checkpoint: weights, momenta and step counts."""
    model = keras.saving.load_model(path)
    return [np.array(variable) for variable in (*model.weights, *model.optimizer.variables)]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(runs, recola, tmp_path, monkeypatch):
    """And does not search the delay again."""

    with stop_before_the_second_epoch(monkeypatch):
        train(LGBP, data=recola[1], workdir=tmp_path)
    assert len(read_log(tmp_path)) == 1 and not (tmp_path / "postprocessing.json").exists()
    monkeypatch.delattr(Ridge, "fit")  # the probe of the search
    whole = runs[0] / "lgbp" / "seed-0"
    expected = train(LGBP, data=recola[1], workdir=tmp_path, progress=False)
    assert read_log(tmp_path) == read_log(whole)
    for name in ("last.keras", "best.keras"):
        for ours, theirs in zip(everything(tmp_path / name), everything(whole / name), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    for name in ("config.json", "delay.json", "postprocessing.json"):
        assert read_json(tmp_path / name) == read_json(whole / name)
    counts = {"train_recordings": 2, "selection_recordings": 2, "recordings_left_out": 0, "windows_left_out": 296}
    assert expected.items() >= counts.items()
    means = [sum(row[f"val_{name}_ccc"] for name in DIMENSIONS) for row in read_log(whole)]
    assert expected["best_epoch"] == 1 + means.index(max(means))
    config, delay_s = runs[0] / "rows.py" / "lgbp", expected["delay"]["delay_s"]
    code, out, _ = affect("train", config, "--data", recola[1], "--workdir", tmp_path)
    assert code == 0 and f"delay searched: {delay_s:g} s, where a linear probe has a CCC of " in out
    assert "post-processing fitted on selection recordings: CCC valence +" in out
    changed = replace(LGBP, windows=replace(LGBP.windows, delay_s=7.0))
    with pytest.raises(InputError, match="another config, which differs in windows.delay_s. Choose another --workdir"):
        train(changed, data=recola[1], workdir=tmp_path, progress=False)


def test_the_delay_that_was_searched_is_that_of_the_run(runs, recola):
    workdir = runs[0] / "lgbp" / "seed-0"
    training = read_recordings(Shards(recola[1]), "train")[0]
    delay_s, scores = search_delay(training, LGBP.windows, LGBP.data)
    found = {"delay_s": delay_s, "scores": {str(candidate_s): score for candidate_s, score in scores.items()}}
    assert read_json(workdir / "delay.json") == found
    trained = load_trained(workdir)
    assert trained.experiment == replace(LGBP, windows=replace(LGBP.windows, delay_s=delay_s))
    assert len(scores) == 151


def test_features_go_the_whole_road(runs, recola, tmp_path):
    run, video = runs[0] / "lgbp" / "seed-0", recola[0] / "video" / "dev_1.mp4"
    trained, report = load_trained(run), read_json(run / "evaluation-val.json")
    assert report["frames"]["counted"] == 21 and report["delay_s"] == read_json(run / "delay.json")["delay_s"]
    clip, _ = cut_clip(video, trained.faces, DETECTORS["boxes"](trained.faces), key="dev_1")
    result = predict(trained, clip)
    values = [frame["arousal"] for frame in result["frames"]]
    assert values[3] is None
    expected = report["recordings"][0]["series"]["predictions"]["arousal"]
    np.testing.assert_allclose(values[:3] + values[4:], expected[:3] + expected[4:11], atol=1e-5)
    with pytest.raises(InputError, match="lgbp reads LGBP-TOP features, which are computed in NumPy"):
        export(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_video_and_its_shard_give_the_same_series(recola, trained, report):
    video = recola[0] / "video" / "dev_1.mp4"
    clip, _ = cut_clip(video, trained.faces, DETECTORS["boxes"](trained.faces), key="dev_1")
    result = predict(trained, clip)
    assert (result["key"], result["frames_decoded"], result["frames_with_a_face"]) == ("dev_1", 20, 16)
    assert [frame["timestamp_s"] for frame in result["frames"]] == [place / 2 for place in range(11)]
    series = report["recordings"][0]["series"]["predictions"]
    for name in DIMENSIONS:
        values = [frame[name] for frame in result["frames"]]
        assert values[3] is None and series[name][3] is None
        np.testing.assert_allclose(values[:3] + values[4:], series[name][:3] + series[name][4:11], atol=1e-5)


@pytest.mark.large
def test_the_end_of_a_window_is_learnt_and_estimated_at_each_point(sewa, tmp_path):
    experiment = replace(
        RNN,
        model=replace(RNN.model, predicts="end"),
        data=replace(BASE.data, selection_ratio=0.0, selection_split="val"),
        train=replace(BASE.train, epochs=1, selection_metric="loss"),
        windows=replace(BASE.windows, postprocess=False),  # a filter of the whole series tells it from its part
    )
    result = train(experiment, data=sewa[1], workdir=tmp_path, progress=False)
    assert (result["train_recordings"], result["selection_recordings"]) == (2, 6)
    trained = load_trained(tmp_path)
    report = evaluate(trained, sewa[1], split="val")
    assert report["is_selection_split"] is True
    assert report["frames"] == {"all": 6 * 13, "labelled": 6 * 11, "without_a_face": 0, "counted": 6 * 11}
    clip, _ = cut_clip(
        sewa[0] / "video" / "Devel_01.mp4", trained.faces, DETECTORS["boxes"](trained.faces), key="Devel_01"
    )
    # The estimate of a point is that of a video which ends there, 3.0 s.
    whole = [frame["valence"] for frame in predict(trained, clip)["frames"]]
    part = predict(trained, replace(clip, faces=clip.faces[:13]))["frames"]
    assert len(part) == 7
    np.testing.assert_allclose([frame["valence"] for frame in part], whole[:7], atol=1e-5)
    np.testing.assert_allclose(whole, report["recordings"][0]["series"]["predictions"]["valence"][:11], atol=1e-5)


def test_avec_counts_each_rating(runs, recola, report, tmp_path):
    """Of the 7,501 ratings of a recording none is left out: gaps are interpolated, and the ends held."""
    run = shutil.copytree(runs[0] / "sta" / "seed-0", tmp_path / "run")
    options = ["evaluate", run, "--data", recola[1], "--split", "val"]
    code, out, _ = affect(*options, "--protocol", "avec")
    found = read_json(run / "evaluation-val.json")
    assert (code, found["protocol"], report["protocol"]) == (0, "avec", "faces")
    assert "split val, protocol avec" in out
    # A face lies within a quarter of a second for ratings from 0.36 to 5.84 s, but of dev_1 not from 1.88 to 2.32 s.
    without = [7501 - (138 - 12), 7501 - 138]
    assert f"2 recordings of 15002 ratings, all counted; {sum(without)} of them without a face at their time" in out
    for recording, count in zip(found["recordings"], without, strict=True):
        expected = {"all": 7501, "labelled": 7501, "without_a_face": count, "counted": 7501}
        assert recording["frames"] == expected
    labels, estimates = [], []
    for recording, other in zip(found["recordings"], report["recordings"], strict=True):
        series, points = recording["series"], other["series"]
        seen = [place for place, value in enumerate(points["predictions"]["valence"]) if value is not None]
        times_s = np.arange(7501) * 0.04
        np.testing.assert_allclose(series["times_s"], times_s, atol=1e-6)
        expected = np.interp(
            times_s - 0.6,
            np.array(points["times_s"])[seen],
            np.array(points["predictions"]["valence"], float)[seen],
        )
        np.testing.assert_allclose(series["predictions"]["valence"], expected, atol=1e-6)
        estimates.append(expected)
        labels.append(valence(times_s, int(recording["name"][-1]) + 1))
    for name, value in by_definition(np.concatenate(labels), np.concatenate(estimates)).items():
        assert found["metrics"]["valence"]["concatenated"][name] == pytest.approx(value, abs=1e-5)
    code, _, lines = affect(*options, "--protocol", "sewa")
    assert code == 2 and "Invalid value for '--protocol': 'sewa' is not one of 'avec', 'faces'." in lines[0]
    rows = [*load_rows("paper_b_recola").values(), *load_rows("paper_b_avec17").values()]
    assert {row.windows.protocol for row in rows} == {"avec"}


def test_a_recording_without_a_face_is_estimated_in_the_middle_of_the_scale(trained):
    times_s = np.arange(4) / 4
    nothing, none = np.zeros((4, 2), np.float32), np.zeros(4, bool)
    recording = Recording("r", "", (), np.empty(0), np.empty((0, 2), int), times_s, np.ones((4, 2)))
    series = at_ratings(Series(recording, times_s, nothing, nothing, nothing, none, none, none), 0.5, 4.0)
    assert series.is_counted.all() and not series.frame_mask.any() and (series.predictions == 0).all()


def test_evaluate_prints_and_plots(runs, recola, report, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs[0] / "sta" / "seed-0", run)
    code, out, _ = affect("evaluate", run, "--data", recola[1], "--split", "val", "--plot", tmp_path / "plots")
    assert code == 0
    assert "1202 frames: 21 counted, 1177 left out without a face, 4 without a rating" in out
    assert "valence, reported by the paper" in out and "0.546" in out
    assert "valence, concatenated, before post-processing" in " ".join(out.split())
    assert read_json(run / "evaluation-val.json") == report
    names = sorted(path.relative_to(tmp_path / "plots").as_posix() for path in (tmp_path / "plots").rglob("*.png"))
    assert names == ["recordings/dev_1.png", "recordings/dev_2.png", "scatter.png"]
    assert all(imread(tmp_path / "plots" / name).shape[0] > 300 for name in names)
    code, _, lines = affect("evaluate", run, "--data", recola[1])
    assert code == 2 and "no recording of split 'test' is rated in valence and arousal" in lines[0]


def test_predict_prints_a_table_json_csv_and_plots(runs, recola, tmp_path):
    run, video = runs[0] / "lgbp" / "seed-0", recola[0] / "video" / "dev_1.mp4"
    code, out, _ = affect("predict", run, video, "--plot", tmp_path / "plot.png")
    assert code == 0 and "dev_1.mp4: face in 16/20 frames" in out and "arousal" in out
    assert "0.00 s" in out and "5.00 s" in out and "0.50 s" not in out
    assert imread(tmp_path / "plot.png").shape[1] > 300
    _, out, _ = affect("predict", run, video, "--json")
    result = json.loads(out)
    _, out, _ = affect("predict", run, video, "--csv")
    written = list(csv.DictReader(io.StringIO(out)))
    assert list(written[0])[-3:] == ["importance", "valence", "arousal"]
    assert len(written) == len(result["decoded_frames"]) == 20 and len(result["frames"]) == 11
    assert [row["valence"] for row in written] == [
        f"{frame['valence']:.6g}" if frame["has_face"] else "" for frame in result["decoded_frames"]
    ]
    assert [row["has_face"] for row in written].count("1") == 16


def test_explain_draws_frames_attention_and_curves(runs, recola, tmp_path):
    video, heights = recola[0] / "video" / "dev_1.mp4", {}
    for row in ("lgbp", "sta"):
        run, figure = shutil.copytree(runs[0] / row / "seed-0", tmp_path / row), tmp_path / f"{row}.png"
        column_inches = begin_figure(1, [1.2], 4).column_inches
        (run / "postprocessing.json").unlink()  # a line that a filter made level has no pixel of its pure colour
        code, out, _ = affect("explain", run, video, "--out", figure, "--frames", 4)
        assert code == 0 and "valence and arousal over 11 frames" in out
        image = imread(figure)[..., :3].astype(int)
        for colour in ((0xC0, 0x39, 0x2B), (0x24, 0x71, 0xA3)):  # of valence and of arousal
            assert (np.abs(image - colour).max(axis=-1) < 3).sum() > 200
        heights[row] = image.shape[0]
    assert heights["sta"] - heights["lgbp"] == pytest.approx(column_inches * DPI, abs=2)  # the row of attention


def test_the_pooling_of_paper_a_learns_valence_and_arousal(recola, tmp_path):
    pooled = replace(CNN.model, spatial_pooling="attention", heads=2, pooling_units=3, diversity=0.1)
    experiment = replace(CNN, name="pooled", model=pooled, train=replace(BASE.train, epochs=1))
    train(experiment, data=recola[1], workdir=tmp_path / "run", progress=False)
    trained = load_trained(tmp_path / "run")
    assert trained.experiment == experiment
    assert evaluate(trained, recola[1], split="val")["frames"]["counted"] == 21
    video = recola[0] / "video" / "dev_1.mp4"
    figure = tmp_path / "figure.png"
    code, _, _ = affect("explain", tmp_path / "run", video, "--out", figure, "--frames", 4, "--each-head")
    # Rows of frames, of both heads together and of each apart, and of the curves.
    height = begin_figure(1 + 3, [1.2], 4).figure.get_figheight()
    assert code == 0 and imread(figure).shape[0] == pytest.approx(DPI * height, abs=2)


def test_what_is_of_classes_alone_is_refused(trained, recola, runs, tmp_path):
    clip, _ = cut_clip(recola[0] / "video" / "dev_1.mp4", trained.faces, DETECTORS["boxes"](trained.faces), key="dev_1")
    with pytest.raises(InputError, match="sta has no importance of frames"):
        explain(trained, clip, tmp_path / "figure.png", by_importance=True)
    with pytest.raises(InputError, match="sta has no classes to average over"):
        explain_classes(trained, recola[1], tmp_path / "figure.png", split="val")
    for experiment, text in (
        (replace(BASE, train=replace(BASE.train, selection_metric="accuracy")), "Expected 'ccc' or 'loss'. Received"),
        (
            replace(BASE, data=replace(BASE.data, soft_labels=True)),
            "data.soft_labels=True has no effect: ",
        ),
        (
            replace(BASE, train=replace(BASE.train, label_smoothing=0.1)),
            "train.label_smoothing=0.1 has no effect: ",
        ),
        (replace(BASE, data=replace(BASE.data, selection_split="val")), "Expected data.selection_ratio=0 or"),
        (replace(BASE, windows=replace(BASE.windows, delay_s=400)), "no recording of split 'train' has a frame with"),
        (replace(BASE, data=replace(BASE.data, train_split="test")), "no recording of split 'test' is rated"),
    ):
        with pytest.raises(InputError, match=text):
            train(experiment, data=recola[1], workdir=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_learning_from_recordings_reads_the_settings_that_have_an_effect_and_no_others(sewa, tmp_path):
    experiment = replace(CNN, windows=BASE.windows)
    noting, read = watched(experiment)
    train(noting, data=sewa[1], workdir=tmp_path, progress=False)
    names = {name for name in fields_of(experiment) if not name.startswith("model.")}
    names.remove("windows.protocol")  # of evaluation
    assert read & names == names - find_without_effect(experiment).keys()


def test_classes_are_plotted_too_and_an_evaluation_of_classes_has_no_plots(face_videos, tmp_path):
    code, out, _ = affect("predict", FER2013, face_videos / "still.mp4", "--plot", tmp_path / "plot.png")
    assert code == 0 and f"{tmp_path / 'plot.png'}: angry, disgust, " in out
    assert imread(tmp_path / "plot.png").shape[1] > 1000
    code, _, lines = affect("evaluate", FER2013, "--data", tmp_path, "--plot", tmp_path / "plots")
    assert code == 2 and "predicts classes, and the plots of an evaluation are of valence and arousal" in lines[0]


def sums_of(series):
    """Sums of one seed's recordings `(y, x)`, as a table adds them up: (M, 1, 7)."""
    rows = [(np.ones(len(y)), y, x, y * y, x * x, x * y, (x - y) ** 2) for y, x in series]
    return np.array([[[term.sum() for term in terms]] for terms in rows])


def test_the_interval_and_the_test_are_over_recordings():
    """By drawing whole recordings and by swapping all of them in every way, with the definition of CCC."""
    random = np.random.default_rng(0)
    labels = [np.sin(np.arange(50) / 8 + k) + 0.2 * k for k in range(7)]
    ours = [(y, 0.8 * y + random.normal(0, 0.2, 50)) for y in labels]
    base = [(y, 0.6 * y + random.normal(0, 0.5, 50)) for y in labels]

    def ccc_of(series):
        return by_definition(*(np.concatenate(values) for values in zip(*series, strict=True)))["ccc"]

    assert compute_concatenated_ccc(sums_of(ours), axis=0) == pytest.approx(ccc_of(ours))
    found = compare(sums_of(ours), sums_of(base), statistic=compute_concatenated_ccc)
    drawn = [ccc_of([ours[k] for k in random.integers(0, 7, 7)]) for _ in range(2000)]
    np.testing.assert_allclose(found["interval"], np.percentile(drawn, [2.5, 97.5]), atol=0.01)
    differences = []
    for swaps in product((False, True), repeat=7):
        pairs = [(b, a) if swap else (a, b) for a, b, swap in zip(ours, base, swaps, strict=True)]
        differences.append(ccc_of([a for a, _ in pairs]) - ccc_of([b for _, b in pairs]))
    exact = np.mean(np.abs(differences) >= differences[0] - 1e-12)
    assert found["p_value"] == pytest.approx(exact, abs=1e-9)
    assert compare(sums_of(ours[:1]), statistic=compute_concatenated_ccc) == {"interval": None, "p_value": None}


def test_rows_of_two_kinds_are_no_table(tmp_path):
    path = tmp_path / "rows.py"
    path.write_text(
        "from affect.configs.fer2013 import CONFIG as A\nfrom affect.configs.paper_b import CONFIG as B\n"
        "ROWS = {'a': A, 'b': B}\n"
    )
    with pytest.raises(InputError, match="has rows that classify and rows that do not"):
        table(path, data=tmp_path, workdir=tmp_path / "t", seeds=1, split="val")
