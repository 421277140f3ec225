"""Embedded demo data: one public-domain portrait, animated with expressions planted in time and space.

An expression is a displacement of facial landmarks and nothing is painted on. `planted.json` says when and where it
shows, the oracle for attention and frame importance. Files lie as the data set `folder` wants them; `clips.csv`, for
the data set `csv`, names the subjects as well.
"""

import csv
import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import skimage.data
from scipy.interpolate import PchipInterpolator
from scipy.spatial.distance import cdist
from scipy.special import xlogy

from affect.config import read_json, write_json
from affect.files import replace_file
from affect.progress import Track, hide_progress

# Landmarks in pixels of `skimage.data.astronaut()`, rows of the face. Brows and lids run from its side to its
# middle, first in the left half of the picture, then in the right, so that one row of weights serves both.
LANDMARKS = {
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
# The portrait smiles with teeth; this is the same mouth at rest.
NEUTRAL_MOUTH = {
    "mouth_corner": [(205, 145.4), (206.5, 145.6), (240.5, 146.6), (242, 146.5)],
    "upper_lip": [(210, 143.5), (216, 141.5), (222.8, 142.2), (230, 141.7), (237, 144.1)],
    "upper_lip_edge": [(210.5, 145.8), (216.5, 145.9), (223, 146.5), (230, 146.3), (236.5, 146.5)],
    "lower_lip_edge": [(210.5, 145.8), (216.5, 145.9), (223, 146.5), (230, 146.3), (236.5, 146.5)],
    "lower_lip": [(210, 148.3), (215.5, 150.9), (222.5, 152.4), (229.8, 151.6), (236.5, 149)],
}
LIP = (0.45, 0.85, 1.0, 0.85, 0.45)
BESIDE_LIP = (0.55, 0.15, 0.0, 0.15, 0.55)
LIPS = ("upper_lip", "upper_lip_edge", "lower_lip_edge", "lower_lip")
# What the face can move: handle → weights by which rows of landmarks follow it, repeated for the other half.
HANDLES = {
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
# Displacements from the neutral face, handle → (outward, down), in inter-ocular distances at strength 1.
EXPRESSIONS = {
    "angry": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "brow_inner": (-0.06, 0.13),
            "brow_middle": (-0.03, 0.07),
            "brow_outer": (0.0, -0.02),
            "upper_lid": (0.0, 0.05),
            "lower_lid": (0.0, -0.035),
            "mouth_corner": (-0.05, 0.05),
            "red_of_upper_lip": (0.0, 0.05),
            "red_of_lower_lip": (0.0, -0.05),
        },
    },
    "happy": {
        "regions": ("mouth", "eyes"),
        "moves": {
            "mouth_corner": (0.11, -0.15),
            "upper_lip": (0.0, -0.05),
            "lower_lip": (0.0, 0.07),
            "cheek": (0.0, -0.04),
            "upper_lid": (0.0, 0.02),
            "lower_lid": (0.0, -0.04),
        },
    },
    "sad": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "mouth_corner": (0.0, 0.11),
            "upper_lip": (0.0, -0.015),
            "lower_lip": (0.0, -0.015),
            "brow_inner": (-0.03, -0.13),
            "brow_middle": (0.0, -0.03),
            "brow_outer": (0.0, 0.05),
            "upper_lid": (0.0, 0.04),
        },
    },
    "surprise": {
        "regions": ("mouth", "brows", "eyes"),
        "moves": {
            "mouth_corner": (-0.07, 0.06),
            "upper_lip": (0.0, -0.05),
            "lower_lip": (0.0, 0.26),
            "chin": (0.0, 0.05),
            "brow_inner": (0.0, -0.12),
            "brow_middle": (0.0, -0.14),
            "brow_outer": (0.0, -0.08),
            "upper_lid": (0.0, -0.05),
            "lower_lid": (0.0, 0.03),
        },
    },
}
# Brows and mouth apart, in all four combinations: neither region alone tells the class. The corners of the mouth stay,
# for faces are aligned by them, and a whole face that moves would tell what the mouth does.
BROWS = {
    "raised": {"brow_inner": (0.0, -0.12), "brow_middle": (0.0, -0.14), "brow_outer": (0.0, -0.08)},
    "lowered": {"brow_inner": (-0.06, 0.13), "brow_middle": (-0.03, 0.07), "brow_outer": (0.0, -0.02)},
}
MOUTHS = {
    "open": {"upper_lip": (0.0, -0.05), "lower_lip": (0.0, 0.2)},
    "pressed": {"red_of_upper_lip": (0.0, 0.06), "red_of_lower_lip": (0.0, -0.06)},
}
TWO_REGIONS = {
    f"{brows}_{mouth}": {"regions": ("mouth", "brows"), "moves": BROWS[brows] | MOUTHS[mouth]}
    for brows, mouth in itertools.product(BROWS, MOUTHS)
}
BLINK = {"upper_lid": (0.0, 0.13), "lower_lid": (0.0, -0.01)}
# Limits of what differs between subjects and of what twitches without meaning, in the same units.
SUBJECT_RANGES = {
    "brows": (0.03, 0.03),
    "eyes": (0.04, 0.02),
    "nose": (0.0, 0.04),
    "mouth": (0.0, 0.03),
    "mouth_corner": (0.04, 0.015),
    "face_width": (0.07, 0.0),
    "chin": (0.03, 0.07),
}
TWITCH_RANGES = {"mouth_corner": (0.01, 0.012), "brow_inner": (0.008, 0.012), "brow_outer": (0.0, 0.012)}

STARTS = np.cumsum([0, *map(len, LANDMARKS.values())]).tolist()
ROWS = {row: range(*ends) for row, ends in zip(LANDMARKS, itertools.pairwise(STARTS), strict=True)}
REGIONS = {
    "mouth": [index for row in ("mouth_corner", *LIPS) for index in ROWS[row]],
    "brows": [*ROWS["brow"]],
    "eyes": [index for row in ("eye_corner", "upper_lid", "lower_lid") for index in ROWS[row]],
}
PORTRAIT = np.concatenate([*LANDMARKS.values()]).astype("float64")  # (K, 2)
NEUTRAL = np.concatenate([*(LANDMARKS | NEUTRAL_MOUTH).values()]).astype("float64")  # (K, 2)
INTER_OCULAR = 44.5  # portrait pixels
CENTRE = np.array([223.0, 120.0])  # of the face, portrait pixels
VIEW = 178.0  # side of the square of the portrait that fills a frame, portrait pixels
REGION_MARGIN = 0.12  # of the inter-ocular distance: skin that the landmarks drag along
# The first that PyAV has. x264 writes otherwise with more threads and, with mbtree, in every run.
ENCODERS = {
    "libx264": {"crf": "18", "preset": "veryfast", "threads": "1", "mbtree": "0"},
    "mpeg4": {"qmin": "1", "qmax": "4"},
}


class Pose(NamedTuple):
    """Camera and head of one frame.

    Args:
        rotation_deg: in-plane.
        scale: 1 shows a face half as wide as the frame.
        shift: (right, down) in frame sides.
        turn: (yaw, pitch) as inter-ocular distances by which the middle of the face slides over the head.
    """

    rotation_deg: float = 0.0
    scale: float = 1.0
    shift: tuple = (0.0, 0.0)
    turn: tuple = (0.0, 0.0)


class Subject(NamedTuple):
    """Landmarks at rest `(K, 2)` in portrait pixels; skin and mouth, RGB float32 `(512, 512, 3)`."""

    name: str
    neutral: np.ndarray
    skin: np.ndarray
    mouth: np.ndarray


def displace(moves):
    """Offsets `(K, 2)` in portrait pixels of moves `{handle: (outward, down)}` in inter-ocular distances."""
    offsets = np.zeros_like(PORTRAIT)
    for handle, move in moves.items():
        for row, weights in HANDLES[handle].items():
            offsets[ROWS[row]] += np.outer(np.resize(weights, len(ROWS[row])), move)
    offsets[:, 0] *= np.sign(PORTRAIT[:, 0] - CENTRE[0])
    return INTER_OCULAR * offsets


def slide(points, turn):
    """Offsets of a feigned turn of the head: most in the middle of the face, none at the hair."""
    dome = np.exp(-(((points - CENTRE) / (42, 54)) ** 2).sum(-1, keepdims=True))
    return INTER_OCULAR * np.asarray(turn) * dome


def rotate(pose):
    angle = np.deg2rad(pose.rotation_deg)
    return pose.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def to_portrait(points, pose, size):
    """Pixels `(..., 2)` of a frame `size` wide → portrait pixels."""
    view = ((points + 0.5) / size - 0.5 - np.array(pose.shift)) * VIEW
    turned = view @ np.linalg.inv(rotate(pose)).T + CENTRE
    return turned - slide(turned, pose.turn)


def to_frame(points, pose, size):
    """Portrait pixels → frame pixels; undoes `to_portrait`."""
    turned = points
    for _ in range(8):  # contracts by 0.1 a step
        turned = points + slide(turned, pose.turn)
    return ((turned - CENTRE) @ rotate(pose).T / VIEW + 0.5 + np.array(pose.shift)) * size - 0.5


def trace_lip(landmarks, row, at):
    """Height of a lip's edge over abscissas `at` `(H, W)`, portrait pixels; level beyond the mouth."""
    corners = landmarks[ROWS["mouth_corner"]][1:3]
    x, y = np.concatenate([corners[:1], landmarks[ROWS[row]], corners[1:]]).T
    curve = PchipInterpolator(x, y)(np.linspace(x[0], x[-1], 257)).astype("float32")[None]
    place = ((at - x[0]) * (256 / (x[-1] - x[0]))).astype("float32")
    return cv2.remap(curve, place, np.zeros_like(place), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def warp_back(points, landmarks):
    """Portrait pixels shown at `points` `(H, W, 2)` of a face with `landmarks`, by thin-plate splines.

    Returns:
        `(H, W, 4)`: x and y of a spline without the edge of the lower lip, true above the parting of the
        lips, and of one without the edge of the upper lip, true below. They share the kernel, the main cost.
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
        # OpenCV's solver has no threads: waking LAPACK's for so small a system cost up to 50 ms a frame.
        coefficients[kept, columns] = cv2.solve(system[np.ix_(kept, kept)], steps[kept])[1]
    return np.tile(points, 2) + terms(points) @ coefficients


def render(subject, landmarks, pose, size):
    """A frame before light, blur and noise: RGB float32 `(size, size, 3)` in [0, 255].

    The skin above the parting of the lips and the skin below are warped apart, so that closed lips hide the
    teeth and do not squeeze them. The mouth behind hangs from the upper lip, in shadow until the lips part.

    Args:
        subject: a `Subject`.
        landmarks: `(K, 2)`, portrait pixels.
        pose: a `Pose`.
        size: side of the frame in pixels.
    """
    step = 5  # the spline is smooth: solve every fifth pixel
    nodes = np.arange(-step, size + 2 * step, step)
    coarse = to_portrait(np.stack(np.meshgrid(nodes, nodes), -1), pose, size)
    place = (np.arange(size, dtype="float32") / step + 1) * np.ones((size, 1), "float32")
    back = cv2.remap(warp_back(coarse, landmarks).astype("float32"), place, place.T.copy(), cv2.INTER_CUBIC)

    # Only the rows of the mouth need more than one of the splines.
    lips = to_frame(landmarks[REGIONS["mouth"]], pose, size)[:, 1]
    rows = slice(max(int(lips.min()) - size // 20, 0), int(lips.max()) + size // 20)
    at = cv2.remap(coarse.astype("float32"), place[rows], place.T[rows].copy(), cv2.INTER_LINEAR)
    top, bottom = (trace_lip(landmarks, edge, at[..., 0]) for edge in ("upper_lip_edge", "lower_lip_edge"))
    upper, lower = back[rows, :, :2], back[rows, :, 2:]
    hang = trace_lip(PORTRAIT, "upper_lip_edge", upper[..., 0]) + at[..., 1] - top
    behind = cv2.remap(subject.mouth, upper[..., 0].copy(), hang, cv2.INTER_LINEAR)
    # The parting cuts sharply between the corners of the mouth; beyond them it fans out and heals.
    left, right = landmarks[ROWS["mouth_corner"]][1:3, 0]
    beyond = np.clip(np.maximum(left - at[..., 0], at[..., 0] - right), 1e-3, 16)
    below = np.clip((at[..., 1] - (top + bottom) / 2) / beyond + 0.5, 0, 1)[..., None]
    skin_at = back[..., :2].copy()
    skin_at[rows] += below * (lower - upper)
    skin_at[rows.stop :] = back[rows.stop :, :, 2:]
    image = cv2.remap(subject.skin, skin_at, None, cv2.INTER_CUBIC)
    zoom = pose.scale * size / VIEW
    parted = sum(np.clip(zoom * d + 0.5, 0, 1) for d in (at[..., 1] - top, bottom - at[..., 1])) - 1
    lit = np.clip((bottom - top) / 3, 0, 1)
    image[rows] += parted[..., None] * (lit[..., None] * behind - image[rows])
    return np.clip(image, 0, 255)


def draw_subject(rng, name):
    """A smooth variation of the portrait: shape of the face, hue and brightness."""
    moves = {handle: rng.uniform(-1, 1, 2) * limits for handle, limits in SUBJECT_RANGES.items()}
    angle = rng.uniform(-0.08, 0.08)  # radians about the grey axis
    grey, cross = np.full((3, 3), 1 / 3), np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    hue = grey + np.cos(angle) * (np.eye(3) - grey) + np.sin(angle) * cross
    colour = rng.uniform(0.8, 1.05) * rng.uniform(0.95, 1.05, (3, 1)) * hue
    skin = skimage.data.astronaut().astype("float32")
    y, x = np.mgrid[:512, :512]
    throat = np.clip(y - trace_lip(PORTRAIT, "lower_lip_edge", x) + 2, 0, 1)[..., None]  # where the teeth end
    mouth = skin + throat * (np.float32([48, 18, 18]) - skin)
    return Subject(name, NEUTRAL + displace(moves), cv2.transform(skin, colour), cv2.transform(mouth, colour))


def drift(rng, seconds, limit=1.0):
    """A smooth walk in [-limit, limit]: three slow waves."""
    hz, phase = rng.uniform(0.15, 0.8, 3), rng.uniform(0, 2 * np.pi, 3)
    return limit * np.sin(2 * np.pi * seconds[:, None] * hz + phase).mean(1)


def draw_strength(rng, frames, shortest, longest):
    """Interval (start, end) and the strength of every frame: a rise, a hold and a fall inside, 0 outside.

    An interval as long as the clip is held throughout.
    """
    length = int(rng.integers(shortest, longest + 1))
    if length == frames:
        return (0, frames), np.full(frames, rng.uniform(0.85, 1))
    start = int(rng.integers(1, frames - length))  # neutral first and last
    ramp = np.clip(np.arange(1, length + 1) / (length // 4 + 1), 0, 1)
    ramp = np.minimum(ramp, ramp[::-1])
    strength = np.zeros(frames)
    strength[start : start + length] = rng.uniform(0.85, 1) * ramp * ramp * (3 - 2 * ramp)
    return (start, start + length), strength


def animate(subject, label, rng, lengths, *, frames, frame_rate_hz, size, pose, light, blur, noise, twitch):
    """One clip: its frames, RGB uint8 `(frames, size, size, 3)`, and its entry in the oracle."""
    seconds = np.arange(frames) / frame_rate_hz
    (start, end), strength = draw_strength(rng, frames, *lengths)
    blinks_s = np.cumsum(rng.uniform(0.8, 5, 2 + int(seconds[-1]))) - 0.8
    shut = np.clip(1 - np.abs(seconds[:, None] - blinks_s) / 0.13, 0, 1).max(1)
    blink = min(twitch, 1) * shut * (strength == 0)
    acts = [((EXPRESSIONS | TWO_REGIONS)[label]["moves"], strength), (BLINK, blink)]
    acts += [({handle: limits}, twitch * drift(rng, seconds)) for handle, limits in TWITCH_RANGES.items()]
    faces = subject.neutral + sum(weights[:, None, None] * displace(moves) for moves, weights in acts)
    poses, shown = film(subject, faces, seconds, rng, size=size, pose=pose, light=light, blur=blur, noise=noise)
    images, regions = [], {region: [] for region in (EXPRESSIONS | TWO_REGIONS)[label]["regions"]}
    for face, view, image in zip(faces, poses, shown, strict=True):
        images.append(image)
        for region, boxes in regions.items():
            boxes.append(locate(region, [subject.neutral, face], view, size))
    return np.stack(images), {
        "label": label,
        "subject": subject.name,
        "interval_frames": [start, end],
        "interval_s": [start / frame_rate_hz, end / frame_rate_hz],
        "strength": strength.round(4).tolist(),
        "blink": blink.round(4).tolist(),
        "regions": regions,
    }


def film(subject, faces, seconds, rng, *, size, pose, light, blur, noise):
    """A face through time, under a camera, a head and a light that drift.

    Args:
        subject: a `Subject`.
        faces: landmarks `(F, K, 2)` in portrait pixels.
        seconds: `(F,)`, time of each frame.
        rng: generator; it is drawn from until the last frame is made.
        size, pose, light, blur, noise: as in `generate`.

    Returns:
        `(poses, images)`: the `Pose` of each frame; iterator of frames, RGB uint8 `(size, size, 3)`.
    """
    ways = [pose * drift(rng, seconds, limit) for limit in (8, 0.08, 0.06, 0.06, 0.1, 0.06)]
    poses = [Pose(way[0], 1 + way[1], way[2:4], way[4:]) for way in np.stack(ways, 1)]
    gain, slope_x, slope_y = (light * drift(rng, seconds, limit) for limit in (0.2, 0.2, 0.15))
    blur_sigma = max(blur * rng.uniform(0.3, 1), 1e-3)
    across = np.linspace(-1, 1, size)

    def images():
        for frame, (face, view) in enumerate(zip(faces, poses, strict=True)):
            lit = 1 + gain[frame] + slope_x[frame] * across + slope_y[frame] * across[:, None]
            image = render(subject, face, view, size) * lit[..., None].astype("float32")
            image = cv2.GaussianBlur(image, (0, 0), blur_sigma)
            image += noise * rng.standard_normal(image.shape, "float32")
            yield np.clip(np.rint(image), 0, 255).astype("uint8")

    return poses, images()


def locate(region, faces, pose, size):
    """Box [x0, y0, x1, y1] in frame pixels about a region's landmarks in all of `faces`."""
    points = to_frame(np.concatenate([face[REGIONS[region]] for face in faces]), pose, size)
    margin = REGION_MARGIN * INTER_OCULAR * pose.scale * size / VIEW
    return np.clip([*points.min(0) - margin, *points.max(0) + margin], 0, size).round(1).tolist()


def write_video(path, images, frame_rate_hz):
    """Writes RGB uint8 `(H, W, 3)`, one or more, as H.264, or MPEG-4 part 2 where PyAV lacks x264, in yuv420p."""
    encoder = next(name for name in ENCODERS if name in av.codecs_available)
    rate = Fraction(frame_rate_hz).limit_denominator(1001)
    with replace_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=rate, options=ENCODERS[encoder])
        stream.pix_fmt = "yuv420p"
        for index, image in enumerate(images):
            if index == 0:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def generate(
    out,
    *,
    train_clips=40,
    test_clips=20,
    frames=32,
    frame_rate_hz=16,
    size=240,
    interval_ratio=(0.2, 0.4),
    pose=1.0,
    light=1.0,
    blur=0.8,
    noise=3.0,
    twitch=1.0,
    seed=0,
    expressions=tuple(EXPRESSIONS),
    track: Track = hide_progress,
):
    """Writes the clips `OUT/{train,test}/<expression>/<id>.mp4`, `OUT/clips.csv` and `OUT/planted.json`, the oracle.

    A subject shows each expression once and is in one split. The same arguments give the same frames; where they
    were written before, nothing is done.

    Args:
        out: folder; made if need be.
        train_clips, test_clips: of all expressions together.
        frames, frame_rate_hz: of a clip.
        size: side of the frame in pixels, even. The face is about half as wide.
        interval_ratio: shortest and longest expression as parts of the clip; `(1, 1)` holds it from end to end.
        pose, light: how much head and camera move and the light changes; 0 holds them still.
        blur: largest standard deviation of the blur in pixels.
        noise: standard deviation of the sensor's noise in levels of 255.
        twitch: how much the face moves without meaning, blinks included.
        seed: of everything random.
        expressions: those to plant, of `EXPRESSIONS` and `TWO_REGIONS`.
        track: Shows progress.

    Returns:
        Path of `planted.json`: `{"arguments": {...}, "clips": {key: {...}}}`. An entry of `clips`, say
        `"train/happy/0001"`, holds `label`, `subject`, `interval_frames` and `interval_s` as [start, end),
        `strength` and `blink` of every frame in [0, 1], and `regions`: for each planted region the box
        [x0, y0, x1, y1] in pixels in every frame, about the region as it is and as it would be at rest.

    Raises:
        ValueError: for an unknown expression, an odd size, an interval ratio that no number of frames meets,
            or clips in `out` that this call would not write.
    """
    settings = {"frames": frames, "frame_rate_hz": frame_rate_hz, "size": size, "pose": pose, "light": light}
    settings |= {"blur": blur, "noise": noise, "twitch": twitch}
    if not expressions or not set(expressions) <= set(EXPRESSIONS | TWO_REGIONS):
        raise ValueError(
            "Unknown or no expression in `expressions`. "
            f"Expected one of {sorted(EXPRESSIONS | TWO_REGIONS)}. Received: expressions={expressions!r}"
        )
    if size % 2:
        raise ValueError(f"`size` must be even (yuv420p). Expected an even number. Received: size={size!r}")
    lengths = math.ceil(interval_ratio[0] * frames - 1e-9), math.floor(interval_ratio[1] * frames + 1e-9)
    if not (0 < lengths[0] <= lengths[1] <= frames - 2 or interval_ratio[0] == interval_ratio[1] == 1):
        raise ValueError(
            "No number of frames meets `interval_ratio`. Expected 0 < low <= high, with neutral frames left, or 1, 1. "
            f"Received: interval_ratio={interval_ratio!r}, frames={frames!r}"
        )
    out = Path(out)
    tasks = {
        f"{split}/{expressions[index % len(expressions)]}/{index:04d}": (split, index)
        for split, clips in (("train", train_clips), ("test", test_clips))
        for index in range(clips)
    }
    arguments = settings | {"interval_ratio": list(interval_ratio), "expressions": list(expressions), "seed": seed}
    arguments |= {"train_clips": train_clips, "test_clips": test_clips}
    oracle = out / "planted.json"
    if oracle.exists() and read_json(oracle)["arguments"] == arguments:
        return oracle
    strays = {path.relative_to(out).with_suffix("").as_posix() for path in out.glob("*/*/*.mp4")}
    strays = sorted(strays - set(tasks))
    if strays:
        raise ValueError(f"`out` holds other clips. Expected none, remove them. Received: {out}, {strays}")
    out.mkdir(parents=True, exist_ok=True)
    oracle.unlink(missing_ok=True)  # it would lie about the clips to come
    clips = {}
    for key, (split, index) in track(tasks.items(), len(tasks), "videos"):
        person, turn = divmod(index, len(expressions))
        stream = [seed, split == "test"]
        subject = draw_subject(np.random.default_rng([*stream, 0, person]), f"{split}_{person:02d}")
        rng = np.random.default_rng([*stream, 1, index])
        images, clips[key] = animate(subject, expressions[turn], rng, lengths, **settings)
        path = out / f"{key}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, images, frame_rate_hz)
    with open(out / "clips.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "subject", "split"])
        writer.writerows((f"{key}.mp4", clip["label"], clip["subject"], tasks[key][0]) for key, clip in clips.items())
    write_json(oracle, {"arguments": arguments, "clips": clips})
    return oracle
