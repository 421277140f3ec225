"""write_report(): the folder of a study → report.html, and a page for each video.

The folder is what `affect predict --out` writes. Its files say all that the pages show: this module reads no video and
needs no model. The pages hold their scripts, styles and pictures, so they open from disk and ask for nothing from a
network. The same folder gives the same bytes.
"""

import base64
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from affect.config import read_json
from affect.errors import InputError
from affect.extras import require
from affect.files import check_name, replace_file
from affect.progress import Track, hide_progress
from affect.report.curves import (
    FACE,
    HEIGHT,
    NO_FACE,
    WIDTH,
    Curves,
    colour_of,
    dash_of,
    draw_small,
    read_curves,
)
from affect.report.groups import compute_groups
from affect.report.page import VEGA, link_to, render

FORMAT = 1
# Ends of the names of columns → what a video's page calls them.
SERIES = {"": "As read", "_smooth": "Smoothed", "_change": "Change from baseline"}
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".avif")
# Faces of one person that a page shows along the axis of time.
FACES = 24
# Most points of a small curve of the study's table, and of all small curves together.
SMALL_POINTS, ALL_SMALL_POINTS = 160, 250_000


def write_report(folder: Path, track: Track = hide_progress) -> list[Path]:
    """Writes all pages of a study: `report.html`, and `pages/NAME.html` for each video.

    Args:
        folder: What `affect predict --out` wrote.
        track: Shows the progress over videos.

    Returns:
        The paths of the pages, that of the study first.

    Raises:
        InputError: When a package of the extra `plots` is missing, or the folder is not what `affect predict` writes.
    """
    study = _read_study(folder)
    pages = [_write_page(folder, study, video) for video in track(study["videos"], len(study["videos"]), "pages")]
    return [write_overview(folder), *dict.fromkeys(pages)]


def write_page(folder: Path, video: Mapping[str, Any]) -> Path:
    """Writes the page of one video, as soon as its part of the folder is there.

    Args:
        folder: What `affect predict --out` wrote. Other videos of it need not be there yet.
        video: Its row of `videos` in `study.json`.

    Returns:
        The path of the page.

    Raises:
        InputError: When a package of the extra `plots` is missing, or the folder is not what `affect predict` writes.
    """
    return _write_page(folder, _read_study(folder), video)


def write_overview(folder: Path) -> Path:
    """Writes `report.html`, the page of the study, from what is there of its videos.

    Args:
        folder: What `affect predict --out` wrote.

    Returns:
        The path of the page.

    Raises:
        InputError: When a package of the extra `plots` is missing, or the folder is not what `affect predict` writes.
    """
    study = _read_study(folder)
    rows, read, classes = [], [], study["model"]["classes"]
    points = min(SMALL_POINTS, max(16, ALL_SMALL_POINTS // (len(classes) * max(1, len(study["videos"])))))
    for video in study["videos"]:
        part = _read_part(folder, video)
        people = part["people"]
        curves = _read_small(folder, video, people, classes, points) if people else None
        shared = {"video": video, "part": part, "href": link_to(video["page"]), "name": video["video"]}
        for place, person in enumerate(people):
            small, gaps = _draw(curves, place, study, person) if curves else ([], [])
            rows.append({**shared, "person": person, "small": small, "gaps": gaps, "is_first": place == 0})
        if people:
            read.append({"groups": video["groups"], "values": people[0]["values"]})
        else:
            rows.append({**shared, "person": None, "small": [], "gaps": [], "is_first": True})
    parts = [row["part"] for row in rows if row["is_first"]]
    page = render(
        "study.html",
        ["table.js"],
        study=study,
        rows=rows,
        totals={
            "videos": len(parts),
            "with_a_face": sum(bool(part["people"]) for part in parts),
            "people": sum(len(part["people"]) for part in parts),
            "duration_s": sum(part["duration_s"] or 0 for part in parts),
            "problems": sum(bool(part["problem"]) for part in parts),
            "waiting": sum(part["is_waiting"] for part in parts),
        },
        groupings=compute_groups(read, classes),
        keys=[key for key in ("subject", "condition") if any(video["groups"].get(key) for video in study["videos"])],
        low=_low_of(study),
        colours=[colour_of(place) for place in range(len(classes))],
        dashes=[" ".join(map(str, dash_of(place))) for place in range(len(classes))],
        box=(WIDTH, HEIGHT),
        has_several=any(len(part["people"]) > 1 for part in parts),
    )
    return _write(folder / "report.html", page)


def _read_study(folder: Path) -> dict[str, Any]:
    require("plots", "The report")
    study = read_json(folder / "study.json")
    if study.get("format") != FORMAT:
        raise InputError(
            f"{folder / 'study.json'} has format {study.get('format')!r}, and this version of affect reads {FORMAT}. "
            "Write the folder again: affect predict --out"
        )
    try:
        for video in study["videos"]:
            _check_places(folder, video)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'study.json'} is damaged. Write the folder again: affect predict --out") from error
    return study


def _check_places(folder: Path, video: Mapping[str, Any]) -> None:
    """Raises an error if the files of a video would be outside its folders."""
    pages, _, name = video["page"].rpartition("/")
    if pages != "pages":
        raise InputError(f"{folder / 'study.json'}: a page is in the folder pages. Received: {video['page']!r}")
    check_name(name, folder / "study.json")
    check_name(video["sha256"] or "unreadable", folder / "study.json")


def _read_part(folder: Path, video: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what was read of a video; of one that was not read yet, that it was not."""
    path = _part_of(folder, video) / "video.json"
    if not path.exists():
        empty: dict[str, Any] = dict.fromkeys(
            ("frames", "frame_rate_hz", "duration_s", "width", "height", "faces_seen")
        )
        return {**empty, "problem": "", "notes": ["It was not read yet."], "people": [], "is_waiting": True}
    part = read_json(path)
    read = part.get("path", video["video"])  # of another file, if one with the same content was read before
    part["problem"] = part["problem"].replace(read, video["video"])
    part["notes"] = [note.replace(read, video["video"]) for note in part["notes"]]
    return {**part, "is_waiting": False}


def _part_of(folder: Path, video: Mapping[str, Any]) -> Path:
    return folder / "parts" / (video["sha256"] or f"unreadable-{PurePath(video['page']).stem}")


def _low_of(study: Mapping[str, Any]) -> float:
    """Returns the lowest value of a class, or of valence and arousal."""
    return 0 if study["model"]["has_classes"] else -1


def _read_small(
    folder: Path, video: Mapping[str, Any], people: list[dict[str, Any]], classes: list[str], points: int
) -> Curves | None:
    path = _part_of(folder, video) / "frames.csv"
    return read_curves(path, [each["face"] for each in people], classes, points) if path.exists() else None


def _draw(curves: Curves, place: int, study: Mapping[str, Any], person: Mapping[str, Any]) -> tuple[list, list]:
    names = [name for name in study["model"]["classes"] if name in curves.columns]
    main = [person["label"]] if person["label"] else names
    return draw_small(curves, place, names, main, _low_of(study))


def _write_page(folder: Path, study: Mapping[str, Any], video: Mapping[str, Any]) -> Path:
    part, classes = _read_part(folder, video), study["model"]["classes"]
    people = part["people"]
    named = [each["video"] for each in study["videos"]]
    place = named.index(video["video"]) if video["video"] in named else 0
    neighbours = {
        "before": study["videos"][place - 1] if place > 0 else None,
        "after": study["videos"][place + 1] if place + 1 < len(named) else None,
    }
    frames = _part_of(folder, video) / "frames.csv"
    columns = [name + end for end in SERIES for name in classes]
    columns += ["importance", "x0", "y0", "x1", "y1"]
    curves = read_curves(frames, [each["face"] for each in people], columns) if people and frames.exists() else None
    source, is_preview = video["preview"] or video["path"], bool(video["preview"])
    data = _data_of(folder, study, video, part, curves, is_preview) if curves and curves.frames else None
    page = render(
        "video.html",
        [VEGA, "video.js"] if data else ["player.js"],
        study=study,
        video=video,
        part=part,
        neighbours={key: each and {**each, "href": link_to(_beside(each["page"]))} for key, each in neighbours.items()},
        source=link_to(source, above=1),
        original=link_to(video["path"], above=1),
        is_preview=is_preview,
        is_picture=str(source).lower().endswith(PICTURES),
        low=_low_of(study),
        colours=[colour_of(each) for each in range(len(classes))],
        dashes=[" ".join(map(str, dash_of(each))) for each in range(len(classes))],
        curves=curves,
        data=data,
    )
    return _write(folder / video["page"], page)


def _beside(page: str) -> str:
    """Returns the path of a page as a page beside it names it."""
    return page.rpartition("/")[2]


def _data_of(
    folder: Path,
    study: Mapping[str, Any],
    video: Mapping[str, Any],
    part: Mapping[str, Any],
    curves: Curves,
    is_preview: bool,
) -> dict[str, Any]:
    """Returns what the script of a video's page reads."""
    classes, known = study["model"]["classes"], set(curves.columns)
    people = []
    for place, person in enumerate(part["people"]):
        people.append(
            {
                "face": person["face"],
                "label": person["label"],
                "seen": _base64(curves.seen[:, place]),
                "frames_with_a_face": person["frames_with_a_face"],
                "columns": {name: _quantise(curves.of(place, name)) for name in curves.columns},
                "shown": [
                    {
                        "timestamp_s": shown["timestamp_s"],
                        "image": _picture(
                            _part_of(folder, video) / check_name(shown["image"], _part_of(folder, video))
                        ),
                        "attention": _round(shown["attention"]),
                    }
                    for shown in person["shown"][:FACES]
                ],
            }
        )
    return {
        "name": video["video"],
        "has_classes": study["model"]["has_classes"],
        "classes": classes,
        "low": _low_of(study),
        "width": part["width"],
        "height": part["height"],
        "has_boxes": not is_preview and {"x0", "y0", "x1", "y1"} <= known,
        "frames_per_point": curves.frames_per_point,
        "time_s": _base64(curves.time_s.astype("<f4")),
        "series": [[end, name] for end, name in SERIES.items() if any(each + end in known for each in classes)],
        "states": {"no_face": NO_FACE, "face": FACE},
        "colours": [colour_of(each) for each in range(max(len(classes), len(people)))],
        "dashes": [dash_of(each) for each in range(max(len(classes), len(people)))],
        "people": people,
    }


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _quantise(values: np.ndarray) -> dict[str, Any]:
    """Returns a curve as 16-bit steps between its lowest and its highest value; 65535 is no number."""
    is_number = np.isfinite(values)
    low, high = (float(values[is_number].min()), float(values[is_number].max())) if is_number.any() else (0.0, 0.0)
    steps = np.full(len(values), 65535, "<u2")
    scale = 65534 / (high - low) if high > low else 0
    steps[is_number] = np.round((values[is_number].astype(float) - low) * scale)
    return {"low": low, "high": high, "steps": _base64(steps)}


def _picture(path: Path) -> str | None:
    """Returns a JPEG file as a data URL; `None` if it is not there."""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}" if path.is_file() else None


def _round(attention: Any) -> Any:
    """Returns the attention with four digits, relative to its peak in each head."""
    if attention is None:
        return None
    maps = np.asarray(attention, float)  # (N, h, w)
    peaks = maps.max(axis=(1, 2), keepdims=True)
    return np.round(np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0), 4).tolist()


def _write(path: Path, page: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path
