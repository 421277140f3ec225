"""Planted recordings: valence and arousal are known at every time and rated with a delay, in the tree of SEWA.

Valence moves the mouth, from pressed to open lips. Arousal moves the brows, from lowered to raised. Each follows a
smooth curve. A frame shows the curve and a tremor, which is drawn for each frame and is not in the ratings. So a single
frame is ambiguous, and several seconds of frames are not. Blinks and the drift of the chin have no meaning.
`planted.json` is the ground truth for the delay of ratings, for the gain from several frames, and for attention.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from affect.config import read_json, write_json
from affect.data.labels import DIMENSIONS
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

# Seconds `(F,)` → values `(F,)`.
Curve: TypeAlias = Callable[[Any], Any]
# Dimension → its region, and the moves at strength -1 and 1. They do not move the corners of the mouth, because faces
# are aligned by them.
SHOWN_BY: dict[str, tuple[Region, Moves, Moves]] = {
    "valence": ("mouth", MOUTHS["pressed"], MOUTHS["open"]),
    "arousal": ("brows", BROWS["lowered"], BROWS["raised"]),
}
CHIN = {"chin": (0.02, 0.03)}
CURVE_HZ = (0.04, 0.2)  # lowest and highest frequency of a curve's waves
WAVES = 5
STRONGEST = 1.25  # limit of curve plus tremor, at which lips and brows still look natural


def draw_curve(rng: np.random.Generator) -> Curve:
    """Draws a smooth curve in about [-1, 1] with the standard deviation 0.45. It is defined for negative times too."""
    hz, phase = np.linspace(*CURVE_HZ, WAVES) * rng.uniform(0.85, 1.15, WAVES), rng.uniform(0, 2 * np.pi, WAVES)

    def curve(seconds):
        return 0.45 * np.sqrt(2 / WAVES) * np.sin(2 * np.pi * np.asarray(seconds)[:, None] * hz + phase).sum(1)

    return curve


def generate_recordings(
    out: Path | str,
    *,
    train: int = 8,
    dev: int = 4,
    length_s: float = 60.0,
    frame_rate_hz: float = 10.0,
    delay_s: float = 2.4,
    label_step_s: float = 0.1,
    tremor: float = 0.45,
    size: int = 128,
    pose: float = 0.4,
    light: float = 0.5,
    blur: float = 0.8,
    noise: float = 3.0,
    twitch: float = 1.0,
    seed: int = 0,
    track: Track = hide_progress,
) -> Path:
    """Writes `OUT/labels/Train_01.csv`, `OUT/video/Train_01.mp4` and so on, and `OUT/planted.json`.

    Each recording shows another subject. The data set `sewa` reads the tree. A rating is the value of the curve
    `delay_s` earlier; the first ratings are values of the curve before the video begins. The same arguments give the
    same frames. If they were written before, nothing is done.

    Args:
        out: Folder; it is made if it does not exist.
        train, dev: Number of recordings `Train_*` and `Devel_*`.
        length_s: Length of a recording.
        frame_rate_hz: Frame rate of the videos.
        delay_s: Delay of the ratings.
        label_step_s: Time between ratings.
        tremor: Standard deviation of a frame's strength around the curve; the curve itself has 0.45.
        size, pose, light, blur, noise: As in `affect.pipelines.planted.clips.generate`.
        twitch: How much eyes and chin move; with 0 they do not.
        seed: Seed of everything random.
        track: Shows progress.

    Returns:
        Path of `planted.json`: `{"arguments": {...}, "recordings": {"Train_01": {...}}}`. An entry holds `subject`; for
        each frame `valence` and `arousal`, the curves at its time; `strength`, by dimension curve plus tremor, which
        the frame shows; `blink`; and `regions`: for mouth and brows the box [x0, y0, x1, y1] in pixels in every frame,
        which contains the region as it is and as it is at rest.

    Raises:
        ValueError: On an odd size, or if `out` holds recordings that this call would not write.
    """
    check_size(size)
    settings: dict[str, Any] = {"frame_rate_hz": frame_rate_hz, "tremor": tremor, "size": size, "pose": pose}
    settings |= {"light": light, "blur": blur, "noise": noise, "twitch": twitch, "length_s": length_s}
    ratings = {"delay_s": delay_s, "label_step_s": label_step_s}
    arguments = settings | ratings | {"train": train, "dev": dev, "seed": seed}
    out = Path(out)
    oracle = out / "planted.json"
    if oracle.exists() and read_json(oracle)["arguments"] == arguments:
        return oracle
    names = [
        f"{split}_{index + 1:02d}" for split, count in (("Train", train), ("Devel", dev)) for index in range(count)
    ]
    found = {path.stem for path in [*out.glob("labels/*.csv"), *out.glob("video/*.mp4")]}
    if strays := sorted(found - set(names)):
        raise ValueError(f"`out` holds other recordings. Expected none, remove them. Received: {out}, {strays}")
    for folder in ("labels", "video"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    oracle.unlink(missing_ok=True)  # it does not describe the new recordings
    recordings = {}
    for name in track(names, len(names), "videos"):
        split, number = name.split("_")
        rng = np.random.default_rng([seed, split == "Devel", int(number)])
        subject = draw_subject(rng, name)
        curves = {dimension: draw_curve(rng) for dimension in DIMENSIONS}
        images, recordings[name] = perform(subject, curves, rng, **settings)
        write_video(out / "video" / f"{name}.mp4", images, frame_rate_hz)
        write_ratings(out / "labels" / f"{name}.csv", curves, length_s=length_s, **ratings)
    write_json(oracle, {"arguments": arguments, "recordings": recordings})
    return oracle


def perform(
    subject: Subject,
    curves: Mapping[str, Curve],
    rng: np.random.Generator,
    *,
    length_s: float,
    frame_rate_hz: float,
    tremor: float,
    size: int,
    pose: float,
    light: float,
    blur: float,
    noise: float,
    twitch: float,
) -> tuple[Iterator[np.ndarray], dict[str, Any]]:
    """Renders one recording.

    Args:
        subject: The person.
        curves: Curve of each dimension.
        rng: Random generator. The iterator draws from it until the last frame.
        length_s, frame_rate_hz, tremor, size, pose, light, blur, noise, twitch: As in `generate_recordings`.

    Returns:
        `(images, entry)`: the frames, RGB uint8 `(size, size, 3)`; the recording's entry in `planted.json`.
    """
    seconds = np.arange(round(length_s * frame_rate_hz)) / frame_rate_hz
    values = {dimension: curve(seconds) for dimension, curve in curves.items()}
    strength = {
        dimension: np.clip(value + tremor * rng.standard_normal(len(seconds)), -STRONGEST, STRONGEST)
        for dimension, value in values.items()
    }
    blinks_s = np.cumsum(rng.uniform(0.8, 5, 2 + int(length_s)))
    blink = min(twitch, 1) * np.clip(1 - np.abs(seconds[:, None] - blinks_s) / 0.2, 0, 1).max(1)
    acts: list[tuple[Moves, np.ndarray]] = [(BLINK, blink), (CHIN, twitch * drift(rng, seconds))]
    for dimension, (_, low, high) in SHOWN_BY.items():
        acts += [(low, np.maximum(-strength[dimension], 0)), (high, np.maximum(strength[dimension], 0))]
    faces = subject.neutral + sum(weights[:, None, None] * displace(moves) for moves, weights in acts)
    poses, images = film(subject, faces, seconds, rng, size=size, pose=pose, light=light, blur=blur, noise=noise)
    return images, {
        "subject": subject.name,
        **{dimension: value.round(4).tolist() for dimension, value in values.items()},
        "strength": {dimension: shown.round(4).tolist() for dimension, shown in strength.items()},
        "blink": blink.round(4).tolist(),
        "regions": {
            region: [
                locate(region, [subject.neutral, face], view, size) for face, view in zip(faces, poses, strict=True)
            ]
            for region, _, _ in SHOWN_BY.values()
        },
    }


def write_ratings(
    path: Path, curves: Mapping[str, Curve], *, length_s: float, delay_s: float, label_step_s: float
) -> None:
    """Writes the ratings of a recording in SEWA's format; liking is 0.

    Args:
        path: CSV file.
        curves: Curve of each dimension.
        length_s, delay_s, label_step_s: As in `generate_recordings`.
    """
    times_s = np.arange(int(length_s / label_step_s + 1e-9) + 1) * label_step_s
    columns = np.stack([times_s, *(curves[dimension](times_s - delay_s) for dimension in ("arousal", "valence"))], 1)
    rows = [f"{path.stem};{time_s:.3f};{arousal:.6f};{valence:.6f};0" for time_s, arousal, valence in columns]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(["name;timestamp;arousal;valence;liking", *rows]) + "\n", encoding="utf-8")
    partial.replace(path)
