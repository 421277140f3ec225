"""Planted recordings: valence and arousal that are known at every instant, rated late, in a tree that is SEWA's.

Valence moves the mouth, from pressed lips to open ones, and arousal the brows, from lowered to raised. Each follows a
smooth curve. A frame shows its curve and a tremor, which is drawn again for each frame and which ratings do not follow:
a single frame is ambiguous, and some seconds of them are not. Eyes that blink and a chin that drifts mean nothing.
`planted.json` is the oracle for the delay of ratings, for what time is worth, and for attention.
"""

from pathlib import Path

import numpy as np

from affect.config import read_json, write_json
from affect.data.labels import DIMENSIONS
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

# Dimension → its region, and the moves at strength -1 and 1. None moves the corners of the mouth, by which faces are
# aligned.
SHOWN_BY = {
    "valence": ("mouth", MOUTHS["pressed"], MOUTHS["open"]),
    "arousal": ("brows", BROWS["lowered"], BROWS["raised"]),
}
CHIN = {"chin": (0.02, 0.03)}
CURVE_HZ = (0.04, 0.2)  # of a curve's waves
WAVES = 5
STRONGEST = 1.25  # curve and tremor together: lips and brows still look like some


def draw_curve(rng):
    """A smooth curve in about [-1, 1]: a function of seconds, before 0 too, of standard deviation 0.45."""
    hz, phase = np.linspace(*CURVE_HZ, WAVES) * rng.uniform(0.85, 1.15, WAVES), rng.uniform(0, 2 * np.pi, WAVES)

    def curve(seconds):
        return 0.45 * np.sqrt(2 / WAVES) * np.sin(2 * np.pi * np.asarray(seconds)[:, None] * hz + phase).sum(1)

    return curve


def generate_recordings(
    out,
    *,
    train=8,
    dev=4,
    length_s=60.0,
    frame_rate_hz=10.0,
    delay_s=2.4,
    label_step_s=0.1,
    tremor=0.45,
    size=128,
    pose=0.4,
    light=0.5,
    blur=0.8,
    noise=3.0,
    twitch=1.0,
    seed=0,
    track: Track = hide_progress,
):
    """Writes `OUT/labels/Train_01.csv`, `OUT/video/Train_01.mp4` and so on, and `OUT/planted.json`, the oracle.

    Each recording is another subject. The data set `sewa` reads the tree. A rating is the value that the curve had
    `delay_s` before; the first ones follow the curve's own past, before the video. The same arguments give the same
    frames; where they were written before, nothing is done.

    Args:
        out: folder; made if need be.
        train, dev: recordings `Train_*` and `Devel_*`.
        length_s: of a recording.
        frame_rate_hz: of the videos.
        delay_s: how long ratings lag.
        label_step_s: between ratings.
        tremor: standard deviation of a frame's own strength about the curve, which itself has 0.45.
        size, pose, light, blur, noise: as in `clips.generate`.
        twitch: how much eyes and chin move; 0 holds them still.
        seed: of everything random.
        track: Shows progress.

    Returns:
        Path of `planted.json`: `{"arguments": {...}, "recordings": {"Train_01": {...}}}`. An entry holds `subject`; for
        each frame `valence` and `arousal`, the curves when the frame is shown, and `strength`, by dimension what the
        frame shows, tremor included; `blink`; and `regions`: for mouth and brows the box [x0, y0, x1, y1] in pixels in
        every frame, about the region as it is and as it would be at rest.

    Raises:
        ValueError: for an odd size, or recordings in `out` that this call would not write.
    """
    if size % 2:
        raise ValueError(f"`size` must be even (yuv420p). Expected an even number. Received: size={size!r}")
    settings = {"frame_rate_hz": frame_rate_hz, "tremor": tremor, "size": size, "pose": pose, "light": light}
    settings |= {"blur": blur, "noise": noise, "twitch": twitch, "length_s": length_s}
    ratings = {"delay_s": delay_s, "label_step_s": label_step_s}
    arguments = settings | ratings | {"train": train, "dev": dev, "seed": seed}
    out = Path(out)
    oracle = out / "planted.json"
    if oracle.exists() and read_json(oracle)["arguments"] == arguments:
        return oracle
    names = [
        f"{split}_{index + 1:02d}" for split, count in (("Train", train), ("Devel", dev)) for index in range(count)
    ]
    strays = {path.stem for path in [*out.glob("labels/*.csv"), *out.glob("video/*.mp4")]}
    if strays := sorted(strays - set(names)):
        raise ValueError(f"`out` holds other recordings. Expected none, remove them. Received: {out}, {strays}")
    for folder in ("labels", "video"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    oracle.unlink(missing_ok=True)  # it would lie about the recordings to come
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


def perform(subject, curves, rng, *, length_s, frame_rate_hz, tremor, size, pose, light, blur, noise, twitch):
    """One recording: iterator of its frames, RGB uint8 `(size, size, 3)`, and its entry in the oracle."""
    seconds = np.arange(round(length_s * frame_rate_hz)) / frame_rate_hz
    values = {dimension: curve(seconds) for dimension, curve in curves.items()}
    strength = {
        dimension: np.clip(value + tremor * rng.standard_normal(len(seconds)), -STRONGEST, STRONGEST)
        for dimension, value in values.items()
    }
    blinks_s = np.cumsum(rng.uniform(0.8, 5, 2 + int(length_s)))
    blink = min(twitch, 1) * np.clip(1 - np.abs(seconds[:, None] - blinks_s) / 0.2, 0, 1).max(1)
    acts = [(BLINK, blink), (CHIN, twitch * drift(rng, seconds))]
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


def write_ratings(path, curves, *, length_s, delay_s, label_step_s):
    """Writes a recording's ratings, each the curve's value `delay_s` before, as SEWA has them; liking is 0."""
    times_s = np.arange(int(length_s / label_step_s + 1e-9) + 1) * label_step_s
    columns = np.stack([times_s, *(curves[dimension](times_s - delay_s) for dimension in ("arousal", "valence"))], 1)
    rows = [f"{path.stem};{time_s:.3f};{arousal:.6f};{valence:.6f};0" for time_s, arousal, valence in columns]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(["name;timestamp;arousal;valence;liking", *rows]) + "\n", encoding="utf-8")
    partial.replace(path)
