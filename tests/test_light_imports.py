"""What is wrong with the user's words is named before TensorFlow and Keras, which take seconds, are imported."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from affect.data.clips import VERSION

FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"

# Runs the commands of its argument one after the other. None of them may import TensorFlow or Keras.
RUN_ALL = """\
import contextlib, io, json, sys
from affect.cli import app
for command in json.loads(sys.argv[1]):
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            app(command)
            code = 0
        except SystemExit as error:
            code = error.code
    heavy = sorted({"tensorflow", "keras", "sklearn", "jax"} & {name for name, module in sys.modules.items() if module})
    print(json.dumps([code, errors.getvalue(), heavy]), flush=True)
    if heavy:
        break
"""


def run_all(commands, program=RUN_ALL, **environment):
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps([[str(word) for word in command] for command in commands])],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def shards(tmp_path):
    """A manifest without clips: all that is read before TensorFlow is imported."""
    folder = tmp_path / "shards"
    folder.mkdir()
    manifest = {
        "settings": {"records_version": VERSION, "faces": {}},
        "classes": [],
        "clips": [{"key": split, "split": split} for split in ("train", "val", "test")],
        "shards": [],
    }
    folder.joinpath("manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_wrong_path_is_named_before_a_library_is_imported(tmp_path, shards):
    gone, video, out = tmp_path / "gone", tmp_path / "film.mp4", tmp_path / "out"
    video.write_bytes(b"not a video")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    commands = [
        ["prepare", gone, "--out", out],
        ["verify", gone],
        ["inspect", gone],
        ["train", gone, "--data", shards, "--workdir", out],
        ["train", "paper_a", "--data", gone, "--workdir", out],
        ["evaluate", gone, "--data", shards],
        ["evaluate", tmp_path / "run", "--data", shards],
        ["table", gone, "--data", shards, "--workdir", out],
        ["table", "paper_a_table1", "--data", gone, "--workdir", out],
        ["table", "paper_a_table1", "--data", shards, "--workdir", out],
        ["predict", gone, video],
        ["predict", tmp_path / "run", video],
        ["predict", "fer2013", gone],
        ["watch", gone, video],
        ["watch", "fer2013", gone],
        ["explain", gone, video, "--out", tmp_path / "figure.png"],
        ["explain", "fer2013", gone, "--out", tmp_path / "figure.png"],
        ["explain", "fer2013", "--data", gone, "--out", tmp_path / "figure.png"],
        ["export", gone, out],
        ["check", gone],
        ["convert", gone, "--to", "float32"],
        ["weights", "get", "gone"],
        ["weights", "import", "vgg16", gone],
    ]
    for command, (code, said, heavy) in zip(commands, run_all(commands, AFFECT_CACHE=str(tmp_path)), strict=True):
        assert code == 2, (command, said)
        assert said.count("\n") == 1 and said.startswith("affect: "), (command, said)
        assert "internal error" not in said, (command, said)
        assert not heavy, (command, said)


def test_missing_weights_are_named_before_a_library_is_imported(tmp_path, shards):
    video = tmp_path / "film.mp4"
    video.write_bytes(b"not a video")
    commands = [
        ["train", "paper_a", "--data", shards, "--workdir", tmp_path / "out"],
        ["predict", FER2013, video],
        ["watch", FER2013, video],
        ["export", "fer2013", tmp_path / "out"],
        ["evaluate", "fer2013", "--data", shards],
    ]
    for command, (code, said, heavy) in zip(
        commands, run_all(commands, AFFECT_CACHE=str(tmp_path / "empty")), strict=True
    ):
        assert (code, heavy) == (2, []), (command, said)
        assert "are not in the cache" in said and "affect weights" in said, (command, said)


READ = """\
import sys
import affect
reading = affect.load("fer2013").read(sys.argv[1])
assert len(reading.faces) == len(reading.frames) > 0, reading.problem
print(reading.label, sorted({"tensorflow", "keras", "scipy", "sklearn", "skimage", "mtcnn"} & set(sys.modules)))
"""


def test_a_tflite_file_reads_a_video_without_tensorflow_and_keras(face_videos):
    command = [sys.executable, "-c", READ, face_videos / "still.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "happy []\n"


def test_predict_and_watch_import_neither(face_videos, tmp_path):
    video = face_videos / "still.mp4"
    commands = [
        ["predict", "fer2013", video, "--quiet"],
        ["predict", "fer2013", video, "--out", tmp_path / "results", "--quiet", "--no-report"],
        ["watch", "fer2013", video, "--out", tmp_path / "watched.mp4", "--json"],
    ]
    environment = {"AFFECT_CACHE": str(tmp_path / "empty")}
    assert [(code, heavy) for code, _, heavy in run_all(commands, **environment)] == [(0, [])] * 3
    assert (tmp_path / "results" / "frames.csv").is_file()


# As if only what `pip install affect` installs were there.
WITHOUT_EXTRAS = """\
import sys
from affect.extras import EXTRAS
sys.modules.update(dict.fromkeys(module for modules in EXTRAS.values() for module in modules))
"""


def test_without_any_extra_all_that_needs_none_works(tmp_path, labelled_videos):
    """Also where two faces compete for one track."""
    videos, boxes = tmp_path / "videos", tmp_path / "boxes.csv"
    videos.mkdir()
    shutil.copy(labelled_videos / "train" / "happy" / "0.mp4", videos / "two.mp4")
    rows = [f"two,{frame / 10},{x},20,{x + 60},90" for frame in range(4) for x in (10 + 4 * frame, 30 - 4 * frame)]
    boxes.write_text("\n".join(["key,timestamp_s,x0,y0,x1,y1", *rows]) + "\n")
    given = ["--detector", "boxes", "--boxes", boxes, "--detect", "every"]
    commands = [
        ["prepare", videos, "--out", tmp_path / "boxed", "--workers", "1", "--faces", "all", *given],
        ["prepare", labelled_videos, "--out", tmp_path / "found", "--workers", "2", "--face-size", "64"],
        ["predict", "fer2013", videos / "two.mp4", "--json"],
        ["predict", "fer2013", videos, "--out", tmp_path / "results", "--preview"],
        ["watch", "fer2013", videos / "two.mp4", "--out", tmp_path / "watched.mp4", "--json"],
    ]
    for command, (code, said, _) in zip(commands, run_all(commands, program=WITHOUT_EXTRAS + RUN_ALL), strict=True):
        assert code == (1 if command[1] == labelled_videos else 0), (command, said)  # one of its clips shows no face
    assert len(json.loads((tmp_path / "boxed" / "manifest.json").read_text())["clips"]) > 1
    assert len(json.loads((tmp_path / "found" / "manifest.json").read_text())["clips"]) == 16


def test_without_the_packages_of_training_a_command_names_the_extra(tmp_path, face_videos, exported):
    """The packages cannot be imported, as if they were not installed."""
    savedmodel = exported("joint_softmax")[1].path
    commands = [
        ["predict", "fer2013", face_videos / "still.mp4"],
        ["verify", tmp_path],
        ["train", "smoke", "--data", tmp_path, "--workdir", tmp_path / "run"],
        ["predict", savedmodel, face_videos / "still.mp4"],
        ["check", savedmodel],
    ]
    block = "import sys\nsys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'sklearn']))\n"
    found = run_all(commands, program=block + RUN_ALL)
    assert found[0][0] == 0
    for command, (code, said, _) in zip(commands[1:], found[1:], strict=True):
        assert code == 2, (command, said)
        assert said.endswith("Install it: pip install 'affect[train]'\n"), said
        assert "needs tensorflow, keras and scikit-learn." in said, said
