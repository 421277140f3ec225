"""How fast faces are found and cut, beside the package mtcnn on the same clip in the same run; and in how much memory.

    python benchmarks/prepare.py CLIP [--end-s 2.4] [--rounds 3] [--out result.json]
    python benchmarks/prepare.py CLIP --memory [--out result.json]

Ways of the first, in turns, the median of the rounds: `decode` only reads the frames. `mtcnn` and `mtcnn_batches` are
the package as it comes (faces from 20 pixels, because it finds none with larger limits), one by one and 16 at a time,
on frames that are decoded before. `every`, `follow` and `follow_20px` are ours from the file to the JPEGs of the faces:
decode, detect, link, align, encode. `follow` is compared with `every` frame by frame.

The second repeats the clip 1, 10 and 100 times and measures the largest memory of a fresh process that cuts it.
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path

import av
import numpy as np

from affect.config import Faces, write_json
from pipelines.detectors import DETECTORS
from pipelines.faces import cut_faces
from pipelines.follow import find_faces
from pipelines.tracks import Tracks, iou
from pipelines.video import read_frames

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

    ways = {"decode": decode, "mtcnn": one_by_one, "mtcnn_batches": batches}
    ways |= {name: lambda name=name: ours(name) for name in settings}
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
        "times_mtcnn": {name: speed[name] / speed["mtcnn"] for name in settings},
        "frames_with_a_face": {
            "mtcnn": sum(map(bool, results["mtcnn"])),
            "every": sum(map(bool, every)),
            "follow": sum(map(bool, follow)),
        },
        **agreement(every, follow),
    }


def agreement(every, follow):
    """Returns how the faces of following fit those of full detection: lists of `Detection` a frame."""
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
    """Returns the largest memory of a process that cuts the clip so many times repeated."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in repeats:
            path = repeat(clip, count, Path(folder) / f"{count}{Path(clip).suffix}")
            # A fresh process each: the peak of a process never falls.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                frames, faces, peak_mib = pool.apply(_cut_all, (path,))
            rows.append({"repeats": count, "frames": frames, "faces": faces, "peak_mib": peak_mib})
    return {"clip": Path(clip).name, "rows": rows, "growth": rows[-1]["peak_mib"] / rows[0]["peak_mib"]}


def _cut_all(path):
    settings, tracks = Faces(), Tracks()
    faces = sum(1 for _ in cut_faces(path, settings, DETECTORS["mtcnn"](settings), tracks))
    return tracks.frames, faces, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--start-s", type=float)
    parser.add_argument("--end-s", type=float)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.memory:
        result = memory(arguments.clip)
        line = ", ".join(f"×{row['repeats']}: {row['peak_mib']:.0f} MiB" for row in result["rows"])
    else:
        result = compare(arguments.clip, start_s=arguments.start_s, end_s=arguments.end_s, rounds=arguments.rounds)
        line = ", ".join(f"{name} {speed:.1f}/s" for name, speed in result["frames_a_second"].items())
        line += f"; follow is {result['times_mtcnn']['follow']:.1f} × mtcnn"
        line += f", finds {result['faces_found_again']} of {result['faces']} faces"
        if result["faces_found_again"]:
            line += f", IoU {result['iou_mean']:.3f}, landmarks {result['landmark_distance_mean']:.1%} of the width"
    print(f"{result['clip']}: {line}")
    if arguments.out:
        write_json(arguments.out, json.loads(json.dumps(result, default=float)))


if __name__ == "__main__":
    main()
