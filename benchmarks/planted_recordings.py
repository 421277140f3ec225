"""Paper B's parts on planted recordings: what time, attention and a known delay are for, where the truth is known.

    python benchmarks/planted_recordings.py --out planted_recordings

Mouth and brows follow two curves under a tremor that is as strong, so a single frame explains half the variance of what
it shows; ratings follow the curves 2.4 s late. The delay is searched for on the training recordings. Then the 2D-CNN,
which sees a frame, and the 3D-CNN with spatiotemporal attention learn from windows of 4 s and read recordings of other
subjects. Writes `planted.json`. It says nothing about RECOLA.
"""

from pathlib import Path
from typing import Annotated

import keras
import numpy as np
import tensorflow as tf
import typer
from rich.console import Console
from rich.progress import track as rich_track

from affect.config import Faces, load_config, read_json, write_json
from affect.data import Shards
from affect.delay import search_delay
from affect.labels import DIMENSIONS
from affect.losses import ConcordanceLoss
from affect.metrics import Moments, ccc
from affect.records import parse_example
from affect.regression import build_regression, detailed_regression
from affect.windows import eval_windows, read_recordings, train_windows
from benchmarks.planted import in_view, inside
from pipelines.datasets.planted_recordings import generate_recordings
from pipelines.prepare import prepare

CONFIG = Path(__file__).parents[1] / "configs" / "paper_b.py"
DELAY_S = 2.4
SHARED = (
    *("model.face_size=32", "model.blocks=2", "model.filters=12", "model.kernel_size=3", "model.attention_filters=8"),
    # Of 1, a location is scored by what it sees itself; with 3, attention settled on the edge of the view.
    *("model.attention_kernel_size=1",),
    *("model.hidden_units=32", "model.dropout=0"),
    *("data.batch_clips=4", "data.crop_ratio=0.9", "data.random_crop=false", "data.flip=false", "data.rotation_deg=0"),
    *("train.head_learning_rate=0.002", "train.epochs=20", "train.concordance=1"),
)
OVERRIDES = {
    "2D-CNN": (*SHARED, "model.attention=null", "model.temporal=null"),
    "3D-CNN + STA": SHARED,
}


def track(iterable, total, description):
    """Shows progress on stderr."""
    return rich_track(iterable, description, total=total, console=Console(stderr=True))


def make(folder, *, train=8, dev=4, length_s=60.0):
    """Makes the recordings and their shards; returns the folder of shards and the oracle."""
    oracle = generate_recordings(
        folder / "videos", train=train, dev=dev, length_s=length_s, delay_s=DELAY_S, track=track
    )
    shards = folder / "shards"
    prepare(oracle.parent, dataset="sewa", out=shards, faces=Faces(face_size=96), track=track)
    return shards, read_json(oracle)


def learn(experiment, recordings):
    """Trains a row for its epochs, with Adam, whose rate falls to 0; returns the model."""
    keras.utils.set_random_seed(experiment.train.seed)
    windows, steps, _ = train_windows(
        recordings,
        experiment.windows,
        experiment.data,
        face_size=experiment.model.face_size,
        seed=experiment.train.seed,
    )
    model = build_regression(experiment.model)
    rate = keras.optimizers.schedules.CosineDecay(experiment.train.head_learning_rate, steps * experiment.train.epochs)
    # Features averaged over the locations hardly vary before attention settles: SGD does not leave its start.
    model.compile(keras.optimizers.Adam(rate), ConcordanceLoss(experiment.train.concordance), jit_compile=False)
    model.fit(windows, steps_per_epoch=steps, epochs=experiment.train.epochs, shuffle=False, verbose=2)
    return model


def judge(model, experiment, recordings, placed):
    """Compares a model with ratings, and where it looks with where the face moves.

    Args:
        model: From `learn`.
        experiment: `affect.config.Experiment`.
        recordings: List of `affect.windows.Recording`.
        placed: From `regions`.

    Returns:
        Dict: `ccc` by dimension, over the recordings concatenated; for a row with attention `hits`, the share of frames
        whose most attended location has its centre in a planted region; `chance`, the share of all locations that have;
        `regions`, the share of frames and of attention in each.
    """
    network, labels, predictions, weights = detailed_regression(model), [], [], []
    hits, chances, by_region = [], [], {}
    for batch in eval_windows(
        recordings, experiment.windows, experiment.data, face_size=experiment.model.face_size
    ).as_numpy_iterator():
        outputs = network.predict_on_batch({"faces": batch["faces"], "frame_mask": batch["frame_mask"]})
        labels.append(batch["labels"].reshape(-1, len(DIMENSIONS)))
        predictions.append(outputs["dimensions"].reshape(-1, len(DIMENSIONS)))
        weights.append(batch["weights"].ravel())
        for window, frame in np.argwhere(batch["frame_mask"] & ("attention" in outputs)):
            attention = outputs["attention"][window, frame]  # (h, w)
            centres = (np.arange(len(attention)) + 0.5) / len(attention)
            boxes = placed[batch["recording"][window].decode(), round(float(batch["times_s"][window, frame]), 3)]
            within = {name: inside(box, centres) for name, box in boxes.items()}
            either = np.any([*within.values()], axis=0)
            hits.append(either.ravel()[attention.argmax()])
            chances.append(either.mean())
            for name, cells in within.items():
                found = (cells.ravel()[attention.argmax()], attention[cells].sum() / attention.sum())
                by_region.setdefault(name, []).append(found)
    labels, predictions, valid = np.concatenate(labels), np.concatenate(predictions), np.concatenate(weights) > 0
    result = {
        "ccc": {
            name: float(ccc(Moments.of_series(labels[valid, place], predictions[valid, place])))
            for place, name in enumerate(DIMENSIONS)
        }
    }
    if hits:
        result |= {"hits": float(np.mean(hits)), "chance": float(np.mean(chances))}
        result["regions"] = {
            name: dict(zip(("hits", "attention"), np.mean(found, axis=0).tolist(), strict=True))
            for name, found in by_region.items()
        }
    return result


def regions(shards, oracle, crop_ratio):
    """Returns (recording, time in seconds) → region → its box in the unit square of evaluation's view."""
    shards, placed = Shards(shards), {}
    for record in tf.data.TFRecordDataset(shards.files("val")).map(parse_example):
        name = (record["affect/recording"].numpy() or record["clip/media_id"].numpy()).decode()
        times_s = record["image/timestamp"].numpy() / 1e6
        frames = np.rint(times_s * oracle["arguments"]["frame_rate_hz"]).astype(int)
        to_face = record["face/transform"].numpy().reshape(-1, 2, 3)
        boxes = {
            region: in_view(np.array(of_frames)[frames], to_face, shards.faces["face_size"], crop_ratio)
            for region, of_frames in oracle["recordings"][name]["regions"].items()
        }
        for place, time_s in enumerate(times_s):
            placed[name, round(float(time_s), 3)] = {region: found[place] for region, found in boxes.items()}
    return placed


def prove(shards, oracle):
    """Searches the delay, trains the rows and returns all numbers; see the top of this file."""
    train, _ = read_recordings(Shards(shards), "train")
    dev, _ = read_recordings(Shards(shards), "val")
    first = load_config(CONFIG, SHARED)
    delay_s, scores = search_delay(train, first.windows, first.data)
    result = {"delay_s": delay_s, "delay_scores": scores, "rows": {}}
    for name, overrides in OVERRIDES.items():
        experiment = load_config(CONFIG, (*overrides, f"windows.delay_s={delay_s}"))
        model = learn(experiment, train)
        placed = regions(shards, oracle, experiment.data.crop_ratio)
        result["rows"][name] = judge(model, experiment, dev, placed)
    return result


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("planted_recordings"),
):
    """Paper B's parts on planted recordings."""
    result = prove(*make(out))
    write_json(out / "planted.json", result)
    print(f"delay {result['delay_s']} s of {DELAY_S} s")
    for name, row in result["rows"].items():
        print(name, row)


if __name__ == "__main__":
    typer.run(main)
