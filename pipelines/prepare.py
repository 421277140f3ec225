"""prepare(): a data set × a detector → sharded TFRecords of aligned faces, and their manifest."""

import functools
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from affect.config import Faces
from affect.errors import InputError
from affect.extras import require
from affect.files import lock_folder, name_failure, warn_without_lock
from affect.pipelines.claims import BEAT_S, find_claimed
from affect.pipelines.datasets.source import Source
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.join import SHARD_BYTES, join
from affect.pipelines.parts import (
    MAKING,
    PART_FACES,
    SETTINGS,
    is_done,
    open_parts,
    outcome_of,
    read_part,
    write_part,
)
from affect.pipelines.plan import MANIFEST, check_prepared, check_same_settings, make_plan, read_manifest
from affect.progress import Track, hide_progress

# Folder of the unfinished parts. No other program is likely to use this name, so the folder may be removed.
PARTS = "unfinished_parts"
# Windows cannot wait for more processes.
MOST_WORKERS = 61 if sys.platform == "win32" else 1024


def prepare(
    source: Path | str,
    *,
    dataset: str,
    out: Path | str,
    faces: Faces,
    workers: int | None = None,
    overwrite: bool = False,
    track: Track = hide_progress,
    beam_options: Sequence[str] | None = None,
    part_faces: int = PART_FACES,
    shard_bytes: int = SHARD_BYTES,
    beat_s: float = BEAT_S,
) -> dict[str, Any]:
    """Cuts the faces of every clip of a data set and writes the shards.

    Each clip becomes a part as soon as it is done. At the end the parts are joined to shards. If the command is stopped
    or killed, the next call resumes from the parts, and the result has the same bytes. Clips are sorted by the hash of
    their key, so that each shard holds a fair mix of classes.

    A clip is one example with the clip's key. A track of more than `part_faces` faces becomes several examples,
    `KEY#000`, `KEY#001` and so on, so that memory does not grow with the length of a video. With `faces.tracks="all"`
    the main track comes first, under the clip's key; the other tracks are `KEY@1`, `KEY@2` and so on, and a long one is
    split in the same way. `recording` of every example is the clip's key, and `part` counts a clip's examples from 0.

    Args:
        source: Folder or file of the data set.
        dataset: Name in `DATASETS`.
        out: Folder for the shards.
        faces: How faces are found, cut and stored.
        workers: Processes; `None` starts one for each core. With 1 everything runs in this process.
        overwrite: Whether to discard what was prepared in `out` before.
        track: Shows progress.
        beam_options: Options of Apache Beam. The runner that they name cuts the clips, and `workers` has no effect. The
            shards are joined in this process. All paths must be absolute, and all of Beam's workers must reach the
            videos, `faces.boxes` and `out` by these paths.
        part_faces: Largest number of faces of one example. A run that is resumed must have the same.
        shard_bytes: Size in bytes at which a shard is closed.
        beat_s: Of the jobs of an array that `overwrite` would discard, as in `affect.pipelines.claims.claim`.

    Returns:
        The manifest:

        - `settings`, `classes`, `counts`, `shards`.
        - `differences` from the numbers of clips that the data set's publisher gives.
        - `left_out`: sentences on files that look like clips and cannot be used. `notes`: sentences on names that were
          not read as they are written.
        - `clips`: an entry for each example. `bytes`, `source_sha256`, `frames_decoded`, `problem` and `notes` describe
          the whole clip and are equal for all its examples. `counts` counts them once, as `videos`,
          `videos_with_a_face` and `frames`. `problem` is empty if the video was used without loss. `notes` are remarks
          that cost no frame.

    Raises:
        InputError: On an unknown name, a setting of faces that can have no effect, a source without clips, clips that
            `check_clips` refuses, or a worker that died. Also if another process writes to `out`, or if `out` was
            prepared with other settings or from other clips (videos are compared by SHA-256), lacks a shard, or holds
            the manifest of another program.
    """
    if beam_options is not None:
        _check_absolute(source, out, faces.boxes)
    plan = make_plan(source, dataset, faces)
    out = Path(out)
    parts = out / PARTS
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out, parts), name_failure(out, " It continues."):
        manifest = read_manifest(out) if (out / MANIFEST).exists() else None
        if overwrite:
            _discard(out, parts, beat_s)
        elif manifest:
            check_prepared(out, plan, manifest)
            shutil.rmtree(parts, ignore_errors=True)
            return manifest | plan.said
        _open_parts(out, parts, plan.settings | {"classes": list(plan.classes)})
        waiting = [clip for clip in plan.sources if not is_done(parts, clip)]
        for clip in waiting:
            # Otherwise, if this process is killed, the old outcome of a changed video would lie beside new records.
            outcome_of(parts, clip).unlink(missing_ok=True)
        if beam_options is None:
            outcomes = cut_clips(waiting, parts, faces, plan.classes, part_faces, workers, locked=parts)
        else:
            outcomes = _import_beam().write_parts(waiting, parts, faces, plan.classes, beam_options, part_faces)
        for _ in track(outcomes, len(waiting), "videos"):
            pass
        examples = []
        for clip in plan.sources:
            found = read_part(parts, clip)
            if not found:
                raise InputError(f"{parts} lacks the records of {clip.key}. Run the same command again.")
            examples += found
        return join(plan, examples, parts, out, shard_bytes)


def _check_absolute(*paths):
    for path in paths:
        if path is not None and not Path(path).is_absolute():
            raise InputError(f"Beam's workers run in folders of their own: give absolute paths. Received: {path}")


def _import_beam():
    require("beam", "--runner beam")
    from affect.pipelines import beam

    return beam


@contextmanager
def _lock(out, parts):
    """Locks a folder against other runs, and waits until the workers of a killed run have ended."""
    tries = 10
    while True:
        try:
            held = lock_folder(out, is_needed=False)
            break
        except BlockingIOError as error:
            tries -= 1  # a child that a killed run was about to start releases the lock at once
            if not tries:
                raise InputError(
                    f"Another affect prepare writes to {out}. Wait for it, or choose another --out."
                ) from error
            time.sleep(0.1)
    warn_without_lock(held, out, "affect prepare")
    try:
        if parts.is_dir():
            lock_folder(parts, waits=True, is_needed=False).close()
        yield
    finally:
        held.close()


def check_idle(out: Path, parts: Path, *, beat_s: float = BEAT_S) -> None:
    """Checks that no job of an array works in a folder.

    Args:
        out: Folder of the shards.
        parts: Folder of the parts.
        beat_s: As in `affect.pipelines.claims.claim`.

    Raises:
        InputError: When a job does; it is named.
    """
    jobs = [parts, *(folder for folder in parts.glob("*-of-*") if folder.is_dir())]
    for folder, owner in find_claimed(jobs, beat_s=beat_s).items():
        work = (
            "its parts are being joined"
            if folder == parts
            else f"part {folder.name.replace('-of-', '/')} is being made"
        )
        raise InputError(f"{out}: {work} by {owner}. Wait for it.")


def _discard(out, parts, beat_s):
    check_idle(out, parts, beat_s=beat_s)
    for folder in (out, parts):
        if (folder / MANIFEST).exists():
            for shard in read_manifest(folder)["shards"]:
                (out / shard["name"]).unlink(missing_ok=True)
            (folder / MANIFEST).unlink()
    shutil.rmtree(parts, ignore_errors=True)


def _open_parts(out, parts, settings):
    """Makes the folder of the parts, or resumes in the existing one if it has the same settings."""
    for folder in out.glob(f"{PARTS}-{MAKING}*"):
        shutil.rmtree(folder)
    # Parts without settings were left by a run that was killed while it removed them.
    if parts.exists() and not (parts / SETTINGS).exists():
        shutil.rmtree(parts)
    found = open_parts(parts, settings)
    if "parts" in found:
        raise InputError(
            f"{out} holds an array job of {found['parts']} parts. Join them: the same command with --join. Or discard "
            "them with --overwrite."
        )
    check_same_settings(out, settings, found, "Choose another --out, or discard it with --overwrite.")
    for folder in parts.glob(f"{MAKING}*"):
        shutil.rmtree(folder)


def cut_clips(
    sources: Sequence[Source],
    parts: Path,
    faces: Faces,
    classes: Sequence[str],
    part_faces: int,
    workers: int | None,
    *,
    locked: Path | None,
) -> Iterator[Source]:
    """Writes the parts of clips on this machine.

    Args:
        sources: Clips.
        parts, faces, classes, part_faces: As in `affect.pipelines.parts.write_part`.
        workers: Processes; `None` starts one for each core.
        locked: Folder that each worker locks while it lives; `None` locks none.

    Yields:
        Each clip when its part is on disk.

    Raises:
        InputError: When a worker dies.
    """
    if not sources:
        return  # no detector needs to be built
    workers = workers or _count_cores()
    if workers == 1 or len(sources) == 1:
        detector = DETECTORS[faces.detector](faces)
        for clip in sources:
            write_part(clip, parts, faces, classes, detector, part_faces)
            yield clip
        return
    # Threads do not survive a fork, so the workers are spawned.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(sources), MOST_WORKERS), context, _start_worker, (locked,)) as pool:
        try:
            futures = {pool.submit(_work, clip, parts, faces, classes, part_faces): clip for clip in sources}
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise InputError(
                "A worker process died, perhaps because memory ran out. Finished clips are kept. Run the same "
                "command again, with fewer --workers."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _count_cores():
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(locked):
    if locked:
        lock_folder(locked, is_shared=True, waits=True, is_needed=False)
    process = multiprocessing.parent_process()
    assert process  # a worker has one
    parent = process.sentinel
    if wait([parent], timeout=0):
        os._exit(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent):
    """Ends this worker when its run ends. A killed run cannot end its workers, and they would disturb the next run."""
    wait([parent])
    os._exit(1)


def _work(clip, parts, faces, classes, part_faces):
    write_part(clip, parts, faces, classes, _build_detector(faces), part_faces)


@functools.cache
def _build_detector(faces):
    return DETECTORS[faces.detector](faces)
