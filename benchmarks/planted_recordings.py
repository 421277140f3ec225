"""Paper B's table on planted recordings, where the truth is known: the gain from time, attention and a known delay.

    python -m benchmarks.planted_recordings --out planted_recordings [--seeds 1]

Mouth and brows follow two curves. A tremor as strong as the curves is added, so a single frame explains half of their
variance. Ratings follow the curves 2.4 s late. Every row of `configs/paper_b_recola` searches that delay on the
training recordings, learns from their windows and reads recordings of other subjects. `sta` does so with three seeds.
Existing runs are not repeated. The results are in `planted.md` and `planted.json`. They say nothing about RECOLA.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import tensorflow as tf
import typer

from affect.config import Faces, load_config, read_json, write_json
from affect.data.labels import DIMENSIONS
from affect.data.records import parse_example
from affect.data.shards import Shards
from affect.data.windows import eval_windows, read_recordings
from affect.pipelines.planted.recordings import generate_recordings
from affect.pipelines.prepare import prepare
from affect.reading.run import load_trained
from affect.training.evaluate import evaluate
from affect.training.table import markdown, table
from affect.training.train import train
from benchmarks.planted import in_view, inside, track

TABLE = "paper_b_recola"
DELAY_S = 2.4
ATTENTION_SEEDS = 3
OVERRIDES = (
    # A location sees 10 of 48 pixels. With 10 of 32 pixels, attention settled beside the mouth, because a location
    # there saw the mouth too.
    *("model.face_size=48", "model.blocks=2", "model.filters=12", "model.kernel_size=3", "model.attention_filters=8"),
    # With a kernel of 1, a location is scored by what it sees itself. With 3, attention settled on the edge of the
    # view. No convolution follows the attention, because it would see what is not attended to, and attention would not
    # have to choose.
    *("model.attention_kernel_size=1", "model.attended_blocks=0"),
    *("model.hidden_units=32", "model.dropout=0"),
    # Crops are drawn at random (of LGBP-TOP there are none), so that attention cannot learn where the view ends.
    *("data.batch_clips=4", "data.crop_ratio=0.8", "data.flip=false", "data.rotation_deg=0", "data.selection_ratio=0"),
    *("windows.delay_s=null", "windows.protocol=faces"),
    # One period, so that the rate falls to 0. With the concordance alone as loss, one of two seeds diverged.
    *("train.head_learning_rate=0.002", "train.epochs=14", "train.restart_epochs=14", "train.concordance=0.5"),
)


def make(folder, *, train_recordings=24, dev_recordings=8, length_s=30.0):
    """Makes the recordings and their shards; returns the folder of shards and the oracle.

    `OVERRIDES` and the number of recordings were chosen on recordings of seeds 0 and 1. Seed 2 draws other people and
    other curves.
    """
    oracle = generate_recordings(
        folder / "videos",
        train=train_recordings,
        dev=dev_recordings,
        length_s=length_s,
        delay_s=DELAY_S,
        seed=2,
        track=track,
    )
    shards = folder / "shards"
    prepare(oracle.parent, dataset="sewa", out=shards, faces=Faces(face_size=96), track=track)
    return shards, read_json(oracle)


def measure_attention(run, shards, oracle):
    """Compares where a run looks with where the face moves.

    Args:
        run: Folder of a run with attention.
        shards: Folder of shards.
        oracle: Content of the recordings' oracle.

    Returns:
        Dict: `ccc`, by dimension; `hits`, the share of frames whose most attended location has its centre in a planted
        region; `chance`, the share of all locations that have; `regions`, the share of frames and of attention in each.
    """
    trained = load_trained(run)
    metrics = evaluate(trained, shards, split="val")["metrics"]
    settings, data = trained.experiment.windows, trained.experiment.data
    recordings, _ = read_recordings(Shards(shards), "val")
    placed = regions(shards, oracle, data.crop_ratio)
    hits, chances, by_region = [], [], {}
    for batch in eval_windows(recordings, settings, data, face_size=trained.face_size).as_numpy_iterator():
        maps = trained.network.predict_on_batch({name: batch[name] for name in trained.model.input})["attention"]
        for window, frame in np.argwhere(batch["frame_mask"]):
            attention = maps[window, frame]  # (h, w)
            centres = (np.arange(len(attention)) + 0.5) / len(attention)
            boxes = placed[batch["recording"][window].decode(), round(float(batch["times_s"][window, frame]), 3)]
            within = {name: inside(box, centres) for name, box in boxes.items()}
            either = np.any([*within.values()], axis=0)
            hits.append(either.ravel()[attention.argmax()])
            chances.append(either.mean())
            for name, cells in within.items():
                found = (cells.ravel()[attention.argmax()], attention[cells].sum() / attention.sum())
                by_region.setdefault(name, []).append(found)
    return {
        "ccc": {name: metrics[name]["concatenated"]["ccc"] for name in DIMENSIONS},
        "hits": float(np.mean(hits)),
        "chance": float(np.mean(chances)),
        "regions": {
            name: dict(zip(("hits", "attention"), np.mean(found, axis=0).tolist(), strict=True))
            for name, found in by_region.items()
        },
    }


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


def prove(folder, shards, oracle, *, seeds, overrides=OVERRIDES):
    """Trains what is missing and returns all numbers; see the top of this file."""
    runs = folder / "runs"
    result = table(TABLE, data=shards, workdir=runs, seeds=seeds, split="val", overrides=overrides, track=track)
    gains = {}
    for row in (line["row"] for line in result["rows"]):
        reports = [read_json(runs / row / f"seed-{seed}" / "evaluation-val.json") for seed in range(seeds)]
        gains[row] = {
            name: float(
                np.mean(
                    [
                        of["metrics"][name]["concatenated"]["ccc"] - of["raw_metrics"][name]["concatenated"]["ccc"]
                        for of in reports
                    ]
                )
            )
            for name in DIMENSIONS
        }
    attention = []
    for seed in range(max(seeds, ATTENTION_SEEDS)):
        run = runs / "sta" / f"seed-{seed}"
        experiment = load_config(f"{TABLE}/sta", (*overrides, f"train.seed={seed}"))
        train(experiment, data=shards, workdir=run, progress=False)
        attention.append(measure_attention(run, shards, oracle))
    return {
        "table": result,
        "delay": read_json(runs / "sta" / "seed-0" / "delay.json"),
        "gains": gains,
        "attention": attention,
    }


def text(result):
    """Returns the numbers as Markdown."""
    parts = ["# Planted recordings (nothing here is RECOLA)", "", markdown(result["table"])]
    delay = result["delay"]
    parts += [
        f"Delay: {delay['delay_s']:g} s found of {DELAY_S:g} s, where the probe's CCC is "
        f"{delay['scores'][str(delay['delay_s'])]:.3f}.",
        "",
        "What post-processing adds to the CCC of recordings held out:",
        "",
        "| row | " + " | ".join(DIMENSIONS) + " |",
        "|---|" + "---|" * len(DIMENSIONS),
        *(
            f"| {row} | " + " | ".join(f"{gain:+.3f}" for gain in of_dimensions.values()) + " |"
            for row, of_dimensions in result["gains"].items()
        ),
        "",
        f"Where sta looks (by chance {result['attention'][0]['chance']:.1%} of the locations lie in a planted region):",
        "",
        "| seed | CCC of " + " | ".join(DIMENSIONS) + " | most attended location in a region | attention in regions |",
        "|---|" + "---|" * (len(DIMENSIONS) + 2),
        *(
            f"| {seed} | " + " | ".join(f"{ccc:.3f}" for ccc in found["ccc"].values()) + f" | {found['hits']:.1%} | "
            f"{sum(region['attention'] for region in found['regions'].values()):.1%} |"
            for seed, found in enumerate(result["attention"])
        ),
    ]
    return "\n".join(parts) + "\n"


def main(
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("planted_recordings"),
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 1,
):
    """Paper B's table on planted recordings."""
    result = prove(out, *make(out), seeds=seeds)
    write_json(out / "planted.json", result)
    (out / "planted.md").write_text(text(result), encoding="utf-8")
    print(text(result))


if __name__ == "__main__":
    typer.run(main)
