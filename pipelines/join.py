"""Records of clips → shards and their manifest."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affect.config import write_json
from affect.errors import format_count
from affect.files import sha256_of
from affect.pipelines.datasets import PUBLISHED
from affect.pipelines.plan import MANIFEST, Plan

# A shard is closed when it reaches this size: large enough to read fast, small enough to shuffle and move.
SHARD_BYTES = 128 * 2**20


def join(
    plan: Plan, examples: Sequence[tuple[dict[str, Any], Path]], parts: Path, out: Path, shard_bytes: int = SHARD_BYTES
) -> dict[str, Any]:
    """Joins records to shards, moves them to their folder, and removes the folder of the parts.

    If the call is stopped or killed, another one with the same records ends with the same bytes.

    Args:
        plan: What is prepared.
        examples: `(entry of the manifest, path of the record)` of each example, in the order of the clips.
        parts: Folder of the parts, on the same file system as `out`.
        out: Folder for the shards.
        shard_bytes: Size in bytes at which a shard is closed.

    Returns:
        The manifest.
    """
    entries = [entry for entry, _ in examples]
    manifest = {
        "settings": plan.settings,
        "classes": list(plan.classes),
        "counts": count(entries),
        "differences": _list_differences(plan.dataset, entries),
        **plan.said,
        "shards": _write_shards(examples, parts, shard_bytes),
        "clips": entries,
    }
    # It is moved last, so a manifest in `out` means that all its shards are there. While the shards are moved, the one
    # in `parts` lists them.
    write_json(parts / MANIFEST, manifest)
    for name in (*(shard["name"] for shard in manifest["shards"]), MANIFEST):
        (parts / name).replace(out / name)
    shutil.rmtree(parts)
    return manifest


def count(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Counts videos, examples, frames and faces.

    Args:
        entries: Of the manifest.
    """
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
        f"{split}/{label}: {format_count(found[split, label], 'clip')}, {count} published"
        for (split, label), count in published.items()
        if found[split, label] != count
    ]


def _write_shards(examples, parts, shard_bytes):
    """Joins the records to shards, split by split, in the folder of the parts; TFRecord files may be concatenated."""
    of_split, shards = defaultdict(list), []
    for entry, record in examples:
        of_split[entry["split"]].append(record)
    for split in sorted(of_split):
        groups, size = [], shard_bytes
        for record in of_split[split]:
            if size >= shard_bytes:
                groups.append([])
                size = 0
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
