"""watch(): faces frame by frame → a prediction after each frame, and a video that shows it."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from affect.colours import COLOURS, LETTER_COLOURS, to_rgb
from affect.data.clips import Face
from affect.data.views import view_centre
from affect.errors import InputError, MachineError
from affect.files import name_temporary
from affect.interrupts import delay_interrupts
from affect.models.stream import Reading
from affect.reading.predictor import Predictor

# Most frames whose importance is drawn in the terminal.
SHOWN_FRAMES = 60
# Lengths of time that are drawn in a video, the first one that holds all since the face is followed, or else the last
# one; and the most frames of it.
SPANS_S, MOST_MOMENTS = (2.0, 5.0, 10.0), 2000
# Clock of the video in ticks per second, which is MPEG's.
CLOCK_HZ = 90_000
# Frames with fewer pixels on the shorter side are enlarged, so that letters can be read.
LEAST_SIDE_PX = 240
_RED, _GREY, _WHITE, _INK, _PALE = (192, 57, 43), (130, 137, 143), (255, 255, 255), (40, 44, 48), (222, 225, 229)
_LINES, _LETTERS = ([to_rgb(colour) for colour in colours] for colours in (COLOURS, LETTER_COLOURS))
# OpenCV's font that has Latin, Greek, Cyrillic and CJK letters. FONT_HERSHEY has ASCII only.
_FONT = cv2.FontFace("uni")


@dataclass(frozen=True)
class Moment:
    """What is drawn of a frame as time goes on.

    Args:
        timestamp_s: Time of the frame in seconds.
        probabilities: Class → p(c | f, S) of the frame; `None` without the face.
        importance: Importance among all frames so far; 0 without the face.
    """

    timestamp_s: float
    probabilities: Mapping[str, float] | None
    importance: float


@dataclass(frozen=True)
class Watched:
    """A frame that was watched.

    Args:
        reading: Prediction for the followed face, over all frames since it is followed.
        track: Number of the followed face; `None` before the first face.
        box: Box of the face in the frame; `None` where it is not seen.
        importances: Importance among all frames so far of each of the last `SHOWN_FRAMES` frames with the face, the
            latest last. With `max` pooling it is approximate: a new frame reduces the importance of all earlier frames
            by the same factor.
        moments: The frames of the last 10 seconds since the face is followed, the latest last.
        others: Boxes of the other faces in the frame, by their numbers.
    """

    reading: Reading
    track: int | None
    box: tuple[float, ...] | None
    importances: tuple[float, ...]
    moments: tuple[Moment, ...] = ()
    others: Mapping[int, tuple[float, ...]] = field(default_factory=dict)


def watch(
    trained: Predictor,
    faces: Iterable[tuple[float, np.ndarray, int | None, Face | None, Mapping[int, tuple[float, ...]]]],
    *,
    half_life_s: float | None = None,
    out: str | Path | None = None,
    add_sound: Callable[[Path], object] | None = None,
) -> Generator[Watched, None, None]:
    """Reads one face after the other. When another face is followed, a new clip begins.

    For the same faces, each frame has the p(c | f, S) that `affect.reading.predict.predict` gives, and after the last
    frame p(c | S) and the importance are the same too. Before the last frame they are those of the frames so far,
    because nobody knows the frames to come. For the same reason another person may be followed at first than the one
    that `predict` chooses at the end.

    Args:
        trained: A classifier.
        faces: `(timestamp_s, frame, track, face, others)` of each frame: the time in seconds; uint8 (H, W, 3), RGB; the
            number of the followed face, `None` before the first; this face, cut by `trained.faces`, `None` where it is
            not seen; and the boxes of the other faces by their numbers.
        half_life_s: As in `affect.models.stream.StreamingClassifier`.
        out: MP4 file for the frames with box, probabilities and importance; `None` writes none. It is written under a
            temporary name and renamed when the faces end. An error or an interrupt ends them too, and the video is
            complete up to there.
        add_sound: As of `AnnotatedVideo`.

    Yields:
        The prediction after each frame.

    Raises:
        InputError: If the model does not classify or takes only whole clips, its pooling cannot forget, or `out` is no
            MP4 file.
    """
    begin = partial(trained.task.begin_stream, trained, half_life_s)
    classifier, followed = begin(), None
    importances: tuple[float, ...] = ()
    moments: tuple[Moment, ...] = ()
    crop_ratio = trained.experiment.data.crop_ratio
    with closing(AnnotatedVideo(out, add_sound)) if out else nullcontext() as video:
        for timestamp_s, frame, track, face, others in faces:
            if followed is not None and track != followed:
                classifier, importances, moments = begin(), (), ()
            followed = track
            pixels = face and view_centre(face.jpeg, crop_ratio, trained.face_size)
            reading = classifier.add(timestamp_s, pixels)
            if face:
                keep = 1 - reading.importance
                importances = (*(share * keep for share in importances), reading.importance)[-SHOWN_FRAMES:]
                moments = tuple(replace(moment, importance=moment.importance * keep) for moment in moments)
            moments = (*moments, Moment(timestamp_s, reading.frame_probabilities, reading.importance))[-MOST_MOMENTS:]
            moments = tuple(moment for moment in moments if moment.timestamp_s > timestamp_s - SPANS_S[-1])
            watched = Watched(reading, track, face.box if face else None, importances, moments, others)
            if video:
                video.add(timestamp_s, draw_watched(frame, watched))
            yield watched


def draw_watched(frame: np.ndarray, watched: Watched) -> np.ndarray:
    """Draws a prediction on a frame, and a panel below it, so that nothing hides the picture.

    The followed face has a red box with its number, the likeliest class of this frame, p(c | f, S) and the time. The
    other faces have grey boxes with their numbers. The panel shows p(c | f, S) of each class in the last seconds
    (`SPANS_S`), and the importance of these frames as a share of its peak. Its first line is the answer so far,
    p(c | S). The likeliest classes are named. A frame of fewer than `LEAST_SIDE_PX` pixels is enlarged.

    Args:
        frame: uint8 (H, W, 3), RGB; not changed.
        watched: The prediction.

    Returns:
        uint8 (H', W', 3): the frame, times a whole number, and the panel.
    """
    times = max(1, math.ceil(LEAST_SIDE_PX / min(frame.shape[:2])))
    image = np.ascontiguousarray(frame.repeat(times, 0).repeat(times, 1))
    height, width = image.shape[:2]
    letters = max(11, round(min(height, width) / 32))
    boxes = {number: [times * side for side in box] for number, box in watched.others.items()}
    own = [times * side for side in watched.box] if watched.box is not None else None
    for number, box in boxes.items():
        obstacles = [other for key, other in boxes.items() if key != number] + ([own] if own else [])
        _draw_box(image, box, f"{number}", _GREY, letters, obstacles)
    if own:
        found = watched.reading.frame_probabilities or {}
        likeliest = max(found, key=lambda name: found[name], default="")
        answer = f"{likeliest} {found[likeliest]:.2f}" if found else ""
        text = f"{watched.track}: {answer}, {watched.reading.timestamp_s:.2f} s"
        _draw_box(image, own, text, _RED, letters, list(boxes.values()))
    panel = np.full((round(12.2 * letters), width, 3), 255, np.uint8)
    _draw_panel(panel, watched, letters)
    return np.concatenate([image, panel])


def _draw_box(image, box, text, colour, letters, obstacles):
    """Draws a box, and its text beside it: at the first place inside the picture where it hides no face."""
    height, width = image.shape[:2]
    thick = max(1, letters // 7)
    x0, y0, x1, y1 = map(round, box)
    cv2.rectangle(image, (x0, y0), (x1, y1), colour, thick)
    wide, tall = _measure(text, letters) + letters // 2, round(1.4 * letters)
    across = min(max(x0 - thick // 2, 0), max(width - wide, 0))
    along = min(max(y0, 0), max(height - tall, 0))
    gap = thick
    places = [(across, y0 - tall - gap), (across, y1 + gap), (x1 + gap, along), (x0 - wide - gap, along)]

    def is_free(place):
        left, top = place
        right, bottom = left + wide, top + tall
        inside = left >= 0 and top >= 0 and right <= width and bottom <= height
        hides = (one for one in obstacles if left < one[2] and right > one[0] and top < one[3] and bottom > one[1])
        return inside and next(hides, None) is None

    left, top = next(filter(is_free, places), (across, min(max(y0, 0), height - tall)))
    cv2.rectangle(image, (left, top), (min(left + wide, width) - 1, top + tall - 1), colour, cv2.FILLED)
    _write(image, text, left + letters // 4, top + round(1.05 * letters), letters, _WHITE)


def _draw_panel(panel, watched, letters):
    """Draws the answer so far, curves of the last seconds, and the importance."""
    height, width = panel.shape[:2]
    reading, moments = watched.reading, watched.moments
    now_s = reading.timestamp_s
    margin, thick = letters // 2, max(2, round(letters / 9))
    if reading.probabilities:
        so_far = f"face {watched.track}, so far: {reading.label} {reading.probabilities[reading.label]:.2f}"
        so_far += "" if watched.box else f" (not seen at {now_s:.2f} s)"
    else:
        so_far = f"no face yet, {now_s:.2f} s"
    _write(panel, _fit(so_far, letters, width - 2 * margin), margin, round(1.35 * letters), letters, _INK)
    caption, small = "p(class | frame)", round(0.85 * letters)
    start = width - margin - _measure(caption, small)
    if start > 2 * margin + _measure(so_far, letters):
        _write(panel, caption, start, round(1.35 * letters), small, _INK)
    known = [moment for moment in moments if moment.probabilities]
    classes = list(known[-1].probabilities) if known else []
    values = known[-1].probabilities if known else {}
    top, bottom = round(2 * letters), round(8.2 * letters)
    rows = int((bottom - top + letters) // (1.15 * letters))
    named = sorted(sorted(classes, key=lambda name: -values[name])[:rows], key=lambda name: -values[name])
    texts = {name: f"{name} {values[name]:.2f}" if watched.box else name for name in named}
    room = max((_measure(text, letters) for text in texts.values()), default=0)
    room = max(min(room, round(0.4 * width)), _measure("share of peak", letters))
    left, right = margin, width - margin - room - letters
    since_s = now_s - moments[0].timestamp_s if moments else 0.0
    span_s = next((span_s for span_s in SPANS_S if since_s <= span_s), SPANS_S[-1])

    def across(time_s):
        return right - (now_s - time_s) / span_s * (right - left)

    def along(share):
        return bottom - share * (bottom - top)

    for share in (0, 0.5, 1):
        cv2.line(panel, (left, round(along(share))), (right, round(along(share))), _PALE, 1)
    for name in reversed(sorted(classes, key=lambda name: -values[name])):  # the likeliest is drawn last
        colour = _LINES[classes.index(name) % len(_LINES)]
        points: list[list[tuple[float, float]]] = [[]]
        for moment in moments:
            if moment.probabilities:
                points[-1].append((across(moment.timestamp_s), along(moment.probabilities[name])))
            elif points[-1]:
                points.append([])
        for line in filter(None, points):
            line = line if len(line) > 1 else [line[0], (line[0][0] + 1, line[0][1])]
            fixed = np.round(np.array(line) * 16).astype(np.int32)[:, None]
            cv2.polylines(panel, [fixed], False, colour, thick + (name == reading.label), cv2.LINE_AA, 4)
    # A name is at the end of its curve, or as near as the names above it allow.
    heights = _spread([along(values[name]) for name in named], 1.15 * letters, top, bottom)
    for name, y in zip(named, heights, strict=True):
        colour = _LETTERS[classes.index(name) % len(_LETTERS)]
        start = right + letters // 4, round(along(values[name]))
        if watched.box:
            cv2.line(panel, start, (right + round(0.8 * letters), round(y)), colour, 1, cv2.LINE_AA)
        text = _fit(texts[name], letters, room)
        _write(panel, text, right + letters, round(y + 0.36 * letters), letters, colour)
    base, tall = round(10.8 * letters), 1.9 * letters
    highest = max((moment.importance for moment in moments), default=0) or 1
    step = (right - left) / max(1, len(moments))
    for before, moment in zip([None, *moments], moments, strict=False):
        if moment.importance > 0:
            x1 = round(across(moment.timestamp_s))
            since = across(before.timestamp_s) if before else x1 - min(step, letters / 3)
            x0 = min(round(max(since, x1 - letters)), x1 - 1)
            y = round(base - tall * moment.importance / highest)
            cv2.rectangle(panel, (max(x0, left), y), (max(x1 - 1, x0, left), base), (170, 176, 182), cv2.FILLED)
    cv2.line(panel, (left, base), (right, base), _INK, 1)
    _write(panel, "importance", right + letters, base - round(0.8 * letters), letters, _INK)
    _write(panel, "share of peak", right + letters, base + round(0.2 * letters), small, _INK)
    if right - left > 12 * letters:
        _write(panel, f"{span_s:g} s ago", left, height - round(0.3 * letters), small, _INK)
        now = "now"
        _write(panel, now, right - _measure(now, small), height - round(0.3 * letters), small, _INK)


def _spread(places: Sequence[float], apart: float, least: float, most: float) -> list[float]:
    """Returns ascending places that are at least so far apart, near those that are given, between two limits."""
    spread: list[float] = []
    for place in places:
        spread.append(max(place, spread[-1] + apart) if spread else max(place, least))
    above = most
    for index in reversed(range(len(spread))):
        spread[index] = min(spread[index], above)
        above = spread[index] - apart
    return spread


def _measure(text, letters):
    """Returns the width of a text in pixels."""
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _FONT, letters)
    return width


def _fit(text, letters, room):
    """Returns a text without its beginning if it is wider than its room."""
    shown = text
    while _measure(shown, letters) > room and len(text) > 1:
        text = text[1:]
        shown = f"…{text}"
    return shown


def _write(image, text, x, y, letters, colour):
    cv2.putText(image, text, (x, y), colour, _FONT, letters)


class AnnotatedVideo:
    """An MP4 file that is written frame by frame, at the frames' own times. Without a frame no file is written.

    Args:
        path: The file. Its folder is created.
        add_sound: `add_sound(path)` is called with the MP4 file when it is complete, before it gets its name;
            `affect.pipelines.sound.add_sound` adds the sound of a file. `None` leaves it without sound.

    Raises:
        InputError: If its name does not end in `.mp4`, or it is a folder.
    """

    def __init__(self, path: str | Path, add_sound: Callable[[Path], object] | None = None):
        self.path, self.add_sound = Path(path), add_sound
        if self.path.suffix.lower() != ".mp4":
            raise InputError(f"The video must be an .mp4 file. Received: {path}")
        if self.path.is_dir():
            raise InputError(f"{path} is a folder. Choose another --out.")
        self._temporary = name_temporary(self.path).absolute()  # FFmpeg takes the start of `a:b.mp4` for a protocol
        self._container: Any = None

    def add(self, timestamp_s: float, image: np.ndarray) -> None:
        """Adds a frame.

        Args:
            timestamp_s: Time in seconds, later than the frame before.
            image: uint8 (H, W, 3), RGB. An image of another size is scaled to the size of the first.
        """
        with delay_interrupts():  # half a frame would damage the video
            if self._container is None:
                self._open(image.shape[1], image.shape[0])
            image = cv2.resize(image, (self._width, self._height))
            odd = self._height % 2, self._width % 2
            image = np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")  # yuv420p halves both
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(timestamp_s * CLOCK_HZ), Fraction(1, CLOCK_HZ)
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Writes the pending frames and renames the temporary file."""
        if self._container is None:
            return
        with delay_interrupts():  # half a frame would damage the video
            self._container.mux(self._stream.encode())
            self._container.close()
            if self.add_sound:
                self.add_sound(self._temporary)
            self._temporary.replace(self.path)

    def _open(self, width, height):
        self._width, self._height = width, height
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()  # because FFmpeg opens it later, and its error does not name it
            self._container = av.open(str(self._temporary), "w", format="mp4")
        except OSError as error:
            raise MachineError(f"{self.path} cannot be written ({error.strerror}). Choose another --out.") from error
        encoder = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"crf": "20", "preset": "veryfast"} if encoder == "libx264" else {"qmin": "2", "qmax": "8"}
        self._stream = self._container.add_stream(encoder, rate=30, options=options)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
