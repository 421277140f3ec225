"""inspect(): summarises the shards of a folder in numbers and in a sheet of faces."""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from affect.data import records
from affect.data.batches import names_damage
from affect.data.shards import Shards
from affect.data.verify import find_strays
from affect.errors import InputError
from affect.extras import require
from affect.progress import Track, hide_progress

# Rows of the sheet, by valence, where there are no classes.
_PARTS = 5
# Most faces of a clip among which the clearest is searched.
LOOKED_AT = 64


@names_damage
def inspect(
    data: Path | str, *, out: Path | str | None = None, columns: int = 8, track: Track = hide_progress
) -> dict[str, Any]:
    """Summarises shards and draws a sheet of their faces.

    The sheet shows clips that are evenly spaced over the sorted keys. It always shows the same ones, and says how many
    of how many. Of each clip it shows the clearest face (`find_clearest`). Its rows are the classes; without classes,
    fifths of the faces' valence; without ratings, the splits.

    Args:
        data: Folder of shards.
        out: Image file of the sheet; its suffix gives the format. `None` draws no sheet.
        columns: Largest number of faces in a row.
        track: Shows progress.

    Returns:
        Dict of `settings` and `classes` of the manifest; `clips`, a list of dicts, one for each split and class, of
        `split`, `label`, `clips`, `clips_with_a_face`, `frames`, `faces` and `coverage` (faces / frames, `None` without
        frames); `subjects`, split → number of known subjects; `subjects_in_several_splits`, list; `length_s` (frames
        that were looked at / frame rate, of the clips whose rate is known) and `scores` (the detector's, of all faces),
        each a list of minimum, quartiles and maximum, `None` without values; `length_total_s`; `problems`, key →
        problem, including ratings whose times do not fit the video; `left_out`, sentences of `affect prepare` on what
        it left out, and sentences on files that do not belong to these shards.

    Raises:
        InputError: When there are no shards, a shard is incomplete, or there is no face to draw; or when a sheet is
            requested without the extra `plots`.
    """
    if out:
        require("plots", "A sheet of faces")
    shards = Shards(data)
    problems = {clip["key"]: clip["problem"] for clip in shards.clips if clip["problem"]}
    rows, lengths_s, scores = defaultdict(Counter), [], []
    subjects, drawable = defaultdict(set), []
    read = _read_clips(shards)
    for split, record in track(read, len(shards.clips), "clips"):
        label, subject = record["clip/label/string"].decode(), record["affect/subject"].decode()
        faces, frames = len(record["image/encoded"]), int(record["affect/frames_decoded"])
        rows[split, label].update(clips=1, clips_with_a_face=faces > 0, frames=frames, faces=faces)
        subjects[split].update({subject} - {""})
        scores.append(record["face/score"])
        key, fault = record["clip/media_id"].decode(), records.name_record_fault(record)
        if fault and fault not in problems.get(key, ""):
            problems[key] = " ".join(filter(None, (problems.get(key), fault)))
        if record["image/frame_rate"] > 0:
            lengths_s.append(frames / record["image/frame_rate"])
        if faces:
            drawable.append((record["clip/media_id"].decode(), split, label, _interpolate_valence(record)))
    if out:
        if not drawable:
            raise InputError(f"{data} holds no face to draw.")
        chosen = choose_clips(drawable, shards.classes, columns)
        _draw(chosen, group_clips(drawable, shards.classes), _read_clips(shards), out)
    order = {name: index for index, name in enumerate(shards.classes)}
    met = Counter(subject for names in subjects.values() for subject in names)
    return {
        "settings": shards.settings,
        "classes": list(shards.classes),
        "clips": [
            {"split": split, "label": label, **row, "coverage": row["faces"] / row["frames"] if row["frames"] else None}
            for (split, label), row in sorted(rows.items(), key=lambda item: (item[0][0], order.get(item[0][1], -1)))
        ],
        "subjects": {split: len(names) for split, names in sorted(subjects.items())},
        "subjects_in_several_splits": sorted(subject for subject, count in met.items() if count > 1),
        "length_s": _compute_quartiles(lengths_s),
        "length_total_s": float(np.sum(lengths_s)),
        "scores": _compute_quartiles(np.concatenate(scores)) if scores else None,
        "problems": problems,
        "left_out": [*shards.left_out, *(f"{name}: {problem}" for name, problem in find_strays(shards))],
    }


def _read_clips(shards: Shards) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields `(split, record)` of every clip: the record is from `records.parse_example`, in NumPy."""
    for shard in shards.shards:
        dataset = tf.data.TFRecordDataset(str(shards.folder / shard["name"])).map(records.parse_example).prefetch(1)
        for record in dataset.as_numpy_iterator():
            yield shard["split"], record


def _compute_quartiles(values: Sequence[float] | np.ndarray) -> list[float] | None:
    return np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).tolist() if len(values) else None


def _interpolate_valence(record: Mapping[str, Any]) -> float | None:
    """Returns the valence at the middle face of a clip, `None` without ratings."""
    times, valence = record["affect/dimensions/timestamp"], record["affect/dimensions/valence"]
    middle = record["image/timestamp"][len(record["image/timestamp"]) // 2]
    return float(np.interp(middle, times, valence)) if len(times) else None


def choose_clips(
    drawable: Sequence[tuple[str, str, str, float | None]], classes: Sequence[str], columns: int
) -> dict[str, list[str]]:
    """Chooses the clips that are drawn.

    Args:
        drawable: `(key, split, label, valence)` of each clip with a face.
        classes: Classes of the manifest.
        columns: Largest number of clips in a row.

    Returns:
        Name of a row → up to `columns` keys.
    """
    return {
        name: [keys[index] for index in np.linspace(0, len(keys) - 1, min(columns, len(keys))).round().astype(int)]
        for name, keys in group_clips(drawable, classes).items()
    }


def group_clips(drawable: Sequence[tuple[str, str, str, float | None]], classes: Sequence[str]) -> dict[str, list[str]]:
    """Groups clips by class; without classes by valence; without ratings by split.

    Args:
        drawable: `(key, split, label, valence)` of each clip with a face.
        classes: Classes of the manifest.

    Returns:
        Name of a row of the sheet → its keys, sorted.
    """
    rated = [valence for *_, valence in drawable if valence is not None and not classes]
    borders = np.quantile(rated, np.linspace(0, 1, _PARTS + 1)) if rated else []
    parts = [f"valence\n{low:.2f} to {high:.2f}" for low, high in pairwise(borders)]
    rows = {name: [] for name in (classes or parts or sorted({split for _, split, *_ in drawable}))}
    for key, split, label, valence in sorted(drawable, key=itemgetter(0)):
        if classes:
            name = label or "no label"
        elif valence is not None:
            name = parts[min(int(np.searchsorted(borders, valence, side="right")), _PARTS) - 1]
        else:
            name = split
        rows.setdefault(name, []).append(key)
    return rows


def find_clearest(jpegs: Sequence[bytes], scores: Sequence[float] | np.ndarray) -> int:
    """Finds the clearest face of a clip: the highest product of the detector's score and sharpness.

    Sharpness is the standard deviation of the Laplacian of the grey face, which is low where a face is blurred.
    Of a long clip, `LOOKED_AT` faces are looked at, evenly spaced.

    Args:
        jpegs: Faces, one at least.
        scores: The detector's scores.

    Returns:
        Index of the face. Of equal ones it is the first.
    """
    places = np.unique(np.linspace(0, len(jpegs) - 1, min(LOOKED_AT, len(jpegs))).round().astype(int))

    def measure(place):
        with Image.open(io.BytesIO(jpegs[place])) as image:
            grey = np.asarray(image.convert("L"), float)
        laplacian = -4 * grey[1:-1, 1:-1] + grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
        return float(scores[place]) * laplacian.std()

    return int(max(places, key=measure))


def _draw(
    chosen: Mapping[str, Sequence[str]],
    grouped: Mapping[str, Sequence[str]],
    read: Iterable[tuple[str, dict[str, Any]]],
    out: Path | str,
) -> None:
    """Draws one row of faces for each name."""
    from matplotlib.figure import Figure

    from affect.drawing import save_figure, shorten

    places = {key: (row, column) for row, keys in enumerate(chosen.values()) for column, key in enumerate(keys)}
    columns = max(map(len, chosen.values()))
    figure = Figure(figsize=(1.4 * columns + 1, 1.5 * len(chosen) + 0.6), layout="constrained")
    shown, total = (sum(map(len, found.values())) for found in (chosen, grouped))
    title = f"{shown} of {total} clips with a face, evenly spaced; of each the clearest face (score × sharpness)"
    figure.suptitle(title, fontsize=10)
    grid = figure.add_gridspec(len(chosen), columns + 1)
    for row, name in enumerate(chosen):
        axes = figure.add_subplot(grid[row, 0])
        text = f"{name}\n{len(chosen[name])} of {len(grouped[name])}"
        place: Any = {"horizontalalignment": "right", "verticalalignment": "center"}
        axes.text(1, 0.5, text, fontsize=10, parse_math=False, **place)
        axes.set_axis_off()
    for _, record in read:
        key = record["clip/media_id"].decode()
        if key in places:
            row, column = places[key]
            axes = figure.add_subplot(grid[row, 1 + column])
            jpegs = record["image/encoded"]
            clearest = find_clearest(jpegs, record["face/score"])
            with Image.open(io.BytesIO(jpegs[clearest])) as image:
                axes.imshow(image)
            title = f"{shorten(key, 22)}\n{record['image/timestamp'][clearest] / 1e6:.2f} s"
            axes.set_title(title, fontsize=7, parse_math=False)
            axes.set_axis_off()
    save_figure(figure, out)
