"""One clip of a data set → its part: the records of its faces, and an outcome file, which says that they are complete.

The parts are in one folder until `prepare` joins them to shards. A part has the same bytes whether one process or a
cluster writes it.
"""

import contextlib
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from affect.config import Faces, read_json, write_json
from affect.data.clips import Clip, Face, name_rating_fault
from affect.data.examples import encode_example, write_record
from affect.errors import InputError, format_count
from affect.files import check_name, sha256_of
from affect.pipelines.aligned import read_clip, sha256_of_images, size_of_images
from affect.pipelines.datasets.source import Source
from affect.pipelines.faces import cut_video
from affect.pipelines.files import name_fault, state_of
from affect.pipelines.follow import Detector
from affect.pipelines.spool import Spool

# Largest number of faces of one example, so that it fits in memory: 20 s at 25 frames a second.
PART_FACES = 512
# Prefix of the folders in which a part is made.
MAKING = "making-"
# File in the folder of the parts with the settings by which they are made.
SETTINGS = "settings.json"


def write_part(
    source: Source,
    parts: Path,
    faces: Faces,
    classes: Sequence[str],
    detector: Detector,
    part_faces: int = PART_FACES,
) -> None:
    """Cuts one clip and writes its records and, last, its outcome.

    A part is made in a folder of its own and renamed into place, so that two processes may write the same part.

    Args:
        source: The clip.
        parts: Folder of the parts.
        faces: How faces are found, cut and stored.
        classes: Class names in the manifest's order.
        detector: Built from a row of `DETECTORS`.
        part_faces: Largest number of faces of one example.
    """
    video: dict[str, Any] = {**describe_listing(source), "bytes": 0, "source_sha256": ""}
    notes: list[str] = []
    tracks: list[tuple[int, Iterator[Face]]] = []  # (number of faces, faces) of each chosen track
    clip: dict[str, Any] = {}
    seen = 0  # number of all tracks
    before = state_of(source.path)
    with TemporaryDirectory(prefix=MAKING, dir=parts) as name:
        folder = Path(name)
        try:
            video["bytes"] = _measure_size(source)
            fault = "" if source.aligned else name_fault(source.path)
            # A pipe or a device is not opened. A pointer to a large file is hashed, so that a later run finds out
            # whether the file was fetched.
            video["source_sha256"] = _hash(source) if video["bytes"] or not fault else ""
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
                    section: dict[str, Any] = {"start_s": source.start_s, "end_s": source.end_s}
                    cut = cut_video(source.path, faces, detector, spool.add, key=source.key, **section)
                    clip, problem = {"frame_rate_hz": cut.frame_rate_hz, "frames_decoded": cut.frames}, cut.problem
                    notes = list(cut.notes)
                    tracks = [(track.frames, spool.faces(track.id)) for track in cut.tracks]
                    seen = len(cut.seen)
            except Exception as error:
                error.add_note(f"while {source.path} was cut")
                raise
            if state_of(source.path) not in (before, None):  # the faces of a file that was removed are whole
                problem = f"{source.path} changed while it was read. Run the same command again, with --overwrite."
                video["source_sha256"] = ""  # what was cut is not of the content that was hashed
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
        for key, chosen in _split_into_examples(source.key, tracks, part_faces):
            example = Clip(key=key, part=len(entries), faces=chosen, **clip)
            entry = {"key": key, "recording": source.key, "part": example.part, **video}
            entry |= {"frames_decoded": example.frames_decoded, "frames_with_a_face": len(chosen)}
            entry |= {"faces_seen": seen, "problem": problem, "notes": notes}
            write_record(folder / "record", encode_example(example))
            (folder / "record").replace(record_of(parts, entry))
            entries.append(entry)
            faces_s += [face.timestamp_s for face in chosen]
        if source.dimensions and clip.get("frames_decoded") and source.start_s is None and source.end_s is None:
            rates = clip["frames_decoded"], clip["frame_rate_hz"]
            problem = " ".join(filter(None, (problem, name_rating_fault(source.dimensions.times_s, *rates, faces_s))))
        if clip.get("frames_decoded"):
            read = clip["frames_decoded"], clip["frame_rate_hz"]
            problem = " ".join(filter(None, (problem, name_end_fault(source, *read, faces_s))))
        problem = " ".join(filter(None, (source.problem.strip(), problem)))
        entries = [entry | {"problem": problem} for entry in entries]
        sizes = [record_of(parts, entry).stat().st_size for entry in entries]
        write_json(folder / "outcome", {"clips": entries, "bytes": sizes})
        (folder / "outcome").replace(outcome_of(parts, source))


def name_end_fault(source: Source, frames: int, frame_rate_hz: float, faces_s: Sequence[float]) -> str:
    """Compares the listed end of a section of a video with the frames that were decoded; see `name_rating_fault`.

    Args:
        source: The clip.
        frames: Frames of the section that were looked at.
        frame_rate_hz: Frame rate of these frames; 0 if unknown.
        faces_s: Times of the section's faces in seconds of the video.

    Returns:
        The fault as one sentence; empty if there is none, if no end is listed, or if the rate is unknown.
    """
    if source.end_s is None or not frame_rate_hz:
        return ""
    start_s = source.start_s or 0.0
    times_s = (0.0, source.end_s - start_s)
    if not name_rating_fault(times_s, frames, frame_rate_hz, [time_s - start_s for time_s in faces_s]):
        return ""
    return (
        f"{source.path} ends long before end_s={source.end_s:g}: from start_s={start_s:g} on it has "
        f"{format_count(frames, 'frame')}. Times must be in seconds of the video."
    )


def is_done(parts: Path, source: Source, *, by_hash: bool = True) -> bool:
    """Returns whether a clip has a complete part, and has not changed since.

    Args:
        parts: Folder of the parts.
        source: The clip.
        by_hash: Whether the video is read; otherwise its size decides whether it has changed.
    """
    examples = read_part(parts, source)
    return bool(examples) and not differs(source, examples[0][0], by_hash=by_hash)


def read_part(parts: Path, source: Source) -> list[tuple[dict[str, Any], Path]]:
    """Reads the outcome of a clip.

    Args:
        parts: Folder of the parts.
        source: The clip.

    Returns:
        `(entry of the manifest, path of the record)` of each example. The list is empty if the part is not complete:
        there is no outcome, or a record has not the size that the outcome lists.
    """
    if not outcome_of(parts, source).exists():
        return []
    outcome = read_json(outcome_of(parts, source))
    examples = [(entry, record_of(parts, entry)) for entry in outcome["clips"]]
    sizes = [record.stat().st_size if record.is_file() else 0 for _, record in examples]
    return examples if sizes == outcome.get("bytes") else []


def outcome_of(parts: Path, source: Source) -> Path:
    """Returns the path of a clip's outcome file. If the file exists, the part is complete.

    Args:
        parts: Folder of the parts.
        source: The clip.
    """
    return parts / f"{digest(source.key)}.json"


def record_of(parts: Path, entry: dict[str, Any]) -> Path:
    """Returns the path of the record of an example.

    Args:
        parts: Folder of the parts.
        entry: Its entry in the manifest.
    """
    return parts / check_name(f"{digest(entry['recording'])}-{entry['part']}.tfrecord", parts)


def open_parts(parts: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Makes the folder of the parts with its settings, or finds it. Of several processes at once, one makes it.

    Args:
        parts: Folder of the parts.
        settings: What `settings.json` in it shall hold.

    Returns:
        What `settings.json` holds: the settings of the process that made the folder.

    Raises:
        InputError: When the folder exists and has no settings.
    """
    if not (parts / SETTINGS).exists():
        # The folder appears with its settings, because it is renamed as a whole; never onto a folder with content.
        with TemporaryDirectory(prefix=f"{parts.name}-{MAKING}", dir=parts.parent) as name:
            made = Path(name) / "parts"
            made.mkdir()
            write_json(made / SETTINGS, settings)
            with contextlib.suppress(OSError):
                made.rename(parts)
    if not (parts / SETTINGS).exists():
        raise InputError(f"{parts} is left of a command that was stopped. Remove this folder.")
    return read_json(parts / SETTINGS)


def differs(source: Source, entry: dict[str, Any], *, by_hash: bool = True) -> bool:
    """Returns whether a clip or its video has changed since it was cut. A video that was removed since does not differ.

    The SHA-256 decides, not the time at which the video was written.

    Args:
        source: The clip.
        entry: Its entry in the manifest.
        by_hash: Whether the video is read; otherwise its size decides.
    """
    listed = describe_listing(source)
    if listed != {name: entry.get(name) for name in listed}:
        return True
    try:
        size = _measure_size(source)
        if size not in (0, entry["bytes"]):
            return True
        return by_hash and size > 0 and _hash(source) != entry["source_sha256"]
    except OSError:
        return False


def digest(key: str) -> str:
    """Returns a hash of a clip's key: the clip's files have it as their name, and clips are sorted by it."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _split_into_examples(key, tracks, part_faces):
    """Yields `(key, tuple of faces)` of each example, so that the faces of one example are in memory."""
    for number, (count, faces) in enumerate(tracks or [(0, iter(()))]):
        name = f"{key}@{number}" if number else key
        examples = max(1, math.ceil(count / part_faces))
        for index in range(examples):
            yield f"{name}#{index:03d}" if examples > 1 else name, tuple(islice(faces, part_faces))


def describe_listing(source: Source) -> dict[str, Any]:
    """Returns what the data set lists of a clip, as the manifest's entries hold it."""
    series = source.dimensions
    return {
        "label": source.label,
        "subject": source.subject,
        "split": source.split,
        "votes": source.votes,
        "dimensions_sha256": hashlib.sha256(repr(astuple(series)).encode()).hexdigest() if series else "",
    }


def _measure_size(source):
    """Returns the bytes of a clip's video or images; 0 if there are none."""
    if source.aligned:
        return size_of_images(source.path) if source.path.is_dir() else 0
    # Path.is_file would raise if a name is too long.
    return source.path.stat().st_size if os.path.isfile(source.path) else 0


def _hash(source):
    return (sha256_of_images if source.aligned else sha256_of)(source.path)
