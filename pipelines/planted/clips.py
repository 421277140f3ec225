"""Planted clips: the demo's videos, whose expressions are known in time and space.

`planted.json` says when and where an expression shows; it is the oracle for attention and frame importance. Files lie
as the data set `folder` expects them. `clips.csv`, for the data set `csv`, names the subjects too.
"""

import csv
import itertools
import math
from pathlib import Path

import numpy as np

from affect.config import read_json, write_json
from affect.pipelines.planted.portrait import (
    BLINK,
    BROWS,
    MOUTHS,
    displace,
    draw_subject,
    drift,
    film,
    locate,
    write_video,
)
from affect.progress import Track, hide_progress

# Displacements from the neutral face, handle → (outward, down), in inter-ocular distances at strength 1.
EXPRESSIONS = {
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
# Brows and mouth in all four combinations: neither region alone tells the class.
TWO_REGIONS = {
    f"{brows}_{mouth}": {"regions": ("mouth", "brows"), "moves": BROWS[brows] | MOUTHS[mouth]}
    for brows, mouth in itertools.product(BROWS, MOUTHS)
}
# Limits of what twitches without meaning, in the same units.
TWITCH_RANGES = {"mouth_corner": (0.01, 0.012), "brow_inner": (0.008, 0.012), "brow_outer": (0.0, 0.012)}


def draw_strength(rng, frames, shortest, longest):
    """Interval (start, end) and the strength of every frame: a rise, a hold and a fall inside, 0 outside.

    An interval as long as the clip is held throughout.
    """
    length = int(rng.integers(shortest, longest + 1))
    if length == frames:
        return (0, frames), np.full(frames, rng.uniform(0.85, 1))
    start = int(rng.integers(1, frames - length))  # neutral first and last
    ramp = np.clip(np.arange(1, length + 1) / (length // 4 + 1), 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])
    strength = np.zeros(frames)
    strength[start : start + length] = rng.uniform(0.85, 1) * ramp * ramp * (3 - 2 * ramp)
    return (start, start + length), strength


def animate(subject, label, rng, lengths, *, frames, frame_rate_hz, size, pose, light, blur, noise, twitch):
    """One clip: its frames, RGB uint8 `(frames, size, size, 3)`, and its entry in the oracle."""
    seconds = np.arange(frames) / frame_rate_hz
    (start, end), strength = draw_strength(rng, frames, *lengths)
    blinks_s = np.cumsum(rng.uniform(0.8, 5, 2 + int(seconds[-1]))) - 0.8
    shut = np.clip(1 - np.abs(seconds[:, None] - blinks_s) / 0.13, 0, 1).max(1)
    blink = min(twitch, 1) * shut * (strength == 0)
    acts = [((EXPRESSIONS | TWO_REGIONS)[label]["moves"], strength), (BLINK, blink)]
    acts += [({handle: limits}, twitch * drift(rng, seconds)) for handle, limits in TWITCH_RANGES.items()]
    faces = subject.neutral + sum(weights[:, None, None] * displace(moves) for moves, weights in acts)
    poses, shown = film(subject, faces, seconds, rng, size=size, pose=pose, light=light, blur=blur, noise=noise)
    images, regions = [], {region: [] for region in (EXPRESSIONS | TWO_REGIONS)[label]["regions"]}
    for face, view, image in zip(faces, poses, shown, strict=True):
        images.append(image)
        for region, boxes in regions.items():
            boxes.append(locate(region, [subject.neutral, face], view, size))
    return np.stack(images), {
        "label": label,
        "subject": subject.name,
        "interval_frames": [start, end],
        "interval_s": [start / frame_rate_hz, end / frame_rate_hz],
        "strength": strength.round(4).tolist(),
        "blink": blink.round(4).tolist(),
        "regions": regions,
    }


def generate(
    out,
    *,
    train_clips=40,
    test_clips=20,
    frames=32,
    frame_rate_hz=16,
    size=240,
    interval_ratio=(0.2, 0.4),
    pose=1.0,
    light=1.0,
    blur=0.8,
    noise=3.0,
    twitch=1.0,
    seed=0,
    expressions=tuple(EXPRESSIONS),
    track: Track = hide_progress,
):
    """Writes the clips `OUT/{train,test}/<expression>/<id>.mp4`, `OUT/clips.csv` and `OUT/planted.json`, the oracle.

    A subject shows each expression once and is in one split. The same arguments give the same frames; where they
    were written before, nothing is done.

    Args:
        out: folder; made if need be.
        train_clips, test_clips: of all expressions together.
        frames, frame_rate_hz: of a clip.
        size: side of the frame in pixels, even. The face is about half as wide.
        interval_ratio: shortest and longest expression as parts of the clip; `(1, 1)` holds it from end to end.
        pose, light: how much head and camera move and the light changes; 0 holds them still.
        blur: largest standard deviation of the blur in pixels.
        noise: standard deviation of the sensor's noise in levels of 255.
        twitch: how much the face moves without meaning, blinks included.
        seed: of everything random.
        expressions: those to plant, of `EXPRESSIONS` and `TWO_REGIONS`.
        track: Shows progress.

    Returns:
        Path of `planted.json`: `{"arguments": {...}, "clips": {key: {...}}}`. An entry of `clips`, say
        `"train/happy/0001"`, holds `label`, `subject`, `interval_frames` and `interval_s` as [start, end),
        `strength` and `blink` of every frame in [0, 1], and `regions`: for each planted region the box
        [x0, y0, x1, y1] in pixels in every frame, about the region as it is and as it would be at rest.

    Raises:
        ValueError: for an unknown expression, an odd size, an interval ratio that no number of frames meets,
            or clips in `out` that this call would not write.
    """
    settings = {"frames": frames, "frame_rate_hz": frame_rate_hz, "size": size, "pose": pose, "light": light}
    settings |= {"blur": blur, "noise": noise, "twitch": twitch}
    if not expressions or not set(expressions) <= set(EXPRESSIONS | TWO_REGIONS):
        raise ValueError(
            "Unknown or no expression in `expressions`. "
            f"Expected one of {sorted(EXPRESSIONS | TWO_REGIONS)}. Received: expressions={expressions!r}"
        )
    if size % 2:
        raise ValueError(f"`size` must be even (yuv420p). Expected an even number. Received: size={size!r}")
    lengths = math.ceil(interval_ratio[0] * frames - 1e-9), math.floor(interval_ratio[1] * frames + 1e-9)
    if not (0 < lengths[0] <= lengths[1] <= frames - 2 or interval_ratio[0] == interval_ratio[1] == 1):
        raise ValueError(
            "No number of frames meets `interval_ratio`. Expected 0 < low <= high, with neutral frames left, or 1, 1. "
            f"Received: interval_ratio={interval_ratio!r}, frames={frames!r}"
        )
    out = Path(out)
    tasks = {
        f"{split}/{expressions[index % len(expressions)]}/{index:04d}": (split, index)
        for split, clips in (("train", train_clips), ("test", test_clips))
        for index in range(clips)
    }
    arguments = settings | {"interval_ratio": list(interval_ratio), "expressions": list(expressions), "seed": seed}
    arguments |= {"train_clips": train_clips, "test_clips": test_clips}
    oracle = out / "planted.json"
    if oracle.exists() and read_json(oracle)["arguments"] == arguments:
        return oracle
    strays = {path.relative_to(out).with_suffix("").as_posix() for path in out.glob("*/*/*.mp4")}
    strays = sorted(strays - set(tasks))
    if strays:
        raise ValueError(f"`out` holds other clips. Expected none, remove them. Received: {out}, {strays}")
    out.mkdir(parents=True, exist_ok=True)
    oracle.unlink(missing_ok=True)  # it would lie about the clips to come
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
    with open(out / "clips.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subject", "split"])
        writer.writerows((f"{key}.mp4", clip["label"], clip["subject"], tasks[key][0]) for key, clip in clips.items())
    write_json(oracle, {"arguments": arguments, "clips": clips})
    return oracle
