"""prepare_part() and join_parts(): `affect prepare` as an array of jobs on machines that share a folder.

Each job makes the parts of its share of the clips in a folder of its own, and one command joins them. A file or folder
is renamed into place when it is complete. `affect.pipelines.claims` says what this needs of the shared folder.
"""

import dataclasses
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from affect.config import Faces, read_json
from affect.errors import InputError
from affect.files import name_failure
from affect.pipelines.claims import BEAT_S, claim, find_claimed
from affect.pipelines.join import SHARD_BYTES, count, join
from affect.pipelines.parts import MAKING, PART_FACES, SETTINGS, differs, is_done, open_parts, outcome_of, read_part
from affect.pipelines.plan import (
    MANIFEST,
    Plan,
    check_prepared,
    check_same_settings,
    hash_listing,
    make_plan,
    option_of,
    read_manifest,
)
from affect.pipelines.prepare import PARTS, check_idle, cut_clips
from affect.progress import Track, hide_progress


def prepare_part(
    source: Path | str,
    *,
    dataset: str,
    out: Path | str,
    faces: Faces,
    part: tuple[int, int],
    workers: int | None = None,
    track: Track = hide_progress,
    part_faces: int = PART_FACES,
    beat_s: float = BEAT_S,
) -> dict[str, Any]:
    """Cuts the faces of a share of the clips. Any number of shares may be made at once, on any machines.

    If the call is stopped or killed, the next one resumes. When all shares are made, `join_parts` writes the shards,
    with the same bytes as `affect.pipelines.prepare.prepare`.

    Args:
        source, dataset, faces: As in `prepare`, and the same for all shares. Each share lists the whole data set.
        out: Folder for the shards, which all machines share.
        part: `(I, N)`, number of the share from 1, and number of shares. Share I has the clips I, I + N, I + 2 N, ...
            in the order of the shards.
        workers: Processes; `None` starts one for each core.
        track: Shows progress.
        part_faces: As in `prepare`.
        beat_s: As in `affect.pipelines.claims.claim`.

    Returns:
        `counts` and `clips` of the share, as in the manifest.

    Raises:
        InputError: As in `prepare`. Also if `out` holds shares of other settings, of another number of shares or of
            another list of clips, or if this share is being made, or the shares are being joined.
    """
    number, shares = part
    if not 1 <= number <= shares:
        raise InputError(f"A part must be I/N, with I from 1 to N. Received: {number}/{shares}")
    plan = make_plan(source, dataset, faces)
    out = Path(out)
    parts, clips = out / PARTS, plan.sources[number - 1 :: shares]
    if (out / MANIFEST).exists():  # the shares are joined already
        manifest, keys = read_manifest(out), {clip.key for clip in clips}
        check_prepared(out, plan, manifest, by_hash=False, remedy=f"Choose another --out, or remove {out}.")
        return _describe([entry for entry in manifest["clips"] if entry["recording"] in keys])
    out.mkdir(parents=True, exist_ok=True)
    settings = describe_array(plan, shares)
    _check_same(out, settings, open_parts(parts, settings))
    for _, owner in find_claimed([parts], beat_s=beat_s).items():
        raise InputError(f"{out}: its parts are being joined by {owner}. Wait for it.")
    folder = folder_of(parts, number, shares)
    folder.mkdir(exist_ok=True)
    claimed = claim(folder, f"{out}: part {number}/{shares} is being made", beat_s=beat_s)
    with name_failure(out, " It continues."), claimed as check:
        for unfinished in folder.glob(f"{MAKING}*"):
            shutil.rmtree(unfinished)
        waiting = [clip for clip in clips if not is_done(folder, clip)]
        for clip in waiting:
            # Otherwise, if this process is killed, the old outcome of a changed video would lie beside new records.
            outcome_of(folder, clip).unlink(missing_ok=True)
        outcomes = cut_clips(waiting, folder, faces, plan.classes, part_faces, workers, locked=None)
        for _ in track(outcomes, len(waiting), "videos"):
            check()
        return _describe([entry for clip in clips for entry, _ in read_part(folder, clip)])


def join_parts(
    source: Path | str,
    *,
    dataset: str,
    out: Path | str,
    faces: Faces,
    track: Track = hide_progress,
    shard_bytes: int = SHARD_BYTES,
    beat_s: float = BEAT_S,
) -> dict[str, Any]:
    """Joins the shares that `prepare_part` made to shards.

    No video is read: a clip counts as unchanged if its listing and the size of its video are the same. If the call is
    stopped or killed, the next one ends with the same bytes.

    Args:
        source, dataset, out, faces: As in `prepare_part`.
        track: Shows progress.
        shard_bytes: Size in bytes at which a shard is closed.
        beat_s: As in `affect.pipelines.claims.claim`.

    Returns:
        The manifest, as in `affect.pipelines.prepare.prepare`.

    Raises:
        InputError: As in `prepare_part`. Also if a share lacks clips, which names the command that makes it, if one is
            being made, or if `out` holds no shares.
    """
    plan = make_plan(source, dataset, faces)
    out = Path(out)
    parts = out / PARTS
    if (out / MANIFEST).exists():
        manifest = read_manifest(out)
        check_prepared(out, plan, manifest, by_hash=False, remedy=f"Choose another --out, or remove {out}.")
        shutil.rmtree(parts, ignore_errors=True)
        return manifest | plan.said
    if not (parts / SETTINGS).exists():
        command = write_command(source, dataset, out, faces, "--part 1/N")
        raise InputError(f"{out} holds no parts. Make N of them: {command}")
    settings = read_json(parts / SETTINGS)
    shares = settings.get("parts", 0)
    _check_same(out, describe_array(plan, shares), settings)
    check_idle(out, parts, beat_s=beat_s)
    with name_failure(out, " It continues."), claim(parts, f"{out}: its parts are being joined", beat_s=beat_s):
        examples, lacking = [], dict.fromkeys(range(1, shares + 1), 0)
        for index, clip in enumerate(track(plan.sources, len(plan.sources), "clips")):
            number = index % shares + 1
            folder = folder_of(parts, number, shares)
            found = read_part(folder, clip)
            if found and not differs(clip, found[0][0], by_hash=False):
                examples += found
            else:
                lacking[number] += 1
        if lost := [number for number, clips in lacking.items() if clips]:
            names = f"Part {lost[0]}/{shares}" if len(lost) == 1 else f"Parts {_write_ranges(lost)} of {shares}"
            each = "Make it" if len(lost) == 1 else "Make each of them, the first with"
            raise InputError(
                f"{names} of {out} {'lacks' if len(lost) == 1 else 'lack'} {sum(lacking.values())} of "
                f"{len(plan.sources)} clips. {each}: "
                f"{write_command(source, dataset, out, faces, f'--part {lost[0]}/{shares}')}"
            )
        for folder in out.glob(f"{PARTS}-{MAKING}*"):
            shutil.rmtree(folder)
        return join(plan, examples, parts, out, shard_bytes)


def write_command(source: Path | str, dataset: str, out: Path | str, faces: Faces, last: str) -> str:
    """Writes the command line of `affect prepare`.

    Args:
        source, dataset, out, faces: As in `prepare_part`.
        last: Its last options.
    """
    words = ["affect", "prepare", str(source), "--out", str(out)]
    words += ["--dataset", dataset] if dataset != "folder" else []
    for field in dataclasses.fields(Faces):
        value = getattr(faces, field.name)
        if value != field.default and field.name != "template":
            words += [option_of(field.name), str(value)]
    return f"{shlex.join(words)} {last}"


def describe_array(plan: Plan, shares: int) -> dict[str, Any]:
    """Returns what all shares of an array must have in common, as the folder of the parts holds it.

    Args:
        plan: What is prepared.
        shares: Number of shares.
    """
    same = {"classes": list(plan.classes), "clips": len(plan.sources), "clips_sha256": hash_listing(plan)}
    return plan.settings | same | {"parts": shares}


def _check_same(out, wanted, found):
    remedy = f"Choose another --out, or remove the folder {out / PARTS}."
    if "parts" not in found:
        raise InputError(
            f"{out} holds an unfinished run without --part. Finish it: the same command without --part or --join."
        )
    if wanted["parts"] != found["parts"]:
        raise InputError(f"{out} holds parts of {found['parts']}, and not of {wanted['parts']}. {remedy}")
    listed = ("clips", "clips_sha256")
    ours, theirs = ({name: each[name] for name in each if name not in listed} for each in (wanted, found))
    check_same_settings(out, ours, theirs, remedy)
    if wanted["clips_sha256"] != found["clips_sha256"]:
        raise InputError(
            f"{out} holds parts of another list of clips: {found['clips']} clips then, {wanted['clips']} now, or other "
            f"labels, subjects, splits, votes or times. {remedy}"
        )


def folder_of(parts: Path, number: int, shares: int) -> Path:
    """Returns the folder of a share.

    Args:
        parts: Folder of the parts.
        number: Number of the share, from 1.
        shares: Number of shares.
    """
    return parts / f"{number}-of-{shares}"


def _describe(entries):
    return {"counts": count(entries), "clips": entries}


def _write_ranges(numbers: Sequence[int]) -> str:
    """Returns numbers as Slurm's and PBS's options take them: `1,3-5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ",".join("-".join(map(str, run)) for run in runs)
