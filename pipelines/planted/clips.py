"""Planted clips: the demo's videos, whose expressions are known in time and space.

`planted.json` says when and where an expression is visible. It is the ground truth for attention and frame importance.
The tree is the tree of the data set `folder`. `clips.csv`, for the data set `csv`, names the subjects too.
"""

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from affect.config import read_json, write_json
from affect.files import replace_file
from affect.pipelines.planted.portrait import (
    BLINK,
    BROWS,
    MOUTHS,
    Moves,
    Region,
    Subject,
    check_size,
    displace,
    draw_subject,
    drift,
    film,
    locate,
    write_video,
)
from affect.progress import Track, hide_progress


class Expression(TypedDict):
    """What an expression moves at strength 1, from the neutral face; and the regions that tell it from others."""

    regions: tuple[Region, ...]
    moves: Moves


EXPRESSIONS: dict[str, Expression] = {
    "angry": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "brow_inner": (-0.06, 0.13),
            "brow_middle": (-0.03, 0.07),
            "brow_outer": (0.0, -0.02),
            "upper_lid": (0.0, 0.05),
            "lower_lid": (0.0, -0.035),
            "mouth_corner": (-0.05, 0.05),
            "red_of_upper_lip": (0.0, 0.05),
            "red_of_lower_lip": (0.0, -0.05),
        },
    },
    "happy": {
        "regions": ("mouth", "eyes"),
        "moves": {
            "mouth_corner": (0.11, -0.15),
            "upper_lip": (0.0, -0.05),
            "lower_lip": (0.0, 0.07),
            "cheek": (0.0, -0.04),
            "upper_lid": (0.0, 0.02),
            "lower_lid": (0.0, -0.04),
        },
    },
    "sad": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "mouth_corner": (0.0, 0.11),
            "upper_lip": (0.0, -0.015),
            "lower_lip": (0.0, -0.015),
            "brow_inner": (-0.03, -0.13),
            "brow_middle": (0.0, -0.03),
            "brow_outer": (0.0, 0.05),
            "upper_lid": (0.0, 0.04),
        },
    },
    "surprise": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "mouth_corner": (-0.07, 0.06),
            "upper_lip": (0.0, -0.05),
            "lower_lip": (0.0, 0.26),
            "chin": (0.0, 0.05),
            "brow_inner": (0.0, -0.12),
            "brow_middle": (0.0, -0.14),
            "brow_outer": (0.0, -0.08),
            "upper_lid": (0.0, -0.05),
            "lower_lid": (0.0, 0.03),
        },
    },
}
# A face at rest, which the clips of all expressions also show before and after the expression.
NO_EXPRESSION: dict[str, Expression] = {"neutral": {"regions": (), "moves": {}}}
# Brows and mouth in all four combinations: neither region alone tells the class.
TWO_REGIONS: dict[str, Expression] = {
    f"{brows}_{mouth}": {"regions": ("mouth", "brows"), "moves": BROWS[brows] | MOUTHS[mouth]}
    for brows, mouth in itertools.product(BROWS, MOUTHS)
}
ALL_EXPRESSIONS = EXPRESSIONS | TWO_REGIONS | NO_EXPRESSION
# Limits of random movements without meaning, in the same units.
TWITCH_RANGES = {"mouth_corner": (0.01, 0.012), "brow_inner": (0.008, 0.012), "brow_outer": (0.0, 0.012)}


def draw_strength(
    rng: np.random.Generator, frames: int, shortest: int, longest: int
) -> tuple[tuple[int, int], np.ndarray]:
    """Draws when an expression shows, and how strongly.

    Args:
        rng: Random generator.
        frames: Frames of the clip.
        shortest, longest: Limits of the interval in frames.

    Returns:
        `((start, end), strength)`: the interval in frames; float64 (frames,), which rises, stays and falls inside the
        interval and is 0 outside. If the interval is as long as the clip, the strength is constant.
    """
    length = int(rng.integers(shortest, longest + 1))
    if length == frames:
        return (0, frames), np.full(frames, rng.uniform(0.85, 1))
    start = int(rng.integers(1, frames - length))  # the first and the last frame are neutral
    ramp = np.clip(np.arange(1, length + 1) / (length // 4 + 1), 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])
    strength = np.zeros(frames)
    strength[start : start + length] = rng.uniform(0.85, 1) * ramp * ramp * (3 - 2 * ramp)
    return (start, start + length), strength


def animate(
    subject: Subject,
    label: str,
    rng: np.random.Generator,
    lengths: tuple[int, int],
    *,
    frames: int,
    frame_rate_hz: float,
    size: int,
    pose: float,
    light: float,
    blur: float,
    noise: float,
    twitch: float,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Renders one clip.

    Args:
        subject: The person.
        label: Expression, of `ALL_EXPRESSIONS`.
        rng: Random generator.
        lengths: Shortest and longest interval in frames.
        frames, frame_rate_hz, size, pose, light, blur, noise, twitch: As in `generate`.

    Returns:
        `(images, entry)`: RGB uint8 `(frames, size, size, 3)`; the clip's entry in `planted.json`.
    """
    seconds = np.arange(frames) / frame_rate_hz
    drawn, strength = draw_strength(rng, frames, *lengths)
    interval = None if label in NO_EXPRESSION else drawn
    strength *= interval is not None
    blinks_s = np.cumsum(rng.uniform(0.8, 5, 2 + int(seconds[-1]))) - 0.8
    shut = np.clip(1 - np.abs(seconds[:, None] - blinks_s) / 0.13, 0, 1).max(1)
    blink = min(twitch, 1) * shut * (strength == 0)
    expression = ALL_EXPRESSIONS[label]
    acts: list[tuple[Moves, np.ndarray]] = [(expression["moves"], strength), (BLINK, blink)]
    acts += [({handle: limits}, twitch * drift(rng, seconds)) for handle, limits in TWITCH_RANGES.items()]
    faces = subject.neutral + sum(weights[:, None, None] * displace(moves) for moves, weights in acts)
    poses, shown = film(subject, faces, seconds, rng, size=size, pose=pose, light=light, blur=blur, noise=noise)
    images, regions = [], {region: [] for region in expression["regions"]}
    for face, view, image in zip(faces, poses, shown, strict=True):
        images.append(image)
        for region, boxes in regions.items():
            boxes.append(locate(region, [subject.neutral, face], view, size))
    return np.stack(images), {
        "label": label,
        "subject": subject.name,
        "interval_frames": interval and list(interval),
        "interval_s": interval and [frame / frame_rate_hz for frame in interval],
        "strength": strength.round(4).tolist(),
        "blink": blink.round(4).tolist(),
        "regions": regions,
    }


def generate(
    out: Path | str,
    *,
    train_clips: int = 40,
    test_clips: int = 20,
    frames: int = 32,
    frame_rate_hz: float = 16,
    size: int = 240,
    interval_ratio: tuple[float, float] = (0.2, 0.4),
    pose: float = 1.0,
    light: float = 1.0,
    blur: float = 0.8,
    noise: float = 3.0,
    twitch: float = 1.0,
    seed: int = 0,
    expressions: Sequence[str] = tuple(EXPRESSIONS),
    track: Track = hide_progress,
) -> Path:
    """Writes the clips `OUT/{train,test}/<expression>/<id>.mp4`, `OUT/clips.csv` and `OUT/planted.json`.

    A subject shows each expression once and is in one split. The same arguments give the same frames. If they were
    written before, nothing is done.

    Args:
        out: Folder; it is made if it does not exist.
        train_clips, test_clips: Number of clips of all expressions together.
        frames, frame_rate_hz: Length and frame rate of a clip.
        size: Side of the frame in pixels, an even number. The face is about half as wide.
        interval_ratio: Shortest and longest expression as shares of the clip. With `(1, 1)` it lasts for the whole
            clip.
        pose: How much head and camera move; with 0 they do not.
        light: How much the light changes; with 0 it does not.
        blur: Largest standard deviation of the blur in pixels.
        noise: Standard deviation of the sensor's noise in levels of 255.
        twitch: How much the face moves without meaning; this includes blinks.
        seed: Seed of everything random.
        expressions: Expressions that are shown, of `ALL_EXPRESSIONS`.
        track: Shows progress.

    Returns:
        Path of `planted.json`: `{"arguments": {...}, "clips": {key: {...}}}`. An entry of `clips`, for example
        `"train/happy/0001"`, holds `label`, `subject`, `interval_frames` and `interval_s` as [start, end) or
        `None` where the face is at rest, `strength` and `blink` of every frame in [0, 1], and `regions`: for each
        region that moves, the box [x0, y0, x1, y1] in pixels in every frame, which contains the region as it is and as
        it is at rest.

    Raises:
        ValueError: On an unknown expression, an odd size, an interval ratio that no number of frames meets, or if `out`
            holds clips that this call would not write.
    """
    settings: dict[str, Any] = {"frames": frames, "frame_rate_hz": frame_rate_hz, "size": size, "pose": pose}
    settings |= {"light": light, "blur": blur, "noise": noise, "twitch": twitch}
    if not expressions or not set(expressions) <= set(ALL_EXPRESSIONS):
        raise ValueError(
            "Unknown or no expression in `expressions`. "
            f"Expected one of {sorted(ALL_EXPRESSIONS)}. Received: expressions={expressions!r}"
        )
    check_size(size)
    lengths = math.ceil(interval_ratio[0] * frames - 1e-9), math.floor(interval_ratio[1] * frames + 1e-9)
    if not (0 < lengths[0] <= lengths[1] <= frames - 2 or interval_ratio[0] == interval_ratio[1] == 1):
        raise ValueError(
            "No number of frames meets `interval_ratio`. Expected 0 < low <= high, with neutral frames left, or 1, 1. "
            f"Received: interval_ratio={interval_ratio!r}, frames={frames!r}"
        )
    out = Path(out)
    tasks = {
        f"{split}/{expressions[index % len(expressions)]}/{index:04d}": (split, index)
        for split, count in (("train", train_clips), ("test", test_clips))
        for index in range(count)
    }
    arguments = settings | {"interval_ratio": list(interval_ratio), "expressions": list(expressions), "seed": seed}
    arguments |= {"train_clips": train_clips, "test_clips": test_clips}
    oracle = out / "planted.json"
    if oracle.exists() and read_json(oracle)["arguments"] == arguments:
        return oracle
    found = {path.relative_to(out).with_suffix("").as_posix() for path in out.glob("*/*/*.mp4")}
    if strays := sorted(found - set(tasks)):
        raise ValueError(f"`out` holds other clips. Expected none, remove them. Received: {out}, {strays}")
    out.mkdir(parents=True, exist_ok=True)
    oracle.unlink(missing_ok=True)  # it does not describe the new clips
    clips = {}
    for key, (split, index) in track(tasks.items(), len(tasks), "videos"):
        person, turn = divmod(index, len(expressions))
        stream = [seed, split == "test"]
        subject = draw_subject(np.random.default_rng([*stream, 0, person]), f"{split}_{person:02d}")
        rng = np.random.default_rng([*stream, 1, index])
        images, clips[key] = animate(subject, expressions[turn], rng, lengths, **settings)
        path = out / f"{key}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, images, frame_rate_hz)
    with (
        replace_file(out / "clips.csv") as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subject", "split"])
        writer.writerows((f"{key}.mp4", clip["label"], clip["subject"], tasks[key][0]) for key, clip in clips.items())
    write_json(oracle, {"arguments": arguments, "clips": clips})
    return oracle
