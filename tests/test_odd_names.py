"""Names of files with a line end, of 255 bytes, not UTF-8, or that look like options or markup, in every command.

Each command reads such a file and shows its name escaped, or names it in one line and goes on with the others.
"""

import os
import shutil

import pytest

from affect.files import LONGEST_NAME
from tests.commands import affect, refused
from tests.pictures import portrait, write_video

LONG = b"n" * (LONGEST_NAME - 4) + b".mp4"
LINE_END, ESCAPE, NO_TEXT = b"new\nline.mp4", b"e\x1b[31mred.mp4", b"caf\xe9.mp4"
# Name on disk → as it is shown.
NAMES = {
    LINE_END: r"new\nline.mp4",
    LONG: LONG.decode(),
    NO_TEXT: r"caf\xe9.mp4",
    b"-dash.mp4": "-dash.mp4",
    b"--help.mp4": "--help.mp4",
    ESCAPE: r"e\x1b[31mred.mp4",
    b"[red]x.mp4": "[red]x.mp4",
    b"a:b.mp4": "a:b.mp4",
    "ü\u202e.mp4".encode(): "ü\\u202e.mp4",
    b"plain.mp4": "plain.mp4",
}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("video") / "face.mp4", [portrait(size=96)] * 2)


def fill(folder, video):
    """Copies a video to a folder under each name."""
    folder.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(video, os.fsencode(folder) + b"/" + name)
    return folder


@pytest.fixture(scope="module")
def films(video, tmp_path_factory):
    return fill(tmp_path_factory.mktemp("films") / "films", video)


def test_prepare_names_what_a_manifest_cannot_hold(video, tmp_path):
    fill(tmp_path / "videos" / "happy", video)
    code, out, lines = affect("prepare", tmp_path / "videos", "--out", tmp_path / "s", "--workers", "1")
    assert code == 1
    for name in (LINE_END, ESCAPE, NO_TEXT):
        shown = os.fsdecode(name.removesuffix(b".mp4"))
        assert (
            sum(f"a name has control characters or is not UTF-8: {'happy/' + shown!r}." in line for line in lines) == 1
        )
    assert len(lines) == 3
    assert f"{len(NAMES) - 3} clips, {len(NAMES) - 3} of them with a face" in out
    for verb in (["verify"], ["inspect", "--out", tmp_path / "i.png"]):
        code, _, lines = affect(*verb, tmp_path / "s")
        assert (code, lines) == (0, [])


def test_a_list_names_what_a_manifest_cannot_hold(films, tmp_path):
    rows = [os.fsdecode(name) for name in NAMES if name != NO_TEXT]
    text = "path\n" + "".join(f'"{films / row}"\n' for row in [*rows, "z" * 300 + ".mp4", "nul\0.mp4"])
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    code, out, lines = affect(
        "prepare", tmp_path / "list.csv", "--dataset", "csv", "--out", tmp_path / "s", "--workers", "1"
    )
    assert code == 1
    assert sum("control characters" in line for line in lines) == 3
    assert sum(line.endswith("zzz.mp4 cannot be read (File name too long).") for line in lines) == 1
    assert f"{len(NAMES) - 2} clips, {len(NAMES) - 3} of them with a face" in out


@pytest.mark.parametrize("given", ["folder", "files"])
def test_a_study_reads_all_files_that_can_be_named(films, tmp_path, given):
    paths = [films] if given == "folder" else [films / os.fsdecode(name) for name in NAMES]
    code, out, lines = affect("predict", "fer2013", *paths, "--out", tmp_path / "p", "--report")
    assert code == 1
    assert lines == [
        f"affect: The name of {films}/caf\\xe9.mp4 is not UTF-8. Rename it.",
        "affect: 1 video with a problem; the column problem of videos.csv names it.",
    ]
    assert {f"{name}: happy; face in 2/2 frames" for name in NAMES.values()} - {*out.splitlines()} == {
        r"caf\xe9.mp4: happy; face in 2/2 frames"
    }
    table = (tmp_path / "p" / "videos.csv").read_text(encoding="utf-8")
    assert f"caf\\xe9.mp4,,,,,,,,,,0,0,0,0,0,,The name of {films}/caf\\xe9.mp4 is not UTF-8. Rename it.\n" in table
    assert len([*(tmp_path / "p" / "pages").iterdir()]) == len(NAMES)
    assert affect("predict", "fer2013", *paths, "--out", tmp_path / "p", "--report")[0] == 1  # it reads it again


@pytest.mark.parametrize("form", ["--csv", "--json", "--quiet"])
def test_a_file_that_cannot_be_named_does_not_stop_the_others(films, form):
    code, out, lines = affect("predict", "fer2013", films / os.fsdecode(NO_TEXT), films / "plain.mp4", form)
    assert code == 1
    assert lines == [f"affect: The name of {films}/caf\\xe9.mp4 is not UTF-8. Rename it."]
    assert "plain.mp4" in out


def test_names_that_look_like_options_come_after_two_dashes(films, monkeypatch):
    monkeypatch.chdir(films)
    code, out, lines = affect("predict", "fer2013", "--", "--help.mp4", "-dash.mp4", "[red]x.mp4", "a:b.mp4")
    assert (code, lines) == (0, [])
    assert out.count("happy; face in 2/2 frames") == 4


VERBS = {
    "prepare": ["prepare", "{}", "--out", "s"],
    "prepare --out": ["prepare", ".", "--out", "{}"],
    "verify": ["verify", "{}"],
    "inspect": ["inspect", "{}"],
    "inspect --out": ["inspect", "s", "--out", "{}.png"],
    "train": ["train", "smoke", "--data", "s", "--workdir", "{}"],
    "train --data": ["train", "smoke", "--data", "{}", "--workdir", "r"],
    "evaluate": ["evaluate", "{}", "--data", "s"],
    "predict": ["predict", "{}", "plain.mp4"],
    "predict --out": ["predict", "fer2013", "plain.mp4", "--out", "{}"],
    "predict --plot": ["predict", "fer2013", "plain.mp4", "--plot", "{}.png"],
    "predict --groups": ["predict", "fer2013", "plain.mp4", "--groups", "{}.csv", "--out", "p"],
    "watch": ["watch", "fer2013", "{}.mp4"],
    "watch --out": ["watch", "fer2013", "plain.mp4", "--out", "{}.mp4"],
    "explain": ["explain", "fer2013", "{}.mp4", "--out", "e.png"],
    "explain --out": ["explain", "fer2013", "plain.mp4", "--out", "{}.png"],
    "export": ["export", "fer2013", "{}"],
    "check": ["check", "{}"],
    "convert": ["convert", "{}", "--out", "c.tflite"],
    "weights import": ["weights", "import", "vgg16", "{}.h5"],
    "demo": ["demo", "--out", "{}"],
}


@pytest.mark.parametrize("verb", VERBS)
def test_one_path_that_is_not_utf8_is_one_line(verb, tmp_path, monkeypatch):
    """TensorFlow, HDF5 and matplotlib raise errors of their own, or none."""
    monkeypatch.chdir(tmp_path)
    line = refused(*(each.format("caf\udce9") for each in VERBS[verb]))
    assert line.startswith(r"affect: The name of caf\xe9"), line
    assert line.endswith("is not UTF-8. Rename it."), line
    assert os.listdir() == []


@pytest.mark.parametrize("name", ["a:b", "n" * (LONGEST_NAME - 4)])
def test_results_under_odd_names(video, tmp_path, monkeypatch, name):
    """FFmpeg takes a colon for the end of a protocol; a temporary name may be longer than the name."""
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["watch", "fer2013", video, "--out", f"{name}.mp4"],
        ["explain", "fer2013", video, "--out", f"{name}.png"],
    ):
        code, _, lines = affect(*arguments)
        assert (code, lines) == (0, [])
    code, _, lines = affect("predict", "fer2013", f"{name}.mp4", "--out", name, "--preview")
    assert (code, lines) == (0, [])
    assert sorted(os.listdir()) == sorted([name, f"{name}.mp4", f"{name}.png"])


@pytest.mark.parametrize("verb", ["watch", "explain", "predict"])
def test_a_name_that_is_too_long_is_one_line(video, tmp_path, verb):
    name = tmp_path / ("n" * 300 + {"watch": ".mp4", "explain": ".png", "predict": ""}[verb])
    assert "File name too long" in refused(verb, "fer2013", video, "--out", name, code=1)
    assert os.listdir(tmp_path) == []
