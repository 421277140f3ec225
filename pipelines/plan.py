"""What is to be prepared: the clips of a data set in their order, the settings, and all checks before the work."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affect.config import Faces, read_json, to_json
from affect.data.clips import VERSION
from affect.data.labels import order_classes
from affect.errors import InputError
from affect.files import check_name, sha256_of
from affect.pipelines.datasets import DATASETS
from affect.pipelines.datasets.source import Clips, check_clips
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import FACES_VERSION
from affect.pipelines.parts import describe_listing, differs, digest

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Plan:
    """What is to be prepared.

    Args:
        dataset: Name in `DATASETS`.
        sources: The clips, sorted by the hash of their key, so that each shard holds a fair mix of classes.
        classes: Class names in the manifest's order.
        settings: What the manifest holds of it.
    """

    dataset: str
    sources: Clips
    classes: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def said(self) -> dict[str, list[str]]:
        """The sentences of the manifest on what was left out and on names that were not read as they are written."""
        return {"left_out": self.sources.left_out, "notes": self.sources.notes}


def make_plan(source: Path | str, dataset: str, faces: Faces) -> Plan:
    """Lists the clips of a data set and checks the settings. It writes nothing.

    Args:
        source: Folder or file of the data set.
        dataset: Name in `DATASETS`.
        faces: How faces are found, cut and stored.

    Raises:
        InputError: On an unknown name, a setting of faces that can have no effect, a file of boxes with a fault, a
            source without clips, or clips that `check_clips` refuses.
    """
    if dataset not in DATASETS:
        raise InputError(f"Unknown data set. Expected one of {sorted(DATASETS)}. Received: {dataset!r}")
    if faces.detector not in DETECTORS:
        raise InputError(f"Unknown detector. Expected one of {sorted(DETECTORS)}. Received: {faces.detector!r}")
    sources = check_clips(source, DATASETS[dataset](source))
    _check_effects(faces, all(clip.aligned for clip in sources))
    sources.sort(key=lambda clip: digest(clip.key))
    classes = order_classes(name for clip in sources for name in (clip.label, *(clip.votes or ())))
    versions = {"records_version": VERSION, "faces_version": FACES_VERSION}
    settings = versions | {"dataset": dataset, "faces": to_json(faces)}
    if faces.boxes:
        DETECTORS[faces.detector](faces)  # refuses a file with a fault
        settings["boxes_sha256"] = sha256_of(faces.boxes)
    return Plan(dataset, sources, tuple(classes), settings)


def hash_listing(plan: Plan) -> str:
    """Returns a hash of all that a data set lists of its clips, except where their videos are."""
    listing = hashlib.sha256()
    for clip in plan.sources:
        entry = [clip.key, clip.start_s, clip.end_s, clip.aligned, clip.problem, describe_listing(clip)]
        listing.update(json.dumps(entry).encode())
    return listing.hexdigest()


def read_manifest(out: Path) -> dict[str, Any]:
    """Reads the manifest of a folder.

    Args:
        out: Folder that has one.

    Raises:
        InputError: When it is not a manifest of shards, or the name of a shard is no name in its folder.
    """
    manifest = read_json(out / MANIFEST)
    try:
        is_manifest = {"settings", "classes", "clips"} <= manifest.keys()
        names = [shard["name"] for shard in manifest["shards"]]
    except (LookupError, TypeError):
        is_manifest = False
    if not is_manifest:
        raise InputError(f"{out / MANIFEST} is not a manifest of shards. Choose another --out.")
    for name in names:
        check_name(name, out / MANIFEST)
    return manifest


def check_same_settings(out: Path, wanted: dict[str, Any], found: dict[str, Any], remedy: str) -> None:
    """Checks that a folder was prepared with the same settings.

    Args:
        out: The folder.
        wanted: Settings of this run.
        found: Settings of the folder.
        remedy: What to do otherwise, for the error.

    Raises:
        InputError: When a setting differs; it is named.
    """
    # A manifest of an older version lacks newer settings. Their defaults are the values that were fixed then.
    fixed = to_json(Faces()) | {"faces_version": 1}
    wanted, found = ({**fixed, **values, **values["faces"]} for values in (wanted, found))
    changed = [name for name in wanted if name != "faces" and wanted[name] != found.get(name)]
    if changed:
        pairs = ", ".join(f"{name}={json.dumps(found.get(name))}, now {json.dumps(wanted[name])}" for name in changed)
        raise InputError(f"{out} was prepared with {pairs}. {remedy}")


def check_prepared(
    out: Path,
    plan: Plan,
    manifest: dict[str, Any],
    *,
    by_hash: bool = True,
    remedy: str = "Choose another --out, or discard it with --overwrite.",
) -> None:
    """Checks that the shards of a folder are those of a plan, and are there.

    Args:
        out: Folder of the shards.
        plan: What is to be prepared.
        manifest: The manifest of the folder.
        by_hash: Whether all videos are read and compared by SHA-256; otherwise by size.
        remedy: What to do if they differ, for the error.

    Raises:
        InputError: When settings, clips or videos differ, or a shard is missing.
    """
    check_same_settings(out, plan.settings, manifest["settings"], remedy)
    now = {clip.key: clip for clip in plan.sources}
    before = {entry["recording"]: entry for entry in manifest["clips"]}
    changed = sorted(now.keys() ^ before.keys()) or [
        key for key in now if differs(now[key], before[key], by_hash=by_hash)
    ]
    if changed:
        names = ", ".join(changed[:3]) + (", ..." if len(changed) > 3 else "")
        raise InputError(
            f"{out} was prepared from other videos or labels. Added, removed or changed: {len(changed)} ({names}). "
            f"{remedy}"
        )
    for shard in manifest["shards"]:
        if not (out / shard["name"]).is_file():
            raise InputError(f"{out / shard['name']} is missing. Make the shards again with --overwrite.")


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
            raise InputError(f"{option_of(field.name)} {value} has no effect: {reason}. Leave it out.")


def option_of(field: str) -> str:
    """Returns the command line's option of a field of `Faces`."""
    return "--faces" if field == "tracks" else f"--{field.replace('_', '-')}"
