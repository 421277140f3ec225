"""The folder of a study, as `affect predict --out` writes it, with invented numbers."""

import csv
import hashlib
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw

from affect.config import write_json
from tests.pictures import write_video

CLASSES = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
DIMENSIONS = ("valence", "arousal")
CARD = "# made\n\nFaces are cut by **nobody**.\n\n## Limits\n\nIt was never measured. <script>alert(1)</script>\n"


@dataclass(frozen=True)
class Film:
    """A video of a study.

    Args:
        name: As it is shown; also its path below the folder `films` beside the study.
        seconds, rate: Its length, and frames a second.
        people: Number of people.
        problem: What kept it from being read.
        groups: Subject and condition.
        without_a_face: First and last second without a face.
        is_film: Whether a video file is written.
        codec: Of the video file.
        has_preview: Whether the video file is the study's preview.
    """

    name: str
    seconds: float = 4
    rate: float = 25
    people: int = 1
    problem: str = ""
    groups: dict = field(default_factory=dict)
    without_a_face: tuple = (1.0, 1.5)
    is_film: bool = True
    codec: str = "libx264"
    has_preview: bool = False


def write_study(folder, films, *, task="classification", classes=None, faces=None, columns=("_smooth", "_change")):
    """Writes the folder of a study.

    Args:
        folder: It is made.
        films: Instances of `Film`.
        task: `classification` or `regression`.
        classes: Names of the classes or dimensions.
        faces: `faces(person, index, size)` → a picture of a face; `None` draws one.
        columns: Ends of the names of columns that smoothing and a baseline add.

    Returns:
        What study.json holds.
    """
    classes = classes or (CLASSES if task == "classification" else DIMENSIONS)
    numbers = [*classes, *(name + end for end in columns for name in classes)]
    header = ["frame", "timestamp_s", "face", "has_face", "x0", "y0", "x1", "y1", "score", "importance", *numbers]
    videos = []
    for place, film in enumerate(films):
        digest = hashlib.sha256(film.name.encode()).hexdigest()
        part = folder / "parts" / digest
        part.mkdir(parents=True, exist_ok=True)
        film_path = folder.parent / "films" / film.name
        preview = f"previews/{place}.mp4" if film.has_preview else None
        if film.is_film and not film.problem:
            film_path = folder / preview if preview else film_path
            film_path.parent.mkdir(parents=True, exist_ok=True)
            write_film(film_path, film)
        people = write_part(part, film, task, classes, header, faces or draw_face, seed=place) if film.people else []
        if not film.people or film.problem:
            write_nobody(part, film, header)
        write_json(part / "video.json", describe(film, [] if film.problem else people))
        videos.append(
            {
                "video": film.name,
                "path": f"../films/{film.name}",
                "sha256": digest,
                "page": f"pages/{place:02d}.html",
                "preview": preview,
                "groups": film.groups,
            }
        )
    settings = {"faces": "all", "frame_rate_hz": None, "start_s": None, "end_s": None}
    settings |= {"smooth_s": 0.5 if "_smooth" in columns else None, "smoothing": "centred"}
    settings |= {"baseline_s": [0, 1] if "_change" in columns else None}
    study = {
        "format": 1,
        "affect": "0.1.0",
        "written": "2026-11-30",
        "model": {
            "path": "savedmodels/made/1",
            "name": "made",
            "task": task,
            "has_classes": task == "classification",
            "classes": list(classes),
            "card": CARD,
            "licence": "MIT, of nobody",
            "description": "The model made, on faces that mtcnn found",
        },
        "settings": settings,
        "columns": header,
        "videos": videos,
    }
    write_json(folder / "study.json", study)
    return study


def describe(film, people):
    frames = 0 if film.problem else round(film.seconds * film.rate)
    return {
        "frames": frames,
        "frame_rate_hz": film.rate,
        "duration_s": film.seconds,
        "width": 320,
        "height": 180,
        "problem": film.problem,
        "notes": ["The clock jumped back once, and was continued."] if film.people > 1 else [],
        "faces_seen": film.people + 1 if people else 0,
        "people": people,
    }


def write_film(path, film):
    """Writes frames in which a square goes from left to right, and a bar code tells the frame's number."""
    frames = []
    for number in range(round(film.seconds * film.rate)):
        frame = np.full((180, 320, 3), 60, np.uint8)
        left, top = box_of(0, number / film.rate, film.seconds)[:2]
        frame[int(top) : int(top) + 60, int(left) : int(left) + 60] = (200, 160, 120)
        for bit in range(12):
            frame[168:, 20 * bit : 20 * bit + 20] = 255 * (number >> bit & 1)
        frames.append(frame)
    write_video(path, frames, frame_rate_hz=film.rate, codec=film.codec, options={"movflags": "+faststart"})


def box_of(person, time_s, seconds):
    left = 20 + 200 * time_s / seconds
    return (left, 30 + 50 * person, left + 60, 90 + 50 * person)


def values_of(task, classes, time_s, seed):
    """Returns slow curves with a little noise, float (T, C)."""
    draw = np.random.default_rng(seed)
    total = np.zeros((len(time_s), len(classes)))
    for place in range(len(classes)):
        for period_s in (3, 11, 37, 140):
            total[:, place] += draw.normal() * np.sin(2 * np.pi * (time_s / period_s + draw.uniform()))
    total = 1.4 * total + draw.normal(scale=0.08, size=total.shape)
    if task == "regression":
        return np.tanh(total / 3)
    total[:, -3 % len(classes)] += 1.2
    total = np.exp(total)
    return total / total.sum(axis=1, keepdims=True)


def write_part(part, film, task, classes, header, faces, seed):
    time_s = np.arange(round(film.seconds * film.rate)) / film.rate
    has_face = ~((time_s >= film.without_a_face[0]) & (time_s < film.without_a_face[1]))
    people, tables = [], []
    for person in range(film.people):
        values = values_of(task, classes, time_s, seed=100 * seed + person)
        smooth = np.apply_along_axis(np.convolve, 0, values, np.full(13, 1 / 13), "same")[: len(values)]
        change = values - values[:25].mean(axis=0)
        importance = np.where(has_face, np.exp(2 * values[:, 0]), 0)
        importance /= importance.sum()
        table = {"_smooth": smooth, "_change": change, "": values}
        tables.append((person, table, importance))
        mean = values[has_face].mean(axis=0)
        label = classes[int(mean.argmax())] if task == "classification" else None
        shown = []
        for index, at in enumerate(np.linspace(0, film.seconds * 0.98, 24)):
            number = min(int(at * film.rate), len(time_s) - 1)
            if has_face[number]:
                picture = faces(person + 1, index, 96)
                name = f"{person + 1}-{len(shown)}.jpg"
                buffer = BytesIO()
                picture.save(buffer, "JPEG", quality=85)
                (part / name).write_bytes(buffer.getvalue())
                maps = np.exp(2 * np.random.default_rng([seed, person, index]).normal(size=(2, 4, 4)))
                maps = (maps / maps.sum(axis=(1, 2), keepdims=True)).tolist() if index % 5 else None
                shown.append({"timestamp_s": float(time_s[number]), "image": name, "attention": maps})
        people.append(
            {
                "face": person + 1,
                "label": label,
                "values": dict(zip(classes, mean.tolist(), strict=True)),
                "frames_with_a_face": int(has_face.sum()),
                "frames_read": len(time_s),
                "coverage": float(has_face.mean()),
                "peak_s": float(time_s[importance.argmax()]),
                "shown": shown,
            }
        )
    with (part / "frames.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, at in enumerate(time_s):
            for person, table, importance in tables:
                row = [number, f"{at:.6f}", person + 1, int(has_face[number])]
                if has_face[number]:
                    row += [f"{edge:.1f}" for edge in box_of(person, at, film.seconds)]
                    row += ["0.99", f"{importance[number]:.6g}"]
                    for name in header[10:]:
                        end = next((end for end in ("_smooth", "_change") if name.endswith(end)), "")
                        place = classes.index(name.removesuffix(end) if end else name)
                        row.append(f"{table[end][number, place]:.6g}")
                else:
                    row += [""] * (len(header) - 4)
                writer.writerow(row)
    return people


def write_nobody(part, film, header):
    """Writes the rows of a video without a face; of one that could not be read, none."""
    with (part / "frames.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number in range(0 if film.problem else round(film.seconds * film.rate)):
            writer.writerow([number, f"{number / film.rate:.6f}", "", 0, *[""] * (len(header) - 4)])


def draw_face(person, index, size):
    """Draws a face whose mouth moves."""
    picture = Image.new("RGB", (size, size), (90 + 50 * person % 120, 120, 140))
    pen = ImageDraw.Draw(picture)
    unit = size / 32
    pen.ellipse([3 * unit, 2 * unit, 29 * unit, 30 * unit], fill=(224, 180 - 20 * person, 140))
    for x in (11, 21):
        pen.ellipse([(x - 2) * unit, 11 * unit, (x + 2) * unit, 15 * unit], fill=(40, 40, 40))
    mouth = [10 * unit, (20 - index % 4) * unit, 22 * unit, (24 + index % 4) * unit]
    pen.arc(mouth, 0 if index % 3 else 180, 180 if index % 3 else 360, fill=(120, 30, 30), width=int(unit))
    return picture
