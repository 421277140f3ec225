"""The commands. Each declares its options, calls the function of its name and prints the result.

What takes long to import is imported inside the commands.
"""

import atexit
import gc
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from rich.live import Live
from typer.core import TyperGroup
from typer.exceptions import TyperException

from affect import __version__, terminal
from affect.config import Faces, load_config, load_rows, write_json
from affect.config.experiment import Detect, EvaluationProtocol, Tracks
from affect.errors import InputError, MachineWarning, describe_failure, format_count
from affect.extras import require
from affect.files import name_text_fault
from affect.progress import VideoProgress, hide_progress, show_progress
from affect.reading.rows import Adjustment, Smoothing
from affect.terminal import make_console, say, show


class _Commands(TyperGroup):
    """Turns the user's mistakes into one line on stderr and the exit code 2; `--debug` shows the traceback."""

    def invoke(self, ctx):
        try:
            with _say_warnings():
                return super().invoke(ctx)
        except InputError as error:
            if ctx.params["debug"]:
                raise
            say(error)
            raise typer.Exit(error.exit_code) from error
        except TyperException as error:  # an unknown command or option, or a value that an option does not take
            words = getattr(getattr(error, "ctx", None), "command_path", "").split()[1:]
            reason = error.format_message().replace("Value error, ", "").rstrip(".")
            say(f"{reason}{'' if reason.endswith('?') else '.'} See: {' '.join(['affect', *words])} --help")
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            is_study = ctx.invoked_subcommand == "predict" and "--out" in sys.argv
            resumes = is_study or ctx.invoked_subcommand in ("prepare", "table", "train")
            say(f"Stopped.{' Run the same command again: it continues.' if resumes else ''}")
            raise typer.Exit(143 if isinstance(error, _Terminated) else 130) from error
        except Exception as error:
            if ctx.params["debug"] or not (failure := describe_failure(error)):
                raise
            say(failure)
            raise typer.Exit(1) from error

    def resolve_command(self, ctx, args):
        name, command, rest = super().resolve_command(ctx, args)
        if name != "predict":  # which reads the other videos
            _check_text(*rest)
        return name, command, rest


@contextmanager
def _say_warnings() -> Iterator[None]:
    """Prints what the machine lacks as one line."""
    with warnings.catch_warnings():
        show_others = warnings.showwarning

        def show(message, category, *place, **more):
            if issubclass(category, MachineWarning):
                say(message)
            else:
                show_others(message, category, *place, **more)

        warnings.showwarning = show
        yield


def _check_text(*paths) -> None:
    """Refuses a path that is not UTF-8, which TensorFlow and our own files cannot hold."""
    if fault := next(filter(None, map(name_text_fault, paths)), ""):
        raise InputError(fault)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does: what was written stays whole."""


class _Stop:
    """Stops the work in a `with` block at Ctrl-C or SIGTERM.

    The work calls `check` often, which raises. The signal itself raises only if it comes again: Python ignores what is
    raised in some callbacks, such as those of its garbage collector, and objects may be closed by half.
    """

    def __enter__(self):
        self._error = None
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number, _):
        is_second = self._error is not None
        self._error = _Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if is_second:
            raise self._error

    def check(self) -> None:
        """Raises if a signal came."""
        if self._error:
            raise self._error


app = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)
weights = typer.Typer(help="Fetch or import the weights of a backbone.")
app.add_typer(weights, name="weights")

# Keys of the tables of the same name, which are not imported here. A test compares them.
Dataset = Literal["folder", "csv", "afew", "afew_faces", "ravdess", "crema_d", "recola", "sewa"]
Detector = Literal["mtcnn", "dlib", "boxes"]
Numbers = Literal["float32", "float16", "dynamic", "int8"]

ShardsOption = Annotated[Path, typer.Option("--data", help="Folder of shards.")]
ShardsArgument = Annotated[Path, typer.Argument(metavar="SHARDS", help="Folder of shards.")]
RecipeOption = Annotated[
    str | None, typer.Option(help="Recipe of the config: ours, paper, authors_code, authors_first.")
]
ProtocolOption = Annotated[
    EvaluationProtocol | None,
    typer.Option(help="For valence and arousal: each rating, with gaps interpolated; or frames with a face."),
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A run, a config that needs no training (fer2013), an exported model or .tflite."
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run, or a config that needs no training (fer2013).")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Override: model.heads=4.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"affect {__version__}")
        raise typer.Exit


@app.callback()
def _set_options(
    debug: Annotated[bool, typer.Option(help="Show tracebacks and the libraries' own messages.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Read emotion from face video."""
    if backend := os.environ.get("KERAS_BACKEND"):
        _check_backend(backend)


# Backend of Keras → how it is installed beside affect. TensorFlow reads the shards on each of them.
BACKENDS = {"tensorflow": "'affect[train]'", "jax": "affect[gpu-jax] (or jax, for a CPU)", "torch": "torch"}


def _check_backend(name) -> None:
    """Refuses a backend that is unknown or is not installed, before Keras fails to be imported."""
    if name not in BACKENDS:
        raise InputError(f"Unknown KERAS_BACKEND. Expected one of {sorted(BACKENDS)}. Received: {name!r}")
    if find_spec(name) is None:
        raise InputError(f"KERAS_BACKEND={name} is not installed here. Install it: pip install {BACKENDS[name]}")


@app.command()
def prepare(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder of videos, or the file of the data set csv.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    dataset: Annotated[Dataset, typer.Option(help="Layout of SOURCE.")] = "folder",
    detector: Annotated[Detector, typer.Option(help="Face detector.")] = "mtcnn",
    min_face_px: Annotated[int, typer.Option(min=20, help="Smallest face looked for, in pixels.")] = Faces.min_face_px,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Lowest score of a face.")
    ] = Faces.score_threshold,
    face_size: Annotated[
        int, typer.Option(min=32, max=2048, help="Side of a stored face in pixels.")
    ] = Faces.face_size,
    margin_ratio: Annotated[
        float, typer.Option(min=0, max=4, help="Padding on each side, as a share of the face.")
    ] = Faces.margin_ratio,
    frame_rate_hz: Annotated[
        float | None, typer.Option(min=0.01, help="Frames a second that are searched. Default: every frame.")
    ] = None,
    jpeg_quality: Annotated[int, typer.Option(min=1, max=100, help="Of stored faces.")] = Faces.jpeg_quality,
    detect: Annotated[
        Detect, typer.Option(help="Detect in key frames and follow faces between them, or detect in every frame.")
    ] = "follow",
    tracks: Annotated[Tracks, typer.Option("--faces", help="Faces that are kept.")] = "main",
    boxes: Annotated[Path | None, typer.Option(help="CSV file of faces, for --detector boxes.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Discard what is in OUT.")] = False,
    part: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make part I of N only, in one job of an array on a shared OUT."),
    ] = None,
    join: Annotated[bool, typer.Option("--join", help="Join the parts of an array of jobs.")] = False,
    runner: Annotated[
        Literal["local", "beam", "dask"],
        typer.Option(help="This machine, or a cluster by Apache Beam: the runner of its options, or its one for Dask."),
    ] = "local",
    beam_options: Annotated[
        list[str] | None, typer.Argument(metavar="BEAM_OPTIONS", help="With --runner beam or dask, after --.")
    ] = None,
) -> None:
    """Cut the faces of every video and write TFRecord shards."""
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
    what: dict[str, Any] = {"dataset": dataset, "out": out, "faces": faces, "track": show_progress}
    if part is not None or join:
        from affect.pipelines.array import join_parts, prepare_part

        _check_array(part, join=join, overwrite=overwrite, runner=runner)
        if part is not None:
            result = prepare_part(source, part=_parse_part(part), workers=workers, **what)
            terminal.print_part(result, out, part)
            return
        manifest = join_parts(source, **what)
    else:
        from affect.pipelines.prepare import prepare

        options = None if runner == "local" else _list_beam_options(runner, beam_options or ())
        manifest = prepare(source, workers=workers, overwrite=overwrite, beam_options=options, **what)
    terminal.print_manifest(manifest, out, dataset=dataset, tracks=tracks)
    if (lost := len(terminal.list_lost(manifest))) or manifest["left_out"]:
        raise typer.Exit(1 if lost < manifest["counts"]["videos"] else 2)


def _list_beam_options(runner, options) -> list[str]:
    """Returns Beam's options with the runner, which Beam knows by its full name only if it is Dask's."""
    if runner != "dask":
        return list(options)
    require("dask", "--runner dask")
    if not any(option.startswith(("--dask_client_address", "--dask_scheduler_file")) for option in options):
        raise InputError(
            "--runner dask needs the address of a Dask scheduler, after --: "
            "--runner dask -- --dask_client_address=tcp://HOST:8786"
        )
    return ["--runner=apache_beam.runners.dask.dask_runner.DaskRunner", *options]


def _check_array(part, *, join, overwrite, runner) -> None:
    """Refuses what does not go together with an array of jobs."""
    option = "--part" if part is not None else "--join"
    if part is not None and join:
        raise InputError("--part makes one part, and --join joins all of them. Give one of the two.")
    if runner != "local":
        raise InputError(f"{option} is for jobs without Beam. Leave out --runner {runner}.")
    if overwrite:
        raise InputError(f"{option} discards nothing. Leave out --overwrite, and choose another --out.")


def _parse_part(text) -> tuple[int, int]:
    """Returns I and N of I/N."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal()):
        raise InputError(f"--part must be I/N, such as 3/100. Received: {text}")
    return int(number), int(count)


@app.command()
def verify(data: ShardsArgument) -> None:
    """Check every byte of shards; damaged clips are named."""
    require("train", "affect verify")
    _check_shards(data, check_sizes=False)
    from affect.data.verify import verify

    report = verify(data, track=show_progress)
    terminal.print_damage(report, data)
    if report["damage"]:
        say("Copy the shards again, or run the same affect prepare with --overwrite.")
        raise typer.Exit(1)


@app.command()
def inspect(
    data: ShardsArgument,
    out: Annotated[Path | None, typer.Option(help="Image file for a sheet of faces: .png, .pdf, .svg.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Summarise shards: settings, clips by split and class, scores, problems; and draw their faces."""
    require("train", "affect inspect")
    if out:
        require("plots", "A sheet of faces")
    _check_shards(data)
    from affect.data.inspect import inspect

    report = inspect(data, out=out, track=hide_progress if as_json else show_progress)
    if as_json:
        terminal.print_json(report)
        return
    terminal.print_inspection(report)
    if out:
        show(f"{out}: the clearest face of some clips; the sheet says of how many")


@app.command()
def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="A bundled config by its name (paper_a), a row of a table (paper_a_table1/tp), a .py file, or a run's "
            "config.json.",
        ),
    ],
    data: ShardsOption,
    workdir: Annotated[Path, typer.Option(help="Folder of the run.")],
    recipe: RecipeOption = None,
    settings: SetOption = None,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Train in N processes, also on several machines, with KERAS_BACKEND=jax. Start this command N times. "
            "Or N is slurm: srun starts it.",
        ),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Number of this process, from 0. Process 0 writes the run.")] = None,
    coordinator: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Address at which process 0 waits for the others.")
    ] = None,
) -> None:
    """Train a model; a run that was stopped goes on."""
    require("train", "affect train")
    from affect.training.processes import check_backend, find_place, join

    place = find_place(coordinator, processes, rank)
    if processes is not None:
        check_backend()
    experiment = load_config(config, settings or (), recipe)
    for split in filter(None, (experiment.data.train_split, experiment.data.selection_split)):
        _check_shards(data, split=split)
    if experiment.recipe == "paper":
        _warn_of_faces(data)
    _check_weights(experiment)
    from affect.data.shards import Shards
    from affect.tasks import find_task
    from affect.training.parallel import check_divides
    from affect.training.train import describe_work, train

    if place:
        check_divides(experiment.data.batch_clips, place.rank)
    with join(place, describe_work(experiment, Shards(data))) if place else nullcontext():
        result = train(
            experiment, data=data, workdir=workdir, say_device=lambda device: terminal.print_device(device, workdir)
        )
    if place is None or place.rank.number == 0:
        terminal.print_training(result, find_task(experiment).format_training(result), workdir)


def _check_exists(path) -> None:
    """Names a file that is not there before a model is loaded."""
    if path is not None and not os.path.lexists(path):
        raise InputError(f"There is no file {path}.")


def _check_shards(data, *, check_sizes=True, split=None) -> None:
    """Names wrong shards before TensorFlow is imported, which takes seconds."""
    from affect.data.shards import Shards

    shards = Shards(data, check_sizes=check_sizes)
    if split:
        shards.of_split(split)


def _check_weights(experiment) -> None:
    """Names published weights that are missing before TensorFlow is imported."""
    from affect.models.published import check_weights

    if getattr(experiment.model, "weights", None):
        check_weights(experiment.model.backbone, experiment.model.weights)


def _warn_of_faces(data) -> None:
    """Warns when the faces of shards are not the paper's."""
    from affect.data.shards import Shards

    if (detector := Shards(data).faces.get("detector")) != "dlib":
        say(
            f"recipe paper: the paper's faces are found by dlib, those of {data} by {detector}. For the paper's: "
            "affect prepare SOURCE --out DIR --detector dlib"
        )


@app.command()
def evaluate(
    run: RunArgument,
    data: ShardsOption,
    split: Annotated[str, typer.Option(help="Split of the shards.")] = "test",
    protocol: ProtocolOption = None,
    as_json: JsonOption = False,
    plot: Annotated[Path | None, typer.Option(help="Folder for plots of valence and arousal over time.")] = None,
) -> None:
    """Metrics of a split: accuracy, UAR, macro F1 and confusion of clips; or RMSE, CC and CCC of recordings."""
    require("train", "affect evaluate")
    from affect.reading.run import find_trained, load_trained
    from affect.tasks import find_task

    if plot:
        require("plots", "--plot")
    experiment = find_trained(run).experiment
    if plot:
        find_task(experiment).check_plots(experiment.name)
    _check_shards(data, split=split)
    from affect.training.evaluate import evaluate

    trained = load_trained(run)
    track = hide_progress if as_json else show_progress
    report = evaluate(trained, data, split=split, protocol=protocol, track=track)
    if as_json:
        terminal.print_json(report)
    else:
        terminal.print_printout(trained.task.format_evaluation(report))
    if run.is_dir():
        write_json(run / f"evaluation-{split}.json", report)
    if plot:
        written = trained.task.plot_evaluation(report, plot)
        if not as_json:
            show(f"{plot}: {len(written)} plots")


@app.command()
def table(
    config: Annotated[
        Path,
        typer.Argument(metavar="TABLE", help="A bundled table by its name (paper_a_table1), or a .py file with ROWS."),
    ],
    data: ShardsOption,
    workdir: Annotated[Path, typer.Option(help="Folder of the runs and the table.")],
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each row.")] = 3,
    split: Annotated[str, typer.Option(help="Split that is evaluated.")] = "val",
    protocol: ProtocolOption = None,
    recipe: RecipeOption = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override for all rows: train.epochs=3.")] = None,
) -> None:
    """Train and evaluate every row of a paper's table, and print it beside the paper's numbers."""
    require("train", "affect table")
    experiments = load_rows(config, settings or (), recipe)
    _check_shards(data, split=split)
    for experiment in experiments.values():
        _check_weights(experiment)
    from affect.training.table import format_cells, layout_of, table

    terminal.say_without_logs(workdir)
    if recipe == "paper":
        _warn_of_faces(data)
    result = table(
        config,
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
    terminal.print_table(result, layout, [format_cells(layout, row) for row in result["rows"]])
    show(f"{workdir}: table.md, table.csv, table.json")


@app.command()
def predict(
    model: ModelArgument,
    videos: Annotated[
        list[str],
        typer.Argument(metavar="PATHS", help="Videos and photographs, folders of them, or patterns ('films/*.mp4')."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for tables and a report. The same command goes on where it was stopped.")
    ] = None,
    faces: Annotated[Tracks, typer.Option(help="Faces that are read.")] = "main",
    frame_rate_hz: Annotated[
        float | None,
        typer.Option(min=0.01, max=10_000, help="Frames a second that are read. Default: as the model was trained."),
    ] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Start of the section that is read, in seconds.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="End of the section that is read, in seconds.")] = None,
    smooth: Annotated[
        float | None, typer.Option(help="Seconds of a moving average, which columns NAME_smooth hold.")
    ] = None,
    smoothing: Annotated[
        Smoothing,
        typer.Option(help="Average over the frames around each frame, or over those up to it, as a live system can."),
    ] = "centred",
    baseline: Annotated[
        str | None,
        typer.Option(
            metavar="START-END",
            help="Seconds in which each face is neutral; columns NAME_change hold the difference from them.",
        ),
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV file with the columns video and, for example, subject and condition.")
    ] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Also write the tables as Parquet.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Also write small videos with boxes.")] = False,
    report: Annotated[bool | None, typer.Option(help="Write report.html. Default: yes, with --out.")] = None,
    overwrite: Annotated[
        bool, typer.Option(help="Delete results in --out that are of another model or settings.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each video and face.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, a row for each decoded frame and face.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Image file: classes, or valence and arousal, over time.")] = None,
    server: Annotated[
        str | None,
        typer.Option(
            help="Address of TensorFlow Serving, which serves MODEL: grpc://HOST:8500/NAME or http://HOST:8501/NAME; "
            "with TLS, grpcs:// or https://. /VERSION or /labels/LABEL may follow."
        ),
    ] = None,
    server_ca: Annotated[
        Path | None, typer.Option(help="PEM file of the certification authorities that --server is checked against.")
    ] = None,
    server_token_file: Annotated[
        Path | None,
        typer.Option(help="File of the token that --server asks for. Default: the variable AFFECT_SERVER_TOKEN."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Read videos: the probabilities of each video and of its frames, or its valence and arousal over time."""
    from affect.reading.loading import load
    from affect.reading.paths import find_videos
    from affect.reading.study import measure_video

    _check_text(model, *filter(None, (out, plot, groups)))
    in_folder = {"--groups": groups, "--parquet": parquet, "--preview": preview, "--report": report}
    if out is None and (given := [name for name, value in {**in_folder, "--overwrite": overwrite}.items() if value]):
        raise InputError(f"{given[0]} needs --out FOLDER.")
    if out is not None and (as_csv or plot):
        raise InputError("--csv and --plot do not go with --out, which writes frames.csv and report.html.")
    if server:
        require("serving", "--server")
    elif server_ca or server_token_file:
        raise InputError("--server-ca and --server-token-file need --server.")
    if plot:
        require("plots", "--plot")
        from affect.drawing import check_format

        check_format(plot)
    baseline_s = _read_baseline(baseline) if baseline else None
    adjustment = Adjustment(smooth, smoothing, baseline_s)
    section: dict[str, Any] = {"faces": faces, "frame_rate_hz": frame_rate_hz, "start_s": start, "end_s": end}
    found = find_videos(videos, without=out)  # so that a wrong path is named before the model is loaded
    version = _find_version(model)
    if server:
        from affect.reading.access import read_access

        predictor = load(server, artefact=version, access=read_access(server_ca, server_token_file))
    else:
        predictor = load(version)
    if out is not None:
        with _Stop() as stop:
            study = predictor.read_many(
                videos,
                out,
                **section,
                smooth_s=smooth,
                smoothing=smoothing,
                baseline_s=baseline_s,
                groups=groups,
                parquet=parquet,
                preview=preview,
                report=report,
                overwrite=overwrite,
                is_quiet=quiet,
                check_stop=stop.check,
                done=terminal.print_people_as_json if as_json else terminal.print_people,
            )
        terminal.print_study(study, is_quiet=quiet or as_json)
        _exit_with_losses(len(study.lost), is_read=any(row["face"] for row in study.videos))
        return
    write = terminal.write_csv(predictor, adjustment) if as_csv and not as_json else None
    drawn, lost, is_read = [], 0, False
    for number, video in enumerate(found.videos, 1):
        length_s = measure_video(video.path, start, end)
        with VideoProgress(length_s, is_hidden=quiet, is_brief=True) as progress:
            progress.begin(f"{number}/{len(found.videos)} {video.name}", length_s)
            readings = predictor.read_people(video.path, track=progress.track, **section)
        terminal.say_seen(video.path, *readings)
        lost, is_read = lost + (readings[0].problem != ""), is_read or len(readings[0].faces) > 0
        for reading in readings:
            if as_json:
                terminal.print_reading_as_json(reading)
            elif write:
                write(reading)
            elif len(reading.faces):
                terminal.print_prediction(reading, names_face=faces == "all")
            if plot and len(reading.faces):
                drawn.append(reading.result)
    if plot and drawn:
        predictor.task.plot_predictions(drawn, plot)
        if not as_json and not as_csv:
            show(f"{plot}: {', '.join(predictor.classes)} over time")
    _exit_with_losses(lost, is_read=is_read)


def _read_baseline(text) -> tuple[float, float]:
    """Returns the start and the end of `0-2.5`."""
    start, _, end = text.partition("-")
    try:
        return float(start), float(end)
    except ValueError as error:
        raise InputError(f"--baseline takes START-END in seconds, such as 0-2.5. Received: {text}") from error


def _exit_with_losses(lost, *, is_read) -> None:
    """Ends with the exit code 1 if videos were lost, in whole or in part; with 2 if no face was read in any."""
    if lost:
        raise typer.Exit(1 if is_read else 2)


def _find_version(model):
    """Returns the latest version of an exported model of which only the name was given, and says so."""
    from affect.reading.saved_model import latest_version

    version = latest_version(model)
    if version != model:
        say(f"{version} is the latest version of {model}.")
    return version


@app.command()
def watch(
    model: ModelArgument,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Video file, number of a camera (0), or address (rtsp://...).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="MP4 file: boxes, probabilities and importance drawn; a file's sound is kept.")
    ] = None,
    half_life: Annotated[float | None, typer.Option(help="Seconds after which a frame has half its weight.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each frame.")] = False,
) -> None:
    """Read a face as it is seen, frame by frame; Ctrl-C or SIGTERM ends."""
    from affect.pipelines.detectors import DETECTORS
    from affect.pipelines.live import follow_face, is_live, read_source
    from affect.pipelines.sound import add_sound
    from affect.reading.loading import read_model
    from affect.reading.watch import watch

    if not is_live(source):
        _check_exists(source)
    if out and os.path.realpath(out) == os.path.realpath(source):
        raise InputError(f"--out must be another file than SOURCE. Received: {source} for both")
    predictor = read_model(_find_version(model))
    tracks: set = set()
    notes: list[str] = []
    frames = read_source(source, predictor.faces.frame_rate_hz, notes)
    detector = DETECTORS[predictor.faces.detector](predictor.faces)
    faces = follow_face(frames, predictor.faces, detector, key=source, seen=tracks)
    count, seen, last, problem, began_s = 0, 0, None, None, time.monotonic()
    live = None if as_json else Live(console=make_console(), refresh_per_second=8)

    def keep_sound(video: Path) -> None:
        if Path(source).is_file() and (remark := add_sound(source, video)):
            notes.append(remark)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    try:
        watched = watch(predictor, faces, half_life_s=half_life, out=out, add_sound=keep_sound)
        with live or nullcontext(), closing(watched) as all_watched:
            for last in all_watched:
                count, seen = count + 1, seen + (last.box is not None)
                if live is None:
                    terminal.print_watched(last)
                else:
                    live.update(terminal.draw_watched(last, count / (time.monotonic() - began_s)))
    except KeyboardInterrupt:
        pass  # how an endless source ends
    except InputError as error:
        if last is None:
            raise
        problem = str(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    if last is None or not seen:
        problem = problem or f"{source} shows no face in {format_count(count, 'frame')}."
    else:
        found, this_one = last.reading, last.reading.frames_with_a_face
        described = terminal.describe_faces(
            {"faces_seen": len(tracks), "frames_with_a_face": this_one, "frames_decoded": count}
        )
        if not as_json:
            probability = max((found.probabilities or {}).values(), default=0.0)
            show(f"{source}: {found.label}, p = {probability:.3f}; {described}")
        if len(tracks) > 1:
            say(f"{source}: {described}. The others were not read.")
    if out and count and not as_json:
        show(f"{out}: {format_count(count, 'frame')}")
    for note in notes:
        say(note)
    if left_out := getattr(frames, "left_out", 0):
        say(f"{source}: {format_count(left_out, 'frame')} left out, because they came too fast or damaged.")
    if problem:
        say(problem)
        raise typer.Exit(1 if seen else 2)


@app.command()
def explain(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="Image file: .png, .pdf, .svg.")],
    video: Annotated[Path | None, typer.Argument(metavar="VIDEO", help="Video file.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Most frames that are shown.")] = 8,
    by_importance: Annotated[
        bool, typer.Option("--by-importance", help="Show the most important frames, --apart from each other.")
    ] = False,
    apart: Annotated[
        float | None,
        typer.Option(
            help="Least seconds between two frames of --by-importance. Default: the video's length / (2 × --frames)."
        ),
    ] = None,
    style: Annotated[
        Literal["ours", "paper"],
        typer.Option(help="paper: p(c, f | S) on one scale, and the mean of the heads."),
    ] = "ours",
    width_cm: Annotated[
        float | None,
        typer.Option(help="Width of the figure, such as 8.5 for a paper's column. Default: 4.3 for each frame."),
    ] = None,
    each_head: Annotated[bool, typer.Option("--each-head", help="Draw each head's attention too.")] = False,
    data: Annotated[Path | None, typer.Option(help="Shards, averaged by class, instead of VIDEO.")] = None,
    split: Annotated[str, typer.Option(help="Split of the shards.")] = "test",
) -> None:
    """Draw frames, attention, probabilities and importance of a video; or attention averaged by class."""
    require("plots", "affect explain")
    from affect.drawing import check_format
    from affect.reading.explain import explain_classes
    from affect.reading.loading import load
    from affect.tasks.task import Drawing

    if (video is None) == (data is None):
        raise InputError("affect explain takes a VIDEO or --data SHARDS, and not both.")
    Drawing(frames, by_importance, apart, style, width_cm, each_head)
    _check_exists(video)
    if data is not None:
        _check_shards(data, split=split)
    trained = load(_find_version(model))
    check_format(out)  # before the video is read, which takes long
    if video is not None:
        reading = trained.read(video)
        remarks = reading.save_figure(
            out,
            frames=frames,
            by_importance=by_importance,
            apart_s=apart,
            style=style,
            width_cm=width_cm,
            each_head=each_head,
        )
        terminal.say_seen(video, reading)
        for remark in remarks:
            say(remark)
        faces = terminal.describe_faces(terminal.count_faces(reading))
        show(f"{out}: {video}{trained.task.sentence(reading)}; {faces}")
    else:
        means = explain_classes(trained, cast(Path, data), out, split=split, track=show_progress)
        show(f"{out}: attention over {', '.join(means)}")


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the model's versions: savedmodels/NAME.")],
    form: Annotated[
        Literal["savedmodel", "onnx"],
        typer.Option("--format", help="A SavedModel, or a file .onnx for each signature."),
    ] = "savedmodel",
) -> None:
    """Write a SavedModel with named signatures as the next version, with all that is needed to use and check it."""
    require("train", "affect export")
    if form == "onnx":
        require("onnx", "affect export --format onnx")
    from affect.reading.run import find_trained

    find_trained(run)
    from affect.serving.export import export

    terminal.print_export(export(run, out, form=form))


@app.command()
def check(model: Annotated[Path, typer.Argument(metavar="NAME/VERSION", help="An exported model.")]) -> None:
    """Verify the checksums of an exported model and replay the golden pairs it carries."""
    from affect.serving.check import TOLERANCE, check

    report = check(model)
    terminal.print_check(report)
    if not report["passed"]:
        say(f"{model} does not give what was exported: {report['largest']:.1e} is above {TOLERANCE:g}.")
        raise typer.Exit(1)
    show(f"{model}: passed")


@app.command()
def convert(
    model: Annotated[Path, typer.Argument(metavar="NAME/VERSION", help="An exported model.")],
    to: Annotated[Numbers | None, typer.Option(help="Numbers of the file.")] = None,
    every_form: Annotated[
        bool, typer.Option("--all", help="Write a file of every form and part, and print one table.")
    ] = False,
    part: Annotated[
        Literal["clip", "frame"] | None,
        typer.Option(
            help="The network for a whole clip; or for one face, so that your program pools over time. "
            "Default: clip; both with --all."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of shards to compare on. Default: golden faces.")] = None,
    split: Annotated[str, typer.Option(help="Split that is compared on.")] = "test",
    clips: Annotated[int, typer.Option(min=1, help="Largest number of clips to compare on.")] = 100,
    calibration_data: Annotated[
        Path | None, typer.Option(help="Folder of shards that calibrates int8. Default: --data.")
    ] = None,
    calibration_split: Annotated[
        str | None, typer.Option(help="Split that calibrates int8. Default: the one trained on.")
    ] = None,
    calibration_clips: Annotated[int, typer.Option(min=1, help="Largest number of clips that calibrate int8.")] = 100,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a clip. Default: dynamic.")] = None,
    integer_io: Annotated[
        bool, typer.Option("--integer-io", help="Of int8, part frame: integers alone, also as outputs.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="TFLite file, or folder with --all. Default: NAME-VERSION-PART-TO.tflite beside NAME."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Convert an exported model to TFLite, and say what a file keeps of the SavedModel's answers and what it costs."""
    if (to is None) != every_form:
        raise InputError("Give either --to NUMBERS or --all.")
    if every_form and (frames is not None or integer_io):
        raise InputError("--all has no --frames and no --integer-io, which it tries itself. Give --to NUMBERS.")
    require("train", "affect convert")
    from affect.reading.saved_model import read_saved_model

    read_saved_model(model)
    if data is not None:
        _check_shards(data, split=split)
    if calibration_data is not None:
        _check_shards(calibration_data)
    from affect.serving.convert import convert, convert_all

    shared: dict[str, Any] = {
        "data": data,
        "split": split,
        "clips": clips,
        "calibration_data": calibration_data,
        "calibration_split": calibration_split,
        "calibration_clips": calibration_clips,
    }
    if to is None:
        reports = convert_all(model, out, part=part, **shared)
    else:
        form: dict[str, Any] = {"to": to, "part": part or "clip", "frames": frames, "integer_io": integer_io}
        reports = [convert(model, out, **form, **shared)]
    if as_json:
        terminal.print_json(reports[0] if to else reports)
    elif to:
        terminal.print_conversion(reports[0])
    else:
        terminal.print_conversions(reports)
    terminal.say_losses(reports)
    if any("problem" in report for report in reports):
        raise typer.Exit(1)


@weights.command("get")
def weights_get(backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="mini_xception")]) -> None:
    """Fetch published weights into the user's cache."""
    require("train", "affect weights get")
    from affect.models.published import find_published

    find_published(backbone)
    from affect.models.backbones import get_weights

    print(get_weights(backbone))


@weights.command("import")
def weights_import(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="vgg16, resnet50 or senet50")],
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="keras-vggface's HDF5; of vgg16 also .pth, .safetensors, .mat."),
    ],
    channels: Annotated[
        str | None,
        typer.Option(metavar="rgb|bgr", help="Colours as the file's first kernel takes them, if not as published."),
    ] = None,
) -> None:
    """Check a file of published weights and keep it in the user's cache."""
    require("train", "affect weights import")
    from affect.models.published import find_file

    find_file(backbone, file)
    from affect.models.backbones import import_weights

    print(import_weights(backbone, file, channels=cast(Any, channels)))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path("demo"),
    config: Annotated[Path, typer.Option(help="A config, by its path or name.")] = Path("planted"),
) -> None:
    """Run the whole pipeline on videos animated from a public-domain portrait; no data needed."""
    require("train", "affect demo")
    require("plots", "affect demo")
    from affect.demo import demo

    demo(out, config=config, track=show_progress)


def main() -> None:
    """Runs the command line, with the native libraries' messages on stderr muted unless `--debug` is given."""
    if isinstance(sys.stdout, TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # the same bytes also on Windows
    if "--debug" not in sys.argv:
        sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    gc.set_threshold(20_000, 10, 10)  # importing TensorFlow makes many objects that stay
    atexit.register(gc.freeze)  # at exit no garbage is collected: this and the line before save a third of the CPU time
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        reason = ", ".join([*str(error).splitlines()[:1], *getattr(error, "__notes__", [])])
        say(f"internal error: {type(error).__name__}: {reason}. affect --debug COMMAND shows more.")
        sys.exit(1)
