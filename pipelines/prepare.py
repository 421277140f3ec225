"""prepare(): a data set × a detector → sharded TFRecords of aligned faces, and their manifest."""

import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from pathlib import Path

import tensorflow as tf

from affect import records
from affect.config import read_json, to_json, write_json
from affect.errors import InputError
from affect.labels import order_classes
from pipelines.aligned import read_clip, sha256_of_images, timed_images
from pipelines.datasets import DATASETS, PUBLISHED
from pipelines.datasets.source import check_clips
from pipelines.detectors import DETECTORS
from pipelines.faces import cut_clip
from pipelines.video import sha256_of

MANIFEST = "manifest.json"
# Folder of what is not finished; its name is unlikely enough to be ours, so that it may be discarded.
PARTS = "unfinished_parts"
# A shard is closed when it reaches this size: large enough to read fast, small enough to shuffle and move.
SHARD_BYTES = 128 * 2**20


def prepare(source, *, dataset, out, faces, workers=None, overwrite=False, track=None):
    """Cuts the main face of every clip of a data set and writes the shards.

    Each clip becomes a part file as soon as it is done; the shards are joined from the parts at the end. A run that
    was stopped goes on from its parts, and the result is the same to the byte. Clips stand in the order of the hash of
    their key, so that each shard holds a fair mix of classes.

    Args:
        source: Folder or file of the data set.
        dataset: Name in `DATASETS`.
        out: Folder for the shards.
        faces: `affect.config.Faces`.
        workers: Processes; `None` is one for each core. With 1 everything runs in this process.
        overwrite: Whether to discard what was prepared in `out` before.
        track: `track(iterable, total, description)` → iterable, to show progress.

    Returns:
        The manifest, a dict: `settings`, `classes`, `counts`, `differences` from the numbers of clips that the data
        set's publisher gives, `shards` and `clips`. A clip's `problem` is empty where its video could be used without
        loss.

    Raises:
        InputError: On an unknown name, a source without clips, clips that `check_clips` refuses, a worker that died, or
            an `out` that was prepared with other settings or from other clips, lacks a shard or holds another's
            manifest.
    """
    if dataset not in DATASETS:
        raise InputError(f"Unknown data set. Expected one of {sorted(DATASETS)}. Received: {dataset!r}")
    if faces.detector not in DETECTORS:
        raise InputError(f"Unknown detector. Expected one of {sorted(DETECTORS)}. Received: {faces.detector!r}")
    sources = check_clips(source, DATASETS[dataset](source))
    sources.sort(key=lambda clip: _digest(clip.key))
    out, classes = Path(out), order_classes(name for clip in sources for name in (clip.label, *(clip.votes or ())))
    settings = {"records_version": records.VERSION, "dataset": dataset, "faces": to_json(faces)}
    parts = out / PARTS
    manifest = _read_manifest(out) if (out / MANIFEST).exists() else None
    if overwrite:
        for name in [*(shard["name"] for shard in manifest["shards"]), MANIFEST] if manifest else []:
            (out / name).unlink(missing_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
    elif manifest:
        _check_same(out, settings, manifest["settings"])
        _check_same_clips(out, sources, manifest["clips"])
        for shard in manifest["shards"]:
            if not (out / shard["name"]).is_file():
                raise InputError(f"{out / shard['name']} is missing. Make the shards again with --overwrite.")
        shutil.rmtree(parts, ignore_errors=True)
        return manifest
    parts.mkdir(parents=True, exist_ok=True)
    # Records hold the place of their label in the classes, so parts hang on those too.
    settings_of_parts = settings | {"classes": list(classes)}
    if (parts / "settings.json").exists():
        _check_same(out, settings_of_parts, read_json(parts / "settings.json"))
    write_json(parts / "settings.json", settings_of_parts)

    waiting = [clip for clip in sources if not _is_done(parts, clip)]
    outcomes = _run(waiting, parts, faces, classes, workers or len(os.sched_getaffinity(0)))
    for _ in track(outcomes, len(waiting), "videos") if track else outcomes:
        pass
    entries = [read_json(_part(parts, clip.key).with_suffix(".json")) for clip in sources]
    manifest = {
        "settings": settings,
        "classes": list(classes),
        "counts": {
            "clips": len(entries),
            "clips_with_a_face": sum(entry["frames_with_a_face"] > 0 for entry in entries),
            "frames": sum(entry["frames_decoded"] for entry in entries),
            "faces": sum(entry["frames_with_a_face"] for entry in entries),
        },
        "differences": _differences(dataset, entries),
        "shards": _join(entries, parts, out),
        "clips": entries,
    }
    write_json(out / MANIFEST, manifest)
    shutil.rmtree(parts)
    return manifest


def _run(sources, parts, faces, classes, workers):
    """Yields each clip when its part is on disk."""
    if workers == 1 or len(sources) <= 1:
        detector = DETECTORS[faces.detector](faces) if sources else None
        for clip in sources:
            _write_part(clip, parts, faces, classes, detector)
            yield clip
        return
    # spawn: TensorFlow does not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(sources)), context, _start_worker, (faces,)) as pool:
        try:
            futures = {pool.submit(_work, clip, parts, faces, classes): clip for clip in sources}
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool as error:
            raise InputError(
                "A worker process died, perhaps for want of memory. The clips that were done are kept: run the same "
                "command again, with fewer --workers."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_detector = None


def _start_worker(faces):
    global _detector
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    _detector = DETECTORS[faces.detector](faces)


def _work(clip, parts, faces, classes):
    _write_part(clip, parts, faces, classes, _detector)


def _write_part(source, parts, faces, classes, detector):
    """Cuts one clip; its record, then its outcome. The outcome is renamed last: where it stands, the part is whole."""
    entry = {"key": source.key, **_listed(source), "bytes": 0}
    identity = {
        "key": source.key,
        "label": source.label,
        "label_index": classes.index(source.label) if source.label else -1,
        "subject": source.subject,
        "votes": tuple(source.votes.get(name, 0.0) for name in classes) if source.votes else None,
        "dimensions": source.dimensions,
    }
    try:
        entry["bytes"] = _size(source)
        identity["source_sha256"] = (sha256_of_images if source.aligned else sha256_of)(source.path)
    except FileNotFoundError:
        kind = "folder" if source.aligned else "file"
        clip, problem = records.Clip(**identity), f"There is no {kind} {source.path}."
    except OSError as error:
        clip, problem = records.Clip(**identity), f"{source.path} cannot be read ({error.strerror})."
    else:
        try:
            if source.aligned:
                clip, problem = read_clip(source.path, faces, **identity)
            else:
                clip, problem = cut_clip(
                    source.path, faces, detector, start_s=source.start_s, end_s=source.end_s, **identity
                )
        except Exception as error:
            error.add_note(f"while {source.path} was cut")
            raise
    part = _part(parts, source.key)
    temporary = part.with_suffix(".tmp")
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        writer.write(records.encode_example(clip))
    temporary.replace(part)
    entry |= {
        "source_sha256": clip.source_sha256,
        "frames_decoded": clip.frames_decoded,
        "frames_with_a_face": len(clip.faces),
        "problem": problem,
    }
    write_json(part.with_suffix(".json"), entry)


def _differences(dataset, entries):
    """Returns a line for each class that has another number of clips than its publisher says."""
    found = Counter((entry["split"], entry["label"]) for entry in entries)
    published = PUBLISHED.get(dataset, {})
    return [
        f"{split}/{label}: {found[split, label]} clips, {count} published"
        for (split, label), count in published.items()
        if found[split, label] != count
    ]


def _join(entries, parts, out):
    """Joins parts to shards, split by split; TFRecord files may simply be concatenated."""
    shards = []
    for split in sorted({entry["split"] for entry in entries}):
        groups, size = [], SHARD_BYTES
        for entry in entries:
            if entry["split"] != split:
                continue
            if size >= SHARD_BYTES:
                groups.append([])
                size = 0
            groups[-1].append(entry["key"])
            size += _part(parts, entry["key"]).stat().st_size
        for index, keys in enumerate(groups):
            shard = out / f"{split}-{index:05d}-of-{len(groups):05d}.tfrecord"
            temporary = parts / f"{shard.name}.tmp"
            with open(temporary, "wb") as file:
                for key in keys:
                    with open(_part(parts, key), "rb") as part:
                        shutil.copyfileobj(part, file)
            temporary.replace(shard)
            sizes = {"clips": len(keys), "bytes": shard.stat().st_size}
            shards.append({"name": shard.name, "split": split, **sizes, "sha256": sha256_of(shard)})
    return shards


def _part(parts, key):
    return parts / f"{_digest(key)}.tfrecord"


def _digest(key):
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _size(source):
    if source.aligned:
        return sum(path.stat().st_size for _, path in timed_images(source.path)) if source.path.is_dir() else 0
    # Not Path.is_file, which raises where a name is too long.
    return source.path.stat().st_size if os.path.isfile(source.path) else 0


def _is_done(parts, source):
    outcome = _part(parts, source.key).with_suffix(".json")
    return outcome.exists() and not _differs(source, read_json(outcome))


def _listed(source):
    """Returns what the data set says of a clip, as its entry in the manifest holds it."""
    series = source.dimensions
    return {
        "label": source.label,
        "subject": source.subject,
        "split": source.split,
        "votes": source.votes,
        "dimensions_sha256": hashlib.sha256(repr(astuple(series)).encode()).hexdigest() if series else "",
    }


def _differs(source, entry):
    """Returns whether a clip is listed otherwise than when it was cut. A video that is gone since does not differ."""
    listed = _listed(source)
    return listed != {name: entry.get(name) for name in listed} or _size(source) not in (0, entry["bytes"])


def _read_manifest(out):
    manifest = read_json(out / MANIFEST)
    if not {"settings", "classes", "shards", "clips"} <= manifest.keys():
        raise InputError(f"{out / MANIFEST} is not a manifest of shards. Choose another --out.")
    return manifest


def _check_same(out, wanted, found):
    wanted, found = ({**values, **values["faces"]} for values in (wanted, found))
    changed = [name for name in wanted if name != "faces" and wanted[name] != found.get(name)]
    if changed:
        pairs = ", ".join(f"{name}={json.dumps(found.get(name))}, now {json.dumps(wanted[name])}" for name in changed)
        raise InputError(f"{out} was prepared with {pairs}. Choose another --out, or discard it with --overwrite.")


def _check_same_clips(out, sources, entries):
    now = {clip.key: clip for clip in sources}
    before = {entry["key"]: entry for entry in entries}
    changed = sorted(now.keys() ^ before.keys()) or [key for key in now if _differs(now[key], before[key])]
    if changed:
        names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise InputError(
            f"{out} was prepared from other videos or labels; {len(changed)} came, went or changed ({names}). "
            "Choose another --out, or discard it with --overwrite."
        )
