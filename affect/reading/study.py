"""read_many(): a folder of videos → tables, faces and pages in the folder of a study, video by video.

A study is `FOLDER/`:

    study.json           the model, the settings and the list of videos
    videos.csv           a row for each video and face
    frames.csv           a row for each decoded frame and face
    report.html, pages/  what a person looks at
    previews/            small videos with boxes, if they are asked for
    parts/SHA256/        what was read of a video, by the hash of its content: video.json, frames.csv and faces as JPEG

A part is written under a temporary name and renamed when its video was read. So a study that is stopped has whole
files, and goes on with the next video. `affect.reading.rows` describes the columns.
"""

import csv
import hashlib
import io
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from PIL import Image

from affect import __version__
from affect.config import read_json, write_json
from affect.config.experiment import Tracks
from affect.data.images import open_image
from affect.errors import InputError, format_count
from affect.extras import find_missing, require
from affect.files import hold_folder, replace_file, sha256_of
from affect.pipelines.faces import check_section, is_photograph
from affect.pipelines.files import name_fault, state_of
from affect.pipelines.video import probe
from affect.progress import Track, VideoProgress, hide_progress
from affect.reading import rows
from affect.reading.paths import RESULTS, find_videos
from affect.reading.predictor import Predictor
from affect.reading.rows import Adjustment, Smoothing

FORMAT = 1
_FILES = ("study.json", "videos.csv", "frames.csv", "videos.parquet", "frames.parquet", "report.html")
_MAKING = "making"
# Width of a preview in pixels.
PREVIEW_PX = 480
# Most faces that are shown of a person, and of all persons of a video; their side in pixels.
SHOWN_FACES, SHOWN_FACES_OF_ALL, SHOWN_PX = 24, 72, 128


@dataclass(frozen=True)
class Study:
    """The results for several videos, in a folder.

    Args:
        folder: The folder.
        lost: Names of the videos that could not be read, or were read in part → what is wrong with them.
        notes: One-line remarks that cost nothing, such as files that are no videos.
    """

    folder: Path
    lost: Mapping[str, str]
    notes: Sequence[str] = ()

    @property
    def videos(self) -> list[dict[str, str]]:
        """The rows of videos.csv, text by column."""
        return list(_iterate_csv(self.folder / "videos.csv"))

    def to_dataframe(self) -> Any:
        """Returns frames.csv as a pandas data frame.

        Raises:
            InputError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise InputError("A data frame needs pandas. Install it: pip install pandas") from error
        return pd.read_csv(self.folder / "frames.csv")

    def save_report(self, track: Track = hide_progress) -> list[Path]:
        """Writes report.html and a page for each video; returns their paths, that of report.html first.

        Args:
            track: Shows progress.

        Raises:
            InputError: If a package that draws is not installed.
        """
        from affect.report import write_report

        return write_report(self.folder, track)


def read_many(
    predictor: Predictor,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    faces: Tracks = "main",
    frame_rate_hz: float | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    smooth_s: float | None = None,
    smoothing: Smoothing = "centred",
    baseline_s: tuple[float, float] | None = None,
    groups: str | Path | None = None,
    parquet: bool = False,
    preview: bool = False,
    report: bool | None = None,
    overwrite: bool = False,
    is_quiet: bool = True,
    check_stop: Callable[[], object] = lambda: None,
    done: Callable[[str, dict[str, Any]], object] = lambda name, part: None,
) -> Study:
    """Reads videos and photographs and writes the folder of a study.

    Args:
        predictor: The model.
        paths: As in `affect.reading.paths.find_videos`.
        out: Folder of the study. If it holds one with the same model and settings, only what is missing is read.
        faces: The `"main"` face of each video, the `"largest"`, or `"all"`.
        frame_rate_hz: Frames a second that are looked at; `None` is the frame rate of the model's shards, which is
            every frame if nothing was set.
        start_s: Start of the section of each video that is read, in seconds; `None` is the start of the video.
        end_s: End of that section, in seconds; `None` is the end of the video.
        smooth_s, smoothing, baseline_s: As in `affect.reading.rows.Adjustment`.
        groups: CSV file with a column `video`, which holds names or paths, and columns such as `subject` and
            `condition`, which are added to videos.csv; `None` adds none.
        parquet: Whether both tables are also written as Parquet.
        preview: Whether a small video with boxes is written for each video.
        report: Whether pages are written; `None` writes them if the packages for them are installed.
        overwrite: Whether a study of another model or with other settings is replaced.
        is_quiet: Whether no progress is shown.
        check_stop: Called for each video and each frame. It may raise `KeyboardInterrupt` to stop.
        done: `done(name, part)` is called after each video with its name and the content of `video.json`.

    Returns:
        The study.

    Raises:
        InputError: If a path, the section or the frame rate is wrong, `out` holds another study or something else, a
            package is missing, or `groups` is no such file. A video that cannot be read raises nothing: `lost` names
            it.
    """
    adjustment = Adjustment(smooth_s, smoothing, baseline_s)
    check_section(start_s, end_s)
    replace(predictor.faces, tracks=faces, frame_rate_hz=frame_rate_hz)  # raises what each video would
    if parquet:
        require("parquet", "--parquet")
    if report:
        require("plots", "A report")
    missing = find_missing("plots")
    has_report = not missing if report is None else report
    if has_report:
        from affect.report import write_overview, write_page
    folder = Path(out)
    found = find_videos(paths, without=folder)
    columns, of_video, unknown = _read_groups(groups, found.videos, predictor.classes)
    settings = {
        "faces": faces,
        "frame_rate_hz": frame_rate_hz,
        "start_s": start_s,
        "end_s": end_s,
        "smooth_s": smooth_s,
        "smoothing": smoothing,
        "baseline_s": list(baseline_s) if baseline_s else None,
    }
    with hold_folder(folder, "affect predict", "--out"):
        about = _open_study(folder, predictor, settings, overwrite=overwrite)
        about["columns"] = rows.frame_columns(predictor.classes, adjustment)
        states = {video.name: state_of(video.path) for video in found.videos}
        about["videos"] = []
        for video in found.videos:
            check_stop()
            about["videos"].append(_describe(video, folder, of_video.get(video.name, {}), preview))
        write_json(folder / "study.json", about)  # first: a folder without it is not of a study
        shutil.rmtree(folder / "parts" / _MAKING, ignore_errors=True)
        (folder / "parts").mkdir(exist_ok=True)
        tables = _Tables(folder, about["videos"], predictor.classes, columns)
        tables.add_parts()
        left = [entry["video"] for entry in about["videos"] if not tables.is_read(entry)]
        lengths_s = {}
        for video in found.videos:
            check_stop()
            if video.name in left:
                lengths_s[video.name] = measure_video(video.path, start_s, end_s)
        section = {"frame_rate_hz": frame_rate_hz, "start_s": start_s, "end_s": end_s}

        def track(iterable, total, description):
            for item in progress.track(iterable, total, description):
                check_stop()
                yield item

        try:
            with VideoProgress(sum(lengths_s.values()), is_hidden=is_quiet) as progress:
                for number, (video, entry) in enumerate(zip(found.videos, about["videos"], strict=True), 1):
                    check_stop()
                    part = _part(folder, entry)
                    if not tables.is_read(entry):
                        progress.begin(f"{number}/{len(found.videos)} {video.name}", lengths_s[video.name])
                        readings = predictor.read_people(video.path, faces=faces, track=track, **section)
                        problem = ""
                        if entry["sha256"] and state_of(video.path) != states[video.name]:
                            problem = f"{video.path} changed while it was read. Run the same command again."
                            entry["sha256"] = ""  # what was read is not of the content that was hashed
                            write_json(folder / "study.json", about)
                            part = _part(folder, entry)
                        _write_part(part, readings, adjustment, problem)
                        del readings  # their faces leave the disk
                    if entry["preview"] and not (folder / entry["preview"]).is_file():
                        _write_preview(folder / entry["preview"], video.path, part, section, check_stop)
                    content = tables.add(entry)
                    tables.write_videos()
                    if has_report:
                        write_page(folder, entry)
                    done(video.name, content)
                progress.end()
        finally:
            # A study that was stopped has whole tables of the videos that were read, now or before.
            tables.add_parts()
            tables.write_videos()
            tables.write_frames()
        if parquet:
            tables.write_parquet()
        if has_report:
            write_overview(folder)
    notes = [*found.left_out, *unknown]
    if report is None and not has_report:
        notes.append(
            f"No report was written: it needs {' and '.join(missing)}. Install it: pip install 'affect[plots]'"
        )
    return Study(folder, tables.lost, notes)


class _Tables:
    """Both tables of a study: the rows of each video whose part is whole, in the order of `entries`."""

    def __init__(self, folder, entries, classes, groups):
        self.folder, self._entries, self._groups = folder, entries, groups
        self._classes, self._columns = classes, rows.video_columns(classes, groups)
        self._contents: dict[str, dict[str, Any]] = {}

    @property
    def lost(self):
        """Names of videos with a problem → the problem."""
        found = ((entry["video"], self._contents.get(entry["video"])) for entry in self._entries)
        return {name: content["problem"] for name, content in found if content and content["problem"]}

    def is_read(self, entry):
        """Returns whether a video was read.

        One without a frame is read again: perhaps the machine had failed.
        """
        self._add_part(entry)
        content = self._contents.get(entry["video"])
        return bool(entry["sha256"] and content and content["frames"] and content["path"])

    def add_parts(self):
        """Adds the videos that have a part."""
        for entry in self._entries:
            self._add_part(entry)

    def _add_part(self, entry):
        """Adds a video if its part is whole, as it may not be after a power cut."""
        if entry["video"] not in self._contents and _is_whole(_part(self.folder, entry)):
            self.add(entry)

    def add(self, entry):
        """Adds a video that was read; returns the content of its `video.json`."""
        content = read_json(_part(self.folder, entry) / "video.json")
        # The part may be of another file with the same content.
        content["problem"] = content["problem"].replace(content["path"], entry["video"])
        content["notes"] = [note.replace(content["path"], entry["video"]) for note in content["notes"]]
        self._contents[entry["video"]] = content
        return content

    def _list_rows(self, entry):
        """Returns the rows of a video in videos.csv."""
        content = self._contents[entry["video"]]
        nobody = {"face": None, "label": None, "values": {}, "frames_with_a_face": 0, "frames_read": 0, "coverage": 0.0}
        for person in content["people"] or [nobody]:
            values = [person["values"].get(name) for name in self._classes]
            counts = (person["frames_with_a_face"], person["frames_read"], person["coverage"])
            groups = [entry["groups"].get(name) for name in self._groups]
            first = (entry["video"], *groups, person["face"], person["label"], *values)
            yield [*first, content["frames"], *counts, content["faces_seen"], person.get("peak_s"), content["problem"]]

    def write_videos(self):
        """Writes videos.csv."""
        with _replace_csv(self.folder / "videos.csv") as file:
            writer = rows.open_writer(file)
            writer.writerow(self._columns)
            for entry in self._entries:
                if entry["video"] in self._contents:
                    writer.writerows(rows.format_row(self._columns, row) for row in self._list_rows(entry))

    def write_frames(self):
        """Writes frames.csv from the parts."""
        with _replace_csv(self.folder / "frames.csv") as file:
            rows.open_writer(file).writerow(read_json(self.folder / "study.json")["columns"])
            for entry in self._entries:
                if entry["video"] not in self._contents:
                    continue
                name = io.StringIO()
                rows.open_writer(name).writerow([entry["video"], ""])
                with open(_part(self.folder, entry) / "frames.csv", encoding="utf-8", newline="") as part:
                    next(part)
                    file.writelines(name.getvalue()[:-1] + line for line in part)

    def write_parquet(self):
        """Writes both tables as Parquet, in pieces, so that memory does not grow with them."""
        from pyarrow import csv as csv_reader
        from pyarrow import parquet

        parsing = csv_reader.ParseOptions(newlines_in_values=True)
        for name in ("videos", "frames"):
            kinds = {column: _type_of(column, self._groups) for column in _read_header(self.folder / f"{name}.csv")}
            options = csv_reader.ConvertOptions(column_types=kinds, strings_can_be_null=True)
            with (
                csv_reader.open_csv(
                    self.folder / f"{name}.csv", parse_options=parsing, convert_options=options
                ) as reader,
                replace_file(self.folder / f"{name}.parquet") as temporary,
                parquet.ParquetWriter(temporary, reader.schema) as writer,
            ):
                for batch in reader:
                    writer.write_batch(batch)


def _type_of(column, groups):
    """Returns the pyarrow type of a column."""
    import pyarrow

    if column in groups or column in ("video", "label", "problem"):
        return pyarrow.string()
    if column == "has_face":
        return pyarrow.bool_()
    is_count = column in ("frame", "face", "frames", "frames_with_a_face", "frames_read", "faces_seen")
    return pyarrow.int64() if is_count else pyarrow.float64()


def _open_study(folder, predictor, settings, *, overwrite):
    """Returns the content of study.json without its videos: of the study in the folder, or of a new one."""
    model = {
        "name": predictor.experiment.name,
        "path": str(getattr(predictor, "path", predictor.experiment.name)),
        "fingerprint": predictor.fingerprint,
        "task": predictor.task.name,
        "has_classes": predictor.task.has_classes,
        "classes": list(predictor.classes),
        "description": f"{predictor.experiment.name}, which reads {', '.join(predictor.classes)}",
        "licence": predictor.licence,
        "card": predictor.card,
    }
    about = {"format": FORMAT, "affect": __version__, "written": date.today().isoformat()}
    about |= {"model": model, "settings": settings}
    file = folder / "study.json"
    if file.is_file() and not overwrite:
        try:
            before = read_json(file)
            kept = {"model": before["model"]["fingerprint"], **before["settings"]}
            about["written"] = before["written"]
        except (InputError, LookupError, TypeError) as error:
            raise InputError(
                f"{file} is damaged. Choose another --out, or read all videos again: --overwrite"
            ) from error
        for name, value in {"model": model["fingerprint"], **settings}.items():
            if before.get("format") != FORMAT or kept.get(name) != value:
                what = "of another model" if name == "model" else f"with {name}={kept.get(name)}, and now it is {value}"
                raise InputError(f"{folder} holds a study {what}. Choose another --out, or replace it: --overwrite")
    elif file.is_file():
        for name in RESULTS:
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in reversed(_FILES):  # study.json last: without it, what a killed process leaves is not of a study
            (folder / name).unlink(missing_ok=True)
    elif others := [name for name in (*_FILES, *RESULTS) if (folder / name).exists()]:
        raise InputError(f"{folder} holds {others[0]}, which is not of a study. Choose another --out.")
    return about


def _describe(video, folder, groups, preview):
    """Returns the entry of a video in study.json."""
    digest = hashlib.sha256(video.name.encode()).hexdigest()[:8]
    slug = re.sub("[^A-Za-z0-9]+", "-", Path(video.name).stem).strip("-")[:60] + f"-{digest}"
    place = f"previews/{slug}.mp4"
    has_preview = (preview and not is_photograph(video.path)) or (folder / place).is_file()
    return {
        "video": video.name,
        "path": _describe_path(video.path, folder),
        "sha256": _hash(video.path),
        "page": f"pages/{slug}.html",
        "preview": place if has_preview else None,
        "groups": groups,
    }


def _describe_path(path, folder):
    """Returns a path relative to the folder; absolute if it is on another drive of Windows."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return os.path.abspath(path)


def _part(folder, entry):
    # A video that cannot be read has a part of its own, which says why.
    return folder / "parts" / (entry["sha256"] or f"unreadable-{PurePath(entry['page']).stem}")


def _is_whole(part):
    """Returns whether a part has a row for each frame and person."""
    try:
        content = read_json(part / "video.json")
        expected = content["frames"] * max(1, len(content["people"]))
        with open(part / "frames.csv", "rb") as file:
            return sum(line.endswith(b"\n") for line in file) == 1 + expected
    except (InputError, OSError, LookupError, TypeError):
        return False


def _hash(path):
    """Returns the SHA-256 of a file; empty if it cannot be read."""
    try:
        return "" if name_fault(path) else sha256_of(path)
    except OSError:
        return ""


def measure_video(path: str | Path, start_s: float | None, end_s: float | None) -> float:
    """Returns the length in seconds that a progress bar counts for a video or photograph; at least 0.1.

    Args:
        path: The file.
        start_s, end_s: Section that is read.
    """
    if is_photograph(path):
        return 0.1
    duration_s = probe(path).duration_s
    return max(0.1, min(duration_s, end_s or duration_s) - (start_s or 0.0))


def _write_part(part, readings, adjustment, problem):
    """Writes what was read of a video: under a temporary name, which is renamed at the end."""
    making = part.with_name(_MAKING)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()  # without its parents: a study that was removed meanwhile is not begun in the middle
    predictor, cut = readings[0].predictor, readings[0].cut
    columns = rows.frame_columns(predictor.classes, adjustment)[1:]
    problem = problem or cut.problem
    with open(making / "frames.csv", "w", encoding="utf-8", newline="") as file:
        writer = rows.open_writer(file)
        writer.writerow(columns)
        has_classes = predictor.task.has_classes
        found = [rows.list_rows(each.curves, each.face, adjustment, has_classes=has_classes) for each in readings]
        for of_frame in zip(*found, strict=True):
            writer.writerows(rows.format_row(columns, row) for row in of_frame)
        for reading in readings:
            if adjustment.baseline_s and not problem and len(reading.faces):
                problem = _name_missing_baseline(reading, adjustment.baseline_s)
    most = max(2, min(SHOWN_FACES, SHOWN_FACES_OF_ALL // len(readings)))
    content = {
        "path": readings[0].clip.key,
        "frames": cut.frames,
        "frame_rate_hz": cut.frame_rate_hz,
        "duration_s": float(cut.times_s[-1]) if len(cut.times_s) else 0.0,
        "width": cut.size_px[0],
        "height": cut.size_px[1],
        "problem": problem,
        "notes": list(cut.notes),
        "faces_seen": len(cut.seen),
        "people": [_describe_person(reading, making, most) for reading in readings if len(reading.faces)],
    }
    write_json(making / "video.json", content)
    shutil.rmtree(part, ignore_errors=True)
    making.rename(part)


def _name_missing_baseline(reading, baseline_s):
    start_s, end_s = baseline_s
    curves = reading.curves
    known = ~np.isnan(curves.values).any(axis=1)
    if (known & rows.is_within(curves.times_s, start_s, end_s)).any():
        return ""
    return (
        f"{reading.clip.key}: face {reading.face} is not seen from {start_s:g} to {end_s:g} s, so it has no baseline."
    )


def _describe_person(reading, folder, most):
    """Returns a person's part of video.json, and writes the faces that are shown to a folder."""
    curves, predictor = reading.curves, reading.predictor
    chosen = _choose_shown(curves, most)
    places = curves.places[chosen]
    attention = predictor.task.attend(predictor, [reading.faces[place] for place in places])
    shown = []
    for index, (frame, place) in enumerate(zip(chosen, places, strict=True)):
        image = f"{reading.face}-{index}.jpg"
        _write_shown(folder / image, reading.faces[place].jpeg, predictor.experiment.data.crop_ratio)
        maps = None if attention is None else np.round(attention[index].astype(float), 5).tolist()
        shown.append({"timestamp_s": float(curves.times_s[frame]), "image": image, "attention": maps})
    faces = int((curves.places >= 0).sum())
    return {
        "face": reading.face,
        "label": reading.label,
        "values": dict(zip(predictor.classes, map(float, curves.overall), strict=True)),
        "frames_with_a_face": faces,
        "frames_read": curves.frames_read,
        "coverage": faces / len(curves.times_s),
        "peak_s": curves.peak_s,
        "shown": shown,
    }


def _choose_shown(curves, most):
    """Chooses frames along the time of a video: of each of `most` equal sections, the most important frame.

    Returns:
        int (P,), indices of frames with a face that was read, ascending.
    """
    read = np.flatnonzero(~np.isnan(curves.values).any(axis=1))
    weights = curves.scores if np.isnan(curves.importance).all() else curves.importance
    times_s = curves.times_s[read]
    length_s = max(times_s[-1] - times_s[0], 1e-9)
    sections = np.minimum((times_s - times_s[0]) / length_s * most, most - 1).astype(int)
    return np.array([max(read[sections == index], key=lambda frame: weights[frame]) for index in np.unique(sections)])


def _write_shown(path, jpeg, crop_ratio):
    """Writes the part of a face that the model sees, scaled to `SHOWN_PX`."""
    with open_image(jpeg, ("JPEG",)) as image:
        border = round((1 - crop_ratio) / 2 * image.width)
        view = image.crop((border, border, image.width - border, image.height - border))
        buffer = io.BytesIO()  # because Pillow does not notice if a disk takes half of a JPEG
        view.resize((SHOWN_PX, SHOWN_PX), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=85)
    path.write_bytes(buffer.getvalue())


def _write_preview(out, path, part, section, check_stop):
    """Writes a small video with the boxes of the faces that were read."""
    from affect.reading.preview import write_preview

    boxes: dict[str, list[tuple[int, tuple[float, ...]]]] = {}
    for row in _iterate_csv(part / "frames.csv"):
        if row["has_face"] == "1":
            box = tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1"))
            boxes.setdefault(row["timestamp_s"], []).append((int(row["face"]), box))
    content = read_json(part / "video.json")
    if content["frames"] and content["path"]:  # a pipe, for example, is not opened again
        write_preview(out, path, boxes, width_px=PREVIEW_PX, check_stop=check_stop, **section)


def _read_groups(table_file, videos, classes):
    """Reads the columns that a CSV file adds to videos.csv.

    Returns:
        `(columns, groups, unknown)`: names of the columns; name of a video → dict by column; a sentence on rows and
        videos that have no counterpart.
    """
    if table_file is None:
        return [], {}, []
    if fault := name_fault(table_file) or ("" if Path(table_file).is_file() else f"There is no file {table_file}."):
        raise InputError(fault)
    try:
        table = [row for row in _iterate_csv(table_file) if any(row.values())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table_file} is no CSV file in UTF-8 ({error}).") from error
    columns = [name for name in (table[0] if table else {}) if name and name != "video"]
    if not table or "video" not in table[0] or not columns:
        raise InputError(
            f"{table_file} must have a column video and other columns, such as subject and condition, separated by "
            f"commas. Its columns: {', '.join(map(repr, table[0] if table else ()))}"
        )
    header = _read_header(table_file)
    if twice := [name for name in columns if header.count(name) > 1]:
        raise InputError(f"{table_file} has two columns {twice[0]}. Rename one.")
    if longer := [row for row in table if None in row]:
        raise InputError(f"{table_file} has more cells than columns in the row of {longer[0]['video']}.")
    if taken := [name for name in columns if name in rows.video_columns(classes)]:
        raise InputError(f"{table_file} has a column {taken[0]}, which videos.csv has too. Rename it.")
    names: dict[str, set[str]] = defaultdict(set)
    for video in videos:
        parts = Path(os.path.abspath(video.path)).parts
        for start in range(len(parts)):
            path = PurePath(*parts[start:])
            for name in (path.as_posix(), path.with_suffix("").as_posix()):
                names[name].add(video.name)
    groups: dict[str, dict[str, str]] = {}
    for row in table:
        meant = names.get(PurePath(row["video"] or "").as_posix(), set())
        if len(meant) > 1:
            what = f"{row['video']}, and {len(meant)} videos are called so"
            raise InputError(f"{table_file} names {what}. Write more of its path.")
        for name in meant:
            found = {column: row[column] or "" for column in columns}
            if groups.setdefault(name, found) != found:
                raise InputError(f"{table_file} has two rows for {name} that differ. Remove one.")
    known = {row["video"] for row in table if PurePath(row["video"] or "").as_posix() in names}
    unknown = []
    if strange := [str(row["video"]) for row in table if row["video"] not in known]:
        unknown.append(f"{table_file} names {format_count(len(strange), 'video')} not read: {', '.join(strange[:3])}.")
    if missing := [video.name for video in videos if video.name not in groups]:
        unknown.append(f"{table_file} lacks {len(missing)} of {len(videos)} videos: {', '.join(missing[:3])}.")
    return columns, groups, unknown


@contextmanager
def _replace_csv(path):
    """Gives a text file for CSV that replaces `path` when the block ends."""
    with replace_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        yield file


def _iterate_csv(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _read_header(path):
    with open(path, encoding="utf-8", newline="") as file:
        return next(csv.reader(file))
