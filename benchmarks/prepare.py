"""How fast faces are found and cut, compared with the package mtcnn on the same clip; and how much memory it takes.

    python -m benchmarks.prepare CLIP [--end-s 2.4] [--rounds 3] [--out result.json]
    python -m benchmarks.prepare CLIP --memory [--out result.json]

The first command measures these ways in turns, and prints the median of the rounds:

- `decode` only reads the frames.
- `mtcnn` and `mtcnn_batches` are the package with its defaults (faces from 20 pixels, because it finds none with larger
  limits), one frame and 16 frames at a time, on decoded frames.
- `every`, `follow` and `follow_20px` are ours from the file to the JPEGs of the faces: decode, detect, link, align,
  encode.
- `prepare` is `follow` with all that a worker of `affect prepare` does for a clip: hashing, faces on disk, records.

`follow` is compared with `every` frame by frame. The second command repeats the clip 1, 10 and 100 times. It measures
the largest memory of a new process that prepares each of these.
"""

import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import av
import numpy as np
import typer

from affect.config import Faces, write_json
from affect.pipelines.datasets.source import Source
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import cut_faces
from affect.pipelines.follow import find_faces
from affect.pipelines.parts import write_part
from affect.pipelines.prepare import prepare
from affect.pipelines.tracks import Tracks, iou
from affect.pipelines.video import read_frames

BATCH_FRAMES = 16


def compare(clip, *, start_s, end_s, rounds):
    """Returns frames a second of each way, and how far following is from full detection."""
    from mtcnn import MTCNN

    part = {"start_s": start_s, "end_s": end_s}
    frames = list(read_frames(clip, **part))
    images = [frame for _, frame in frames]
    package = MTCNN()
    settings = {
        "every": Faces(detect="every"),
        "follow": Faces(detect="follow"),
        "follow_20px": Faces(detect="follow", min_face_px=20),
    }
    detectors = {name: DETECTORS["mtcnn"](faces) for name, faces in settings.items()}

    def decode():
        return sum(1 for _ in read_frames(clip, **part))

    def one_by_one():
        return [package.detect_faces(image) for image in images]

    def batches():
        starts = range(0, len(images), BATCH_FRAMES)
        return [faces for start in starts for faces in package.detect_faces(images[start : start + BATCH_FRAMES])]

    def ours(name):
        return list(cut_faces(clip, settings[name], detectors[name], Tracks(), **part))

    def whole():
        source = Source("clip", Path(clip), start_s=start_s, end_s=end_s)
        with tempfile.TemporaryDirectory() as parts:
            write_part(source, Path(parts), settings["follow"], (), detectors["follow"])

    ways = {"decode": decode, "mtcnn": one_by_one, "mtcnn_batches": batches}
    ways |= {name: lambda name=name: ours(name) for name in settings}
    ways["prepare"] = whole
    seconds, results = {name: [] for name in ways}, {}
    for detector in detectors.values():
        detector.detect(images[:BATCH_FRAMES])  # the first call builds the graphs
    package.detect_faces(images[0])
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            results[name] = way()
            seconds[name].append(time.perf_counter() - start)
    speed = {name: len(images) / statistics.median(times) for name, times in seconds.items()}
    every = [found for _, _, found in find_faces(frames, detectors["every"], "every")]
    follow = [found for _, _, found in find_faces(frames, detectors["follow"], "follow")]
    return {
        "clip": Path(clip).name,
        "frame_size": [images[0].shape[1], images[0].shape[0]],
        "frames": len(images),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "frames_a_second": speed,
        "times_mtcnn": {name: speed[name] / speed["mtcnn"] for name in (*settings, "prepare")},
        "frames_with_a_face": {
            "mtcnn": sum(map(bool, results["mtcnn"])),
            "every": sum(map(bool, every)),
            "follow": sum(map(bool, follow)),
        },
        **agreement(every, follow),
    }


def agreement(every, follow):
    """Returns how far followed faces agree with full detection; both are lists of `Detection` for each frame."""
    faces, overlaps, distances = 0, [], []
    for one, other in zip(every, follow, strict=True):
        faces += len(one)
        for face in one:
            near = max(other, key=lambda found: iou(found.box, face.box), default=None)
            if near and iou(near.box, face.box) > 0.5:
                overlaps.append(iou(near.box, face.box))
                apart = np.linalg.norm(near.landmarks - face.landmarks, axis=1).mean()
                distances.append(float(apart / (face.box[2] - face.box[0])))
    if not overlaps:
        return {"faces": faces, "faces_found_again": 0}
    return {
        "faces": faces,
        "faces_found_again": len(overlaps),
        "iou_mean": float(np.mean(overlaps)),
        "iou_min": float(np.min(overlaps)),
        "landmark_distance_mean": float(np.mean(distances)),
        "landmark_distance_max": float(np.max(distances)),
    }


def memory(clip, repeats=(1, 10, 100)):
    """Returns the largest memory of a process that prepares a repeated clip, and its frames a second.

    The decoder, a process of its own, has bounded memory (`affect.pipelines.video.MEMORY_BYTES`) and is not counted.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in repeats:
            videos = Path(folder) / str(count)
            videos.mkdir()
            repeat(clip, count, videos / Path(clip).name)
            # A fresh process each: the peak of a process never falls.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                counts, seconds, peak_mib = pool.apply(_prepare, (videos, Path(folder) / f"{count}-shards"))
            frames, faces = counts["frames"], counts["faces"]
            rows.append({"repeats": count, "frames": frames, "faces": faces, "examples": counts["clips"]})
            rows[-1] |= {"peak_mib": peak_mib, "frames_a_second": frames / seconds}
    return {"clip": Path(clip).name, "rows": rows, "growth": rows[-1]["peak_mib"] / rows[0]["peak_mib"]}


def _prepare(videos, out):
    start = time.perf_counter()
    manifest = prepare(videos, dataset="folder", out=out, faces=Faces(), workers=1)
    seconds = time.perf_counter() - start
    return manifest["counts"], seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def repeat(clip, count, path):
    """Writes the video stream of a clip `count` times in a row, without encoding it again."""
    with av.open(str(path), "w") as out:
        stream = None
        for index in range(count):
            with av.open(str(clip)) as container:
                source = container.streams.video[0]
                stream = stream or out.add_stream_from_template(source)
                for packet in container.demux(source):
                    if packet.dts is None:
                        continue
                    packet.pts += index * source.duration
                    packet.dts += index * source.duration
                    packet.stream = stream
                    out.mux(packet)
    return path


def main(
    clip: Path,
    start_s: float | None = None,
    end_s: float | None = None,
    rounds: int = 3,
    memory_: Annotated[bool, typer.Option("--memory")] = False,
    out: Path | None = None,
):
    """Measure how fast faces are cut, or with --memory in how much memory."""
    if memory_:
        result = memory(clip)
        rows = (
            f"×{row['repeats']}: {row['peak_mib']:.0f} MiB, {row['frames_a_second']:.0f}/s" for row in result["rows"]
        )
        line = f"{'; '.join(rows)}; growth {result['growth']:.3f}"
    else:
        result = compare(clip, start_s=start_s, end_s=end_s, rounds=rounds)
        line = ", ".join(f"{name} {speed:.1f}/s" for name, speed in result["frames_a_second"].items())
        line += f"; prepare is {result['times_mtcnn']['prepare']:.1f} × mtcnn"
        line += f", follow finds {result['faces_found_again']} of {result['faces']} faces"
        if result["faces_found_again"]:
            line += f", IoU {result['iou_mean']:.3f}, landmarks {result['landmark_distance_mean']:.1%} of the width"
        line += f"; load {result['load_average']:.1f}"
    print(f"{result['clip']}: {line}")
    if out:
        write_json(out, json.loads(json.dumps(result, default=float)))


if __name__ == "__main__":
    typer.run(main)
