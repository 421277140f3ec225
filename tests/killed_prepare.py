"""Kills `prepare` again and again, for tests/test_prepare.py.

    python -m tests.killed_prepare SOURCE BOXES OUT KILLS SEED

TensorFlow takes seconds to start, so it is imported once and every run is a fork, before anything of it is used; the
workers, too. Each run is killed with all it has in memory at a random instant and begun again, until one ends; then the
shards are kept and another `OUT/<number>` is begun, until so many runs were killed. `OUT/whole` is made by one run.
What a run does to files is slowed down, so that as many instants fall there as in the cutting.
"""

import fcntl
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from affect.config import Faces
from affect.pipelines.prepare import PARTS, prepare

PAUSE_S = 0.004


def slow(function):
    @functools.wraps(function)
    def slowed(*args, **kwargs):
        time.sleep(PAUSE_S)
        result = function(*args, **kwargs)
        time.sleep(PAUSE_S)
        return result

    return slowed


def release_in_forks():
    """Closes the lock of a run in its workers, because a spawned worker does not inherit it and a fork does."""
    held, flock = [], fcntl.flock

    def lock(file, how):
        flock(file, how)
        if how == fcntl.LOCK_EX | fcntl.LOCK_NB:  # the run's own lock
            held.append(file)

    def release():
        while held:
            os.close(held.pop())

    fcntl.flock = lock
    os.register_at_fork(after_in_child=release)


def start(source, faces, out):
    """Starts a run in a process of its own and returns its id."""
    child = os.fork()
    if not child:
        try:
            prepare(source, dataset="folder", out=out, faces=faces, workers=2, part_faces=4, shard_bytes=20_000)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def is_killed(child):
    """Waits for the end of a run, which must not fail; returns whether it was killed."""
    status = os.waitpid(child, 0)[1]
    if status not in (0, signal.SIGKILL):
        raise SystemExit(f"a run ended with the status {status}")
    return status == signal.SIGKILL


def main(source, boxes, out, kills, seed):
    context = multiprocessing.get_context("fork")
    multiprocessing.get_context = lambda method: context
    release_in_forks()
    faces = Faces(detector="boxes", boxes=boxes, face_size=32, tracks="all")
    is_killed(start(source, faces, out / "whole"))
    shutil.copyfileobj, Path.replace, os.unlink = slow(shutil.copyfileobj), slow(Path.replace), slow(os.unlink)
    begin = time.monotonic()
    is_killed(start(source, faces, out / "0"))
    whole_s = time.monotonic() - begin
    draw, killed, in_join, number = random.Random(seed), 0, 0, 1
    while killed < kills:
        child = start(source, faces, out / str(number))
        # What is left to do shrinks from run to run, and with it the lives that are long enough to see the end.
        time.sleep(whole_s * draw.random() ** 2)
        os.kill(child, signal.SIGKILL)
        if is_killed(child):
            killed += 1
            in_join += bool([*(out / str(number) / PARTS).glob("*-of-*")])
        else:
            number += 1
    is_killed(start(source, faces, out / str(number)))
    print(json.dumps({"killed": killed, "in_join": in_join, "finished": number + 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
