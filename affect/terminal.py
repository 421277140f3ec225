"""What the commands print: tables and lines on stdout, warnings and problems on stderr."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from affect.errors import escape_text, format_count
from affect.extras import find_missing
from affect.reading import rows

if TYPE_CHECKING:
    from affect.reading.predictor import Predictor, Reading
    from affect.reading.study import Study
    from affect.reading.watch import Watched
    from affect.tasks import Printout, TableLayout

# Largest number of faces that are named because they were seen and not read.
MOST_NAMED = 5


def say(message: object) -> None:
    """Prints a line on stderr."""
    print(f"affect: {escape_text(message)}", file=sys.stderr)


def show(message: object) -> None:
    """Prints a line on stdout. Control characters in it, such as those of a file's name, are escaped."""
    print(escape_text(message), flush=True)


def make_console(least_width: int = 0) -> Console:
    """Returns a console that takes no text for markup, such as a class `[/red]`, and none for an emoji.

    Args:
        least_width: Least number of characters in a line.
    """
    return Console(markup=False, emoji=False, width=max(Console().width, least_width))


def print_headline(text: str) -> None:
    """Prints the name of a step under a rule."""
    make_console().rule(Text(escape_text(text), "bold"), align="left")


def print_json(value: Any) -> None:
    """Prints JSON."""
    print(json.dumps(value, indent=2))


def print_printout(printout: "Printout") -> None:
    """Prints what a task says of a result; warnings go to stderr."""
    for printed in printout.tables:
        header, title = map(escape_text, printed.header), escape_text(printed.title) or None
        table = Table(*header, title=title, padding=(0, 0, 0, 1) if printed.compact else (0, 1))
        for index, row in enumerate(printed.rows):
            table.add_row(*map(escape_text, row), end_section=printed.compact and index == 0 and printed.first_apart)
        make_console().print(table)
    for line in printout.lines:
        show(line)
    for warning in printout.warnings:
        say(warning)


def list_lost(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the manifest's entry of each video that was lost, in whole or in part."""
    return [clip for clip in manifest["clips"] if clip["problem"] and clip["part"] == 0]


def print_manifest(manifest: dict[str, Any], out: Path, *, dataset: str, tracks: str) -> None:
    """Prints what was prepared, and on stderr what was lost or is worth knowing.

    Args:
        manifest: Of `affect.pipelines.prepare.prepare`.
        out: Folder of the shards.
        dataset: Layout of the source.
        tracks: Which faces were kept.
    """
    for clip in manifest["clips"]:
        for note in clip.get("notes", ()) if clip["part"] == 0 else ():
            say(f"{clip['recording']}: note: {note}")
    for clip in list_lost(manifest):
        say(f"{clip['recording']}: {clip['problem']}")
    for line in manifest["left_out"]:
        say(f"left out: {line}")
    for line in (*manifest["differences"], *manifest["notes"]):
        say(f"{dataset}: {line}")
    counts = manifest["counts"]
    several = sum(clip["part"] == 0 and clip.get("faces_seen", 0) > 1 for clip in manifest["clips"])
    if several and tracks != "all":
        say(
            f"{out}: in {several} of {counts['videos']} videos more than one face was seen and the {tracks} one kept. "
            "manifest.json says in which (faces_seen); --faces all keeps all."
        )
    show(
        f"{out}: {_describe_counts(counts)}; {format_count(counts['clips'], 'example')} in "
        f"{format_count(len(manifest['shards']), 'shard')}; classes: {', '.join(manifest['classes']) or 'none'}"
    )


def print_part(result: dict[str, Any], out: Path, part: str) -> None:
    """Prints that a part of an array of jobs is made, and on stderr what was lost in it.

    Args:
        result: Of `affect.pipelines.array.prepare_part`.
        out: Folder of the shards.
        part: I/N, as the user typed it.
    """
    for clip in list_lost(result):
        say(f"{clip['recording']}: {clip['problem']}")
    show(f"{out}: part {part} is made: {_describe_counts(result['counts'])}")


def _describe_counts(counts):
    return (
        f"{format_count(counts['videos'], 'clip')}, {counts['videos_with_a_face']} of them with a face; "
        f"{format_count(counts['faces'], 'face')} in {format_count(counts['frames'], 'frame')}"
    )


def print_damage(report: dict[str, Any], data: Path) -> None:
    """Prints whether shards are whole, and on stderr what is damaged.

    Args:
        report: Of `affect.data.verify.verify`.
        data: Folder of the shards.
    """
    damage = report["damage"]
    for found in damage:
        say(" in ".join(filter(None, (found["key"], found["shard"]))) + f": {found['problem']}")
    clips = sum(found["key"] != "" for found in damage)
    counts = ", ".join(format_count(report[f"{noun}s"], noun) for noun in ("shard", "record", "face"))
    found = f"{format_count(clips, 'clip')} and {format_count(len(damage) - clips, 'shard')}"
    show(f"{data}: {counts}: {f'damage in {found}' if damage else 'whole'}")


def print_inspection(report: dict[str, Any]) -> None:
    """Prints the summary of shards, a report of `affect.data.inspect.inspect`."""
    table = Table("split", "class", "clips", "with a face", "frames", "faces", "coverage")
    for row in report["clips"]:
        numbers = (str(row[name]) for name in ("clips", "clips_with_a_face", "frames", "faces"))
        coverage = "–" if row["coverage"] is None else f"{row['coverage']:.1%}"
        table.add_row(escape_text(row["split"]), escape_text(row["label"]) or "–", *numbers, coverage)
    make_console().print(table)
    faces = report["settings"]["faces"]
    show("settings: " + ", ".join(f"{name}={value}" for name, value in faces.items() if value is not None))
    show("subjects: " + ", ".join(f"{count} in {split}" for split, count in report["subjects"].items()))
    if several := report["subjects_in_several_splits"]:
        show(f"subjects in more than one split: {', '.join(several)}")
    for name, title in (("length_s", "length of clips in s"), ("scores", "scores of faces")):
        if report[name]:
            quartiles = ", ".join(f"{value:.3g}" for value in report[name])
            show(f"{title} (lowest, quartiles, highest): {quartiles}")
    for key, problem in report["problems"].items():
        show(f"problem: {key}: {problem}")
    for line in report["left_out"]:
        show(f"left out: {line}")


def print_device(device: dict[str, Any], workdir: Path) -> None:
    """Prints where a run computes, and on stderr whether it has logs for TensorBoard.

    Args:
        device: Of `affect.models.device.describe_device`.
        workdir: Folder of the run.
    """
    repeats = "deterministic" if device["deterministic"] else "not deterministic"
    devices = device["name"] if device["devices"] == 1 else f"{device['devices']} × {device['name']}"
    if device["processes"] > 1:
        devices += f" in {device['processes']} processes"
    show(f"{workdir}: on {devices}, precision {device['precision']}, {repeats}")
    if device["visible"] > device["devices"]:
        remedy = (
            "Set data.batch_clips to a multiple of their number, with data.keep_last_batch=false."
            if device["backend"] == "jax"
            else "Keras on JAX uses all: KERAS_BACKEND=jax affect train ..."
        )
        say(f"{device['visible']} devices are visible, and training uses {device['devices']} of them. {remedy}")
    say_without_logs(workdir)


def say_without_logs(workdir: Path) -> None:
    """Says that runs get no logs for TensorBoard, where it is not installed."""
    if missing := find_missing("logs"):
        say(
            f"{workdir} gets no tensorboard/ folder, which needs {' and '.join(missing)}. Install it: "
            "pip install 'affect[logs]'"
        )


def print_training(result: dict[str, Any], printout: "Printout", workdir: Path) -> None:
    """Prints how training ended.

    Args:
        result: Of `affect.training.train.train`.
        printout: What the task says of it.
        workdir: Folder of the run.
    """
    shown = ("val_accuracy", "val_valence_ccc", "val_arousal_ccc", "val_loss")
    numbers = ", ".join(f"{name} {result[name]:.3f}" for name in shown if name in result)
    first, *lines = printout.lines
    show(f"{workdir}: {result['epochs']} epochs, best is {result['best_epoch']}; {numbers}; {first}")
    for line in lines:
        show(line)


def print_table(result: dict[str, Any], layout: "TableLayout", rows: Iterable[Mapping[str, str]]) -> None:
    """Prints a paper's table as wide as a terminal.

    Args:
        result: Of `affect.training.table.table`.
        layout: Of the task.
        rows: Rows as text, from `affect.training.table.format_cells`.
    """
    title = escape_text(f"split {result['split']}, {format_count(result['seeds'], 'seed')}, {layout.caption}")
    table = Table(title=title, padding=(0, 0, 0, 1))
    for key in layout.terminal:
        table.add_column(layout.columns[key], no_wrap=True)
    for row in rows:
        table.add_row(*(escape_text(row[key]) for key in layout.terminal))
    make_console().print(table)


def print_prediction(reading: "Reading", *, names_face: bool = False) -> None:
    """Prints what a model predicts for a video with a face.

    Args:
        reading: The prediction.
        names_face: Whether the number of the person is printed.
    """
    who = f", face {reading.face}" if names_face else ""
    show(f"{reading.clip.key}{who}: " + "; ".join(filter(None, (reading.label, describe_faces(count_faces(reading))))))
    print_printout(reading.predictor.task.format_prediction(reading))


def write_csv(predictor: "Predictor", adjustment: rows.Adjustment) -> Callable[["Reading"], None]:
    """Prints the header of frames.csv; returns a function that prints the rows of a reading.

    Args:
        predictor: The model.
        adjustment: Smoothing and baseline.
    """
    writer = rows.open_writer(sys.stdout)
    columns = rows.frame_columns(predictor.classes, adjustment)
    writer.writerow(columns)

    def write(reading: "Reading") -> None:
        found = rows.list_rows(reading.curves, reading.face, adjustment, has_classes=predictor.task.has_classes)
        writer.writerows(rows.format_row(columns, (reading.clip.key, *row)) for row in found)

    return write


def print_reading_as_json(reading: "Reading") -> None:
    """Prints a reading as a line of JSON: the dict of `affect.reading.predict.predict` and the number of the person."""
    print(json.dumps({**reading.result, "face": reading.face}), flush=True)


def print_people(name: str, part: dict[str, Any]) -> None:
    """Prints a line for each person of a video of a study, and on stderr what was lost or not read.

    Args:
        name: Of the video.
        part: Content of its `video.json`.
    """
    for line in (*filter(None, [part["problem"]]), *part["notes"]):
        say(line)
    people, seen = part["people"], part["faces_seen"]
    for person in people:
        label = person["label"] or ", ".join(f"{key} {value:.2f}" for key, value in person["values"].items())
        who = f", face {person['face']}" if len(people) > 1 else ""
        show(f"{name}{who}: {label}; face in {person['frames_with_a_face']}/{part['frames']} frames")
        if person["frames_read"] < person["frames_with_a_face"]:
            say(f"{name}: this model takes whole clips. It read {person['frames_read']} faces, evenly spaced.")
    if people and seen > len(people):
        say(f"{name}: {seen} faces seen, {len(people)} read. --faces all reads all.")


def print_people_as_json(name: str, part: dict[str, Any]) -> None:
    """Prints a line of JSON for each person of a video of a study.

    Args:
        name: Of the video.
        part: Content of its `video.json`.
    """
    about = {"video": name, "frames": part["frames"], "faces_seen": part["faces_seen"], "problem": part["problem"]}
    for person in part["people"] or [{}]:
        print(json.dumps(about | {key: value for key, value in person.items() if key != "shown"}), flush=True)


def print_study(study: "Study", *, is_quiet: bool) -> None:
    """Prints what a study wrote, and on stderr how many videos were lost.

    Args:
        study: The study.
        is_quiet: Whether only losses are printed.
    """
    for note in study.notes:
        say(note)
    if study.lost:
        lost = format_count(len(study.lost), "video")
        say(f"{lost} with a problem; the column problem of videos.csv names it.")
    if not is_quiet:
        files = [name for name in ("videos.csv", "frames.csv", "report.html") if (study.folder / name).is_file()]
        show(f"{study.folder}: {', '.join(files)}")
        if "report.html" in files:
            show(f"Open {study.folder / 'report.html'} first.")


def say_seen(video: object, *readings: "Reading") -> None:
    """Says what a video lost, what is worth knowing about it, and which faces were seen and not read.

    Args:
        video: As the user named it.
        *readings: Of the faces of the video that were read; one at least.
    """
    counts, cut = count_faces(readings[0]), readings[0].cut
    if cut.problem:
        say(cut.problem)
    for note in cut.notes:
        say(note)
    used = {track.id for track in cut.tracks[: len(readings)]}
    others = sorted((track for track in cut.seen if track.id not in used), key=lambda track: -track.frames)
    if others:
        named = ", ".join(
            f"track {track.id} in {format_count(track.frames, 'frame')} "
            f"(about {round(track.mean_area_px**0.5)} px wide)"
            for track in others[:MOST_NAMED]
        )
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        say(f"{video}: {describe_faces(counts)}. Not read: {named}{more}.")
    for reading in readings:
        read, faces = reading.curves.frames_read, len(reading.faces)
        if read < faces:
            say(f"{video}: this model takes whole clips. It read {read} of {faces} faces, evenly spaced.")


def count_faces(reading: "Reading") -> dict[str, Any]:
    """Returns the counts of a reading that `describe_faces` takes."""
    return {
        "faces_seen": len(reading.cut.seen),
        "frames_with_a_face": len(reading.faces),
        "frames_decoded": reading.cut.frames,
    }


def describe_faces(result: dict[str, Any]) -> str:
    """Returns how many faces a video shows, and in how many frames the one that was read."""
    seen, faces, frames = (result[name] for name in ("faces_seen", "frames_with_a_face", "frames_decoded"))
    if seen < 2:
        return f"face in {faces}/{frames} frames"
    return f"{seen} faces seen; this one in {faces} of {frames} frames"


def print_watched(watched: "Watched") -> None:
    """Prints what is known after a frame as a line of JSON."""
    reading = watched.reading
    line = {
        "timestamp_s": reading.timestamp_s,
        "track": watched.track,
        "box": watched.box,
        "others": dict(watched.others),
        "frames": reading.frames,
        "frames_with_a_face": reading.frames_with_a_face,
        "label": reading.label,
        "probabilities": reading.probabilities,
        "frame_probabilities": reading.frame_probabilities,
        "importance": reading.importance,
    }
    print(json.dumps(line), flush=True)


def draw_watched(watched: "Watched", frames_per_second: float) -> Table:
    """Returns the live view: a bar for each class, the importance of the last frames, and the rate.

    Args:
        watched: What is known after a frame.
        frames_per_second: Rate at which frames are read.
    """
    reading, width = watched.reading, 40
    view = Table.grid(padding=(0, 1))
    for name, probability in (reading.probabilities or {}).items():
        style = "red" if name == reading.label else "bright_black"
        view.add_row(Text(escape_text(name)), Text("█" * round(width * probability), style), f"{probability:.2f}")
    highest = max(watched.importances, default=0) or 1
    view.add_row("import.", "".join("▁▂▃▄▅▆▇█"[round(7 * share / highest)] for share in watched.importances), "")
    seen = "face" if watched.box is not None else "no face"
    view.add_row("", f"{reading.timestamp_s:.2f} s, {seen}, {frames_per_second:.1f} frames/s", "")
    return view


def print_export(version: Path) -> None:
    """Prints which version was exported, and on stderr whether it lacks warm-up requests."""
    if missing := find_missing("serving"):
        say(
            f"{version} has no warm-up requests, which TF Serving replays before it serves: they need "
            f"{' and '.join(missing)}. Install it: pip install 'affect[serving]'"
        )
    show(f"{version}: its answers equal the network's. To check again: affect check {version}")


def print_check(report: dict[str, Any]) -> None:
    """Prints how far each signature is from its golden pair, a report of `affect.serving.check.check`."""
    for name, difference in report["differences"].items():
        show(f"{name}: largest difference {difference:.1e}")


def print_conversion(report: dict[str, Any]) -> None:
    """Prints what was converted and what it cost, a report of `affect.serving.convert.convert`."""
    table = Table(
        "signature",
        "output",
        "largest difference",
        "99 %",
        "mean",
        title=escape_text(f"compared on {report['compared_on']}"),
    )
    for name, outputs in report["differences"].items():
        for key, found in outputs.items():
            numbers = (f"{found[each]:.1e}" for each in ("largest", "quantile", "mean"))
            table.add_row(escape_text(name), escape_text(key), *numbers)
    make_console().print(table)
    rows = [
        (found["largest"], key, found["worst"])
        for outputs in report["differences"].values()
        for key, found in outputs.items()
    ]
    _, key, worst = max(rows)
    show(f"{key} differs most in {worst}")
    if agreement := report["agreement"]:
        table = Table("class", *AGREEMENT, title="what is the same as the SavedModel's")
        for name, row in {"all": agreement, **agreement["by_class"]}.items():
            table.add_row(escape_text(name), *_format_agreement(row))
        make_console().print(table)
        show(f"labels: {agreement['labels']:.1%} of {agreement['clips']} are the same")
    if report["calibrated_on"]:
        show(f"calibrated on {report['calibrated_on']}")
    latency = report["latency_ms"]
    times = ", ".join(f"{time_ms:.1f} ms on {threads}" for threads, time_ms in latency["tflite"].items())
    show(f"median latency, faces {latency['shape']}: {times} threads; SavedModel {latency['saved_model']:.1f} ms")
    show("operators: " + ", ".join(f"{count} {name}" for name, count in report["operators"].items()))
    frames = "dynamic" if report["frames"] is None else report["frames"]
    frames = f", frames {frames}" if report["part"] == "clip" else ""
    integers = ", integer outputs" if report["integer_io"] else ""
    show(f"{report['path']}: {report['bytes']} bytes, {report['to']}{integers}{frames}, batch 1")


AGREEMENT = ("clips", "labels", "face labels", "probabilities", "top frame", "importance moved")


def _format_agreement(row):
    yield str(row["clips"])
    yield from (f"{row[key]:.0%}" for key in ("labels", "frame_labels"))
    yield f"{row['probabilities']['mean']:.1e}"
    yield f"{row['top_frame']:.0%}"
    yield f"{row['importance']['mean']:.1%}"


def print_conversions(reports: list[dict[str, Any]]) -> None:
    """Prints all forms of a model in one table, the reports of `affect.serving.convert.convert_all`."""
    made = [report for report in reports if "problem" not in report]
    compared = made[0]["compared_on"] if made else "nothing"
    columns = ("part", "to", "bytes", "operators", "1 thread, ms", "2 threads, ms", *AGREEMENT[1:])
    table = Table(*columns, title=escape_text(f"compared on {compared}"))
    for report in made:
        to = report["to"] + ("-io" if report["integer_io"] else "")
        times = (f"{time_ms:.1f}" for time_ms in report["latency_ms"]["tflite"].values())
        if report["agreement"]:
            _, *agreement = _format_agreement(report["agreement"])
        else:
            outputs = report["differences"]["serving_default"].values()
            agreement = ["", "", f"{max(found['mean'] for found in outputs):.1e}", "", ""]
        operators = str(sum(report["operators"].values()))
        table.add_row(report["part"], to, f"{report['bytes']:,}", operators, *times, *agreement)
    make_console(120).print(table)
    for report in made:
        show(report["path"])


def say_losses(reports: list[dict[str, Any]]) -> None:
    """Says what forms lose beyond their limits, what their calibration lacks, and which could not be made."""
    remarks = dict.fromkeys(warning for report in reports for warning in report.get("warnings", ()))
    for report in reports:
        name = f"{report['part']}, {report['to']}" + (" with integer outputs" if report["integer_io"] else "")
        if "problem" in report:
            say(f"{name}: {report['problem']}")
        elif report["losses"]:
            say(f"{name}: {'; '.join(report['losses'])}.")
    for remark in remarks:
        say(remark)


def print_steps(title: str, rows: Iterable[tuple[object, object, object]]) -> None:
    """Prints what the steps of a longer job wrote.

    Args:
        title: Of the table.
        rows: Step, path and how it did.
    """
    table = Table("step", "wrote", "how it did", title=escape_text(title))
    for row in rows:
        table.add_row(*map(escape_text, row))
    make_console().print(table)
