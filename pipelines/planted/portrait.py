"""One public-domain portrait, rendered with displaced landmarks under a camera, a head and a light that drift.

An expression is a displacement of facial landmarks. Nothing is painted on.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

import av
import cv2
import numpy as np
import skimage.data
from scipy.interpolate import PchipInterpolator
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from affect.files import replace_file

Region = Literal["mouth", "brows", "eyes"]
# Handle → (outward, down) in inter-ocular distances; see HANDLES.
Moves = Mapping[str, tuple[float, float]]
# Landmarks in pixels of `skimage.data.astronaut()`. Landmarks of brows and lids are ordered from the side of the face
# to its middle, first in the left half of the picture, then in the right half, so that both halves share their weights.
LANDMARKS: dict[str, list[tuple[float, float]]] = {
    "brow": [(189.5, 90), (194, 88.7), (199, 88.2), (205.5, 89.8), (212.5, 92)]
    + [(262.5, 95), (258, 93), (252, 91.7), (245, 92.2), (238, 93)],
    "eye_corner": [(191.5, 100.5), (213, 103), (258.5, 103.5), (236, 104.5)],
    "upper_lid": [(196, 97), (202, 96), (208, 97.5), (253, 99.5), (247, 98.5), (241, 100)],
    "lower_lid": [(197, 103.5), (203, 105), (208.5, 104.5), (253.5, 106), (247, 106.7), (241, 105.5)],
    "lid_fold": [(195, 93.3), (202, 92.5), (209, 94.3), (254, 95.8), (247, 95), (240, 96.5)],
    "eye_bag": [(196, 109), (203, 110.5), (210, 109.5), (254, 111), (247, 112), (240, 111)],
    "mouth_corner": [(201, 138.3), (203, 139.5), (244, 140.7), (246.5, 139)],
    "upper_lip": [(208, 139), (215, 138.8), (222.5, 139.8), (230.5, 139.2), (239, 139.5)],
    "upper_lip_edge": [(208, 140.5), (215, 142), (223, 143.2), (231, 142.3), (238.5, 140.7)],
    "lower_lip_edge": [(208.5, 146), (215.5, 149.5), (223, 150.2), (230.5, 149.5), (237.5, 146.3)],
    "lower_lip": [(207.5, 147.8), (213.5, 152.2), (222, 154.7), (230.5, 153), (239, 148.2)],
    "cheek": [(193, 117), (254, 119)],
    "nose": [(224, 102), (223, 113), (222, 126), (211, 128), (236, 128.5), (223, 133)],
    "jaw": [(186, 150), (195, 161), (250, 165), (259, 152)],
    "chin": [(208, 174), (223, 178.5), (238, 175)],
    "contour": [(180, 112), (182, 132), (265, 136), (268.5, 118)],
    "hairline": [(186, 81), (204, 80), (223, 80.5), (243, 81.5), (263, 84)],
    "hair": [
        (162, 64),
        (192, 57),
        (223, 55),
        (254, 58),
        (284, 68),
        (164, 96),
        (284, 100),
        (169, 126),
        (279, 128),
    ],
    "neck": [(187, 178), (206, 185), (240, 189), (253, 182)],
    "collar": [(150, 151), (170, 148), (258, 175), (278, 188), (297, 203)],
    "frame": [
        *itertools.product((138, 180, 223, 266, 308), (35, 205)),
        (138, 92),
        (138, 150),
        (308, 92),
        (308, 150),
    ],
}
# The portrait smiles and shows teeth. This is the same mouth at rest.
NEUTRAL_MOUTH: dict[str, list[tuple[float, float]]] = {
    "mouth_corner": [(205, 145.4), (206.5, 145.6), (240.5, 146.6), (242, 146.5)],
    "upper_lip": [(210, 143.5), (216, 141.5), (222.8, 142.2), (230, 141.7), (237, 144.1)],
    "upper_lip_edge": [(210.5, 145.8), (216.5, 145.9), (223, 146.5), (230, 146.3), (236.5, 146.5)],
    "lower_lip_edge": [(210.5, 145.8), (216.5, 145.9), (223, 146.5), (230, 146.3), (236.5, 146.5)],
    "lower_lip": [(210, 148.3), (215.5, 150.9), (222.5, 152.4), (229.8, 151.6), (236.5, 149)],
}
LIP = (0.45, 0.85, 1.0, 0.85, 0.45)
BESIDE_LIP = (0.55, 0.15, 0.0, 0.15, 0.55)
LIPS = ("upper_lip", "upper_lip_edge", "lower_lip_edge", "lower_lip")
# Parts of the face that can move: handle → weights by which landmarks follow it. They are repeated for the other half.
HANDLES: dict[str, dict[str, tuple[float, ...]]] = {
    "brow_outer": {"brow": (1, 0.5, 0, 0, 0), "lid_fold": (0.3, 0, 0)},
    "brow_middle": {"brow": (0, 0.5, 1, 0.5, 0), "lid_fold": (0.2, 0.5, 0.2)},
    "brow_inner": {"brow": (0, 0, 0, 0.5, 1), "lid_fold": (0, 0, 0.3)},
    "upper_lid": {"upper_lid": (0.75, 1, 0.75), "lid_fold": (0.4, 0.5, 0.4)},
    "lower_lid": {"lower_lid": (0.75, 1, 0.75)},
    "mouth_corner": {"mouth_corner": (1,), **dict.fromkeys(LIPS, BESIDE_LIP)},
    "upper_lip": {"upper_lip": LIP, "upper_lip_edge": LIP},
    "lower_lip": {"lower_lip": LIP, "lower_lip_edge": LIP},
    "red_of_upper_lip": {"upper_lip": LIP},
    "red_of_lower_lip": {"lower_lip": LIP},
    "cheek": {"cheek": (1,)},
    "chin": {"chin": (1,), "jaw": (0.3,)},
    "brows": {"brow": (1,)},
    "eyes": dict.fromkeys(("eye_corner", "upper_lid", "lower_lid", "lid_fold", "eye_bag"), (1,)),
    "nose": {"nose": (0, 0.4, 1, 1, 1, 1)},
    "mouth": dict.fromkeys(("mouth_corner", *LIPS), (1,)),
    "face_width": dict.fromkeys(("contour", "jaw", "cheek"), (1,)),
}
# Displacements from the neutral face, handle → (outward, down), in inter-ocular distances at strength 1. The corners of
# the mouth stay, because faces are aligned by them, and a whole face that moves would tell what the mouth does.
BROWS: dict[str, dict[str, tuple[float, float]]] = {
    "raised": {"brow_inner": (0.0, -0.12), "brow_middle": (0.0, -0.14), "brow_outer": (0.0, -0.08)},
    "lowered": {"brow_inner": (-0.06, 0.13), "brow_middle": (-0.03, 0.07), "brow_outer": (0.0, -0.02)},
}
MOUTHS: dict[str, dict[str, tuple[float, float]]] = {
    "open": {"upper_lip": (0.0, -0.05), "lower_lip": (0.0, 0.2)},
    "pressed": {"red_of_upper_lip": (0.0, 0.06), "red_of_lower_lip": (0.0, -0.06)},
}
BLINK = {"upper_lid": (0.0, 0.13), "lower_lid": (0.0, -0.01)}
# Limits of the differences between subjects, in the same units.
SUBJECT_RANGES = {
    "brows": (0.03, 0.03),
    "eyes": (0.04, 0.02),
    "nose": (0.0, 0.04),
    "mouth": (0.0, 0.03),
    "mouth_corner": (0.04, 0.015),
    "face_width": (0.07, 0.0),
    "chin": (0.03, 0.07),
}
STARTS = np.cumsum([0, *(len(points) for points in LANDMARKS.values())]).tolist()
ROWS = {row: range(*ends) for row, ends in zip(LANDMARKS, itertools.pairwise(STARTS), strict=True)}
REGIONS: dict[Region, list[int]] = {
    "mouth": [index for row in ("mouth_corner", *LIPS) for index in ROWS[row]],
    "brows": [*ROWS["brow"]],
    "eyes": [index for row in ("eye_corner", "upper_lid", "lower_lid") for index in ROWS[row]],
}
PORTRAIT = np.concatenate([*LANDMARKS.values()]).astype("float64")  # (K, 2)
NEUTRAL = np.concatenate([*(LANDMARKS | NEUTRAL_MOUTH).values()]).astype("float64")  # (K, 2)
INTER_OCULAR = 44.5  # portrait pixels
CENTRE = np.array([223.0, 120.0])  # centre of the face, portrait pixels
VIEW = 178.0  # side of the square of the portrait that fills a frame, portrait pixels
REGION_MARGIN = 0.12  # in inter-ocular distances; the skin around landmarks moves with them
# The first encoder that PyAV has is used. The bytes of x264 depend on the number of threads and, with mbtree, on the
# run.
ENCODERS = {
    "libx264": {"crf": "18", "preset": "veryfast", "threads": "1", "mbtree": "0"},
    "mpeg4": {"qmin": "1", "qmax": "4"},
}


class Pose(NamedTuple):
    """Camera and head of one frame.

    Args:
        rotation_deg: In the plane of the picture.
        scale: 1 shows a face half as wide as the frame.
        shift: (right, down) as shares of the frame's side.
        turn: (yaw, pitch): inter-ocular distances by which the middle of the face slides over the head.
    """

    rotation_deg: float = 0.0
    scale: float = 1.0
    shift: Sequence[float] = (0.0, 0.0)
    turn: Sequence[float] = (0.0, 0.0)


class Subject(NamedTuple):
    """A person.

    Args:
        name: Of the person.
        neutral: Landmarks at rest `(K, 2)`, portrait pixels.
        skin: RGB float32 `(512, 512, 3)`.
        mouth: The inside of the mouth, RGB float32 `(512, 512, 3)`.
    """

    name: str
    neutral: np.ndarray
    skin: np.ndarray
    mouth: np.ndarray


def displace(moves: Moves) -> np.ndarray:
    """Returns the offsets of the landmarks, float64 `(K, 2)` in portrait pixels."""
    offsets = np.zeros_like(PORTRAIT)
    for handle, move in moves.items():
        for row, weights in HANDLES[handle].items():
            offsets[ROWS[row]] += np.outer(np.resize(weights, len(ROWS[row])), move)
    offsets[:, 0] *= np.sign(PORTRAIT[:, 0] - CENTRE[0])
    return INTER_OCULAR * offsets


def slide(points: np.ndarray, turn: Sequence[float]) -> np.ndarray:
    """Simulates a turn of the head: the middle of the face moves most, the hair does not move.

    Args:
        points: `(..., 2)`, portrait pixels.
        turn: (yaw, pitch) as in `Pose`.

    Returns:
        Offsets `(..., 2)`, portrait pixels.
    """
    dome = np.exp(-(((points - CENTRE) / (42, 54)) ** 2).sum(-1, keepdims=True))
    return INTER_OCULAR * np.asarray(turn) * dome


def rotate(pose: Pose) -> np.ndarray:
    """Returns the matrix of rotation and scale, float64 `(2, 2)`."""
    angle = np.deg2rad(pose.rotation_deg)
    return pose.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def to_portrait(points: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """Converts frame pixels to portrait pixels.

    Args:
        points: `(..., 2)`, frame pixels.
        pose: Pose of the frame.
        size: Side of the frame in pixels.

    Returns:
        `(..., 2)`, portrait pixels.
    """
    view = ((points + 0.5) / size - 0.5 - np.array(pose.shift)) * VIEW
    turned = view @ np.linalg.inv(rotate(pose)).T + CENTRE
    return turned - slide(turned, pose.turn)


def to_frame(points: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """Converts portrait pixels to frame pixels: the inverse of `to_portrait`.

    Args:
        points: `(..., 2)`, portrait pixels.
        pose: Pose of the frame.
        size: Side of the frame in pixels.

    Returns:
        `(..., 2)`, frame pixels.
    """
    turned = points
    for _ in range(8):  # a fixed-point iteration; each step reduces the error to 0.1 of it
        turned = points + slide(turned, pose.turn)
    return ((turned - CENTRE) @ rotate(pose).T / VIEW + 0.5 + np.array(pose.shift)) * size - 0.5


def trace_lip(landmarks: np.ndarray, row: str, at: np.ndarray) -> np.ndarray:
    """Computes the height of the edge of a lip.

    Args:
        landmarks: `(K, 2)`, portrait pixels.
        row: Key of the edge in `LANDMARKS`.
        at: Abscissas `(H, W)`, portrait pixels.

    Returns:
        Ordinates float32 `(H, W)`, portrait pixels; constant beside the mouth.
    """
    corners = landmarks[ROWS["mouth_corner"]][1:3]
    x, y = np.concatenate([corners[:1], landmarks[ROWS[row]], corners[1:]]).T
    curve = PchipInterpolator(x, y)(np.linspace(x[0], x[-1], 257)).astype("float32")[None]
    place = ((at - x[0]) * (256 / (x[-1] - x[0]))).astype("float32")
    return cv2.remap(curve, place, np.zeros_like(place), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def warp_back(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Computes by thin-plate splines which portrait pixels a face shows.

    Args:
        points: Places in the displaced face, `(H, W, 2)`, portrait pixels.
        landmarks: Of the displaced face, `(K, 2)`, portrait pixels.

    Returns:
        `(H, W, 4)`: x and y of a spline without the edge of the lower lip, for places above the line between the lips;
        x and y of a spline without the edge of the upper lip, for places below. Both share the kernel, which costs
        most.
    """
    count = len(landmarks)

    def terms(at):
        squared = cdist(at.reshape(-1, 2), landmarks, "sqeuclidean").reshape(*at.shape[:-1], count)
        return np.concatenate([xlogy(squared, squared), np.ones((*at.shape[:-1], 1)), at], -1)

    system = terms(landmarks)
    system = np.vstack([system, np.hstack([system[:, count:].T, np.zeros((3, 3))])])
    steps = np.vstack([PORTRAIT - landmarks, np.zeros((3, 2))])
    coefficients = np.zeros((count + 3, 4))
    for columns, edge in ((slice(2), "lower_lip_edge"), (slice(2, 4), "upper_lip_edge")):
        kept = np.delete(np.arange(count + 3), ROWS[edge])
        # OpenCV's solver uses no threads. LAPACK's threads took up to 50 ms a frame for a system this small.
        coefficients[kept, columns] = cv2.solve(system[np.ix_(kept, kept)], steps[kept])[1]
    return np.tile(points, 2) + terms(points) @ coefficients


def render(subject: Subject, landmarks: np.ndarray, pose: Pose, size: int) -> np.ndarray:
    """Renders a frame without light, blur and noise.

    The skin above the line between the lips and the skin below it are warped separately, so that closed lips hide the
    teeth and do not squeeze them. The inside of the mouth moves with the upper lip, and is dark until the lips part.

    Args:
        subject: The person.
        landmarks: `(K, 2)`, portrait pixels.
        pose: Camera and head.
        size: Side of the frame in pixels.

    Returns:
        RGB float32 `(size, size, 3)` in [0, 255].
    """
    step = 5  # the spline is smooth, so it is evaluated at every fifth pixel and interpolated
    nodes = np.arange(-step, size + 2 * step, step)
    coarse = to_portrait(np.stack(np.meshgrid(nodes, nodes), -1), pose, size)
    place = (np.arange(size, dtype="float32") / step + 1) * np.ones((size, 1), "float32")
    back = cv2.remap(warp_back(coarse, landmarks).astype("float32"), place, place.T.copy(), cv2.INTER_CUBIC)

    # Only the lines of the mouth need both splines.
    lips = to_frame(landmarks[REGIONS["mouth"]], pose, size)[:, 1]
    rows = slice(max(int(lips.min()) - size // 20, 0), int(lips.max()) + size // 20)
    at = cv2.remap(coarse.astype("float32"), place[rows], place.T[rows].copy(), cv2.INTER_LINEAR)
    top, bottom = (trace_lip(landmarks, edge, at[..., 0]) for edge in ("upper_lip_edge", "lower_lip_edge"))
    upper, lower = back[rows, :, :2], back[rows, :, 2:]
    hang = trace_lip(PORTRAIT, "upper_lip_edge", upper[..., 0]) + at[..., 1] - top
    behind = cv2.remap(subject.mouth, upper[..., 0].copy(), hang, cv2.INTER_LINEAR)
    # Between the corners of the mouth the two parts of the skin meet sharply. Beside them they are blended.
    left, right = landmarks[ROWS["mouth_corner"]][1:3, 0]
    beyond = np.clip(np.maximum(left - at[..., 0], at[..., 0] - right), 1e-3, 16)
    below = np.clip((at[..., 1] - (top + bottom) / 2) / beyond + 0.5, 0, 1)[..., None]
    skin_at = back[..., :2].copy()
    skin_at[rows] += below * (lower - upper)
    skin_at[rows.stop :] = back[rows.stop :, :, 2:]
    image = cv2.remap(subject.skin, skin_at, np.empty(0), cv2.INTER_CUBIC)
    zoom = pose.scale * size / VIEW
    parted = sum(np.clip(zoom * d + 0.5, 0, 1) for d in (at[..., 1] - top, bottom - at[..., 1])) - 1
    lit = np.clip((bottom - top) / 3, 0, 1)
    image[rows] += parted[..., None] * (lit[..., None] * behind - image[rows])
    return np.clip(image, 0, 255)


def draw_subject(rng: np.random.Generator, name: str) -> Subject:
    """Draws a smooth variation of the portrait: shape of the face, hue and brightness.

    Args:
        rng: Random generator.
        name: Name of the subject.
    """
    moves: Any = {handle: rng.uniform(-1, 1, 2) * limits for handle, limits in SUBJECT_RANGES.items()}
    angle = rng.uniform(-0.08, 0.08)  # radians about the grey axis
    grey, cross = np.full((3, 3), 1 / 3), np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = grey + np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * cross
    colour = rng.uniform(0.8, 1.05) * rng.uniform(0.95, 1.05, (3, 1)) * hue
    skin = skimage.data.astronaut().astype("float32")
    y, x = np.mgrid[:512, :512]
    throat = np.clip(y - trace_lip(PORTRAIT, "lower_lip_edge", x) + 2, 0, 1)[..., None]  # where the teeth end
    mouth = skin + throat * (np.array([48, 18, 18], np.float32) - skin)
    return Subject(name, NEUTRAL + displace(moves), cv2.transform(skin, colour), cv2.transform(mouth, colour))


def drift(rng: np.random.Generator, seconds: np.ndarray, limit: float = 1.0) -> np.ndarray:
    """Draws a smooth curve: the mean of three slow waves.

    Args:
        rng: Random generator.
        seconds: Times `(F,)`.
        limit: Largest absolute value.

    Returns:
        float64 `(F,)` in [-limit, limit].
    """
    hz, phase = rng.uniform(0.15, 0.8, 3), rng.uniform(0, 2 * np.pi, 3)
    return limit * np.sin(2 * np.pi * seconds[:, None] * hz + phase).mean(1)


def film(
    subject: Subject,
    faces: np.ndarray,
    seconds: np.ndarray,
    rng: np.random.Generator,
    *,
    size: int,
    pose: float,
    light: float,
    blur: float,
    noise: float,
) -> tuple[list[Pose], Iterator[np.ndarray]]:
    """Renders a face through time. Camera, head and light drift.

    Args:
        subject: The person.
        faces: Landmarks `(F, K, 2)`, portrait pixels.
        seconds: Time of each frame `(F,)`.
        rng: Random generator. The iterator draws from it until the last frame.
        size, pose, light, blur, noise: As in `affect.pipelines.planted.clips.generate`.

    Returns:
        `(poses, images)`: the pose of each frame; the frames, RGB uint8 `(size, size, 3)`.
    """
    ways = [pose * drift(rng, seconds, limit) for limit in (8, 0.08, 0.06, 0.06, 0.1, 0.06)]
    poses = [Pose(way[0], 1 + way[1], way[2:4], way[4:]) for way in np.stack(ways, 1)]
    gain, slope_x, slope_y = (light * drift(rng, seconds, limit) for limit in (0.2, 0.2, 0.15))
    blur_sigma = max(blur * rng.uniform(0.3, 1), 1e-3)
    across = np.linspace(-1, 1, size)

    def render_frames():
        for frame, (face, view) in enumerate(zip(faces, poses, strict=True)):
            lit = 1 + gain[frame] + slope_x[frame] * across + slope_y[frame] * across[:, None]
            image = render(subject, face, view, size) * lit[..., None].astype("float32")
            image = cv2.GaussianBlur(image, (0, 0), blur_sigma)
            image += noise * rng.standard_normal(image.shape, "float32")
            yield np.clip(np.rint(image), 0, 255).astype("uint8")

    return poses, render_frames()


def locate(region: Region, faces: Sequence[np.ndarray], pose: Pose, size: int) -> list[float]:
    """Computes the box around the landmarks of a region.

    Args:
        region: Key in `REGIONS`.
        faces: Landmarks `(K, 2)`, portrait pixels; the box contains the region in all of them.
        pose: Pose of the frame.
        size: Side of the frame in pixels.

    Returns:
        [x0, y0, x1, y1] in frame pixels.
    """
    points = to_frame(np.concatenate([face[REGIONS[region]] for face in faces]), pose, size)
    margin = REGION_MARGIN * INTER_OCULAR * pose.scale * size / VIEW
    return np.clip([*points.min(0) - margin, *points.max(0) + margin], 0, size).round(1).tolist()


def check_size(size: int) -> None:
    """Checks the side of a frame in pixels.

    Raises:
        ValueError: If it is odd, because `write_video` writes yuv420p.
    """
    if size % 2:
        raise ValueError(f"`size` must be even (yuv420p). Expected an even number. Received: size={size!r}")


def write_video(path: Path | str, images: Iterable[np.ndarray], frame_rate_hz: float) -> None:
    """Writes a video in yuv420p: H.264, or MPEG-4 part 2 if PyAV lacks x264.

    Args:
        path: MP4 file.
        images: One or more frames, RGB uint8 `(H, W, 3)`.
        frame_rate_hz: Frames a second.
    """
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    rate = Fraction(frame_rate_hz).limit_denominator(1001)
    with replace_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=ENCODERS[encoder])
        stream.pix_fmt = "yuv420p"
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
