"""Detectors that need no network, for DETECTORS, and clips in which they find faces."""

import numpy as np

from affect.config import Faces
from affect.pipelines.tracks import Detection
from tests.pictures import write_video

FAKE = Faces(detector="bright", face_size=32)


class Bright:
    """Takes any frame that is not black for a face in its middle."""

    def __init__(self, faces):
        pass

    def detect(self, frames):
        box = np.array([16, 16, 48, 48], np.float32)
        landmarks = np.array([[24, 26], [40, 26], [32, 34], [26, 40], [38, 40]], np.float32)
        return [[Detection(box, landmarks, 0.75)] if frame.mean() > 20 else [] for frame in frames]


class Two:
    """Takes any frame for two faces: a small one in the middle and, while the frame is dark, a large one."""

    def __init__(self, faces):
        pass

    def detect(self, frames):
        points = np.array([[8, 8], [24, 8], [16, 16], [10, 22], [22, 22]], np.float32)
        small = Detection(np.array([16, 16, 48, 48], np.float32), points + 16, 0.9)
        large = Detection(np.array([60, 0, 120, 60], np.float32), 2 * points + (60, 0), 0.8)
        return [[large, small] if frame.mean() < 80 else [small] for frame in frames]


def write_clips(folder):
    """Writes a folder of four good clips, one black, one that is text; `a` with 3 frames and so on."""
    for name, frames in (("train/sad/a", 3), ("train/sad/b", 4), ("train/happy/c", 5), ("test/happy/d", 6)):
        path = folder / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, [np.full((64, 64, 3), 100 + 5 * index, np.uint8) for index in range(frames)])
    write_video(folder / "test/happy/black.mp4", [np.zeros((64, 64, 3), np.uint8)] * 7)
    (folder / "train/happy/text.mp4").write_text("not a video")
    return folder
