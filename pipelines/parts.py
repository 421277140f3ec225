"""One clip of a data set → its part: the records of its faces, and the outcome that says that they are whole.

Parts lie in one folder until `prepare` joins them to shards. Whoever writes them, one process or a cluster, a part is
the same to the byte.
"""

import hashlib
import math
import os
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import tensorflow as tf

from affect.config import read_json, write_json
from affect.data import records
from affect.files import sha256_of
from affect.pipelines.aligned import read_clip, sha256_of_images, size_of_images
from affect.pipelines.faces import cut_video
from affect.pipelines.files import name_fault
from affect.pipelines.spool import Spool

# Faces of one example at most, so that it fits in memory: 20 s at 25 frames a second.
PART_FACES = 512
# How the folders begin in which a part is made.
MAKING = "making-"


def write_part(source, parts, faces, classes, detector):
    """Cuts one clip and writes its records and, last, its outcome.

    A part is made in a folder of its own and renamed into place, so that two that write the same one do no harm.

    Args:
        source: `affect.pipelines.datasets.source.Source`.
        parts: Folder of the parts.
        faces: `affect.config.Faces`.
        classes: Class names in the manifest's order.
        detector: Built from a row of `DETECTORS`.
    """
    video = {**_listed(source), "bytes": 0, "source_sha256": ""}
    # Tracks are (number of faces, iterator of faces) of each chosen one; `seen` counts all.
    notes, tracks, clip, seen = [], [], {}, 0
    with TemporaryDirectory(prefix=MAKING, dir=parts) as folder:
        folder = Path(folder)
        try:
            video["bytes"] = _size(source)
            fault = "" if source.aligned else name_fault(source.path)
            # A pipe or a device is not opened. The bytes of a pointer to a large file say whether it was fetched since.
            video["source_sha256"] = _sha256(source) if video["bytes"] or not fault else ""
        except FileNotFoundError:
            problem = f"There is no {'folder' if source.aligned else 'file'} {source.path}."
        except OSError as error:
            problem = f"{source.path} cannot be read ({error.strerror})."
        else:
            try:
                if fault:
                    problem = fault
                elif source.aligned:
                    whole, problem = read_clip(source.path, faces, key=source.key)
                    clip = {"frame_rate_hz": whole.frame_rate_hz, "frames_decoded": whole.frames_decoded}
                    tracks = [(len(whole.faces), iter(whole.faces))]
                    seen = int(bool(whole.faces))
                else:
                    spool = Spool(folder)
                    part = {"start_s": source.start_s, "end_s": source.end_s}
                    cut = cut_video(source.path, faces, detector, spool.add, key=source.key, **part)
                    clip, problem = {"frame_rate_hz": cut.frame_rate_hz, "frames_decoded": cut.frames}, cut.problem
                    notes = list(cut.notes)
                    tracks = [(track.frames, spool.faces(track.id)) for track in cut.tracks]
                    seen = len(cut.seen)
            except Exception as error:
                error.add_note(f"while {source.path} was cut")
                raise
        clip |= {
            "label": source.label,
            "label_index": classes.index(source.label) if source.label else -1,
            "subject": source.subject,
            "source_sha256": video["source_sha256"],
            "recording": source.key,
            "votes": tuple(source.votes.get(name, 0.0) for name in classes) if source.votes else None,
            "dimensions": source.dimensions,
        }
        entries, faces_s = [], []
        for key, chosen in _examples(source.key, tracks):
            example = records.Clip(key=key, part=len(entries), faces=chosen, **clip)
            entry = {"key": key, "recording": source.key, "part": example.part, **video}
            entry |= {"frames_decoded": example.frames_decoded, "frames_with_a_face": len(chosen)}
            entry |= {"faces_seen": seen, "problem": problem, "notes": notes}
            with tf.io.TFRecordWriter(str(folder / "record")) as writer:
                writer.write(records.encode_example(example))
            (folder / "record").replace(record_of(parts, entry))
            entries.append(entry)
            faces_s += [face.timestamp_s for face in chosen]
        if source.dimensions and clip.get("frames_decoded") and source.start_s is None and source.end_s is None:
            rates = clip["frames_decoded"], clip["frame_rate_hz"]
            problem = " ".join(
                filter(None, (problem, records.name_rating_fault(source.dimensions.times_s, *rates, faces_s)))
            )
        if clip.get("frames_decoded"):
            read = clip["frames_decoded"], clip["frame_rate_hz"]
            problem = " ".join(filter(None, (problem, name_end_fault(source, *read, faces_s))))
        problem = " ".join(filter(None, (source.problem.strip(), problem)))
        entries = [entry | {"problem": problem} for entry in entries]
        write_json(folder / "outcome", {"clips": entries})
        (folder / "outcome").replace(outcome_of(parts, source))


def name_end_fault(source, frames, frame_rate_hz, faces_s):
    """Compares the end that is listed of a part of a video with the frames that came; see `name_rating_fault`.

    Args:
        source: `affect.pipelines.datasets.source.Source`.
        frames: Frames of the part that were looked at.
        frame_rate_hz: Of these; 0 where unknown.
        faces_s: Times of the part's faces in seconds of the video.

    Returns:
        What is wrong as one sentence; an empty str where nothing is, without an end, or where the rate is unknown.
    """
    if source.end_s is None or not frame_rate_hz:
        return ""
    start_s = source.start_s or 0.0
    times_s = (0.0, source.end_s - start_s)
    if not records.name_rating_fault(times_s, frames, frame_rate_hz, [time_s - start_s for time_s in faces_s]):
        return ""
    return (
        f"{source.path} ends long before end_s={source.end_s:g}: from start_s={start_s:g} on it has {frames} frames. "
        "Times must be in seconds of the video."
    )


def is_done(parts, source):
    """Returns whether a clip has a part, and is not another by now."""
    return outcome_of(parts, source).exists() and not differs(source, read_part(parts, source)[0])


def read_part(parts, source):
    """Returns the manifest's entries of the examples of a clip that is done."""
    return read_json(outcome_of(parts, source))["clips"]


def outcome_of(parts, source):
    """Returns the path of a clip's outcome; where it is there, the part is whole."""
    return parts / f"{digest(source.key)}.json"


def record_of(parts, entry):
    """Returns the path of the record of an example, given its entry in the manifest."""
    return parts / f"{digest(entry['recording'])}-{entry['part']}.tfrecord"


def differs(source, entry):
    """Returns whether a clip or its video is another than when it was cut. A video that is gone since does not differ.

    A video is the same where it has the same SHA-256; when it was written says nothing.
    """
    listed = _listed(source)
    if listed != {name: entry.get(name) for name in listed}:
        return True
    size = _size(source)
    if size in (0, entry["bytes"]):
        try:
            return size > 0 and _sha256(source) != entry["source_sha256"]
        except OSError:
            return False
    return True


def digest(key):
    """Returns the name of a key's files, and what their order depends on."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _examples(key, tracks):
    """Yields `(key, tuple of faces)` of each example, one example's faces at a time."""
    for number, (count, faces) in enumerate(tracks or [(0, iter(()))]):
        name = f"{key}@{number}" if number else key
        examples = max(1, math.ceil(count / PART_FACES))
        for index in range(examples):
            yield f"{name}#{index:03d}" if examples > 1 else name, tuple(islice(faces, PART_FACES))


def _listed(source):
    """Returns what the data set says of a clip, as its entries in the manifest hold it."""
    series = source.dimensions
    return {
        "label": source.label,
        "subject": source.subject,
        "split": source.split,
        "votes": source.votes,
        "dimensions_sha256": hashlib.sha256(repr(astuple(series)).encode()).hexdigest() if series else "",
    }


def _size(source):
    if source.aligned:
        return size_of_images(source.path) if source.path.is_dir() else 0
    # Not Path.is_file, which raises where a name is too long.
    return source.path.stat().st_size if os.path.isfile(source.path) else 0


def _sha256(source):
    return (sha256_of_images if source.aligned else sha256_of)(source.path)
