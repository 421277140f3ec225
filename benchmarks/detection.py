"""How many faces are found, compared with the package mtcnn on the same frames: by size, rotation, brightness, blur.

    python -m benchmarks.detection [--photographs ../shared/data/faces] [--out detection.json]
    python -m benchmarks.detection --clip CLIP [--rounds 5] [--out seconds.json]

The faces are the portrait of scikit-image and those of a folder of photographs with dlib's annotations (`*.xml`).
Without the folder, the portrait is used alone. A face's box and landmarks are those that the package finds in the whole
photograph, if the annotation agrees. The box is at least 40 pixels high there, because a smaller face would be blurred
when it is enlarged. Each face is then placed in the middle of a frame:

- `size`: box of 5 to 115 % of the shorter side, 24 to 276 pixels;
- `margin`: a frame 480 pixels high that is the box with a margin of -10 to 20 % of it on each side;
- `rotation` in the plane, `brightness` (a factor) and `blur` (Gaussian, σ as a share of the box's height): box of half
  the shorter side of 320×240 pixels.

A face counts as found if a detection's landmarks are near its own: the mean distance is at most 10 % of the box's
height. `mtcnn` is the package with its defaults (faces from 20 pixels), 16 frames at a time. Ours looks for faces from
20 pixels too.

The second command measures how long detection takes, on the decoded frames of a clip, in turns: `detect` in every
frame, `follow` from the first face of each frame that has one, and `mtcnn`, the package with its defaults, 16 frames at
a time. Where other programs use the machine too, look at the time of the processor.
"""

import statistics
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import skimage.data
import typer
from mtcnn import MTCNN
from rich.console import Console
from rich.progress import track

from affect.config import Faces, write_json
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.video import read_frames

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "faces"
BATCH_FRAMES = 16
# Mean distances of landmarks as shares of the box's height: of one face from its annotation, and of a face found.
ANNOTATED_RATIO = 0.06
FOUND_RATIO = 0.1
LEAST_HEIGHT_PX = 40  # of a box in its photograph
# Without an annotation, the package must give a face at least this score.
SURE_SCORE = 0.99
BOX_ASPECT = 0.77  # width over height of the package's boxes, in the mean
# Sweep → height and width of the frame, its values, and those with which a face is whole, upright, lit and sharp.
SWEEPS = {
    "size of 640×480": ((480, 640), (0.05, 0.1), (0, 1)),
    "size of 320×240": ((240, 320), (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15), (0, 1)),
    "margin": ((480, round(480 * BOX_ASPECT)), (-0.1, -0.05, 0, 0.05, 0.1, 0.2), (0, 1)),
    "rotation": ((240, 320), (-90, -60, -45, -30, -15, 15, 30, 45, 60, 90), (0, 0)),
    "brightness": ((240, 320), (0.1, 0.2, 0.4, 0.7, 1.4, 2, 3), (0, 0)),
    "blur": ((240, 320), (0.01, 0.02, 0.04, 0.06, 0.08, 0.1), (0, 0)),
}


@dataclass(frozen=True)
class Face:
    """A face whose place is known.

    Args:
        image: uint8 array (H, W, 3), RGB.
        box: (4,): x0 y0 x1 y1 in pixels.
        landmarks: (5, 2): x y in pixels, eyes, nose and corners of the mouth, from the image's left.
    """

    image: np.ndarray
    box: np.ndarray
    landmarks: np.ndarray


def read_faces(photographs):
    """Returns the portrait's `Face` and, where the folder is there, those of its photographs."""
    package = MTCNN()
    faces = _confirm(package, skimage.data.astronaut(), None)
    annotations = _read_annotations(photographs)
    for path in sorted(photographs.glob("*.jpg")):
        image = np.ascontiguousarray(cv2.imread(str(path))[..., ::-1])
        faces += _confirm(package, image, annotations.get(path.name))
    return faces


def _read_annotations(folder):
    """Returns file name → list of landmarks (5, 2), from dlib's 68."""
    found = {}
    for path in sorted(folder.glob("*.xml")):
        for image in ElementTree.parse(path).iter("image"):
            for box in image.iter("box"):
                parts = {part.get("name"): (float(part.get("x")), float(part.get("y"))) for part in box.iter("part")}
                points = np.array([parts[name] for name in sorted(parts)])
                eyes = [points[36:42].mean(0), points[42:48].mean(0)]
                found.setdefault(image.get("file"), []).append(np.array([*eyes, points[30], points[48], points[54]]))
    return found


def _confirm(package, image, annotated):
    faces = []
    for row in _run_package(package, [image])[0]:
        face = Face(image, row[1:5], row[6:16].reshape(2, 5).T)
        if annotated is None:
            is_face = row[5] >= SURE_SCORE
        else:
            is_face = any(is_found([face.landmarks], points, ANNOTATED_RATIO * _height(face)) for points in annotated)
        if is_face and _height(face) >= LEAST_HEIGHT_PX:
            faces.append(face)
    return faces


def _run_package(package, frames):
    """Returns the package's rows for each frame: frame, box, score, all x of the landmarks, all y."""
    rows = package.detect_faces(frames, box_format="xyxy", output_type="numpy", fit_to_image=False)
    return [[row for row in rows if row[0] == index] for index in range(len(frames))]


def _height(face):
    return face.box[3] - face.box[1]


def is_found(candidates, landmarks, within_px):
    """Returns whether any set of landmarks is near the true ones: its mean distance in pixels is below a limit."""
    return any(np.linalg.norm(points - landmarks, axis=1).mean() < within_px for points in candidates)


def place(face, size_px, shape, rotation_deg=0):
    """Places a face in the middle of a frame.

    Args:
        face: `Face`.
        size_px: Height of its box in the frame.
        shape: Height and width of the frame.
        rotation_deg: Turns the face clockwise about the middle.

    Returns:
        `(frame, landmarks)`. Where the photograph ends, it is mirrored.
    """
    scale = size_px / _height(face)
    image, left = face.image, scale
    if scale < 1:
        image, left = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), 1
    x, y = scale * (face.box[:2] + face.box[2:]) / 2
    turn = cv2.getRotationMatrix2D((0, 0), -rotation_deg, 1)[:, :2]
    shift = np.array([shape[1], shape[0]]) / 2 - turn @ (x, y)
    matrix = np.column_stack([left * turn, shift])
    frame = cv2.warpAffine(image, matrix, shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return frame, scale * face.landmarks @ turn.T + shift


def show(face, sweep, value, shape):
    """Returns `(frame, landmarks, size_px)` of a face in a sweep, at one of its values."""
    size_px = shape[0] / 2
    if sweep.startswith("size"):
        size_px = value * min(shape)
    elif sweep == "margin":
        size_px = shape[0] / (1 + 2 * value)
    frame, landmarks = place(face, size_px, shape, value if sweep == "rotation" else 0)
    if sweep == "brightness":
        frame = np.clip(value * frame.astype(np.float32), 0, 255).astype(np.uint8)
    elif sweep == "blur":
        frame = cv2.GaussianBlur(frame, (0, 0), value * size_px)
    return frame, landmarks, size_px


def measure(faces, settings, sweeps=SWEEPS):
    """Returns the recall of ours and of the package: a dict for each value of each sweep.

    Args:
        faces: List of `Face`.
        settings: `affect.config.Faces` of ours.
        sweeps: As `SWEEPS`.
    """
    package, ours = MTCNN(), DETECTORS["mtcnn"](settings)
    cells = [(sweep, shape, value, whole) for sweep, (shape, values, whole) in sweeps.items() for value in values]
    rows = []
    for sweep, shape, value, (least, most) in track(cells, "cells", console=Console(stderr=True)):
        shown = [show(face, sweep, value, shape) for face in faces]
        found = {"ours": 0, "mtcnn": 0}
        for start in range(0, len(shown), BATCH_FRAMES):
            batch = shown[start : start + BATCH_FRAMES]
            frames = [frame for frame, _, _ in batch]
            given = {
                "ours": [[one.landmarks for one in detections] for detections in ours.detect(frames)],
                "mtcnn": [[row[6:16].reshape(2, 5).T for row in rows] for rows in _run_package(package, frames)],
            }
            for name, candidates in given.items():
                for (_, landmarks, size_px), points in zip(batch, candidates, strict=True):
                    found[name] += is_found(points, landmarks, FOUND_RATIO * size_px)
        rows.append({"sweep": sweep, "value": value, "whole": least <= value <= most, "faces": len(faces)})
        rows[-1] |= {name: count / len(faces) for name, count in found.items()}
    return rows


def text(rows):
    """Returns the rows as tables, and in a last line whether the requirement is met."""
    lines = []
    for sweep in dict.fromkeys(row["sweep"] for row in rows):
        lines += ["", f"| {sweep} | ours | mtcnn 1.0 |", "|---|---|---|"]
        for row in rows:
            if row["sweep"] == sweep:
                value = f"{row['value']:g}" if sweep in ("rotation", "brightness") else f"{row['value']:.0%}"
                lines.append(f"| {value} | {row['ours']:.3f} | {row['mtcnn']:.3f} |")
    level = sum(row["ours"] >= row["mtcnn"] for row in rows)
    whole = min((row["ours"] for row in rows if row["whole"]), default=float("nan"))
    lines += ["", f"{rows[0]['faces']} faces: ours finds at least as many as mtcnn in {level} of {len(rows)} cells; "]
    lines[-1] += f"of whole, upright, lit and sharp faces at least {whole:.3f}"
    return "\n".join(lines[1:])


def measure_time(clip, settings, rounds):
    """Returns the time of each way: `wall_ms` and `cpu_ms`, medians of the rounds, for each of its `images`."""
    package, ours = MTCNN(), DETECTORS["mtcnn"](settings)
    frames = [frame for _, frame in read_frames(clip)]
    found = [
        (frame, detections[0].box) for frame, detections in zip(frames, ours.detect(frames), strict=True) if detections
    ]
    seen, boxes = [frame for frame, _ in found], np.array([box for _, box in found])

    def batches(count, run):
        return [run(slice(start, start + BATCH_FRAMES)) for start in range(0, count, BATCH_FRAMES)]

    ways = {
        "detect": (len(frames), lambda: batches(len(frames), lambda part: ours.detect(frames[part]))),
        "follow": (len(seen), lambda: batches(len(seen), lambda part: ours.follow(seen[part], boxes[part]))),
        "mtcnn": (len(frames), lambda: batches(len(frames), lambda part: package.detect_faces(frames[part]))),
    }
    spent = {name: ([], []) for name, (count, _) in ways.items() if count}
    for index in range(rounds + 1):
        for name, (wall, cpu) in spent.items():
            began = time.perf_counter(), time.process_time()
            ways[name][1]()
            if index:  # the first call of each prepares it
                wall.append(time.perf_counter() - began[0])
                cpu.append(time.process_time() - began[1])
    each = {name: 1000 / ways[name][0] for name in spent}
    return {
        name: {
            "images": ways[name][0],
            "wall_ms": statistics.median(wall) * each[name],
            "cpu_ms": statistics.median(cpu) * each[name],
        }
        for name, (wall, cpu) in spent.items()
    }


def main(
    photographs: Path = PHOTOGRAPHS,
    score_threshold: float = Faces.score_threshold,
    clip: Path | None = None,
    rounds: int = 5,
    out: Path | None = None,
):
    """Measure the recall of the detector mtcnn beside the package's own, or with --clip its time."""
    if clip:
        spent = measure_time(clip, Faces(score_threshold=score_threshold), rounds)
        for name, row in spent.items():
            print(
                f"{name}: {row['cpu_ms']:.2f} ms of a processor, {row['wall_ms']:.2f} ms, for each of {row['images']}"
            )
        if out:
            write_json(out, spent)
        return
    if not photographs.is_dir():
        print(f"{photographs} is absent: the portrait alone")
    rows = measure(read_faces(photographs), Faces(min_face_px=20, score_threshold=score_threshold))
    print(text(rows))
    if out:
        write_json(out, rows)


if __name__ == "__main__":
    typer.run(main)
