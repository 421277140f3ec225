"""Whether time and memory grow in proportion to the number of clips, in what comes after the faces are cut.

    python -m benchmarks.scale [--clips 1000 --clips 10000 --clips 100000] [--faces 1] [--out result.json]

For each number of clips it makes empty videos in folders of classes, and synthetic parts as the jobs of an array write
them: of each clip a record with `--faces` faces of 64 pixels, and its outcome. No face is looked for. Each step runs in
a new process. Of each step the table has the seconds, the seconds of CPU, and the growth of memory: the peak above what
the process had after its imports. A ratio of 10 for 10 times as many clips is linear growth. Of a step that takes a few
seconds, most of the time may not depend on the clips.

- `listing` lists the clips of the data set, checks them, and hashes the list, as each job of an array does.
- `join` is `affect prepare --join`, with the listing.
- `manifest` reads the manifest, as each command does that reads shards.
- `verify` and `inspect` are the commands of these names.
- `train` is what `affect train` does until its first batch.

`--work` is the folder for the files.
"""

import json
import multiprocessing
import os
import resource
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from affect.config import Faces, write_json

SHARES = 10
CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
FACES = Faces(face_size=64)
STEPS = ("listing", "join", "manifest", "verify", "inspect", "train")


def make_videos(folder, clips):
    """Makes empty videos: 80 % in `train`, 20 % in `val`."""
    for split in ("train", "val"):
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True)
    for number in range(clips):
        (folder / ("val" if number % 5 == 0 else "train") / CLASSES[number % 7] / f"{number:07d}.mp4").touch()


def make_parts(source, out, faces=1):
    """Makes the parts of all clips, each with so many faces."""
    import cv2

    from affect.data.clips import Clip, Face
    from affect.data.examples import encode_example, write_record
    from affect.pipelines.array import describe_array, folder_of
    from affect.pipelines.parts import describe_listing, open_parts, outcome_of, record_of
    from affect.pipelines.plan import make_plan
    from affect.pipelines.prepare import PARTS

    plan, parts = make_plan(source, "folder", FACES), out / PARTS
    out.mkdir()
    open_parts(parts, describe_array(plan, SHARES))
    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (64, 64, 3)).astype(np.uint8), (0, 0), 2)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    one = Face(0.0, jpeg, (8.0, 8.0, 56.0, 56.0), tuple(map(float, range(10))), 0.9, (1.0, 0, 0, 0, 1.0, 0))
    several = [replace(one, timestamp_s=number / 25) for number in range(faces)]
    for number in range(1, SHARES + 1):
        folder_of(parts, number, SHARES).mkdir()
    for index, clip in enumerate(plan.sources):
        folder = folder_of(parts, index % SHARES + 1, SHARES)
        place = plan.classes.index(clip.label)
        example = Clip(clip.key, clip.label, place, frame_rate_hz=25.0, frames_decoded=faces, faces=several)
        entry = {"key": clip.key, "recording": clip.key, "part": 0, **describe_listing(clip), "bytes": 0}
        entry |= {"source_sha256": "0" * 64, "frames_decoded": faces, "frames_with_a_face": faces, "faces_seen": 1}
        entry |= {"problem": "", "notes": []}
        record = record_of(folder, entry)
        write_record(record, encode_example(example))
        outcome = {"clips": [entry], "bytes": [record.stat().st_size]}
        outcome_of(folder, clip).write_text(json.dumps(outcome, indent=2) + "\n")


def prepare_step(step, source, out):
    """Imports what a step needs and returns the function that takes the step."""
    if step in ("listing", "join"):
        from affect.pipelines.array import join_parts
        from affect.pipelines.plan import hash_listing, make_plan

        if step == "listing":
            return lambda: hash_listing(make_plan(source, "folder", FACES))
        return lambda: join_parts(source, dataset="folder", out=out, faces=FACES)
    if step == "manifest":
        from affect.data.shards import Shards

        return lambda: Shards(out)
    if step == "verify":
        from affect.data.verify import verify

        return lambda: verify(out)
    if step == "inspect":
        from affect.data.inspect import inspect

        return lambda: inspect(out)
    from affect.config import load_config
    from affect.tasks import find_task
    from affect.training.train import prepare_training

    experiment = load_config("smoke")
    model = find_task(experiment).build(experiment.model, CLASSES, experiment.train)

    def begin():
        batches, _ = prepare_training(experiment, out).batches(model)
        next(iter(batches))

    return begin


def take_step(step, source, out):
    """Takes a step in this process; returns its seconds, its seconds of CPU, and its growth of memory in MiB."""
    call = prepare_step(step, source, out)
    before_mib = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    begin, begin_cpu = time.perf_counter(), time.process_time()
    call()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    return seconds, cpu_seconds, max(0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mib)


def measure(clips, work, faces=1, steps=STEPS):
    """Returns seconds and MiB of each step, and the bytes of what was written, for a number of clips."""
    with tempfile.TemporaryDirectory(dir=work) as name:
        source, out = Path(name) / "videos", Path(name) / "shards"
        make_videos(source, clips)
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(make_parts, (source, out, faces))
        os.sync()  # otherwise the first step would wait until they are on the disk
        files = [path.stat().st_size for path in out.rglob("*") if path.is_file()]
        row = {"clips": clips, "files": len(files), "bytes_of_parts": sum(files), "steps": {}}
        for step in steps:
            with context.Pool(1) as pool:  # a new process each, because the peak of a process never falls
                seconds, cpu_seconds, mib = pool.apply(take_step, (step, source, out))
            row["steps"][step] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "mib": mib}
        return row | {"bytes_of_manifest": (out / "manifest.json").stat().st_size}


def text(rows):
    """Returns the table: a line for each step, and how time and memory grow from one number of clips to the next."""
    header = ["step"] + [f"{row['clips']:,} clips" for row in rows]
    header += [f"× {after['clips'] / before['clips']:g}" for before, after in pairwise(rows)]
    lines = [header, ["---"] * len(header)]
    for step in rows[0]["steps"]:
        for unit, form in (("seconds", "{:.1f} s"), ("cpu_seconds", "{:.1f} s CPU"), ("mib", "{:.0f} MiB")):
            values = [row["steps"][step][unit] for row in rows]
            ratios = [f"{after / before:.1f}" if before else "–" for before, after in pairwise(values)]
            lines.append([step if unit == "seconds" else "", *(form.format(value) for value in values), *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    clips: Annotated[list[int] | None, typer.Option(help="Numbers of clips.")] = None,
    faces: Annotated[int, typer.Option(help="Faces of each clip.")] = 1,
    steps: Annotated[
        list[str] | None, typer.Option("--step", help="Steps; the join must be one. Default: all.")
    ] = None,
    work: Path | None = None,
    out: Path | None = None,
):
    """Measure how time and memory grow with the number of clips."""
    rows = [measure(count, work, faces, steps or STEPS) for count in sorted(clips or (1_000, 10_000, 100_000))]
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    print(text(rows))
    for row in rows:
        part, line = (row[f"bytes_of_{name}"] / row["clips"] for name in ("parts", "manifest"))
        print(
            f"{row['clips']:,} clips: {row['files']:,} files; bytes a clip: {part:.0f} in parts, {line:.0f} in manifest"
        )
    if out:
        write_json(out, rows)


if __name__ == "__main__":
    typer.run(main)
