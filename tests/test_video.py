"""Video files → frames: times, rotation, pixel shape, and what is said of files that are damaged."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest

from affect.config import Faces
from affect.errors import InputError
from pipelines import video
from pipelines.faces import cut_clip
from pipelines.video import probe_frame_rate, read_frames, sha256_of
from tests.conftest import no_face, portrait, write_video

CODECS = {".avi": "mpeg4", ".flv": "flv1", ".mpeg": "mpeg1video", ".mpg": "mpeg2video", ".webm": "libvpx"}
CODECS |= {".wmv": "wmv2"}
# Colours of the quarters of a picture, row by row.
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)
ONE = 1 << 16


class NoDetector:
    def detect(self, frames):
        return [[] for _ in frames]


def times(path, **part):
    return [timestamp_s for timestamp_s, _ in read_frames(path, **part)]


def read_until_error(path):
    """Returns the frames before the error, and its text; empty where there is none."""
    frames = []
    try:
        frames.extend(read_frames(path))
    except InputError as error:
        return frames, str(error)
    return frames, ""


def numbered(count, size=64):
    """Frames whose grey level is ten times their number."""
    return [np.full((size, size, 3), 10 * index, np.uint8) for index in range(count)]


def mosaic(top_left, top_right, bottom_left, bottom_right, height=64, width=96):
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = top_left, top_right
    frame[height // 2 :, : width // 2], frame[height // 2 :, width // 2 :] = bottom_left, bottom_right
    return frame


def with_matrix(path, a, b, c, d, tx, ty):
    """Writes QuickTime's display matrix into the track header: (x', y') = (a·x + c·y + tx, b·x + d·y + ty)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # four characters, version and flags, 36 bytes of other fields
    rows = (a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, tx * ONE, ty * ONE, 1 << 30)
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in rows)
    path.write_bytes(data)
    return path


def packets(path):
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_each_container_gives_every_frame_at_its_time(tmp_path, suffix):
    path = write_video(tmp_path / f"a{suffix}", numbered(20), frame_rate_hz=25, codec=CODECS.get(suffix, "libx264"))
    frames = list(read_frames(path))
    np.testing.assert_allclose([time for time, _ in frames], np.arange(20) / 25, atol=1e-3)
    np.testing.assert_allclose([frame.mean() for _, frame in frames], 10 * np.arange(20), atol=4)
    assert {(frame.shape, frame.dtype.name, frame.flags.c_contiguous) for _, frame in frames} == {
        ((64, 64, 3), "uint8", True)
    }
    assert probe_frame_rate(path) == 25


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_each_container_gives_the_part_that_is_asked_for(tmp_path, suffix):
    frames = [portrait(size=64, shift=(t, 0)) for t in range(50)]
    path = write_video(tmp_path / f"a{suffix}", frames, frame_rate_hz=25, codec=CODECS.get(suffix, "libx264"))
    np.testing.assert_allclose(times(path, start_s=1.0, end_s=1.16), [1.0, 1.04, 1.08, 1.12], atol=1e-3)
    np.testing.assert_allclose(times(path, start_s=1.01, end_s=1.08), [1.04], atol=1e-3)
    np.testing.assert_allclose(times(path, end_s=0.08), [0.0, 0.04], atol=1e-3)
    np.testing.assert_allclose(times(path, start_s=1.0)[:3], [1.0, 1.04, 1.08], atol=1e-3)


@pytest.mark.parametrize("clip", ["single_face.mp4", "face_noface.mov", "noface_face.mov", "no_face.mp4"])
def test_real_clips_give_what_pyav_decodes_and_no_complaint(shared_data, clip):
    path = shared_data / "clips" / clip
    with av.open(str(path)) as container:
        expected = [(frame.time, frame.height, frame.width) for frame in container.decode(video=0)]
    frames = [(time, *frame.shape[:2]) for time, frame in read_frames(path)]
    assert len(frames) == {"single_face.mp4": 72, "no_face.mp4": 95}.get(clip, 169)
    np.testing.assert_allclose([row[0] for row in frames], [row[0] - expected[0][0] for row in expected], atol=1e-9)
    assert [row[1:] for row in frames] == [row[1:] for row in expected]


def test_frame_rate_thins_on_a_grid_that_does_not_drift(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)] * 300, frame_rate_hz=30)
    chosen = times(path, frame_rate_hz=7)
    # Ten seconds have 70 points, and each is met by the first of 30 frames a second that is not before it.
    np.testing.assert_allclose(chosen, np.ceil(np.arange(70) / 7 * 30 - 1e-9) / 30, atol=1e-4)
    np.testing.assert_allclose(times(path, frame_rate_hz=10, start_s=3, end_s=3.5), 3 + np.arange(5) / 10, atol=1e-4)
    assert len(times(path, frame_rate_hz=1000)) == 300


def test_frame_rate_with_a_hole_in_time_gives_no_frame_twice(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        stream.codec_context.time_base = Fraction(1, 10)
        for tick in (0, 1, 2, 3, 30, 31, 32, 33):
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    np.testing.assert_allclose(times(path, frame_rate_hz=5), [0, 0.2, 3.0, 3.2], atol=1e-3)


@pytest.mark.parametrize(
    ("matrix", "shape", "quarters"),
    [
        # The corner (0, 0) goes to the top right: a quarter turn clockwise, as a phone held upright writes it.
        ((0, 1, -1, 0, 64, 0), (96, 64, 3), (BLUE, RED, BLACK, GREEN)),
        ((0, -1, 1, 0, 0, 96), (96, 64, 3), (GREEN, BLACK, RED, BLUE)),
        ((-1, 0, 0, -1, 96, 64), (64, 96, 3), (BLACK, BLUE, GREEN, RED)),
        # Mirrored: left is right; top is bottom; rows are columns.
        ((-1, 0, 0, 1, 96, 0), (64, 96, 3), (GREEN, RED, BLACK, BLUE)),
        ((1, 0, 0, -1, 0, 64), (64, 96, 3), (BLUE, BLACK, RED, GREEN)),
        ((0, 1, 1, 0, 0, 0), (96, 64, 3), (RED, BLUE, GREEN, BLACK)),
    ],
)
def test_frames_are_turned_as_the_display_matrix_says(tmp_path, matrix, shape, quarters):
    path = with_matrix(write_video(tmp_path / "a.mp4", [mosaic(RED, GREEN, BLUE, BLACK)] * 2), *matrix)
    ((_, frame), _) = read_frames(path)
    assert frame.shape == shape
    corners = frame[8, 8], frame[8, -8], frame[-8, 8], frame[-8, -8]
    np.testing.assert_allclose(corners, quarters, atol=12)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "libx264"), (".avi", "mpeg4"), (".mkv", "libx264")])
def test_pixels_become_square(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"a{suffix}", [portrait()], codec=codec, aspect_ratio=Fraction(16, 15))
    ((_, frame),) = read_frames(path)
    assert frame.shape == (160, 171, 3)  # 160 · 16 / 15 = 170.7


def test_pixels_become_square_before_the_frame_is_turned(tmp_path):
    frame = mosaic(RED, GREEN, BLUE, BLACK)
    path = write_video(tmp_path / "a.mp4", [frame], aspect_ratio=Fraction(4, 3))
    ((_, turned),) = read_frames(with_matrix(path, 0, 1, -1, 0, 64, 0))
    assert turned.shape == (128, 64, 3)


def no_file(path):
    return path


def folder(path):
    path.mkdir()


def empty(path):
    path.touch()


def text(path):
    path.write_text("not a video\n" * 100)


def sound(path):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def no_frames(path):
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        container.start_encoding()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (no_file, "is not a video that can be opened (No such file or directory)."),
        (folder, "is not a video that can be opened (Is a directory)."),
        (empty, "is not a video that can be opened (Invalid data found when processing input)."),
        (text, "is not a video that can be opened (Invalid data found when processing input)."),
        (sound, "has no video stream."),
        (no_frames, "has no frames."),
    ],
)
def test_what_is_not_a_video_is_one_clear_line(tmp_path, make, expected):
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(InputError, match=f"^{re.escape(f'{path} {expected}')}$"):
        list(read_frames(path))
    clip, cut = cut_clip(path, Faces(), NoDetector(), key="a")
    assert (clip.faces, clip.frames_decoded, cut.problem) == ((), 0, f"{path} {expected}")
    assert probe_frame_rate(path) == (10 if make is no_frames else 0)


def test_part_without_frames_says_so(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(10))
    _, cut = cut_clip(path, Faces(), NoDetector(), key="a", start_s=50.0)
    assert cut.problem == f"{path} has no frames between start_s=50.0 and end_s=None."
    _, cut = cut_clip(path, Faces(), NoDetector(), key="a", start_s=0.31, end_s=0.39)
    assert cut.problem == f"{path} has no frames between start_s=0.31 and end_s=0.39."


def test_sound_that_outlasts_the_picture_is_no_damage(tmp_path):
    frames, error = read_until_error(write_video(tmp_path / "a.mp4", numbered(10), audio_s=5))
    assert (len(frames), error) == (10, "")


# Noise, so that every frame is about as large as the next.
def noisy(count):
    return list(np.random.default_rng(0).integers(0, 255, (count, 64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("suffix", "codec", "expected"),
    [
        (".mp4", "libx264", r"is (truncated: \d+ of 40 frames|damaged after \d+ frames \(Invalid data.*\))\.$"),
        (".avi", "mpeg4", r"is truncated: \d+ of 40 frames\.$"),
        (".mkv", "libx264", r"is truncated: 1\.\d of 2\.0 seconds\.$"),
        (".webm", "libvpx", r"is truncated: 1\.\d of 2\.0 seconds\.$"),
        (".flv", "flv1", r"is truncated: 1\.\d of 2\.0 seconds\.$"),
    ],
)
def test_truncated_video_keeps_its_first_frames_and_says_so(tmp_path, suffix, codec, expected):
    options = {"movflags": "+faststart"} if suffix == ".mp4" else None  # so that the index comes first
    path = write_video(tmp_path / f"a{suffix}", noisy(40), frame_rate_hz=20, codec=codec, options=options)
    whole = list(read_frames(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    frames, error = read_until_error(path)
    assert re.search(expected, error), error
    assert str(path) in error
    assert 20 <= len(frames) < 35
    sure = len(frames) - 4  # the last ones lean on frames that are gone
    for (time, frame), (whole_time, whole_frame) in zip(frames[:sure], whole, strict=False):
        assert time == whole_time
        np.testing.assert_array_equal(frame, whole_frame)


@pytest.mark.parametrize("damaged", [12, 28, 29])
def test_damaged_frame_is_reported_wherever_it_stands(tmp_path, damaged):
    # The last frame is the trap: decoders that give each thread a frame swallow its error.
    path = write_video(tmp_path / "a.mp4", [portrait(shift=(t, 0)) for t in range(30)])
    (position, size), data = packets(path)[damaged], bytearray(path.read_bytes())
    data[position : position + size] = bytes(size)
    path.write_bytes(data)
    frames, error = read_until_error(path)
    assert error == f"{path} is damaged after {len(frames)} frames (Invalid data found when processing input)."
    assert damaged - 4 <= len(frames) <= damaged
    clip, cut = cut_clip(path, Faces(), NoDetector(), key="a")
    assert (clip.frames_decoded, cut.problem) == (len(frames), error)


def test_frames_are_read_one_by_one(tmp_path):
    path = write_video(tmp_path / "a.mp4", [no_face(t) for t in range(30)])
    frames = read_frames(path)
    assert next(frames)[0] == 0.0
    frames.close()


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
