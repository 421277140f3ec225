"""Every form of a model for a phone: bytes, operators, latency at 1 and 2 threads, and what it keeps of the answers.

    python -m benchmarks.convert --out FOLDER
    python -m benchmarks.convert --out FOLDER --backbone vgg16 --frame-rate-hz 4 --train-clips 3 --test-clips 2

It makes planted videos, cuts their faces, exports the model and converts it as `affect convert --all` does.
int8 is calibrated on the training clips and compared, like all forms, on the test clips of other subjects.
`mini_xception` is the model `fer2013`, as published. Any other backbone, such as `vgg16` or
`applications/MobileNetV3Small`, is in paper A's best row at its own size with random weights, because its weights
cannot be had here. So its bytes, operators and times are those of a trained network. What it keeps is not.

Two more rows, of mini-Xception, show why int8 computes the feature maps alone in integers: with the pooling in integers
too, calibrated on all training clips, and on four of them. Calibration sees 16 frames of a clip, as training does. The
test clips have 32.
"""

from pathlib import Path
from typing import Annotated, Any

import keras
import typer

from affect.config import Experiment, Faces, FrameClassifier, write_json
from affect.pipelines.planted.clips import EXPRESSIONS, generate
from affect.pipelines.prepare import prepare
from affect.reading.run import Trained, load_trained
from affect.serving.convert import convert, convert_all
from affect.serving.export import export_trained
from affect.tasks import find_task

SOURCES = {"licence": "none", "metrics": {}, "checkpoint_sha256": None, "trained_with": None, "weights_sha256": None}


def build(backbone: str) -> Trained:
    """Returns the model `fer2013`, or paper A's best row with random weights."""
    if backbone == "mini_xception":
        return load_trained("fer2013")
    keras.utils.set_random_seed(0)
    config = FrameClassifier(backbone=backbone, weights=None, heads=2)
    experiment, classes = Experiment(backbone, config), tuple(sorted(EXPRESSIONS))
    return Trained(find_task(experiment).build(config, classes), experiment, classes, Faces())


def measure(
    trained: Trained, out: Path, *, train_clips: int, test_clips: int, frame_rate_hz: float | None = None
) -> list[dict[str, Any]]:
    """Makes clips, exports the model and converts it.

    Args:
        trained: The model.
        out: Folder for all that is written.
        train_clips: Clips that calibrate int8.
        test_clips: Clips that the forms are compared on.
        frame_rate_hz: Faces a second; `None` is all.

    Returns:
        Reports of `affect.serving.convert.convert`.
    """
    generate(out / "videos", train_clips=train_clips, test_clips=test_clips)
    prepare(out / "videos" / "clips.csv", dataset="csv", out=out / "shards", faces=Faces(frame_rate_hz=frame_rate_hz))
    version = export_trained(trained, out / "savedmodels" / trained.experiment.name, SOURCES)
    reports = convert_all(version, data=out / "shards")
    for clips in (train_clips, 4) if trained.experiment.name == "fer2013" else ():
        file = out / "savedmodels" / f"integers-{clips}.tflite"
        report = convert(version, file, to="int8", data=out / "shards", calibration_clips=clips, integer_layers="")
        reports.append(report | {"to": f"int8, pooling too, {clips} clips"})
    write_json(out / "convert.json", reports)
    return reports


def format_rows(reports: list[dict[str, Any]]) -> list[str]:
    """Returns the reports as a table in Markdown."""
    columns = ("part", "to", "bytes", "operators", "1 thread, ms", "2 threads, ms", "face labels", "top frame")
    lines = [f"| {' | '.join((*columns, 'importance moved'))} |", "|---" * (len(columns) + 1) + "|"]
    for report in reports:
        to = report["to"] + ("-io" if report["integer_io"] else "")
        if "problem" in report:
            lines.append(f"| {report['part']} | {to} | {report['problem']} |")
            continue
        agreement = report["agreement"]
        cells = [report["part"], to, f"{report['bytes']:,}", str(sum(report["operators"].values()))]
        cells += [f"{time_ms:.1f}" for time_ms in report["latency_ms"]["tflite"].values()]
        cells += [f"{100 * agreement[key]:.1f} %" for key in ("frame_labels", "top_frame")]
        lines.append(f"| {' | '.join([*cells, format(100 * agreement['importance']['mean'], '.1f')])} % |")
    return lines


def main(
    out: Annotated[Path, typer.Option()],
    backbone: Annotated[str, typer.Option(help="As `model.backbone` of a config.")] = "mini_xception",
    train_clips: int = 24,
    test_clips: int = 8,
    frame_rate_hz: float | None = None,
):
    """Prints the table."""
    sizes: dict[str, Any] = {"train_clips": train_clips, "test_clips": test_clips, "frame_rate_hz": frame_rate_hz}
    print("\n".join(format_rows(measure(build(backbone), out, **sizes))))


if __name__ == "__main__":
    typer.run(main)
