"""Preparation and training under a real Slurm, which tests/slurm_cluster.sh starts: make test-cluster."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from affect.config import read_json, to_json, write_json
from affect.pipelines.prepare import PARTS, prepare
from tests.folders import contents
from tests.pictures import SMALL_FACES
from tests.trained_apart import CLIPS, check_equal, write_labelled

pytestmark = pytest.mark.cluster
PARTS_OF_ARRAY = 4
COMMAND = [sys.executable, "-m", "affect", "prepare"]


def sbatch(folder, script, *options):
    """Hands a script to Slurm and returns the number of the job."""
    path = folder / "script.sh"
    path.write_text(f"#!/bin/bash\n{script}\n")
    log = Path(os.environ["AFFECT_SLURM_JOBS"]) / "%A-%a.log"
    words = ["sbatch", "--parsable", f"--output={log}", "--mem=0", *options, path]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def states(job):
    """Returns the state of each job of an array: its number in the array → state, such as COMPLETED."""
    shown = subprocess.run(
        ["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True, check=True
    ).stdout
    return {
        int(number): re.search(r"JobState=(\w+)", line)[1]
        for line in shown.splitlines()
        if (number := (re.search(r"ArrayTaskId=(\d+)", line) or [None, "0"])[1])
    }


def wait_for(job, timeout_s=400):
    """Waits until no job of an array is left to run; returns `states`."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        # While jobs wait, Slurm shows several as one: ArrayTaskId=2-4.
        found = states(job)
        if not set(found.values()) & {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}:
            return found
        time.sleep(0.5)
    raise AssertionError(f"job {job} did not end: {found}")


def log_of(job, number):
    return (Path(os.environ["AFFECT_SLURM_JOBS"]) / f"{job}-{number}.log").read_text()


def write_line(source, out, *last):
    words = [*COMMAND, source, "--out", out, "--face-size", SMALL_FACES.face_size, "--workers", 1, *last]
    return "exec " + " ".join(f"'{word}'" if "$" not in str(word) else f'"{word}"' for word in words)


def test_an_array_under_slurm_has_the_bytes_of_a_local_run(labelled_videos, tmp_path):
    out = tmp_path / "out"
    prepare(labelled_videos, dataset="folder", out=tmp_path / "whole", faces=SMALL_FACES, workers=1)
    line = write_line(labelled_videos, out, "--part", f"$SLURM_ARRAY_TASK_ID/{PARTS_OF_ARRAY}")
    numbers = range(1, PARTS_OF_ARRAY + 1)
    array = sbatch(tmp_path, line, f"--array=1-{PARTS_OF_ARRAY}", "--cpus-per-task=1")
    joined = sbatch(
        tmp_path, write_line(labelled_videos, out, "--join"), f"--dependency=afterok:{array}", "--cpus-per-task=1"
    )
    # One job is killed in the middle, with SIGKILL, so that it cannot clean up.
    folder = out / PARTS / f"2-of-{PARTS_OF_ARRAY}"
    end = time.monotonic() + 200
    while not ([*folder.glob("*-0.tfrecord")] and [*folder.glob("making-*")]):
        assert time.monotonic() < end and "COMPLETED" not in states(array).get(2, ""), states(array)
        time.sleep(0.005)
    subprocess.run(["scancel", "--signal=KILL", "--full", f"{array}_2"], check=True)
    found = wait_for(array)
    assert found == {number: "COMPLETED" if number != 2 else found[2] for number in numbers}
    assert found[2] in ("FAILED", "CANCELLED")
    subprocess.run(["scancel", joined], check=True)  # its dependency is never satisfied
    assert (folder / "claim").is_dir() and not (out / "manifest.json").exists()

    # The join names the part that was lost; the array of this part alone makes it, and the join follows.
    lost = sbatch(tmp_path, write_line(labelled_videos, out, "--join"), "--array=1")
    assert wait_for(lost) == {1: "FAILED"}
    said = log_of(lost, 1)
    assert re.search(rf"^affect: Part 2/{PARTS_OF_ARRAY} of {out} lacks \d of 16 clips\. Make it: affect", said, re.M)
    again = sbatch(tmp_path, line, "--array=2", "--cpus-per-task=1")
    joined = sbatch(tmp_path, write_line(labelled_videos, out, "--join"), f"--dependency=afterok:{again}", "--array=1")
    assert wait_for(again) == {2: "COMPLETED"}, log_of(again, 2)
    assert wait_for(joined) == {1: "FAILED"}  # exit code 1, because one video shows no face
    assert "affect: test/sad/1: " in log_of(joined, 1)
    assert contents(out) == contents(tmp_path / "whole")


def test_training_under_srun_learns_what_one_process_does(tmp_path):
    data, config = write_labelled(tmp_path / "shards").folder, tmp_path / "config.json"
    write_json(config, {"experiment": to_json(CLIPS)})
    lines = {
        name: f"export KERAS_BACKEND=jax; {start} {sys.executable} -m affect train {config} --data {data} "
        f"--workdir {tmp_path / name} {options}"
        for name, start, options in (
            ("alone", "exec", ""),
            ("step", "srun --ntasks=2", "--processes slurm"),
        )
    }
    alone = sbatch(tmp_path, lines["alone"], "--array=1", "--cpus-per-task=1")
    assert wait_for(alone) == {1: "COMPLETED"}, log_of(alone, 1)
    step = sbatch(tmp_path, lines["step"], "--array=1", "--ntasks=2", "--cpus-per-task=1")
    assert wait_for(step) == {1: "COMPLETED"}, log_of(step, 1)
    assert log_of(step, 1).count("epochs, best is") == 1  # one task prints
    assert read_json(tmp_path / "step" / "config.json")["device"]["processes"] == 2
    check_equal(tmp_path / "step", tmp_path / "alone")
    # Without a step there is no place.
    batch = sbatch(tmp_path, lines["step"].replace("srun --ntasks=2", "exec"), "--array=1", "--ntasks=2")
    assert wait_for(batch) == {1: "FAILED"}
    assert "affect: --processes slurm needs a step of Slurm, which srun starts: " in log_of(batch, 1)
