"""The verbs as a user meets them: what they print, one line for each mistake, and the exit code."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tensorflow as tf

from affect import __version__
from affect.cli import Dataset, Detector, Numbers
from affect.config import read_json, write_json
from affect.data.records import parse_example
from affect.pipelines.datasets import DATASETS
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.video import read_frames
from affect.serving.convert import NUMBERS
from tests.commands import affect, refused
from tests.pictures import no_face, portrait, write_video

ROOT = Path(__file__).parents[1]
FER2013 = ROOT / "configs" / "fer2013.py"
SMOKE = ROOT / "configs" / "smoke.py"


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cli") / "run"
    code, out, _ = affect("train", SMOKE, "--data", shards, "--workdir", workdir, "--set", "train.epochs=1")
    assert code == 0
    assert re.search(
        r"run: 1 epochs, best is 1; val_accuracy \d\.\d+, val_loss .*; 9 clips trained on, 3 for selection", out
    )
    return workdir


def test_prepare_names_what_it_lost(face_videos, tmp_path):
    code, out, lines = affect("prepare", face_videos, "--out", tmp_path / "shards", "--face-size", 64, "--workers", 1)
    assert code == 1
    assert lines == [f"affect: no_face: {face_videos / 'no_face.mp4'} shows no face in 8 frames."]
    assert "4 clips, 3 of them with a face; 24 faces in 32 frames; 4 examples in 1 shard; classes: none" in out
    assert read_json(tmp_path / "shards" / "manifest.json")["settings"]["faces"]["face_size"] == 64


def test_prepare_and_watch_say_what_is_odd_about_a_video(face_videos, tmp_path):
    folder, odd = tmp_path / "videos", tmp_path / "videos" / "odd.ts"
    folder.mkdir()
    write_video(odd, [frame for _, frame in read_frames(face_videos / "still.mp4")])
    odd.write_bytes(odd.read_bytes() * 2)
    note = f"{odd} has a clock that jumps back once, after 0.70 s: the times of its frames continue without it."
    code, out, lines = affect("prepare", folder, "--out", tmp_path / "shards", "--face-size", 64, "--workers", 1)
    assert (code, lines) == (0, [f"affect: odd: note: {note}"])
    assert "16 faces in 16 frames" in out
    (clip,) = read_json(tmp_path / "shards" / "manifest.json")["clips"]
    assert (clip["notes"], clip["problem"]) == ([note], "")
    code, _, lines = affect("watch", FER2013, odd)
    assert (code, lines) == (0, [f"affect: {note}"])


def test_prepare_says_how_faces_are_found_and_which_are_kept(face_videos, tmp_path):
    arguments = "prepare", face_videos / "still.mp4", "--out", tmp_path / "s"
    line = refused(*arguments, "--detect", "sometimes")
    reason = "'sometimes' is not one of 'follow', 'every'. See: affect prepare --help"
    assert line == f"affect: Invalid value for '--detect': {reason}"
    line = refused(*arguments, "--faces", "none")
    reason = "'none' is not one of 'main', 'largest', 'all'. See: affect prepare --help"
    assert line == f"affect: Invalid value for '--faces': {reason}"
    (tmp_path / "videos").mkdir()
    shutil.copy(face_videos / "still.mp4", tmp_path / "videos")
    options = "--detect", "every", "--faces", "largest", "--face-size", 64, "--workers", 1
    assert affect("prepare", tmp_path / "videos", "--out", tmp_path / "s", *options)[0] == 0
    settings = read_json(tmp_path / "s" / "manifest.json")["settings"]["faces"]
    assert (settings["detect"], settings["tracks"]) == ("every", "largest")


def test_prepare_takes_faces_that_others_have_detected(face_videos, tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("still", "moving"):
        shutil.copy(face_videos / f"{name}.mp4", tmp_path / "videos")
    listed, out = tmp_path / "boxes.csv", tmp_path / "s"
    header = "key,timestamp_s,x0,y0,x1,y1\n"
    listed.write_text(header + "".join(f"still,{time / 10},{40 + time},30,{100 + time},110\n" for time in (1, 2, 5)))
    arguments = "prepare", tmp_path / "videos", "--out", out, "--detector", "boxes", "--face-size", 64
    assert refused(*arguments).startswith("affect: The detector boxes and a CSV file of boxes belong together.")
    assert refused(*arguments, "--boxes", tmp_path / "gone.csv").endswith("cannot be read (No such file or directory).")
    arguments = *arguments, "--boxes", listed, "--workers", 1
    code, _, lines = affect(*arguments)
    assert (code, lines) == (1, [f"affect: moving: {tmp_path}/videos/moving.mp4 shows no face in 8 frames."])
    manifest = read_json(out / "manifest.json")
    assert {clip["key"]: clip["frames_with_a_face"] for clip in manifest["clips"]} == {"still": 3, "moving": 0}
    (shard,) = manifest["shards"]
    records = [parse_example(record) for record in tf.data.TFRecordDataset(str(out / shard["name"]))]
    (record,) = (record for record in records if record["clip/media_id"] == b"still")
    assert record["image/timestamp"].numpy().tolist() == [100_000, 200_000, 500_000]
    assert record["face/box"].numpy().tolist() == [[40 + time, 30, 100 + time, 110] for time in (1, 2, 5)]
    assert affect(*arguments)[0] == 1
    listed.write_text(f"{header}still,0.1,40,30,100,110\n")
    assert "was prepared with boxes_sha256=" in refused(*arguments)


def test_prepare_of_nothing_usable_is_the_users_mistake(face_videos, tmp_path):
    (tmp_path / "videos").mkdir()
    shutil.copy(face_videos / "no_face.mp4", tmp_path / "videos")
    (tmp_path / "videos" / "text.mp4").write_text("not a video")
    (tmp_path / "videos" / "empty.mp4").touch()
    code, _, lines = affect("prepare", tmp_path / "videos", "--out", tmp_path / "shards", "--workers", 1)
    assert code == 2
    assert sorted(line.split(": ")[1] for line in lines) == ["empty", "no_face", "text"]
    assert all("is not a video that can be opened" in line for line in lines if "no_face" not in line)


def test_the_choices_of_the_command_line_are_the_keys_of_the_tables():
    assert set(get_args(Dataset)) == set(DATASETS)
    assert set(get_args(Detector)) == set(DETECTORS)
    assert get_args(Numbers) == NUMBERS


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["prepare", "--worker", 2],
            "No such option: --worker (Possible options: --runner, --workers). See: affect prepare --help",
        ),
        (["weights"], "Missing command. See: affect weights --help"),
        (["trian"], "No such command 'trian'. Did you mean 'train'? See: affect --help"),
        (["train", "smoke"], "Missing option '--data'. See: affect train --help"),
        (["convert", "m", "--to", "int4"], "Invalid value for '--to': 'int4' is not one of 'float32', "),
    ],
)
def test_what_is_mistyped_is_refused_in_one_line(words, line):
    assert refused(*words).startswith(f"affect: {line}")


def test_bad_sources(tmp_path, face_videos):
    assert refused("prepare", tmp_path, "--out", tmp_path / "s").startswith(
        f"affect: {tmp_path} holds no videos. Expected"
    )
    assert "There is no folder" in refused("prepare", tmp_path / "gone", "--out", tmp_path / "s")
    line = refused("prepare", face_videos, "--dataset", "affwild", "--out", tmp_path / "s")
    assert line.startswith("affect: Invalid value for '--dataset': 'affwild' is not one of 'folder', 'csv', 'afew', ")
    assert line.endswith(". See: affect prepare --help")
    assert not (tmp_path / "s").exists()


def test_bad_configs(tmp_path, shards):
    config = tmp_path / "typo.py"
    config.write_text(
        "from affect.config import *\n"
        "CONFIG = Experiment('x', FrameClassifier(backbone='vgg16', weights=None, head=2))\n"
    )
    line = refused("train", config, "--data", shards, "--workdir", tmp_path / "run")
    assert str(config) in line and "unexpected keyword argument 'head'" in line
    line = refused("train", SMOKE, "--data", shards, "--workdir", tmp_path / "run", "--set", "model.head=2")
    assert "Unknown field 'head' in 'model.head=2'. Expected one of ['attention_bias', 'backbone'" in line
    line = refused("train", SMOKE, "--data", shards, "--workdir", tmp_path / "run", "--set", "model.heads=two")
    assert "expected int. Received: 'two'" in line
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_a_config(tmp_path, shards):
    line = refused("train", SMOKE, "--data", shards, "--workdir", tmp_path / "run", "--recipe", "paper")
    assert "has no recipe 'paper'" in line
    # The recipe's switches arrive: the split that it selects on is asked of the shards.
    config = ROOT / "configs" / "paper_a.py"
    line = refused("train", config, "--data", shards, "--workdir", tmp_path / "run", "--recipe", "authors_code")
    assert "no split 'val'" in line
    assert not (tmp_path / "run").exists()


def test_the_papers_recipe_warns_of_faces_that_are_not_dlibs(tmp_path, shards, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))  # which has no weights of VGG-Face
    command = ("train", ROOT / "configs" / "paper_a.py", "--data", shards, "--workdir", tmp_path / "run")
    code, _, lines = affect(*command, "--recipe", "paper")
    assert code == 2 and len(lines) == 2
    assert "the paper's faces are found by dlib, those of" in lines[0] and "--detector dlib" in lines[0]
    assert not any("dlib" in line for line in affect(*command)[2])


def test_bad_shards(tmp_path, shards):
    assert "holds no manifest.json" in refused("train", SMOKE, "--data", tmp_path, "--workdir", tmp_path / "run")
    other = shutil.copytree(shards, tmp_path / "shards")
    manifest = read_json(other / "manifest.json")
    manifest["settings"]["records_version"] = 99
    write_json(other / "manifest.json", manifest)
    line = refused("train", SMOKE, "--data", other, "--workdir", tmp_path / "run")
    assert "holds records of version 99; this version of affect reads 2. Prepare it again" in line
    assert not (tmp_path / "run").exists()


def test_missing_weights_name_the_command(tmp_path, shards, monkeypatch):
    monkeypatch.setenv("AFFECT_CACHE", str(tmp_path))
    line = refused(
        "train",
        ROOT / "configs" / "paper_a.py",
        "--data",
        shards,
        "--workdir",
        tmp_path / "run",
        "--set",
        "data.selection_ratio=0",
    )
    assert line.endswith("Run: affect weights import vgg16 FILE")
    assert not (tmp_path / "run").exists()
    line = refused("weights", "import", "vgg16", SMOKE)
    assert "no readable HDF5 file of Keras weights" in line


def test_bad_runs(tmp_path, run, face_videos):
    video = face_videos / "still.mp4"
    assert "is not a run: it has no config.json" in refused("predict", tmp_path, video)
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(run / "config.json", bare)
    assert "has no checkpoint best.keras yet. Train it: affect train" in refused("predict", bare, video)
    (bare / "best.keras").write_bytes((run / "best.keras").read_bytes()[:5000])
    assert "best.keras cannot be read" in refused("predict", bare, video)
    assert "must be trained first: affect train" in refused("explain", SMOKE, video, "--out", tmp_path / "figure.png")


@pytest.mark.parametrize(
    "command",
    ["predict smoke V", "evaluate smoke --data S", "explain smoke V --out F", "export smoke O", "watch smoke V"],
)
def test_a_command_finds_a_bundled_config_by_its_name(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "V").touch()
    line = refused(*command.split())
    assert line == "affect: The model of smoke must be trained first: affect train smoke --data SHARDS --workdir RUN"


@pytest.mark.parametrize("command", ["train paper_a", "train paper_a_table1/tp", "table paper_a_table1"])
def test_training_finds_bundled_configs_by_their_names(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    line = refused(*command.split(), "--data", "S", "--workdir", "W", "--set", "model.head=2")
    assert line.startswith("affect: Unknown field 'head' in 'model.head=2'.")


def test_the_version_and_the_completion_of_a_shell():
    assert affect("--version") == (0, f"affect {__version__}\n", [])
    code, out, _ = affect("--help")
    assert code == 0 and "--install-completion" in out and "--show-completion" in out


def test_bad_videos(tmp_path, face_videos):
    good, bad = face_videos / "still.mp4", face_videos / "no_face.mp4"
    assert "shows no face in 8 frames" in refused("predict", FER2013, bad)
    assert "shows no face in 8 frames" in refused("predict", FER2013, good, bad, code=1)
    assert f"There is no file or folder {tmp_path / 'gone.mp4'}." in refused("predict", FER2013, tmp_path / "gone.mp4")
    line = refused("predict", FER2013, good, tmp_path / "gone.mp4", code=1)
    assert "gone.mp4 is not a video that can be opened" in line
    assert "shows no face" in refused("explain", FER2013, bad, "--out", tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_evaluate(run, shards):
    code, out, _ = affect("evaluate", run, "--data", shards)
    assert code == 0
    assert "no face" in out and "macro F1" in out
    report = read_json(run / "evaluation-test.json")
    assert report["all"]["clips"] == 4 and report["with_a_face"]["clips"] == 3
    _, out, _ = affect("evaluate", run, "--data", shards, "--json")
    assert json.loads(out) == report
    assert "has no split 'val'" in refused("evaluate", run, "--data", shards, "--split", "val")


def test_predict_prints_a_table_json_and_csv(face_videos):
    videos = face_videos / "still.mp4", face_videos / "moving.mp4"
    code, table, _ = affect("predict", FER2013, *videos)
    assert code == 0
    assert "still.mp4: happy; face in 8/8 frames" in table and "surprise" in table
    _, out, _ = affect("predict", FER2013, *videos, "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert [(result["key"], result["face"]) for result in results] == [(str(video), 1) for video in videos]
    _, out, _ = affect("predict", FER2013, *videos, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 16
    assert float(rows[8]["happy"]) == pytest.approx(results[1]["frames"][0]["probabilities"]["happy"], rel=1e-5)
    assert sum(float(row["importance"]) for row in rows) == pytest.approx(2, abs=1e-4)


def test_predict_writes_every_frame_and_names_what_it_did_not_read(tmp_path):
    """One face in all of 130 frames, which is more than evaluation looks at; another beside it in the last 30."""
    alone, beside = np.hstack([portrait(), no_face(0)]), np.hstack([portrait(), portrait(zoom=0.8)])
    video = write_video(tmp_path / "two.mp4", [np.hstack([no_face(0)] * 2)] * 10 + [alone] * 100 + [beside] * 30)
    code, out, lines = affect("predict", FER2013, video)
    assert code == 0 and "2 faces seen; this one in 130 of 140 frames" in out
    (line,) = lines
    summary = rf"affect: {video}: 2 faces seen; this one in 130 of 140 frames\."
    assert re.fullmatch(rf"{summary} Not read: track 1 in (29|30) frames \(about \d+ px wide\)\.", line)
    _, out, _ = affect("predict", FER2013, video, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0])[:6] == ["video", "frame", "timestamp_s", "face", "has_face", "x0"]
    assert [row["has_face"] for row in rows] == ["0"] * 10 + ["1"] * 130
    assert [float(row["timestamp_s"]) for row in rows] == pytest.approx([place / 10 for place in range(140)])
    assert all((row["happy"] == "") == (row["importance"] == "") == (row["has_face"] == "0") for row in rows)
    assert sum(float(row["importance"] or 0) for row in rows) == pytest.approx(1, abs=1e-5)
    _, out, lines = affect("watch", FER2013, video)
    assert "2 faces seen; this one in 130 of 140 frames" in out
    assert lines == [f"affect: {video}: 2 faces seen; this one in 130 of 140 frames. The others were not read."]
    _, out, lines = affect("explain", FER2013, video, "--out", tmp_path / "figure.png")
    assert out.endswith("; 2 faces seen; this one in 130 of 140 frames\n") and lines == [line]


def test_prepare_says_in_how_many_videos_it_kept_one_of_several_faces(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "two.mp4", [np.hstack([portrait(), portrait(zoom=0.8)])] * 8)
    write_video(tmp_path / "videos" / "one.mp4", [portrait()] * 8)
    arguments = ["prepare", tmp_path / "videos", "--out", tmp_path / "shards", "--workers", 1]
    code, _, (line,) = affect(*arguments)
    assert code == 0 and line.startswith(
        f"affect: {tmp_path / 'shards'}: in 1 of 2 videos more than one face was seen and the main one kept. "
    )
    code, _, lines = affect(*arguments, "--faces", "all", "--overwrite")
    assert (code, lines) == (0, [])


@pytest.mark.parametrize("verb", ["predict", "watch", "explain"])
def test_what_is_odd_about_a_video_is_said(tmp_path, verb):
    video = write_video(tmp_path / "raw.h264", [portrait()] * 4)  # it has no times
    options = ["--out", tmp_path / "figure.png"] if verb == "explain" else []
    code, _, (line,) = affect(verb, FER2013, video, *options)
    assert code == 0 and line.startswith(f"affect: {video} ")


def test_predict_writes_rows_of_a_video_without_a_face_too(face_videos):
    code, out, lines = affect("predict", FER2013, face_videos / "no_face.mp4", face_videos / "still.mp4", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1 and len(lines) == 1
    assert [row["has_face"] for row in rows] == ["0"] * 8 + ["1"] * 8
    known = ("video", "frame", "timestamp_s", "has_face")
    assert {value for row in rows[:8] for name, value in row.items() if name not in known} == {""}


def test_explain(run, face_videos, tmp_path):
    code, out, _ = affect("explain", run, face_videos / "still.mp4", "--out", tmp_path / "figure.png")
    assert code == 0 and out.startswith(f"{tmp_path / 'figure.png'}: ")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_explain_of_a_data_set(run, shards, face_videos, tmp_path):
    code, out, _ = affect("explain", run, "--data", shards, "--out", tmp_path / "classes.png")
    assert code == 0 and out == f"{tmp_path / 'classes.png'}: attention over happy, sad\n"
    both = face_videos / "still.mp4", "--data", shards
    assert "takes a VIDEO or --data SHARDS" in refused("explain", run, *both, "--out", tmp_path / "figure.png")


def test_real_clips_of_which_one_has_no_face(shared_data, tmp_path):
    code, _, lines = affect("prepare", shared_data / "clips", "--out", tmp_path, "--frame-rate-hz", 5)
    assert code == 1
    assert len(lines) == 1 and lines[0].startswith("affect: no_face: ") and "shows no face" in lines[0]
    clips = {clip["key"]: clip for clip in read_json(tmp_path / "manifest.json")["clips"]}
    assert clips["single_face"]["frames_with_a_face"] == clips["single_face"]["frames_decoded"] == 12
    # The face is there for 2.4 s of 6.4 s, at the beginning of one and at the end of the other.
    for key in ("face_noface", "noface_face"):
        assert 11 <= clips[key]["frames_with_a_face"] <= 13
        assert 31 <= clips[key]["frames_decoded"] <= 33


def test_a_backend_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jaxx")
    line = refused("verify", tmp_path)
    assert line == "affect: Unknown KERAS_BACKEND. Expected one of ['jax', 'tensorflow', 'torch']. Received: 'jaxx'"
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    if find_spec("torch") is None:
        assert refused("verify", tmp_path).endswith("is not installed here. Install it: pip install torch")


def test_installed_command_says_one_line_and_no_more(tmp_path):
    """As a process: neither a traceback nor the libraries' chatter, unless it is asked for."""
    command = [sys.executable, "-c", "from affect.cli import main; main()"]
    quiet = subprocess.run([*command, "predict", FER2013, tmp_path / "gone.mp4"], capture_output=True, text=True)
    assert quiet.returncode == 2
    assert quiet.stderr.splitlines() == [f"affect: There is no file or folder {tmp_path}/gone.mp4."]
    loud = subprocess.run(
        [*command, "--debug", "train", tmp_path / "gone.py", "--data", "x", "--workdir", "y"],
        capture_output=True,
        text=True,
    )
    assert loud.returncode == 1 and "Traceback" in loud.stderr and "There is no config file" in loud.stderr


@pytest.mark.large
def test_a_run_of_the_jax_backend_predicts_on_tensorflow(shards, face_videos, tmp_path):
    """Training, evaluation and reading run on either backend, export on one; the run is the same file."""
    command = [sys.executable, "-c", "from affect.cli import main; main()"]
    on_jax = {"env": os.environ | {"KERAS_BACKEND": "jax"}, "capture_output": True, "text": True}
    options = ["--data", shards, "--workdir", tmp_path / "run", "--set", "train.epochs=1"]
    done = subprocess.run([*command, "train", SMOKE, *options], **on_jax)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "run" / "config.json")["versions"]["backend"] == "jax"
    video = face_videos / "still.mp4"
    done = subprocess.run([*command, "predict", tmp_path / "run", video], **on_jax)
    assert done.returncode == 0 and "face in 8/8 frames" in done.stdout, done.stderr
    code, out, _ = affect("predict", tmp_path / "run", video)
    assert code == 0 and "face in 8/8 frames" in out
    done = subprocess.run([*command, "evaluate", tmp_path / "run", "--data", shards], **on_jax)
    assert done.returncode == 0, done.stderr
    code, out, _ = affect("evaluate", tmp_path / "run", "--data", shards)
    assert code == 0 and done.stdout == out
    done = subprocess.run([*command, "export", tmp_path / "run", tmp_path / "saved"], **on_jax)
    assert done.returncode == 2 and "Set KERAS_BACKEND=tensorflow for this command" in done.stderr


@pytest.mark.large
def test_demo_reaches_what_it_promises(tmp_path):
    code, out, _ = affect("demo", "--out", tmp_path / "demo")
    assert code == 0
    summary = read_json(tmp_path / "demo" / "summary.json")
    assert summary["test_clips"] == 25
    assert summary["accuracy"] >= 0.9
    assert summary["peak_in_interval"] >= 0.9
    for name in (
        "videos/planted.json",
        "shards/manifest.json",
        "run/best.keras",
        "explain.png",
        "prediction.json",
        "savedmodels/demo/1/saved_model.pb",
        "demo.tflite",
        "results/report.html",
        "results/videos.csv",
    ):
        assert (tmp_path / "demo" / name).is_file()
    assert "affect demo" in out and "demo/1: passed" in out
    assert out.endswith(f"Open {tmp_path / 'demo' / 'results' / 'report.html'} first.\n")
    videos = (tmp_path / "demo" / "results" / "videos.csv").read_text().splitlines()
    assert len(videos) == 26 and videos[0].startswith("video,condition,face,label,")
