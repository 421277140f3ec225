"""What it costs to pad a clip for a server, and whether clips in one batch are faster than one after the other.

    python -m benchmarks.serving [--backbone mini_xception|vgg16] [--seconds 5] [--out serving.json]

The signature `jpeg` of an exported SavedModel is called in this process. The weights are random, because times do not
depend on them. A server adds the network and its queue. The ways of a row take turns, so that other load disturbs them
alike.

- `bucket`: a clip, padded to the next of 8, 16, 32, 64 and 120 frames, as `affect predict --server` does.
- `whole`: the same clip, padded to 120.
- `together`, `apart`: 4 clips of a bucket in one batch, and one after the other.
- `first`: the first clip of a bucket since the model was loaded, without warm-up requests.
- `frame` takes 32 faces at once, or one by one, as a server does whose batches hold one row.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import typer

from affect.config import Faces, write_json
from affect.configs.paper_a import CONFIG
from affect.data.labels import EMOTIONS
from affect.models.frame_classifier import build_frame_classifier
from affect.reading.loading import read_artefact
from affect.reading.run import Trained
from affect.serving.export import export_trained
from affect.tasks.answers import list_buckets
from benchmarks.inference import take_turns
from benchmarks.planted import track

CLIPS, FACES = 4, 32


def measure(artefact, *, most, seconds):
    """Measures an exported model.

    Args:
        artefact: `affect.reading.artefact.Artefact` of single faces.
        most: Largest number of frames, the last bucket.
        seconds: Time for the rounds of one row. There are at least 5 rounds.

    Returns:
        Dict, JSON: `buckets`, a row for each: `frames`, and milliseconds: `first`, and medians of the other ways.
        `frame` has medians too.
    """
    ask = artefact.signature("jpeg")
    jpeg = artefact.golden()["jpeg"][0]["jpegs"][0, 0]
    rows = []
    for frames in track(list_buckets(most), len(list_buckets(most)), "buckets"):
        clip = {"jpegs": np.full((1, frames), jpeg, object)}
        whole = {"jpegs": np.array([[jpeg] * frames + [b""] * (most - frames)], object)}
        clips = {"jpegs": np.full((CLIPS, frames), jpeg, object)}
        start = time.perf_counter()
        ask(clip)
        first_s = time.perf_counter() - start
        ways = {
            "bucket": lambda clip=clip: ask(clip),
            "whole": lambda whole=whole: ask(whole),
            "together": lambda clips=clips: ask(clips),
            "apart": lambda clip=clip: [ask(clip) for _ in range(CLIPS)],
        }
        rows.append({"frames": frames, "first": 1000 * first_s, **_medians(ways, seconds)})
    face = {name: value[:1] for name, value in artefact.golden()["frame"][0].items()}
    faces = {name: np.repeat(value, FACES, axis=0) for name, value in face.items()}
    one_by_one = artefact.signature("frame")
    ways = {"together": lambda: one_by_one(faces), "apart": lambda: [one_by_one(face) for _ in range(FACES)]}
    return {"buckets": rows, "frame": _medians(ways, seconds)}


def _medians(ways, seconds):
    return {name: 1000 * float(np.median(times, axis=0)[0]) for name, times in take_turns(ways, seconds).items()}


def text(result):
    """Returns the result as a table in Markdown, and a line."""
    lines = ["| frames | bucket, ms | padded to the last, ms | first, ms | 4 together, ms | 4 apart, ms |"]
    lines.append("|---|---|---|---|---|---|")
    for row in result["buckets"]:
        ways = ("bucket", "whole", "first", "together", "apart")
        lines.append(f"| {row['frames']} | " + " | ".join(f"{row[way]:.0f}" for way in ways) + " |")
    frame = result["frame"]
    return "\n".join([*lines, f"{FACES} faces: together {frame['together']:.0f} ms, apart {frame['apart']:.0f} ms"])


def main(backbone: Literal["mini_xception", "vgg16"] = "mini_xception", seconds: float = 5, out: Path | None = None):
    """Measure what padding costs a server, for paper A's best row."""
    model = replace(CONFIG.model, backbone=backbone, weights=None)
    experiment = replace(CONFIG, model=model)
    trained = Trained(build_frame_classifier(model, EMOTIONS), experiment, EMOTIONS, Faces())
    sources = {"licence": None, "metrics": {}, "checkpoint_sha256": None, "trained_with": None, "weights_sha256": None}
    with tempfile.TemporaryDirectory() as folder:
        artefact = read_artefact(export_trained(trained, Path(folder) / "whole", sources))
        result = measure(artefact, most=experiment.data.eval_frames, seconds=seconds)
    print(text(result))
    if out:
        write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
