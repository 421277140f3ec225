"""A name in a file of others is a name in its folder and nothing else: no command writes, reads or deletes outside."""

import shutil

import pytest

from affect.config import read_json, write_json
from affect.data.shards import Shards
from affect.errors import InputError
from affect.files import check_name
from affect.pipelines.parts import record_of
from affect.reading.loading import read_artefact
from affect.reading.saved_model import write_sums
from affect.report import write_report
from tests.commands import refused
from tests.studies import Film, write_study

OUTSIDE = (
    "../precious.txt",
    "/etc/passwd",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "C:x",
    "a\0",
    "a\n",
    "a" * 300,
    None,
    3,
    ["a"],
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_no_name_in_a_folder(name):
    with pytest.raises(
        InputError, match=r"^here: a name of a file was expected, without a folder. Received: "
    ) as caught:
        check_name(name, "here")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["test-00000-of-00001.tfrecord", "Zoë 1.jpg", "..a", "a..b"])
def test_what_is_a_name(name):
    assert check_name(name, "here") == name


@pytest.mark.parametrize("name", ["../precious.txt", "/etc/passwd", ["a"]])
def test_overwrite_deletes_nothing_outside(shards, labelled_videos, tmp_path, name):
    out, precious = tmp_path / "out", tmp_path / "precious.txt"
    shutil.copytree(shards, out)
    precious.write_text("mine")
    manifest = read_json(out / "manifest.json")
    manifest["shards"][0]["name"] = name
    write_json(out / "manifest.json", manifest)
    line = refused("prepare", labelled_videos, "--out", out, "--overwrite")
    assert precious.read_text() == "mine"
    assert len([*out.glob("*.tfrecord*")]) == len(manifest["shards"])
    if isinstance(name, str):
        expected = f"{out / 'manifest.json'}: a name of a file was expected, without a folder. Received: {name!r}"
        assert line == f"affect: {expected}"
        for command in (("verify", out), ("inspect", out), ("train", "planted", "--data", out, "--workdir", tmp_path)):
            assert refused(*command) == f"affect: {expected}"
    with pytest.raises(InputError):
        Shards(out)


def test_the_record_of_a_part_is_in_its_folder(tmp_path):
    entry = {"recording": "a", "part": 0}
    assert record_of(tmp_path, entry).parent == tmp_path
    with pytest.raises(InputError, match="a name of a file was expected"):
        record_of(tmp_path, entry | {"part": "/../../precious"})


def test_a_signature_is_no_path(exported, tmp_path):
    path = shutil.copytree(exported("average")[1].path, tmp_path / "name" / "1")
    file = path / "assets.extra" / "affect.json"
    description = read_json(file)
    description["signatures"]["../frame"] = description["signatures"]["frame"]
    write_json(file, description)
    write_sums(path)
    with pytest.raises(InputError, match="a name of a file was expected"):
        read_artefact(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"page": "../precious.txt"}, "a page is in the folder pages"),
        ({"page": "pages/../../precious.txt"}, "a page is in the folder pages"),
        ({"page": "/tmp/precious.txt"}, "a page is in the folder pages"),
        ({"page": 3}, "is damaged"),
        ({"sha256": "../.."}, "a name of a file was expected"),
    ],
)
def test_a_report_writes_and_reads_in_its_study_alone(tmp_path, change, problem):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("a.mp4", is_film=False)])
    (tmp_path / "precious.txt").write_text("mine")
    study = read_json(folder / "study.json")
    study["videos"][0] |= change
    write_json(folder / "study.json", study)
    with pytest.raises(InputError, match=problem):
        write_report(folder)
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_picture_of_a_report_is_in_its_part(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write_study(folder, [Film("a.mp4", is_film=False)])
    (file,) = folder.glob("parts/*/video.json")
    part = read_json(file)
    part["people"][0]["shown"][0]["image"] = "../../../precious.txt"
    write_json(file, part)
    with pytest.raises(InputError, match="a name of a file was expected"):
        write_report(folder)
