"""watch(): faces frame by frame → a prediction after each frame, and a video that shows it."""

import signal
import threading
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from affect.data.augment import central_view, view_face
from affect.data.records import Face
from affect.errors import InputError
from affect.models.stream import Reading
from affect.reading.predictor import Predictor

# Most frames whose importance is drawn.
SHOWN_FRAMES = 60
# Clock of the video in ticks per second, which is MPEG's.
CLOCK_HZ = 90_000
_RED, _GREY, _WHITE = (192, 57, 43), (176, 183, 191), (255, 255, 255)


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
    """

    reading: Reading
    track: int | None
    box: tuple[float, ...] | None
    importances: tuple[float, ...]


def watch(
    trained: Predictor,
    faces: Iterable[tuple[float, np.ndarray, int | None, Face | None]],
    *,
    half_life_s: float | None = None,
    out: str | Path | None = None,
) -> Generator[Watched, None, None]:
    """Reads one face after the other. When another face is followed, a new clip begins.

    Args:
        trained: A classifier.
        faces: `(timestamp_s, frame, track, face)` of each frame: the time in seconds; uint8 (H, W, 3), RGB; the number
            of the followed face, `None` before the first; and this face, cut by `trained.faces`, `None` where it is not
            seen.
        half_life_s: As in `affect.models.stream.StreamingClassifier`.
        out: MP4 file for the frames with box, probabilities and importance; `None` writes none. It is written under a
            temporary name and renamed when the faces end. An error or an interrupt ends them too, and the video is
            complete up to there.

    Yields:
        The prediction after each frame.

    Raises:
        InputError: If the model does not classify or takes only whole clips, its pooling cannot forget, or `out` is no
            MP4 file.
    """
    begin = partial(trained.task.begin_stream, trained, half_life_s)
    classifier, followed, importances = begin(), None, ()
    view = central_view(trained.experiment.data.crop_ratio)
    with closing(AnnotatedVideo(out)) if out else nullcontext() as video:
        for timestamp_s, frame, track, face in faces:
            if followed is not None and track != followed:
                classifier, importances = begin(), ()
            followed = track
            pixels = face and view_face(face.jpeg, view, trained.face_size).numpy()
            reading = classifier.add(timestamp_s, pixels)
            if face:
                earlier = (share * (1 - reading.importance) for share in importances)
                importances = (*earlier, reading.importance)[-SHOWN_FRAMES:]
            watched = Watched(reading, track, face.box if face else None, importances)
            if video:
                video.add(timestamp_s, draw_watched(frame, watched))
            yield watched


def draw_watched(frame: np.ndarray, watched: Watched) -> np.ndarray:
    """Draws a prediction on a frame: the face's box, a bar for each class, the likeliest in red, and the importance.

    Args:
        frame: uint8 (H, W, 3), RGB; not changed.
        watched: The prediction.

    Returns:
        uint8 (H, W, 3).
    """
    image = frame.copy()
    height, width = image.shape[:2]
    scale = max(height, 120) / 480  # scale of letters and lines
    line, thickness = round(20 * scale), max(1, round(2 * scale))
    if watched.box is not None:
        x0, y0, x1, y1 = map(round, watched.box)
        cv2.rectangle(image, (x0, y0), (x1, y1), _RED, thickness)
    probabilities = watched.reading.probabilities or {}
    if probabilities:
        room = image[: line * len(probabilities) + line // 2, : round(240 * scale)]
        room[:] = room // 3  # so that letters can be read
    for row, (name, probability) in enumerate(probabilities.items(), 1):
        colour = _RED if name == watched.reading.label else _GREY
        left, bottom = round(110 * scale), row * line
        right = left + max(1, round(120 * scale * probability))
        cv2.rectangle(image, (left, bottom - line // 2), (right, bottom), colour, cv2.FILLED)
        text = {"fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.5 * scale, "color": _WHITE}
        cv2.putText(image, name, (round(6 * scale), bottom), lineType=cv2.LINE_AA, **text)
    if watched.importances:
        tall, column = height // 8, width / SHOWN_FRAMES
        highest = max(watched.importances) or 1.0
        for place, share in enumerate(reversed(watched.importances)):
            x1 = round(width - place * column)
            x0 = max(round(width - (place + 1) * column), 0)
            top = height - max(1, round(tall * share / highest))
            image[top:, x0 : max(x1 - 1, x0 + 1)] = _RED if place == 0 and watched.box is not None else _GREY
    return image


class AnnotatedVideo:
    """An MP4 file that is written frame by frame, at the frames' own times. Without a frame no file is written.

    Args:
        path: The file. Its folder is created.

    Raises:
        InputError: If its name does not end in `.mp4`.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if self.path.suffix.lower() != ".mp4":
            raise InputError(f"The video must be an .mp4 file. Received: {path}")
        self._temporary = self.path.with_name(self.path.name + ".tmp")
        self._container: Any = None

    def add(self, timestamp_s: float, image: np.ndarray) -> None:
        """Adds a frame.

        Args:
            timestamp_s: Time in seconds, later than the frame before.
            image: uint8 (H, W, 3), RGB. An image of another size is scaled to the size of the first.
        """
        with _delay_interrupts():
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
        with _delay_interrupts():
            self._container.mux(self._stream.encode())
            self._container.close()
            self._temporary.replace(self.path)

    def _open(self, width, height):
        self._width, self._height = width, height
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._temporary), "w", format="mp4")
        except OSError as error:
            raise InputError(f"{self.path} cannot be written ({error.strerror}).") from error
        encoder = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"crf": "20", "preset": "veryfast"} if encoder == "libx264" else {"qmin": "2", "qmax": "8"}
        self._stream = self._container.add_stream(encoder, rate=30, options=options)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, CLOCK_HZ)


@contextmanager
def _delay_interrupts():
    """Delays an interrupt from the keyboard until the block is done, because half a frame would damage the video."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held_back = []
    before = signal.signal(signal.SIGINT, lambda *received: held_back.append(received))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held_back:
        raise KeyboardInterrupt
