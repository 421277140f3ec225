"""write_preview(): a small video with the boxes of the faces that were read."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2

from affect.colours import COLOURS, to_rgb
from affect.errors import InputError
from affect.pipelines.video import read_frames
from affect.reading.watch import AnnotatedVideo


def write_preview(
    out: Path,
    video: str | Path,
    boxes: Mapping[str, Sequence[tuple[int, tuple[float, ...]]]],
    *,
    width_px: int,
    check_stop: Callable[[], object] = lambda: None,
    **section: Any,
) -> None:
    """Writes an MP4 file, under a temporary name that is renamed. Frames after damage are left out.

    Args:
        out: The file. Its folder is created.
        video: Video file.
        boxes: Time of a frame in seconds with six decimals → number and box of each face in it.
        width_px: Largest width of the preview in pixels.
        check_stop: Called before each frame. It may raise `KeyboardInterrupt` to stop.
        **section: As for `affect.pipelines.video.read_frames`.
    """
    making = out.with_name(f"tmp-{out.name}")
    try:
        with closing(AnnotatedVideo(making)) as preview:
            try:
                for timestamp_s, frame in read_frames(video, **section):
                    check_stop()
                    scale = min(1.0, width_px / frame.shape[1])
                    image = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                    for face, box in boxes.get(f"{timestamp_s:.6f}", ()):
                        colour = to_rgb(COLOURS[(face - 1) % len(COLOURS)])
                        x0, y0, x1, y1 = (round(scale * number) for number in box)
                        cv2.rectangle(image, (x0, y0), (x1, y1), colour, 2)
                        cv2.putText(image, str(face), (x0, max(y0 - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
                    preview.add(timestamp_s, image)
            except InputError:
                pass  # the damage was already named when the video was read
    except BaseException:
        making.unlink(missing_ok=True)  # a video that is stopped ends early, and would be taken for the whole
        raise
    if making.exists():
        making.replace(out)
