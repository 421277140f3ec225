"""demo(): the whole pipeline on videos animated from a public-domain portrait; no data needed."""

from operator import itemgetter
from pathlib import Path
from typing import Any

from affect import terminal
from affect.config import Faces, load_config, read_json, write_json
from affect.files import replace_file
from affect.models.backbones import get_weights
from affect.models.device import describe_device
from affect.pipelines.planted.clips import EXPRESSIONS, NO_EXPRESSION, generate
from affect.pipelines.prepare import prepare
from affect.progress import Track, hide_progress
from affect.reading.loading import load
from affect.reading.run import load_trained
from affect.serving.check import check
from affect.serving.convert import convert
from affect.serving.export import export
from affect.training.evaluate import evaluate
from affect.training.train import train


def demo(
    out: Path,
    *,
    config: str | Path = "planted",
    train_clips: int = 50,
    test_clips: int = 25,
    track: Track = hide_progress,
) -> dict[str, Any]:
    """Makes videos, prepares, trains, evaluates, explains, exports, checks, converts and reads; prints each step.

    Args:
        out: Folder for everything that is written.
        config: A config, by its path or name.
        train_clips, test_clips: Number of clips; at least 10 of the test, so that each expression is there twice.
        track: Shows progress.

    Returns:
        What `summary.json` holds: `accuracy`; `peak_in_interval`, the share of the test clips with an expression
        whose most important frame is in the planted interval; `test_clips`.

    Raises:
        InputError: When a step fails.
    """
    experiment = load_config(config)
    videos, shards, run, figure = (out / name for name in ("videos", "shards", "run", "explain.png"))
    terminal.print_headline("weights: mini-Xception trained on FER2013")
    print(get_weights("mini_xception"))
    terminal.print_headline("videos: a portrait animated with planted expressions")
    expressions = sorted([*EXPRESSIONS, *NO_EXPRESSION])
    planted = generate(videos, train_clips=train_clips, test_clips=test_clips, expressions=expressions, track=track)
    oracle = read_json(planted)
    print(f"{videos}: {len(oracle['clips'])} clips")
    terminal.print_headline("prepare")
    manifest = prepare(videos / "clips.csv", dataset="csv", out=shards, faces=Faces(), track=track)
    terminal.print_manifest(manifest, shards, dataset="csv", tracks=Faces.tracks)
    terminal.print_headline("train")
    terminal.print_device(describe_device(experiment.train), run)
    result = train(experiment, data=shards, workdir=run)
    trained = load_trained(run)
    terminal.print_training(result, trained.task.format_training(result), run)
    terminal.print_headline("evaluate: held-out clips of other subjects")
    report = evaluate(trained, shards, split="test", track=track)
    terminal.print_printout(trained.task.format_evaluation(report))
    write_json(run / "evaluation-test.json", report)
    terminal.print_headline("explain and predict")
    surprised = sorted((clip for clip in report["clips"] if clip["label"] == "surprise"), key=itemgetter("key"))[1]
    video = videos / f"{surprised['key']}.mp4"
    reading = trained.read(video)
    for remark in reading.save_figure(figure, frames=6, width_cm=20):
        terminal.say(remark)
    terminal.say_seen(video, reading)
    terminal.print_prediction(reading)
    write_json(out / "prediction.json", reading.result)
    terminal.print_headline("export, check and convert: the model for a service and for a phone")
    version = export(run, out / "savedmodels" / "demo")
    terminal.print_export(version)
    terminal.print_check(check(version))
    converted = convert(version, to="float32", data=shards, out=out / "demo.tflite")
    terminal.print_conversion(converted)
    terminal.print_headline("predict: all test clips, as tables and a report")
    groups = out / "groups.csv"
    rows = [f"{clip['key']}.mp4,{clip['label']}\n" for clip in report["clips"]]
    with replace_file(groups) as temporary:
        temporary.write_text("video,condition\n" + "".join(rows), encoding="utf-8")
    tested = sorted(videos / f"{clip['key']}.mp4" for clip in report["clips"])
    study = load(version).read_many(tested, out / "results", groups=groups, report=True, overwrite=True, is_quiet=False)
    terminal.print_study(study, is_quiet=True)

    shown = [(clip, oracle["clips"][clip["key"]]["interval_s"]) for clip in report["clips"]]
    inside = [_peaks_within(clip, *interval_s) for clip, interval_s in shown if interval_s]
    summary = {
        "accuracy": report["all"]["accuracy"],
        "peak_in_interval": sum(inside) / len(inside),
        "test_clips": len(shown),
    }
    write_json(out / "summary.json", summary)
    accuracy, peaks = f"{summary['accuracy']:.3f}", f"{summary['peak_in_interval']:.1%}"
    agreement = converted["agreement"]
    labels = f"{agreement['labels']:.1%} of {agreement['clips']} labels as the SavedModel's"
    terminal.print_steps(
        "affect demo",
        [
            ("videos", videos, f"{len(oracle['clips'])} clips of planted expressions and of faces at rest"),
            ("prepare", shards, "aligned faces in TFRecord shards"),
            ("train", run, "mini-Xception features, attention, joint softmax"),
            ("evaluate", run / "evaluation-test.json", f"accuracy {accuracy} of {len(shown)} clips"),
            ("", out / "summary.json", f"most important frame in the planted interval: {peaks}"),
            ("explain", figure, "a picture to look at: frames, attention, probabilities over time, importance"),
            ("predict", out / "prediction.json", f"{video.name}: {reading.label}"),
            ("export, check", version, "SavedModel that gives what the network gives"),
            ("convert", converted["path"], labels),
            ("predict --out", study.folder, "tables and a report of the test clips"),
        ],
    )
    print(f"Open {study.folder / 'report.html'} first.")
    return summary


def _peaks_within(clip, start_s, end_s):
    return clip["peak_s"] is not None and start_s <= clip["peak_s"] < end_s
