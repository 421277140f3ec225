"""prepare(): a data set × a detector → sharded TFRecords of aligned faces, and their manifest."""

import dataclasses
import functools
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import tensorflow as tf

from affect.config import Faces, read_json, to_json, write_json
from affect.data import records
from affect.data.labels import order_classes
from affect.errors import InputError
from affect.extras import require
from affect.files import lock_folder, sha256_of
from affect.pipelines.datasets import DATASETS, PUBLISHED
from affect.pipelines.datasets.source import check_clips
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.parts import (
    MAKING,
    PART_FACES,
    differs,
    digest,
    is_done,
    outcome_of,
    read_part,
    record_of,
    write_part,
)
from affect.progress import Track, hide_progress

MANIFEST = "manifest.json"
# Folder of the unfinished parts. No other program is likely to use this name, so the folder may be removed.
PARTS = "unfinished_parts"
# A shard is closed when it reaches this size: large enough to read fast, small enough to shuffle and move.
SHARD_BYTES = 128 * 2**20
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
    if dataset not in DATASETS:
        raise InputError(f"Unknown data set. Expected one of {sorted(DATASETS)}. Received: {dataset!r}")
    if faces.detector not in DETECTORS:
        raise InputError(f"Unknown detector. Expected one of {sorted(DETECTORS)}. Received: {faces.detector!r}")
    if beam_options is not None:
        _check_absolute(source, out, faces.boxes)
    sources = check_clips(source, DATASETS[dataset](source))
    said = {"left_out": sources.left_out, "notes": sources.notes}
    _check_effects(faces, all(clip.aligned for clip in sources))
    sources.sort(key=lambda clip: digest(clip.key))
    out, classes = Path(out), order_classes(name for clip in sources for name in (clip.label, *(clip.votes or ())))
    settings = {"records_version": records.VERSION, "dataset": dataset, "faces": to_json(faces)}
    if faces.boxes:
        DETECTORS[faces.detector](faces)  # refuses a file with a fault
        settings["boxes_sha256"] = sha256_of(faces.boxes)
    parts = out / PARTS
    out.mkdir(parents=True, exist_ok=True)
    with _lock(out, parts):
        manifest = _read_manifest(out) if (out / MANIFEST).exists() else None
        if overwrite:
            _discard(out, parts)
        elif manifest:
            _check_same(out, settings, manifest["settings"])
            _check_same_clips(out, sources, manifest["clips"])
            for shard in manifest["shards"]:
                if not (out / shard["name"]).is_file():
                    raise InputError(f"{out / shard['name']} is missing. Make the shards again with --overwrite.")
            shutil.rmtree(parts, ignore_errors=True)
            return manifest | said
        _open_parts(out, parts, settings | {"classes": list(classes)})
        waiting = [clip for clip in sources if not is_done(parts, clip)]
        for clip in waiting:
            # Otherwise, if this process is killed, the old outcome of a changed video would lie beside new records.
            outcome_of(parts, clip).unlink(missing_ok=True)
        if beam_options is None:
            outcomes = _cut(waiting, parts, faces, classes, part_faces, workers or _count_cores())
        else:
            outcomes = _import_beam().write_parts(waiting, parts, faces, classes, beam_options, part_faces)
        for _ in track(outcomes, len(waiting), "videos"):
            pass
        entries = [entry for clip in sources for entry in read_part(parts, clip)]
        manifest = {
            "settings": settings,
            "classes": list(classes),
            "counts": _count(entries),
            "differences": _list_differences(dataset, entries),
            **said,
            "shards": _join(entries, parts, shard_bytes),
            "clips": entries,
        }
        # It is moved last, so a manifest in `out` means that all its shards are there. While the shards are moved, the
        # one in `parts` lists them.
        write_json(parts / MANIFEST, manifest)
        for name in (*(shard["name"] for shard in manifest["shards"]), MANIFEST):
            (parts / name).replace(out / name)
        shutil.rmtree(parts)
        return manifest


def _check_effects(faces, are_aligned):
    """Refuses a setting that can have no effect on these faces."""
    idle: tuple[str, ...]
    if are_aligned:
        idle = ("detector", "min_face_px", "score_threshold", "margin_ratio", "detect", "tracks", "boxes")
        reason = "these faces are cut already. Only --face-size, --frame-rate-hz and --jpeg-quality have an effect"
    elif faces.detector == "boxes":
        idle, reason = ("min_face_px",), "the faces are read from --boxes. --score-threshold can leave some of them out"
    else:
        return
    for field in dataclasses.fields(faces):
        value = getattr(faces, field.name)
        if field.name in idle and value != field.default:
            option = "--faces" if field.name == "tracks" else f"--{field.name.replace('_', '-')}"
            raise InputError(f"{option} {value} has no effect: {reason}. Leave it out.")


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
            held = lock_folder(out)
            break
        except BlockingIOError as error:
            tries -= 1  # a child that a killed run was about to start releases the lock at once
            if not tries:
                raise InputError(
                    f"Another affect prepare writes to {out}. Wait for it, or choose another --out."
                ) from error
            time.sleep(0.1)
    try:
        if parts.is_dir():
            lock_folder(parts, waits=True).close()
        yield
    finally:
        held.close()


def _discard(out, parts):
    for folder in (out, parts):
        if (folder / MANIFEST).exists():
            for shard in _read_manifest(folder)["shards"]:
                (out / shard["name"]).unlink(missing_ok=True)
            (folder / MANIFEST).unlink()
    shutil.rmtree(parts, ignore_errors=True)


def _open_parts(out, parts, settings):
    """Makes the folder of the parts, or resumes in the existing one if it has the same settings."""
    listed = parts / "settings.json"
    if listed.exists():
        _check_same(out, settings, read_json(listed))
        for folder in parts.glob(f"{MAKING}*"):
            shutil.rmtree(folder)
        return
    # Parts without settings were left by a run that was killed while it removed them.
    if parts.exists():
        shutil.rmtree(parts)
    parts.mkdir()
    # Records hold the index of their label, so parts depend on the classes too.
    write_json(listed, settings)


def _cut(sources, parts, faces, classes, part_faces, workers):
    """Writes the parts of clips. Yields each clip when its part is on disk."""
    if not sources:
        return  # no detector needs to be built
    if workers == 1 or len(sources) == 1:
        detector = DETECTORS[faces.detector](faces)
        for clip in sources:
            write_part(clip, parts, faces, classes, detector, part_faces)
            yield clip
        return
    # TensorFlow does not work after a fork, so the workers are spawned.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(sources), MOST_WORKERS), context, _start_worker, (parts,)) as pool:
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


def _start_worker(parts):
    lock_folder(parts, is_shared=True, waits=True)
    process = multiprocessing.parent_process()
    assert process  # a worker has one
    parent = process.sentinel
    if wait([parent], timeout=0):
        os._exit(1)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def _end_with(parent):
    """Ends this worker when its run ends. A killed run cannot end its workers, and they would disturb the next run."""
    wait([parent])
    os._exit(1)


def _work(clip, parts, faces, classes, part_faces):
    write_part(clip, parts, faces, classes, _build_detector(faces), part_faces)


@functools.cache
def _build_detector(faces):
    return DETECTORS[faces.detector](faces)


def _count(entries):
    videos = [entry for entry in entries if entry["part"] == 0]
    return {
        "videos": len(videos),
        "videos_with_a_face": sum(entry["frames_with_a_face"] > 0 for entry in videos),
        "frames": sum(entry["frames_decoded"] for entry in videos),
        "clips": len(entries),
        "clips_with_a_face": sum(entry["frames_with_a_face"] > 0 for entry in entries),
        "faces": sum(entry["frames_with_a_face"] for entry in entries),
    }


def _list_differences(dataset, entries):
    """Returns a line for each class whose number of clips differs from the published one."""
    found = Counter((entry["split"], entry["label"]) for entry in entries if entry["part"] == 0)
    published = PUBLISHED.get(dataset, {})
    return [
        f"{split}/{label}: {found[split, label]} clips, {count} published"
        for (split, label), count in published.items()
        if found[split, label] != count
    ]


def _join(entries, parts, shard_bytes):
    """Joins the records to shards, split by split, in the folder of the parts; TFRecord files may be concatenated."""
    shards: list[dict[str, Any]] = []
    for split in sorted({entry["split"] for entry in entries}):
        groups, size = [], shard_bytes
        for entry in entries:
            if entry["split"] != split:
                continue
            if size >= shard_bytes:
                groups.append([])
                size = 0
            record = record_of(parts, entry)
            groups[-1].append(record)
            size += record.stat().st_size
        for index, group in enumerate(groups):
            shard = parts / f"{split}-{index:05d}-of-{len(groups):05d}.tfrecord"
            with open(shard, "wb") as file:
                for record in group:
                    with open(record, "rb") as content:
                        shutil.copyfileobj(content, file)
            sizes = {"clips": len(group), "bytes": shard.stat().st_size}
            shards.append({"name": shard.name, "split": split, **sizes, "sha256": sha256_of(shard)})
    return shards


def _read_manifest(out):
    manifest = read_json(out / MANIFEST)
    if not {"settings", "classes", "shards", "clips"} <= manifest.keys():
        raise InputError(f"{out / MANIFEST} is not a manifest of shards. Choose another --out.")
    return manifest


def _check_same(out, wanted, found):
    # A manifest of an older version lacks newer settings. Their defaults are the values that were fixed then.
    wanted, found = ({**to_json(Faces()), **values, **values["faces"]} for values in (wanted, found))
    changed = [name for name in wanted if name != "faces" and wanted[name] != found.get(name)]
    if changed:
        pairs = ", ".join(f"{name}={json.dumps(found.get(name))}, now {json.dumps(wanted[name])}" for name in changed)
        raise InputError(f"{out} was prepared with {pairs}. Choose another --out, or discard it with --overwrite.")


def _check_same_clips(out, sources, entries):
    now = {clip.key: clip for clip in sources}
    before = {entry["recording"]: entry for entry in entries}
    changed = sorted(now.keys() ^ before.keys()) or [key for key in now if differs(now[key], before[key])]
    if changed:
        names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise InputError(
            f"{out} was prepared from other videos or labels. Added, removed or changed: {len(changed)} ({names}). "
            "Choose another --out, or discard it with --overwrite."
        )
