"""A Beam pipeline writes the same shards as a local run, on Beam's own runner."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
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
needs_dask = pytest.mark.skipif(
    not (find_spec("apache_beam") and find_spec("distributed")),
    reason="apache-beam or distributed is absent: pip install 'affect[dask]'",
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


@contextmanager
def dask_cluster(folder, workers):
    """Starts a Dask scheduler and workers as processes on loopback; gives `(address, processes of the workers)`."""
    listed = folder / "scheduler.json"
    common = {
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.STDOUT,
        "env": os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    }
    started = []
    try:
        words = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        started.append(subprocess.Popen([sys.executable, *words, "--scheduler-file", listed], **common))
        wait_for(listed.is_file, started)
        words = ["-m", "distributed.cli.dask_worker", "--scheduler-file", listed, "--host", "127.0.0.1"]
        words += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder]
        started += [subprocess.Popen([sys.executable, *words], **common) for _ in range(workers)]
        yield json.loads(listed.read_text())["address"], started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def wait_for(is_so, processes, timeout_s=120):
    end = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end and all(process.poll() is None for process in processes)
        time.sleep(0.005)


@needs_dask
@pytest.mark.large
def test_a_dask_cluster_that_loses_a_worker_writes_the_shards_of_a_local_run(labelled_videos, shards, tmp_path):
    out, killed = tmp_path / "out", []
    with dask_cluster(tmp_path, workers=2) as (address, workers):

        def records():
            return [*out.glob(f"{PARTS}/*-0.tfrecord")]

        def kill_one():
            """Kills a worker in the middle of a clip, when three are done."""
            wait_for(lambda: len(records()) >= 3 and [*out.glob(f"{PARTS}/making-*")], workers)
            workers[0].send_signal(signal.SIGKILL)
            killed.append(len(records()))

        thread = threading.Thread(target=kill_one)
        thread.start()
        options = ["--face-size", SMALL_FACES.face_size, "--min-face-px", SMALL_FACES.min_face_px, "--runner", "dask"]
        code, _, said = affect(
            "prepare", labelled_videos, "--out", out, *options, "--", f"--dask_client_address={address}"
        )
        thread.join()
        assert code == 1 and len(said) == 1, said  # the video without a face
        assert workers[0].poll() == -signal.SIGKILL and workers[1].poll() is None
    assert 3 <= killed[0] < 16
    assert contents(out) == contents(shards)


@needs_dask
@pytest.mark.large
def test_dask_without_an_address_or_a_scheduler_is_one_line(labelled_videos, tmp_path):
    arguments = "prepare", labelled_videos / "test", "--out", tmp_path, "--runner", "dask"
    assert "--runner dask needs the address of a Dask scheduler, after --: --runner dask -- --dask" in refused(
        *arguments
    )
    line = refused(*arguments, "--", "--dask_client_address=tcp://127.0.0.1:1", "--dask_connection_timeout=1")
    assert "The Beam pipeline failed: " in line and "127.0.0.1:1" in line


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
    assert "'--runner': 'spark' is not one of 'local', 'beam', 'dask'." in refused(*arguments, "--runner", "spark")


def test_without_beam_it_says_how_to_install_it(face_videos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"needs apache-beam. Install it: pip install 'affect\[beam\]'$"):
        prepare(face_videos, dataset="folder", out=tmp_path / "s", faces=SMALL_FACES, beam_options=[])
