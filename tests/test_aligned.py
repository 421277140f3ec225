"""Folders of faces that are cut already → clips: times, sizes, and what is wrong with an image."""

import hashlib
import math
import re
import struct
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf

from affect.config import Faces
from affect.data.records import parse_example
from affect.errors import InputError
from affect.pipelines.aligned import list_images, read_clip, sha256_of_images, size_of_images, stray_images
from affect.pipelines.images import read_image
from affect.pipelines.prepare import prepare
from tests.pictures import SMALL_FACES, portrait

FACES = Faces(face_size=64)


def write_images(folder, *names, size=(48, 48), value=None):
    """Writes portraits, or flat images of a value, of a height and width; the suffix chooses the format."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = (
            portrait(size=max(size))[: size[0], : size[1]] if value is None else np.full((*size, 3), value, np.uint8)
        )
        assert cv2.imwrite(str(folder / name), image[:, :, ::-1])
    return folder


def decoded(face):
    return cv2.imdecode(np.frombuffer(face.jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def times(clip):
    return [face.timestamp_s for face in clip.faces]


def test_a_folder_becomes_a_clip(tmp_path):
    write_images(tmp_path, "000.jpg", "002.jpg", "001.jpg", size=(128, 128))
    clip, problem = read_clip(tmp_path, FACES, key="a", label="sad", source_sha256="00")
    assert (clip.key, clip.label, clip.source_sha256, problem) == ("a", "sad", "00", "")
    assert (clip.frames_decoded, clip.frame_rate_hz) == (3, 25.0)
    assert times(clip) == [0.0, 0.04, 0.08]
    face = clip.faces[0]
    assert decoded(face).shape == (64, 64, 3)
    distance = np.abs(decoded(face).astype(int) - portrait(size=64)).mean()
    others = (decoded(face)[:, ::-1], decoded(face)[:, :, ::-1], np.roll(decoded(face), 4, axis=0))
    assert distance < 8 < 12 < min(np.abs(other.astype(int) - portrait(size=64)).mean() for other in others)
    assert (face.box, face.score) == ((0.0, 0.0, 128.0, 128.0), 1.0)
    assert all(map(math.isnan, face.landmarks))
    # Corner to corner: pixel centres lie at -0.5 + half a pixel.
    np.testing.assert_allclose(face.transform, (0.5, 0, -0.25, 0, 0.5, -0.25))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("9.jpg", "10.png", "0012.jpeg"), [9 / 25, 10 / 25, 12 / 25]),
        (("a.jpg", "10.jpg", "9.JPG"), [9 / 25, 10 / 25]),
        (tuple(f"frame_{index}.jpg" for index in range(12)), [index / 25 for index in range(12)]),
        (("b2.jpg", "a10.jpg", "a9.jpg", "c.jpg"), [0.0, 1 / 25, 2 / 25, 3 / 25]),
        (("1.jpg", "2.png", "2.jpg"), [1 / 25, 2 / 25]),
        (("0.jpg", "cover.jpg"), [0.0]),
        (("3.jpg", "4.jpg", "cover.jpg", "thumb.png", "mean.png"), [3 / 25, 4 / 25]),
        (("1.jpg", "a.jpg", "b.jpg"), [0.0, 1 / 25, 2 / 25]),
        (("000046280_0003.jpg",), [3 / 25]),
        (tuple(f"frame_{index}_of_12.jpg" for index in range(12)) + ("a.jpg",), [index / 25 for index in range(12)]),
    ],
)
def test_images_named_by_numbers_are_those_frames(tmp_path, names, expected):
    write_images(tmp_path, *names)
    (tmp_path / "._1.jpg").touch()
    (tmp_path / "points.txt").touch()
    (tmp_path / "folder.jpg").mkdir()
    assert times(read_clip(tmp_path, FACES, key="a")[0]) == expected


def test_frames_are_thinned_as_those_of_videos_are(tmp_path):
    write_images(tmp_path, *(f"{index:03d}.jpg" for index in (0, 1, 2, 3, 5, 6, 7, 8)))
    clip, _ = read_clip(tmp_path, Faces(face_size=64, frame_rate_hz=12.5), key="a")
    assert times(clip) == [0.0, 2 / 25, 5 / 25, 6 / 25, 8 / 25]
    assert (clip.frames_decoded, clip.frame_rate_hz) == (5, 12.5)


@pytest.mark.parametrize(("size", "inside"), [((20, 40), np.s_[16:48, :]), ((300, 100), np.s_[:, 21:42])])
def test_what_is_not_square_stands_in_black(tmp_path, size, inside):
    face = read_clip(write_images(tmp_path, "0.png", size=size, value=200), FACES, key="a")[0].faces[0]
    expected = np.zeros((64, 64), int)
    expected[inside] = 200
    assert np.abs(decoded(face)[..., 0] - expected).mean() < 4
    # The middle of the image goes to the middle of what is inside.
    a, b, tx, c, d, ty = face.transform
    x, y = (size[1] - 1) / 2, (size[0] - 1) / 2
    rows, columns = np.nonzero(expected)
    np.testing.assert_allclose((a * x + b * y + tx, c * x + d * y + ty), (columns.mean(), rows.mean()))


def test_grey_and_transparent_images_are_read_as_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "clear.png"), np.full((8, 8, 4), 77, np.uint8))
    assert all((read_image(tmp_path / name) == 77).all() for name in ("grey.png", "clear.png"))
    assert read_image(tmp_path / "clear.png").shape == (8, 8, 3)


def test_damaged_images_are_left_out_and_named(tmp_path):
    write_images(tmp_path, "0.jpg", "1.jpg", "2.jpg", "3.jpg")
    content = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "2.jpg").write_text("no image")
    clip, problem = read_clip(tmp_path, FACES, key="a")
    assert times(clip) == [0.0, 3 / 25]
    assert clip.frames_decoded == 4
    assert re.match(
        r"2 of 4 images cannot be used\. .*1\.jpg is not an image that can be read \(image file is trunc", problem
    )


def test_a_folder_without_images_is_named(tmp_path):
    clip, problem = read_clip(tmp_path, FACES, key="a")
    assert (clip.faces, clip.frames_decoded, problem) == ((), 0, f"{tmp_path} holds no images.")


def test_an_image_that_claims_more_than_memory_holds_is_refused(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    with pytest.raises(InputError, match=r"bomb\.png (claims 60000×60000 pixels|is not an image that can be read)"):
        read_image(path)


def test_an_image_that_is_too_large_a_file_or_of_another_format_is_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.tiff").rename(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg is not an image that can be read \(not a JPEG or PNG"):
        read_image(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b" " * (2**20 + 1))
    with pytest.raises(InputError, match=r"b\.jpg is larger than 1 MiB\.$"):
        read_image(tmp_path / "b.jpg", most_bytes=2**20)


def test_afew_faces_are_prepared_without_detection(tmp_path):
    root = tmp_path / "AFEW"
    faces = root / "Train_AFEW" / "AlignedFaces_LBPTOP_Points" / "Faces"
    for path in ("Train_AFEW/Angry/001.avi", "Train_AFEW/Sad/002.avi"):
        (root / path).parent.mkdir(parents=True)
        (root / path).touch()
    write_images(faces / "001", "000.jpg", "001.jpg", value=90)
    for change, text in (({"min_face_px": 60}, "--min-face-px 60"), ({"tracks": "all"}, "--faces all")):
        with pytest.raises(InputError, match=f"^{text} has no effect: these faces are cut already. Only --face-size, "):
            prepare(root, dataset="afew_faces", out=tmp_path / "out", faces=replace(SMALL_FACES, **change))
    manifest = prepare(root, dataset="afew_faces", out=tmp_path / "out", faces=SMALL_FACES, workers=1)
    found = {clip["key"]: clip for clip in manifest["clips"]}
    assert found["train/001"]["frames_with_a_face"] == 2
    images = [(faces / "001" / name).read_bytes() for name in ("000.jpg", "001.jpg")]
    assert found["train/001"]["bytes"] == sum(map(len, images))
    assert found["train/001"]["source_sha256"] == hashlib.sha256(b"".join(images)).hexdigest()
    assert found["train/001"]["source_sha256"] == sha256_of_images(faces / "001")
    assert found["train/002"]["problem"].startswith("There is no folder ")
    assert "train/angry: 1 clip, 133 published" in manifest["differences"]
    records = {}
    for serialized in tf.data.TFRecordDataset(str(tmp_path / "out" / manifest["shards"][0]["name"])):
        record = parse_example(serialized)
        records[record["clip/media_id"].numpy()] = record
    assert records[b"train/001"]["image/timestamp"].numpy().tolist() == [0, 40_000]
    assert records[b"train/002"]["image/timestamp"].numpy().tolist() == []
    assert prepare(root, dataset="afew_faces", out=tmp_path / "out", faces=SMALL_FACES, workers=1) == manifest
    write_images(faces / "001", "002.jpg")
    with pytest.raises(InputError, match=r"other videos or labels. Added, removed or changed: 1 \(train/001\)"):
        prepare(root, dataset="afew_faces", out=tmp_path / "out", faces=SMALL_FACES, workers=1)


def test_strays_change_nothing_and_are_named(tmp_path):
    names = [f"frame_{index}.jpg" for index in range(12)]
    strays = ["Thumbs.bmp", "cover.jpg", "frame_3 (1).jpg", "frame_4.png", "thumb_1.png"]
    write_images(tmp_path, *names, *strays, size=(8, 8))
    assert [path.name for _, path in list_images(tmp_path)] == names
    assert [path.name for path in stray_images(tmp_path)] == strays


def test_images_whose_names_have_several_numbers_stand_in_natural_order(tmp_path):
    names = ["a1_0.9.jpg", "a2_0.75.jpg", "a10_0.8.jpg"]
    write_images(tmp_path, *names, "cover_1.jpg", size=(8, 8))
    assert [path.name for _, path in list_images(tmp_path)] == names
    assert [path.name for path in stray_images(tmp_path)] == ["cover_1.jpg"]


def test_images_without_a_common_name_stand_in_natural_order(tmp_path):
    write_images(tmp_path, "b2.jpg", "a10.jpg", "a9.jpg", "c.jpg", size=(8, 8))
    assert [path.name for _, path in list_images(tmp_path)] == ["a9.jpg", "a10.jpg", "b2.jpg", "c.jpg"]


def test_images_that_are_no_files_are_named(tmp_path):
    write_images(tmp_path, "0.jpg", "2.jpg", size=(8, 8))
    (tmp_path / "1.jpg").symlink_to("gone.jpg")
    (tmp_path / "3.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    clip, problem = read_clip(tmp_path, FACES, key="a")
    assert times(clip) == [0.0, 2 / 25]
    assert (
        problem.startswith("2 of 4 images cannot be used.") and "is a link to gone.jpg, which is not there" in problem
    )
    assert size_of_images(tmp_path) > 0 and len(sha256_of_images(tmp_path)) == 64
