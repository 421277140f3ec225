"""Files, folders and patterns → videos and photographs."""

import os
import shutil

import pytest

from affect.errors import InputError
from affect.pipelines.files import name_fault
from affect.reading.paths import find_videos
from tests.pictures import portrait, write_video


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    video = write_video(folder / "a.mp4", [portrait()] * 2)
    for name in ("deep/er/b.MKV", "deep/c.jpg", ".hidden/d.mp4", "deep/.e.mp4", "out/f.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, folder / name)
    for name in ("notes.txt", "deep/list.csv", "deep/g.heic"):
        (folder / name).write_text("x")
    return folder


def names(found):
    return [video.name for video in found.videos]


def test_a_folder_is_searched_with_its_subfolders(tree):
    found = find_videos([tree], without=tree / "out")
    assert names(found) == ["a.mp4", "deep/c.jpg", "deep/er/b.MKV"]
    assert found.left_out == [
        "1 file (1 .heic) cannot be read. Convert these photographs to JPEG.",
        "2 files (1 .csv, 1 .txt) left out: neither video nor photograph.",
    ]
    assert found.videos[0].path == tree / "a.mp4"


def test_names_are_unique_and_files_are_listed_once_in_the_order_in_which_they_are_named(tree):
    assert names(find_videos([tree / "deep" / "er" / "b.MKV", tree / "a.mp4", tree / "a.mp4"])) == [
        "deep/er/b.MKV",
        "a.mp4",
    ]
    assert names(find_videos([tree / "a.mp4"])) == ["a.mp4"]
    assert names(find_videos([tree / "deep", tree / "out"])) == ["deep/c.jpg", "deep/er/b.MKV", "out/f.mp4"]


@pytest.mark.parametrize(("pattern", "expected"), [("*.mp4", ["a.mp4"]), ("**/*.jpg", ["c.jpg"])])
def test_patterns(tree, pattern, expected):
    assert names(find_videos([tree / pattern])) == expected


def test_a_name_that_looks_like_a_pattern_is_a_file_first(tree, tmp_path):
    shutil.copy(tree / "a.mp4", tmp_path / "take[1].mp4")
    assert names(find_videos([tmp_path / "take[1].mp4"])) == ["take[1].mp4"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("https://example.org/a.mp4", r"is an address\. .* Download the video .* affect watch MODEL ADDRESS"),
        ("rtsp://camera/1", r"is an address"),
        ("gone.mp4", r"There is no file or folder gone\.mp4\."),
        ("gone/*.mp4", r"No file matches gone/\*\.mp4\."),
    ],
)
def test_what_cannot_be_found_is_refused(path, message):
    with pytest.raises(InputError, match=message):
        find_videos([path])


def test_a_folder_without_videos_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="No video or photograph in"):
        find_videos([tmp_path])


@pytest.mark.parametrize("out", ["", "deep", "../above"])
def test_results_beside_or_above_the_videos_do_not_hide_them(tree, tmp_path, out):
    films = tmp_path / "above" / "films"
    shutil.copytree(tree / "deep", films / "deep")
    folder = (films / out).resolve()
    for name in ("parts/0/1-0.jpg", "previews/c.mp4"):
        (folder / name).parent.mkdir(parents=True)
        shutil.copy(tree / "a.mp4", folder / name)
    (folder / "study.json").write_text("{}")
    assert names(find_videos([films / "deep"], without=folder)) == ["c.jpg", "er/b.MKV"]
    assert names(find_videos([tmp_path / "above"], without=tmp_path / "other")) == [
        "films/deep/c.jpg",
        "films/deep/er/b.MKV",
    ]
    assert names(find_videos([folder / "previews"])) == ["c.mp4"]


def test_a_name_that_tables_cannot_hold_is_spelt(tree, tmp_path):
    shutil.copy(tree / "a.mp4", os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    (found,) = find_videos([tmp_path]).videos
    assert (found.name, os.fsencode(found.path.name)) == ("caf\\xe9.mp4", b"caf\xe9.mp4")
    assert name_fault(found.path) == f"The name of {tmp_path}/caf\\xe9.mp4 is not UTF-8. Rename it."


def test_an_empty_path_is_not_the_folder_that_the_command_runs_in():
    with pytest.raises(InputError, match="A path is empty"):
        find_videos([""])
