"""The verbs. The only file that imports both packages; what is heavy is imported inside the commands."""

import csv
import json
import os
import sys
import time
from contextlib import closing, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from affect.config import Faces, load_config, read_json, write_json
from affect.errors import InputError
from affect.extras import find_missing, require
from affect.progress import hide_progress, show_progress


class _Verbs(TyperGroup):
    """Turns the user's mistakes into one line on stderr and the exit code 2; `--debug` shows the traceback."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except InputError as error:
            if ctx.params["debug"]:
                raise
            _say(error)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            _say("Stopped. The same command goes on from here.")
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_Verbs, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
weights = typer.Typer(no_args_is_help=True, help="Fetch or import the weights of a backbone.")
app.add_typer(weights, name="weights")

Shards = Annotated[Path, typer.Option("--data", help="Folder of shards.")]
Recipe = Annotated[str | None, typer.Option(help="Recipe of the config: ours, paper, authors_code, authors_first.")]
Protocol = Annotated[
    str | None,
    typer.Option(help="Of valence and arousal: avec (each rating, gaps interpolated) or faces (frames with a face)."),
]
Prepared = Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")]
ModelPath = Annotated[
    Path,
    typer.Argument(help="A run, a config that needs no training (fer2013), an exported model or .tflite."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option(help="Show tracebacks and the libraries' own messages.")] = False):
    """Read emotion from face video."""
    _check_backend(os.environ.get("KERAS_BACKEND") or "tensorflow")


# Backend of Keras → how it is installed beside affect. TensorFlow reads the shards on each of them.
BACKENDS = {"tensorflow": "affect", "jax": "affect[gpu-jax] (or jax, for a CPU)", "torch": "torch"}


def _check_backend(name):
    """Refuses a backend that is unknown or is not installed, before Keras fails to be imported."""
    if name not in BACKENDS:
        raise InputError(f"Unknown KERAS_BACKEND. Expected one of {sorted(BACKENDS)}. Received: {name!r}")
    if find_spec(name) is None:
        raise InputError(f"KERAS_BACKEND={name} is not installed here. Install it: pip install {BACKENDS[name]}")


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder of videos, or the file of the data set csv.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    dataset: Annotated[
        str,
        typer.Option(help="Layout of SOURCE: folder, csv, afew, afew_faces, ravdess, crema_d, recola or sewa."),
    ] = "folder",
    detector: Annotated[str, typer.Option(help="Face detector: mtcnn, dlib or boxes.")] = Faces.detector,
    min_face_px: Annotated[int, typer.Option(min=20, help="Smallest face looked for, in pixels.")] = Faces.min_face_px,
    score_threshold: Annotated[float, typer.Option(min=0, max=1, help="Lowest score.")] = Faces.score_threshold,
    face_size: Annotated[int, typer.Option(min=32, max=2048, help="Side of a stored face.")] = Faces.face_size,
    margin_ratio: Annotated[float, typer.Option(min=0, max=4, help="Padding around the face.")] = Faces.margin_ratio,
    frame_rate_hz: Annotated[float | None, typer.Option(min=0.01, help="Frames a second looked at.")] = None,
    jpeg_quality: Annotated[int, typer.Option(min=1, max=100)] = Faces.jpeg_quality,
    detect: Annotated[str, typer.Option(help="follow faces between key frames, or every frame.")] = Faces.detect,
    tracks: Annotated[str, typer.Option("--faces", help="Faces kept: main, largest or all.")] = Faces.tracks,
    boxes: Annotated[Path | None, typer.Option(help="CSV file of faces, for --detector boxes.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Discard what is in OUT.")] = False,
    runner: Annotated[str, typer.Option(help="local, or beam: a cluster, by Apache Beam.")] = "local",
    beam_options: Annotated[list[str] | None, typer.Argument(help="With --runner beam, after --.")] = None,
):
    """Cut the faces of every video and write TFRecord shards."""
    if runner not in ("local", "beam"):
        raise InputError(f"Unknown runner. Expected local or beam. Received: {runner!r}")
    if beam_options and runner == "local":
        raise InputError(f"Options after SOURCE are Beam's and need --runner beam. Received: {' '.join(beam_options)}")
    faces = Faces(
        detector=detector,
        min_face_px=min_face_px,
        score_threshold=score_threshold,
        face_size=face_size,
        margin_ratio=margin_ratio,
        frame_rate_hz=frame_rate_hz,
        jpeg_quality=jpeg_quality,
        detect=detect,
        tracks=tracks,
        boxes=str(boxes) if boxes else None,
    )
    options = {"workers": workers, "overwrite": overwrite}
    if runner == "beam":
        options["beam_options"] = list(beam_options or ())
    manifest = _prepare(source, dataset, out, faces, **options)
    if (lost := len(_lost(manifest))) or manifest["left_out"]:
        raise typer.Exit(1 if lost < manifest["counts"]["videos"] else 2)


def _prepare(source, dataset, out, faces, **options):
    from affect.pipelines.prepare import prepare

    manifest = prepare(source, dataset=dataset, out=out, faces=faces, track=show_progress, **options)
    for clip in manifest["clips"]:
        for note in clip.get("notes", ()) if clip["part"] == 0 else ():
            _say(f"{clip['recording']}: note: {note}")
    for clip in _lost(manifest):
        _say(f"{clip['recording']}: {clip['problem']}")
    for line in manifest["left_out"]:
        _say(f"left out: {line}")
    for line in (*manifest["differences"], *manifest["notes"]):
        _say(f"{dataset}: {line}")
    counts = manifest["counts"]
    several = sum(clip["part"] == 0 and clip.get("faces_seen", 0) > 1 for clip in manifest["clips"])
    if several and faces.tracks != "all":
        _say(
            f"{out}: in {several} of {counts['videos']} videos more than one face was seen and the {faces.tracks} one "
            "kept. manifest.json says in which (faces_seen); --faces all keeps all."
        )
    print(
        f"{out}: {counts['videos']} clips, {counts['videos_with_a_face']} of them with a face; "
        f"{counts['faces']} faces in {counts['frames']} frames; {counts['clips']} examples in "
        f"{len(manifest['shards'])} shards; classes: {', '.join(manifest['classes']) or 'none'}"
    )
    return manifest


def _lost(manifest):
    """Returns an entry for each video that could not be used, or not without loss."""
    return [clip for clip in manifest["clips"] if clip["problem"] and clip["part"] == 0]


@app.command()
def verify(data: Prepared):
    """Check every byte of shards; damaged clips are named."""
    from affect.data.verify import verify

    report = verify(data, track=show_progress)
    damage = report["damage"]
    for found in damage:
        _say(" in ".join(filter(None, (found["key"], found["shard"]))) + f": {found['problem']}")
    clips = sum(found["key"] != "" for found in damage)
    verdict = f"damage in {clips} clips and {len(damage) - clips} shards" if damage else "whole"
    print(f"{data}: {report['shards']} shards, {report['records']} records, {report['faces']} faces: {verdict}")
    if damage:
        _say("Copy the shards again, or run the same affect prepare with --overwrite.")
        raise typer.Exit(1)


@app.command()
def inspect(
    data: Prepared,
    out: Annotated[Path | None, typer.Option(help="Image file for a sheet of faces: .png, .pdf, .svg.")] = None,
    as_json: AsJson = False,
):
    """Summarise shards: settings, clips by split and class, scores, problems; and draw their faces."""
    from affect.data.inspect import inspect

    report = inspect(data, out=out, track=hide_progress if as_json else show_progress)
    if as_json:
        print(json.dumps(report, indent=2))
        return
    table = Table("split", "class", "clips", "with a face", "frames", "faces", "coverage")
    for row in report["clips"]:
        numbers = (str(row[name]) for name in ("clips", "clips_with_a_face", "frames", "faces"))
        coverage = "–" if row["coverage"] is None else f"{row['coverage']:.1%}"
        table.add_row(row["split"], row["label"] or "–", *numbers, coverage)
    Console().print(table)
    faces = report["settings"]["faces"]
    print("settings: " + ", ".join(f"{name}={value}" for name, value in faces.items() if value is not None))
    print("subjects: " + ", ".join(f"{count} in {split}" for split, count in report["subjects"].items()))
    if several := report["subjects_in_several_splits"]:
        print(f"subjects in more than one split: {', '.join(several)}")
    for name, title in (("length_s", "length of clips in s"), ("scores", "scores of faces")):
        if report[name]:
            numbers = ", ".join(f"{value:.3g}" for value in report[name])
            print(f"{title} (lowest, quartiles, highest): {numbers}")
    for key, problem in report["problems"].items():
        print(f"problem: {key}: {problem}")
    for line in report["left_out"]:
        print(f"left out: {line}")
    if out:
        print(f"{out}: faces")


@app.command()
def train(
    config: Annotated[
        Path, typer.Argument(help="A bundled config by its name (paper_a), a .py file, or a run's config.json.")
    ],
    data: Shards,
    workdir: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: Recipe = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override: model.heads=4.")] = None,
):
    """Train a model; a run that was stopped goes on."""
    experiment = load_config(config, settings or (), recipe)
    if experiment.recipe == "paper":
        _warn_of_faces(data)
    _train(experiment, data, workdir)


def _train(experiment, data, workdir):
    from affect.models.device import describe_device
    from affect.tasks import find_task
    from affect.training.train import train

    device = describe_device(experiment.train)
    repeats = "deterministic" if device["deterministic"] else "not deterministic"
    print(f"{workdir}: on {device['name']}, precision {device['precision']}, {repeats}", flush=True)
    _say_no_logs(workdir)
    result = train(experiment, data=data, workdir=workdir)
    shown = ("val_accuracy", "val_valence_ccc", "val_arousal_ccc", "val_loss")
    numbers = ", ".join(f"{name} {result[name]:.3f}" for name in shown if name in result)
    first, *lines = find_task(experiment).view_training(result).lines
    print(f"{workdir}: {result['epochs']} epochs, best is {result['best_epoch']}; {numbers}; {first}")
    for line in lines:
        print(line)
    return result


def _say_no_logs(workdir):
    if missing := find_missing("logs"):
        _say(
            f"{workdir} gets no tensorboard/ folder, which needs {' and '.join(missing)}. Install it: "
            "pip install 'affect[logs]'"
        )


def _warn_of_faces(data):
    """Warns when the faces of shards are not the paper's."""
    from affect.data.shards import Shards

    if (detector := Shards(data).faces.get("detector")) != "dlib":
        _say(
            f"recipe paper: the paper's faces are found by dlib, those of {data} by {detector}. For the paper's: "
            "affect prepare SOURCE --out DIR --detector dlib"
        )


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run, or a config that needs no training (fer2013).")],
    data: Shards,
    split: Annotated[str, typer.Option(help="Split of the shards.")] = "test",
    protocol: Protocol = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Folder for plots of valence and arousal over time.")] = None,
):
    """Metrics of a split: accuracy, UAR, macro F1 and confusion of clips; or RMSE, CC and CCC of recordings."""
    from affect.reading.run import load_trained

    trained = load_trained(run)
    if plot:
        require("plots", "--plot")
        trained.task.check_plots(trained.experiment.name)
    report = _evaluate(trained, data, split, as_json, protocol)
    if run.is_dir():
        write_json(run / f"evaluation-{split}.json", report)
    if plot:
        written = trained.task.plot_evaluation(report, plot)
        if not as_json:
            print(f"{plot}: {len(written)} plots")


def _evaluate(trained, data, split, as_json=False, protocol=None):
    from affect.training.evaluate import evaluate

    report = evaluate(trained, data, split=split, protocol=protocol, track=hide_progress if as_json else show_progress)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _show(trained.task.view_evaluation(report))
    return report


def _show(view):
    """Prints what a task shows of a result; warnings go to stderr."""
    for sheet in view.sheets:
        table = Table(*sheet.header, title=sheet.title or None, padding=(0, 0, 0, 1) if sheet.compact else (0, 1))
        for index, row in enumerate(sheet.rows):
            table.add_row(*row, end_section=sheet.compact and index == 0 and sheet.first_apart)
        Console().print(table)
    for line in view.lines:
        print(line)
    for warning in view.warnings:
        _say(warning)


@app.command("table")
def table_(
    folder: Annotated[
        Path, typer.Argument(help="A bundled table by its name (paper_a_table1), or a folder of configs, a row each.")
    ],
    data: Shards,
    workdir: Annotated[Path, typer.Option(help="Folder of the runs and the table.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 3,
    split: Annotated[str, typer.Option(help="Split that is evaluated.")] = "val",
    protocol: Protocol = None,
    recipe: Recipe = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override for all rows: train.epochs=3.")] = None,
):
    """Train and evaluate every row of a paper's table, and print it beside the paper's numbers."""
    from affect.training.table import format_cells, layout_of, table

    _say_no_logs(workdir)
    if recipe == "paper":
        _warn_of_faces(data)
    result = table(
        folder,
        data=data,
        workdir=workdir,
        seeds=seeds,
        split=split,
        overrides=settings or (),
        recipe=recipe,
        protocol=protocol,
        track=show_progress,
    )
    layout = layout_of(result)
    lines = Table(title=f"split {split}, {seeds} seeds, {layout.caption}", padding=(0, 0, 0, 1))
    for key in layout.terminal:
        lines.add_column(layout.columns[key], no_wrap=True)
    for row in result["rows"]:
        lines.add_row(*(format_cells(layout, row)[key] for key in layout.terminal))
    Console().print(lines)
    print(f"{workdir}: table.md, table.csv, table.json")


@app.command()
def predict(
    model: ModelPath,
    videos: Annotated[list[Path], typer.Argument(help="Video files.")],
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row for each decoded frame.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Image file: valence and arousal over time.")] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="TensorFlow Serving of MODEL, an exported one: grpc://HOST:8500/NAME, http://HOST:8501/NAME."
        ),
    ] = None,
):
    """Probabilities of each video and of its frames; or its valence and arousal over time."""
    if server:
        require("serving", "--server")
    from affect.reading.loading import load

    version = _version(model)
    trained = load(server, artefact=version) if server else load(version)
    if plot:
        require("plots", "--plot")
        trained.task.check_plots(trained.experiment.name)
    writer = _csv_writer(trained) if as_csv and not as_json else None
    kept, used, lost = [], 0, 0
    for reading in _predict(trained, videos):
        result, problem = reading.result, reading.problem
        used, lost = used + (result["frames_with_a_face"] > 0), lost + (problem != "")
        if as_json or plot:
            kept.append(result)
        if writer:
            writer(result)
        elif not as_json and result["frames_with_a_face"]:
            label = trained.task.headline(result)
            print(f"{result['key']}: " + "; ".join(filter(None, (label, _seen_line(result)))))
            _show(trained.task.view_prediction(trained, result))
    if as_json:
        print(json.dumps(kept, indent=2))
    if plot and used:
        trained.task.plot_predictions([result for result in kept if result["frames_with_a_face"]], plot)
        if not as_json and not as_csv:
            print(f"{plot}: valence and arousal over time")
    if lost:
        raise typer.Exit(1 if used else 2)


def _version(model):
    """Returns the latest version of an exported model of which the name alone was given, and says so."""
    from affect.reading.saved_model import latest_version

    version = latest_version(model)
    if version != model:
        _say(f"{version} is the latest version of {model}.")
    return version


def _predict(trained, videos):
    """Yields the `affect.reading.predictor.Reading` of each video, and says what of it was lost or left out."""
    for video in videos:
        reading = trained.read(video)
        _say_seen(video, reading)
        yield reading


def _say_seen(video, reading, most=5):
    """Says on stderr what a video lost, what is to be known about it, and which faces were seen and not read."""
    result, cut = reading.result, reading.cut
    if cut.problem:
        _say(cut.problem)
    for note in cut.notes:
        _say(note)
    used = {track.id for track in cut.tracks[:1]}
    others = sorted((track for track in cut.seen if track.id not in used), key=lambda track: -track.frames)
    if others:
        named = ", ".join(
            f"track {track.id} in {track.frames} frame{'s' if track.frames > 1 else ''} "
            f"(about {round(track.mean_area_px**0.5)} px wide)"
            for track in others[:most]
        )
        more = f" and {len(others) - most} more" if len(others) > most else ""
        _say(f"{video}: {_seen_line(result)}. Not read: {named}{more}.")
    read, faces = result.get("frames_read"), result["frames_with_a_face"]
    if read is not None and read < faces:
        _say(f"{video}: this model takes whole clips. It read {read} of {faces} faces, evenly spaced.")


def _seen_line(result):
    """Returns how many faces a video shows, and how often the one that was read."""
    seen, faces, frames = (result[name] for name in ("faces_seen", "frames_with_a_face", "frames_decoded"))
    if seen < 2:
        return f"face in {faces}/{frames} frames"
    return f"{seen} faces seen; this one in {faces} of {frames} frames"


def _csv_writer(trained):
    """Writes the header of CSV; returns a function that writes a result, a row for each decoded frame."""
    writer = csv.writer(sys.stdout)
    names = trained.task.frame_columns(trained.classes)
    writer.writerow(["video", *names])

    def write(result):
        for row in trained.task.frame_rows(result):
            writer.writerow([result["key"], *(row.get(name) for name in names)])

    return write


@app.command()
def watch(
    model: ModelPath,
    source: Annotated[str, typer.Argument(help="Video file, number of a camera (0), or address (rtsp://...).")],
    out: Annotated[Path | None, typer.Option(help="MP4 file: box, probabilities and importance drawn.")] = None,
    half_life: Annotated[float | None, typer.Option(help="Seconds after which a frame weighs half.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON a frame.")] = False,
):
    """Read a face as it is seen, frame by frame; Ctrl-C ends."""
    from affect.pipelines.detectors import DETECTORS
    from affect.pipelines.live import follow_face, read_source
    from affect.reading.loading import read_model
    from affect.reading.watch import watch

    if out and os.path.realpath(out) == os.path.realpath(source):
        raise InputError(f"--out must be another file than SOURCE. Received: {source} for both")
    trained = read_model(_version(model))
    tracks, notes = set(), []
    frames = read_source(source, trained.faces.frame_rate_hz, notes)
    detector = DETECTORS[trained.faces.detector](trained.faces)
    faces = follow_face(frames, trained.faces, detector, key=source, seen=tracks)
    count, seen, last, problem, began_s = 0, 0, None, None, time.monotonic()
    live = nullcontext() if as_json else Live(console=Console(), refresh_per_second=8)
    try:
        with live, closing(watch(trained, faces, half_life_s=half_life, out=out)) as all_watched:
            for last in all_watched:
                count, seen = count + 1, seen + (last.box is not None)
                if as_json:
                    print(json.dumps(_watched_line(last)), flush=True)
                else:
                    live.update(_watched_view(last, count / (time.monotonic() - began_s)))
    except KeyboardInterrupt:
        pass  # how an endless source ends
    except InputError as error:
        if last is None:
            raise
        problem = str(error)
    if not seen:
        problem = problem or f"{source} shows no face in {count} frames."
    else:
        label, this_one = last.reading.label, last.reading.frames_with_a_face
        result = {"faces_seen": len(tracks), "frames_with_a_face": this_one, "frames_decoded": count}
        if not as_json:
            print(f"{source}: {label}, p = {last.reading.probabilities[label]:.3f}; {_seen_line(result)}")
        if len(tracks) > 1:
            _say(f"{source}: {_seen_line(result)}. The others were not read.")
    if out and count and not as_json:
        print(f"{out}: {count} frames")
    for note in notes:
        _say(note)
    if left_out := getattr(frames, "left_out", 0):
        _say(f"{source}: {left_out} frames were left out, because they came too fast or damaged.")
    if problem:
        _say(problem)
        raise typer.Exit(1 if seen else 2)


def _watched_line(watched):
    """Returns what is known after a frame as a dict for JSON."""
    reading = watched.reading
    return {
        "timestamp_s": reading.timestamp_s,
        "track": watched.track,
        "box": watched.box,
        "frames": reading.frames,
        "frames_with_a_face": reading.frames_with_a_face,
        "label": reading.label,
        "probabilities": reading.probabilities,
        "frame_probabilities": reading.frame_probabilities,
        "importance": reading.importance,
    }


def _watched_view(watched, frames_per_second):
    """Returns the live view: a bar for each class, the importance of the last frames, and the rate."""
    reading, width = watched.reading, 40
    view = Table.grid(padding=(0, 1))
    for name, probability in (reading.probabilities or {}).items():
        style = "red" if name == reading.label else "bright_black"
        view.add_row(name, Text("█" * round(width * probability), style), f"{probability:.2f}")
    highest = max(watched.importances, default=0) or 1
    view.add_row("import.", "".join("▁▂▃▄▅▆▇█"[round(7 * share / highest)] for share in watched.importances), "")
    seen = "face" if watched.box is not None else "no face"
    view.add_row("", f"{reading.timestamp_s:.2f} s, {seen}, {frames_per_second:.1f} frames/s", "")
    return view


@app.command()
def explain(
    run: Annotated[Path, typer.Argument(help="A run, or a config that needs no training (fer2013).")],
    video: Annotated[Path | None, typer.Argument(help="Video file.")] = None,
    out: Annotated[Path, typer.Option(help="Image file: .png, .pdf, .svg.")] = ...,
    frames: Annotated[int, typer.Option(min=1, help="Frames shown.")] = 8,
    by_importance: Annotated[bool, typer.Option(help="Show the most important frames.")] = False,
    style: Annotated[str, typer.Option(help="ours, or paper: p(c, f | S) on one scale, mean of the heads.")] = "ours",
    data: Annotated[Path | None, typer.Option(help="Shards, averaged by class; then VIDEO is left out.")] = None,
    split: Annotated[str, typer.Option(help="Split of the shards.")] = "test",
):
    """Draw the paper's figure of a video, or the attention averaged over each class of a data set."""
    require("plots", "affect explain")
    from affect.reading.explain import explain_classes
    from affect.reading.run import load_trained

    if (video is None) == (data is None):
        raise InputError("affect explain takes a VIDEO or --data SHARDS, and not both.")
    trained = load_trained(run)
    if data is None:
        _explain(trained, video, out, frames=frames, by_importance=by_importance, style=style)
    else:
        means = explain_classes(trained, data, out, split=split, track=show_progress)
        print(f"{out}: attention over {', '.join(means)}")


def _explain(trained, video, out, **settings):
    reading = trained.read(video)
    reading.save_figure(out, **settings)
    _say_seen(video, reading)
    print(f"{out}: {video}{trained.task.sentence(reading.result)}; {_seen_line(reading.result)}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run, or a config that needs no training (fer2013).")],
    out: Annotated[Path, typer.Argument(help="Folder of the model's versions: savedmodels/NAME.")],
):
    """Write a SavedModel with named signatures as the next version, with all that is needed to use and check it."""
    from affect.serving.export import export

    version = export(run, out)
    if find_missing("serving"):
        _say(
            f"{version} has no warm-up requests, which TF Serving replays before it serves: they need "
            f"{' and '.join(find_missing('serving'))}. Install it: pip install 'affect[serving]'"
        )
    print(f"{version}: it gives what the network gives. Again: affect check {version}")
    return version


@app.command()
def check(model: Annotated[Path, typer.Argument(metavar="NAME/VERSION", help="An exported model.")]):
    """Verify the checksums of an exported model and replay the golden pairs it carries."""
    from affect.serving.check import TOLERANCE, check

    report = check(model)
    for name, difference in report["differences"].items():
        print(f"{name}: largest difference {difference:.1e}")
    if not report["passed"]:
        _say(f"{model} does not give what was exported: {report['largest']:.1e} is above {TOLERANCE:g}.")
        raise typer.Exit(1)
    print(f"{model}: passed")


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(metavar="NAME/VERSION", help="An exported model.")],
    to: Annotated[str, typer.Option(help="float32, float16, dynamic or int8.")],
    part: Annotated[str, typer.Option(help="clip, or frame: one face in, pooled by the app.")] = "clip",
    data: Annotated[Path | None, typer.Option(help="Folder of shards to compare on; int8 is calibrated on it.")] = None,
    split: Annotated[str, typer.Option(help="Split that is compared on.")] = "test",
    calibration_split: Annotated[str | None, typer.Option(help="Split of int8, if not the one trained on.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip. Default: dynamic.")] = None,
    clips: Annotated[int, typer.Option(min=1, help="Most clips of a split.")] = 100,
    out: Annotated[Path | None, typer.Option(help="NAME-VERSION-PART-TO.tflite beside NAME if not given.")] = None,
    as_json: AsJson = False,
):
    """Convert an exported model to a TFLite file, and say how far its answers are from the SavedModel's."""
    from affect.serving.convert import convert

    report = convert(
        model,
        out,
        to=to,
        part=part,
        data=data,
        split=split,
        calibration_split=calibration_split,
        frames=frames,
        clips=clips,
    )
    if as_json:
        print(json.dumps(report, indent=2))
        return
    table = Table("signature", "output", "largest difference", "mean", title=f"compared on {report['compared_on']}")
    for name, outputs in report["differences"].items():
        for key, found in outputs.items():
            table.add_row(name, key, f"{found['largest']:.1e}", f"{found['mean']:.1e}")
    Console().print(table)
    if report["label_agreement"] is not None:
        print(f"labels: {report['label_agreement']:.1%} of {report['labels_compared']} are the same")
    if report["calibrated_on"]:
        print(f"calibrated on {report['calibrated_on']}")
    latency = report["latency_ms"]
    print(
        f"median latency on {latency['threads']} threads, faces {latency['shape']}: {latency['tflite']:.1f} ms, "
        f"SavedModel {latency['saved_model']:.1f} ms"
    )
    print("operators: " + ", ".join(f"{count} {name}" for name, count in report["operators"].items()))
    frames = "free" if report["frames"] is None else report["frames"]
    print(f"{report['path']}: {report['bytes']} bytes, {to}" + (f", frames {frames}" if part == "clip" else ""))
    return report


@weights.command("get")
def weights_get(backbone: Annotated[str, typer.Argument(help="mini_xception")]):
    """Fetch published weights into the user's cache."""
    from affect.models.backbones import get_weights

    print(get_weights(backbone))


@weights.command("import")
def weights_import(
    backbone: Annotated[str, typer.Argument(help="vgg16")],
    file: Annotated[Path, typer.Argument(help="keras-vggface's HDF5, a PyTorch .pth or .safetensors.")],
):
    """Check a file of published weights and keep it in the user's cache."""
    from affect.models.backbones import import_weights

    print(import_weights(backbone, file))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("demo"),
    config: Annotated[Path, typer.Option(help="A config, by its path or name.")] = Path("planted"),
):
    """Run the whole pipeline on videos animated from a public-domain portrait; no data needed."""
    require("plots", "affect demo")
    from affect.models.backbones import get_weights
    from affect.pipelines.planted.clips import generate
    from affect.reading.run import load_trained

    experiment = load_config(config)
    videos, shards, run, figure = (out / name for name in ("videos", "shards", "run", "explain.png"))
    _headline("weights: mini-Xception trained on FER2013")
    print(get_weights(experiment.model.backbone))
    _headline("videos: a portrait animated with planted expressions")
    oracle = read_json(generate(videos, track=show_progress))
    print(f"{videos}: {len(oracle['clips'])} clips")
    _headline("prepare")
    _prepare(videos / "clips.csv", "csv", shards, Faces())
    _headline("train")
    _train(experiment, shards, run)
    trained = load_trained(run)
    _headline("evaluate: held-out clips of other subjects")
    report = _evaluate(trained, shards, "test")
    write_json(run / "evaluation-test.json", report)
    _headline("explain and predict")
    shown = next(clip for clip in report["clips"] if clip["label"] == "surprise")
    video = videos / f"{shown['key']}.mp4"
    _explain(trained, video, figure)
    (reading,) = _predict(trained, [video])
    write_json(out / "prediction.json", reading.result)
    _headline("export, check and convert: the model for a service and for a phone")
    version = export(run, out / "savedmodels" / "demo")
    check(version)
    converted = convert(version, to="float32", data=shards, out=out / "demo.tflite")

    planted = [oracle["clips"][clip["key"]]["interval_s"] for clip in report["clips"]]
    inside = [
        clip["peak_s"] is not None and start_s <= clip["peak_s"] < end_s
        for clip, (start_s, end_s) in zip(report["clips"], planted, strict=True)
    ]
    summary = {
        "accuracy": report["all"]["accuracy"],
        "peak_in_interval": sum(inside) / len(inside),
        "test_clips": len(inside),
    }
    write_json(out / "summary.json", summary)
    table = Table("step", "wrote", "how it did", title="affect demo")
    table.add_row("videos", str(videos), f"{len(oracle['clips'])} clips of planted expressions")
    table.add_row("prepare", str(shards), "aligned faces in TFRecord shards")
    table.add_row("train", str(run), "mini-Xception features, attention, joint softmax")
    accuracy, peaks = f"{summary['accuracy']:.3f}", f"{summary['peak_in_interval']:.1%}"
    table.add_row("evaluate", str(run / "evaluation-test.json"), f"accuracy {accuracy} of {len(inside)} clips")
    table.add_row("", str(out / "summary.json"), f"most important frame in the planted interval: {peaks}")
    table.add_row("explain", str(figure), "frames, attention, probabilities, importance")
    table.add_row("predict", str(out / "prediction.json"), f"{video.name}: {reading.label}")
    table.add_row("export, check", str(version), "SavedModel that gives what the network gives")
    labels = f"{converted['label_agreement']:.1%} of {converted['labels_compared']} labels as the SavedModel's"
    table.add_row("convert", converted["path"], labels)
    Console().print(table)


def _headline(text):
    Console().rule(f"[bold]{text}", align="left")


def _say(message):
    print(f"affect: {message}", file=sys.stderr)


def main():
    """Runs the command line, with the native libraries' chatter on stderr muted unless `--debug` is given."""
    if "--debug" not in sys.argv:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        reason = ", ".join([*str(error).splitlines()[:1], *getattr(error, "__notes__", [])])
        _say(f"internal error: {type(error).__name__}: {reason}. affect --debug COMMAND shows more.")
        sys.exit(1)
