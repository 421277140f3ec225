"""verify(): checks every byte of the shards of a folder against their manifest."""

import os
import struct
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tensorflow as tf

from affect.data import records
from affect.data.examples import mask_crc32c
from affect.data.images import ImageError, open_image
from affect.data.shards import Shards, is_pointer
from affect.errors import InputError
from affect.files import sha256_of
from affect.progress import Track, hide_progress


def verify(data: Path | str, *, track: Track = hide_progress) -> dict[str, Any]:
    """Checks shards against their manifest and continues after damage.

    A shard must have its size, its SHA-256, valid checksums and its number of records. A clip must occur once, in a
    shard of its split. Its record must agree with the manifest and must be consistent. Its faces must be complete JPEGs
    of the right size, and the times of its ratings must fit its video. The result also names shards that the manifest
    does not list, because they may come from another `affect prepare`. One record is in memory at a time.

    Args:
        data: Folder of shards.
        track: Shows progress.

    Returns:
        Dict of the numbers `shards` in the manifest, and `records` and `faces` that were read; and `damage`, a list of
        dicts, at most one for each shard and each clip, of `key`, which is empty for a shard; `shard`, which is empty
        if no single shard is concerned; and `problem`.

    Raises:
        InputError: When there is no manifest, it is not a manifest of shards, or the records have another version.
    """
    shards = Shards(data, check_sizes=False)
    try:
        clips = {clip["key"]: clip for clip in shards.clips}
        # Read all the fields that are used below, so that a manifest without them is refused here.
        for clip in shards.clips:
            itemgetter("label", "subject", "split", "frames_with_a_face")(clip)
        for shard in shards.shards:
            Path(itemgetter("name", "split", "clips", "bytes", "sha256")(shard)[0])
        face_size = int(shards.faces["face_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{shards.folder / 'manifest.json'} is not a manifest of shards: {error!r}. "
            "Copy it again, or make shards: affect prepare SOURCE --out DIR"
        ) from error
    counts, found, of_clips, of_shards = Counter(), Counter(), {}, []

    def examine():
        for shard in shards.shards:
            problems = yield from _examine(shards, shard, clips, face_size)
            if problems:
                of_shards.append({"key": "", "shard": shard["name"], "problem": "; ".join(problems)})

    for shard, key, faces, problem in track(examine(), len(shards.clips), "clips"):
        counts["records"] += 1
        counts["faces"] += faces
        found[key] += 1
        if problem:
            of_clips.setdefault(key, {"key": key, "shard": shard, "problem": problem})
    listed = Counter(clip["key"] for clip in shards.clips)
    for key, clip in clips.items():
        problems = [
            *([] if found[key] else [f"it is in no shard of split {clip['split']}"]),
            *([f"it is {found[key]} times in the shards"] if found[key] > 1 else []),
            *([f"it is {listed[key]} times in the manifest"] if listed[key] > 1 else []),
        ]
        if problems:
            entry = of_clips.setdefault(key, {"key": key, "shard": "", "problem": ""})
            entry["problem"] = "; ".join(filter(None, [entry["problem"], *problems]))
    return {
        "shards": len(shards.shards),
        "records": counts["records"],
        "faces": counts["faces"],
        "damage": [
            *of_shards,
            *({"key": "", "shard": name, "problem": problem} for name, problem in find_strays(shards)),
            *of_clips.values(),
        ],
    }


def find_strays(shards: Shards) -> list[tuple[str, str]]:
    """Finds shards and manifests in a folder that its manifest does not list.

    They remain when two outputs of `affect prepare` are copied together. The name or the first bytes of a file show
    that it is a shard. Subfolders are not searched.

    Args:
        shards: The shards of the folder.

    Returns:
        `(name, problem)` of each such file, sorted by name.
    """
    listed = {shard["name"] for shard in shards.shards} | {"manifest.json"}
    return [
        (path.name, "the manifest does not list it; two prepares may have been copied together")
        for path in sorted(shards.folder.iterdir())
        if path.name not in listed and (".tfrecord" in path.name.lower() or _is_manifest(path) or _is_framed(path))
    ]


def _is_manifest(path: Path) -> bool:
    return "manifest" in path.name.lower() and path.suffix.lower() == ".json"


def _is_framed(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            header = file.read(12)
    except OSError:
        return False
    return len(header) == 12 and struct.unpack("<I", header[8:])[0] == mask_crc32c(header[:8])


def read_framed(file: BinaryIO) -> Iterator[tuple[bytes | None, str]]:
    """Reads a TFRecord file and continues after damage; TensorFlow's reader stops at the first invalid checksum.

    A record consists of its length (uint64, little-endian), the masked CRC-32C of the length, its bytes, and the masked
    CRC-32C of the bytes.

    Args:
        file: At its start.

    Yields:
        `(content, problem)`: the bytes of the record, `None` if they and everything after them are lost; and a
        description of the damage, empty without damage.

    Reference:
        https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
    """
    rest = os.fstat(file.fileno()).st_size
    while rest:
        header = file.read(12)
        if len(header) < 12:
            yield None, "the file ends in its length"
            return
        length, checksum = struct.unpack("<QI", header)
        is_length_whole = checksum == mask_crc32c(header[:8])
        rest -= 16 + length
        if rest < 0:
            yield None, "the file ends in it" if is_length_whole else "its length is damaged"
            return
        content, checksum = file.read(length), file.read(4)
        is_content_whole = checksum == struct.pack("<I", mask_crc32c(content))
        if not is_length_whole and not is_content_whole:
            yield None, "its length is damaged"
            return
        if not is_length_whole:
            yield content, "the checksum of its length does not match"
        else:
            yield content, "" if is_content_whole else "its checksum does not match"


def _examine(
    shards: Shards, shard: Mapping[str, Any], clips: Mapping[str, Mapping[str, Any]], face_size: int
) -> Generator[tuple[str, str, int, str], None, list[str]]:
    """Reads a whole shard.

    Args:
        shards: The shards of the folder.
        shard: Entry of the shard in the manifest.
        clips: Entries of the clips in the manifest, by their keys.
        face_size: Height and width of the stored faces in pixels.

    Yields:
        `(shard, key, faces, problem)` of each record: the name of the shard; the key of the clip, empty if the manifest
        has no such clip; the number of its faces; and a description of its faults, empty without a fault.

    Returns:
        The faults of the shard. Only the first of the records without a clip is named, because there may be millions.
    """
    problems, strays, count = [], {}, 0
    try:
        with open(shards.folder / shard["name"], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != shard["bytes"]:
                problems.append(f"it has {size} of {shard['bytes']} bytes")
            if is_pointer(shards.folder / shard["name"]):
                return ["it is a Git LFS pointer and not the file itself. Fetch the file: git lfs pull"]
            if sha256_of(file.name) != shard["sha256"]:
                problems.append("its SHA-256 is not the manifest's")
            file.seek(0)
            for content, damage in read_framed(file):
                if content is None:
                    problems.append(f"record {count + 1} and what follows cannot be read: {damage}")
                    break
                count += 1
                record = _parse(content)
                key = record["clip/media_id"].decode(errors="replace") if record else ""
                if record and key in clips:
                    found = [damage] if damage else []
                    if shard["split"] != clips[key]["split"]:
                        found.append(f"it is of split {clips[key]['split']} and lies in split {shard['split']}")
                    found += _find_inconsistencies(record, clips[key], shards.classes)
                    found += _find_damaged_faces(record, face_size)
                    found += filter(None, [records.name_record_fault(record)])
                    yield shard["name"], key, len(record["image/encoded"]), "; ".join(found)
                else:
                    kind = "belong to no clip of the manifest" if record else "cannot be read"
                    strays.setdefault(kind, [0, count])[0] += 1
                    yield shard["name"], "", 0, ""
    except OSError as error:
        return [f"it cannot be read ({error.strerror})"]
    if count != shard["clips"]:
        problems.append(f"it holds {count} of {shard['clips']} records")
    problems += [f"{number} records {kind}, the first is record {first}" for kind, (number, first) in strays.items()]
    return problems


def _parse(content: bytes) -> dict[str, Any] | None:
    """Returns a record from `records.parse_example`, in NumPy; `None` if it cannot be read."""
    try:
        return {name: value.numpy() for name, value in records.parse_example(content).items()}
    except tf.errors.InvalidArgumentError:
        return None


def _find_inconsistencies(record: Mapping[str, Any], clip: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """Returns descriptions of contradictions within a record, or between it and its entry in the manifest."""
    found = []
    # All of these are series over the frames, except the frame rate, which is a scalar.
    counts = {
        name: len(value) for name, value in record.items() if name.startswith(("face/", "image/")) and np.ndim(value)
    }
    if len(set(counts.values())) > 1:
        found.append("it has " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    faces = counts["image/encoded"]
    if faces != clip["frames_with_a_face"]:
        found.append(f"it has {faces} of {clip['frames_with_a_face']} faces")
    if len({len(record[f"affect/dimensions/{name}"]) for name in ("timestamp", "valence", "arousal")}) > 1:
        found.append("its valence, arousal and their times differ in length")
    for name in ("image/timestamp", "affect/dimensions/timestamp"):
        if (np.diff(record[name]) <= 0).any():
            found.append(f"{name} does not rise")
    for name, field in (("clip/label/string", "label"), ("affect/subject", "subject")):
        value = record[name].decode(errors="replace")
        if value != clip[field]:
            found.append(f"its {field} is {value!r}, and {clip[field]!r} in the manifest")
    label = record["clip/label/string"].decode(errors="replace")
    if label and label not in classes:
        found.append(f"its label {label!r} is none of the classes {list(classes)}")
    if len(record["affect/votes"]) not in (0, len(classes)):
        found.append(f"it has {len(record['affect/votes'])} votes for {len(classes)} classes")
    return found


def _find_damaged_faces(record: Mapping[str, Any], face_size: int) -> list[str]:
    """Returns one line on the faces that are not complete JPEGs of the right size, in a list; empty without any."""
    faults = [_name_jpeg_fault(jpeg, face_size) for jpeg in record["image/encoded"]]
    bad = [index for index, fault in enumerate(faults) if fault]
    if not bad:
        return []
    return [f"{len(bad)} of {len(faults)} faces are damaged, the first is face {bad[0] + 1} ({faults[bad[0]]})"]


def _name_jpeg_fault(jpeg: bytes, face_size: int) -> str:
    """Returns the fault of a JPEG, empty without a fault."""
    try:
        with open_image(jpeg, ("JPEG",)) as image:
            if image.size != (face_size, face_size):
                return f"{image.width}×{image.height} pixels, not {face_size}×{face_size}"
            # Decode at an eighth of the size: this takes half the time, and still reads the file to its end.
            image.draft(None, (1, 1))
            image.load()
    except ImageError as error:
        return str(error)
    return ""
