"""What savedmodels/PHONE.md tells the author of an app: its code runs, and gives what affect gives."""

import re
import shutil
import subprocess

import av
import numpy as np
import pytest
from scipy.special import softmax

from affect.config import Faces
from affect.data.views import place_template, view_centre
from affect.models.stream import StreamingClassifier
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.faces import align, cut_face
from affect.reading.loading import load
from benchmarks.convert import build, format_rows, measure
from tests.documents import blocks_of, text_of
from tests.pictures import portrait

DOCUMENT = "savedmodels/PHONE.md"
# What a program of each language prints about the golden frame, and how it is compiled and run.
MAINS = {
    "cpp": """
#include <cstdio>
int main() {
  std::vector<uint8_t> frame(240 * 320 * 3);
  for (int v = 0; v < 240; ++v) for (int u = 0; u < 320; ++u) {
    uint8_t* pixel = &frame[(v * 320 + u) * 3];
    pixel[0] = 3 * u + 5 * v, pixel[1] = 7 * u + 2 * v, pixel[2] = u * v;
  }
  Points landmarks = LANDMARKS, points = POINTS;
  for (double value : fit(landmarks, points)) std::printf("%.9f ", value);
  for (int value : cut(frame, 320, 240, landmarks, points, 64)) std::printf("%d ", value);
}
""",
    "kotlin": """
fun main() {
    val frame = ByteArray(240 * 320 * 3)
    for (v in 0 until 240) for (u in 0 until 320) {
        val place = (v * 320 + u) * 3
        frame[place] = (3 * u + 5 * v).toByte()
        frame[place + 1] = (7 * u + 2 * v).toByte()
        frame[place + 2] = (u * v).toByte()
    }
    val landmarks: Points = LANDMARKS
    val points: Points = POINTS
    val face = cut(frame, 320, 240, landmarks, points, 64)
    println(fit(landmarks, points).joinToString(" ") + " " + face.joinToString(" ") { (it.toInt() and 255).toString() })
}
""",
    "swift": """
var frame = [UInt8](repeating: 0, count: 240 * 320 * 3)
for v in 0..<240 { for u in 0..<320 {
    let place = (v * 320 + u) * 3
    frame[place] = UInt8((3 * u + 5 * v) & 255)
    frame[place + 1] = UInt8((7 * u + 2 * v) & 255)
    frame[place + 2] = UInt8((u * v) & 255)
} }
let landmarks: Points = LANDMARKS
let points: Points = POINTS
let map = fit(landmarks, points)
print(map.a, map.b, map.x, map.y)
for value in cut(frame, width: 320, height: 240, landmarks: landmarks, points: points, size: 64) { print(value) }
""",
}
LISTS = {
    "cpp": ("{{%s}}", "{%s, %s}"),
    "kotlin": ("arrayOf(%s)", "doubleArrayOf(%s, %s)"),
    "swift": ("[%s]", "[%s, %s]"),
}
COMPILERS = {
    "cpp": ("g++", "face.cpp", ["g++", "-std=c++17", "-O2", "-Wall", "face.cpp", "-o", "face"], ["./face"]),
    "kotlin": (
        "kotlinc",
        "face.kt",
        ["kotlinc", "face.kt", "-include-runtime", "-d", "face.jar"],
        ["java", "-jar", "face.jar"],
    ),
    "swift": ("swiftc", "face.swift", ["swiftc", "-O", "face.swift", "-o", "face"], ["./face"]),
}


def code_of(language, word):
    (found,) = (block.text for block in blocks_of(DOCUMENT) if block.language == language and word in block.text)
    return found


@pytest.fixture(scope="module")
def numpy_code():
    names = {}
    exec(code_of("python", "def cut("), names)
    return names


@pytest.fixture(scope="module")
def points():
    return place_template(Faces(), crop_ratio=1.0, face_size=64)


def test_the_template_of_the_document_is_the_one_that_faces_are_cut_by(points):
    rows = re.findall(
        r"^\| [a-z ]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text_of(DOCUMENT), re.MULTILINE
    )
    numbers = np.array(rows, float)
    np.testing.assert_array_equal(numbers[:, :2], Faces.template)
    np.testing.assert_allclose(numbers[:, 2:], points, atol=5e-4)


def test_the_points_are_where_affect_puts_the_landmarks():
    """A face that is cut as a phone cuts it is the one that training saw: cut, cropped to 7/8 and scaled."""
    settings = Faces(face_size=96)
    points = place_template(settings, crop_ratio=0.875, face_size=42)
    landmarks = np.array([(60.0, 50.0), (100.0, 60.0), (78.0, 80.0), (60.0, 95.0), (92.0, 104.0)])
    _, matrix = align(np.zeros((160, 160, 3), np.uint8), landmarks, 96, settings.margin_ratio)
    cut = landmarks @ matrix[:, :2].T + matrix[:, 2]
    seen = (cut - 6 + 0.5) * 42 / 84 - 0.5  # a crop of 84 pixels begins 6 pixels inside
    np.testing.assert_allclose(seen.mean(axis=0), points.mean(axis=0), atol=1e-9)
    spread = [np.linalg.norm(each - each.mean(axis=0)) for each in (seen, points)]
    assert 0.9 < spread[0] / spread[1] <= 1


def test_a_file_says_where_the_landmarks_go(points, converted):
    _, artefact = converted("joint_softmax")
    expected = place_template(artefact.faces, crop_ratio=0.75, face_size=32)
    np.testing.assert_allclose(artefact.description["face_points"], expected, atol=1e-9)
    np.testing.assert_allclose(load("fer2013").description["face_points"], points, atol=1e-9)


def compare(cut, frames, points):
    """Returns how far faces that the phone cuts are from those of training: mean in grey levels, in a probability.

    Training stores 256 pixels as JPEG and scales them; the phone samples the frame once.
    """
    model, pairs = load("fer2013"), []
    for frame, (detection,) in zip(frames, DETECTORS["mtcnn"](model.faces).detect(frames), strict=True):
        seen = view_centre(cut_face(0.0, frame, model.faces, detection).jpeg, 1.0, 64)
        pairs.append((cut(frame, np.reshape(detection.landmarks, (5, 2)), points, 64), seen))
    found, seen = map(np.stack, zip(*pairs, strict=True))
    probabilities = [softmax(model.frame_functions["frame"](faces=faces)["frame_logits"], 1) for faces in (found, seen)]
    return np.abs(found.astype(int) - seen).mean(), np.abs(np.diff(probabilities, axis=0)).max()


def test_numpy_cuts_what_training_saw(numpy_code, points):
    grey_levels, probability = compare(numpy_code["cut"], [portrait(size=400)], points)
    assert grey_levels < 1.5
    assert probability < 0.01


def test_numpy_cuts_what_training_saw_of_a_real_clip(numpy_code, points, shared_data):
    """The numbers of the document."""
    with av.open(shared_data / "clips/single_face.mp4") as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    grey_levels, probability = compare(numpy_code["cut"], frames, points)
    assert grey_levels < 0.5
    assert probability < 0.03


def golden_of(names):
    face = names["cut"](names["frame"], names["landmarks"], names["points"], 64)
    return names["fit"](np.array(names["landmarks"], float), np.array(names["points"])), face


@pytest.mark.parametrize(
    "language", ["cpp", pytest.param("kotlin", marks=pytest.mark.large), pytest.param("swift", marks=pytest.mark.large)]
)
def test_other_languages_give_the_golden_numbers(language, numpy_code, tmp_path):
    compiler, file, compile_it, run_it = COMPILERS[language]
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is absent: the {language} code of {DOCUMENT}. No extra can install a compiler")
    whole, pair = LISTS[language]
    main = MAINS[language]
    for name in ("landmarks", "points"):
        rows = ", ".join(pair % (float(x), float(y)) for x, y in numpy_code[name])
        main = main.replace(name.upper(), whole % rows)
    (tmp_path / file).write_text(code_of(language, "Cuts a face") + main)
    built = subprocess.run(compile_it, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    done = subprocess.run(run_it, cwd=tmp_path, capture_output=True, text=True, check=True)
    numbers = np.array(done.stdout.split(), float)
    mapping, face = golden_of(numpy_code)
    np.testing.assert_allclose(numbers[:4], mapping, atol=1e-6)
    assert np.abs(numbers[4:].reshape(64, 64, 3) - face).max() <= 1


def test_the_stream_of_the_document_is_affects(numpy_code):
    names = {}
    exec(code_of("python", "def stream("), names)
    model = load("fer2013")
    random = np.random.default_rng(0)
    faces = [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(5)]
    ours = StreamingClassifier(model.frame_functions, model.experiment.model, model.classes)
    shown = list(names["stream"](str(model.path), faces))
    assert len(shown) == 5
    for place, (face, (label, probabilities, importance)) in enumerate(zip(faces, shown, strict=True)):
        reading = ours.add(float(place), face)
        assert label == reading.label
        np.testing.assert_allclose(probabilities, list(reading.probabilities.values()), atol=1e-6)
        assert importance[-1] == pytest.approx(reading.importance, abs=1e-6)
        assert len(importance) == place + 1 and importance.sum() == pytest.approx(1)


@pytest.mark.large
def test_the_table_of_forms_is_printed(tmp_path):
    reports = measure(build("mini_xception"), tmp_path, train_clips=8, test_clips=4, frame_rate_hz=8.0)
    assert not [report for report in reports if "problem" in report]
    lines = format_rows(reports)
    assert len(lines) == 13 and len({line.count("|") for line in lines}) == 1
    moved = {(report["part"], report["to"]): report["agreement"]["importance"]["mean"] for report in reports}
    assert moved["clip", "int8"] < 0.1
