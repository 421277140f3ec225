"""A Beam pipeline writes the same shards as a local run, on Beam's own runner."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from affect.errors import InputError
from affect.pipelines.prepare import PARTS, prepare
from tests.commands import affect, refused
from tests.folders import contents
from tests.pictures import SMALL_FACES

needs_beam = pytest.mark.skipif(
    not find_spec("apache_beam"), reason="apache-beam is absent: pip install 'affect[beam]'"
)
# What a cluster does to a pipeline: the clips travel to other processes.
PROCESSES = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@needs_beam
@pytest.mark.large
@pytest.mark.parametrize("options", [["--runner=DirectRunner"], PROCESSES])
def test_shards_are_those_of_a_local_run(labelled_videos, shards, tmp_path, options):
    prepare(labelled_videos, dataset="folder", out=tmp_path, faces=SMALL_FACES, beam_options=options)
    assert contents(tmp_path) == contents(shards)


@needs_beam
@pytest.mark.large
def test_the_command_hands_beam_its_options_and_goes_on(labelled_videos, tmp_path):
    folder = labelled_videos / "test"
    arguments = "prepare", folder, "--out", tmp_path, "--face-size", 64, "--runner", "beam"
    assert "Beam pipeline failed" in refused(*arguments, "--", "--runner=NoSuchRunner")
    assert [path.name for path in tmp_path.iterdir()] == [PARTS]
    assert affect(*arguments, "--", *PROCESSES)[0] == 1
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["counts"]["videos"], manifest["counts"]["videos_with_a_face"]) == (4, 3)


@needs_beam
@pytest.mark.large
def test_parts_that_went_elsewhere_are_noticed(labelled_videos, tmp_path, monkeypatch):
    monkeypatch.setattr("apache_beam.Pipeline.__exit__", lambda *arguments: None)  # the pipeline does not run
    with pytest.raises(
        InputError, match=r"unfinished_parts lacks 4 of 4 clips \(.*\)\. Choose an --out that all workers"
    ):
        prepare(labelled_videos / "test", dataset="folder", out=tmp_path, faces=SMALL_FACES, beam_options=[])


@pytest.mark.parametrize("place", ["source", "out", "boxes"])
def test_relative_paths_are_refused(tmp_path, place):
    paths = {"source": tmp_path, "out": tmp_path / "out", "boxes": None} | {place: "relative"}
    (tmp_path / "a.mp4").touch()
    faces = replace(SMALL_FACES, boxes=paths["boxes"], detector="boxes" if place == "boxes" else "mtcnn")
    with pytest.raises(InputError, match="folders of their own: give absolute paths. Received: relative"):
        prepare(Path(paths["source"]), dataset="folder", out=paths["out"], faces=faces, beam_options=[])


def test_options_and_runners_that_do_not_fit_are_refused(face_videos, tmp_path):
    arguments = "prepare", face_videos, "--out", tmp_path / "s"
    assert refused(*arguments, "more").endswith("are Beam's and need --runner beam. Received: more")
    assert "'--runner': 'spark' is not one of 'local', 'beam'." in refused(*arguments, "--runner", "spark")


def test_without_beam_it_says_how_to_install_it(face_videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"needs apache-beam. Install it: pip install 'affect\[beam\]'$"):
        prepare(face_videos, dataset="folder", out=tmp_path / "s", faces=SMALL_FACES, beam_options=[])
