"""Video files → frames: times, rotation, pixel shape, and what is said of files that are damaged."""

import re
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from affect.config import Faces
from affect.errors import InputError
from affect.pipelines import video
from affect.pipelines.decoder import Clock
from affect.pipelines.faces import cut_clip
from affect.pipelines.video import probe, read_frames
from tests.pictures import no_face, overwrite, portrait, with_matrix, write_video

CODECS = {".avi": "mpeg4", ".flv": "flv1", ".mpeg": "mpeg1video", ".mpg": "mpeg2video", ".webm": "libvpx"}
CODECS |= {".wmv": "wmv2"}
# Colours of the quarters of a picture, row by row.
RED, GREEN, BLUE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)


class NoDetector:
    def detect(self, frames):
        return [[] for _ in frames]


def times(path, **section):
    return [timestamp_s for timestamp_s, _ in read_frames(path, **section)]


def read_until_error(path, notes=None):
    """Returns the frames before the error, and its text; empty where there is none."""
    frames = []
    try:
        frames.extend(read_frames(path, notes=notes))
    except InputError as error:
        return frames, str(error)
    return frames, ""


def reading_of(path):
    """Returns the times of all frames that are read, the error without its path, and the notes without theirs."""
    notes = []
    frames, error = read_until_error(path, notes)
    assert all(note.startswith(f"{path} ") and "\n" not in note for note in notes)
    return (
        [timestamp_s for timestamp_s, _ in frames],
        error.removeprefix(f"{path} "),
        [note.removeprefix(f"{path} ") for note in notes],
    )


def write_coded(path, frames, *, rate=16, codec="libx264", form=None, options=None, pix_fmt="yuv420p", kept=None):
    """Writes RGB frames with a coder's own options; `kept(index)` says which of its packets are stored."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = pix_fmt, {"threads": "1", **(options or {})}
        packets = []
        for frame in frames:
            packets += stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
        for index, packet in enumerate(packets + stream.encode()):
            if kept is None or kept(index):
                container.mux(packet)
    return path


def numbered(count, size=64):
    """Frames whose grey level is ten times their number."""
    return [np.full((size, size, 3), 10 * index, np.uint8) for index in range(count)]


def mosaic(top_left, top_right, bottom_left, bottom_right, height=64, width=96):
    frame = np.zeros((height, width, 3), np.uint8)
    frame[: height // 2, : width // 2], frame[: height // 2, width // 2 :] = top_left, top_right
    frame[height // 2 :, : width // 2], frame[height // 2 :, width // 2 :] = bottom_left, bottom_right
    return frame


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_each_container_gives_every_frame_at_its_time(tmp_path, suffix):
    path = write_video(tmp_path / f"a{suffix}", numbered(20), frame_rate_hz=25, codec=CODECS.get(suffix, "libx264"))
    frames = list(read_frames(path))
    np.testing.assert_allclose([time for time, _ in frames], np.arange(20) / 25, atol=1e-3)
    np.testing.assert_allclose([frame.mean() for _, frame in frames], 10 * np.arange(20), atol=4)
    assert {(frame.shape, frame.dtype.name, frame.flags.c_contiguous) for _, frame in frames} == {
        ((64, 64, 3), "uint8", True)
    }
    assert probe(path).frame_rate_hz == 25


@pytest.mark.parametrize("suffix", video.SUFFIXES)
def test_each_container_gives_the_section_that_is_asked_for(tmp_path, suffix):
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
        # A hair off a quarter turn, and far off: the nearest one, which may be none.
        ((0.007, 1, -1, 0.007, 64, 0), (96, 64, 3), (BLUE, RED, BLACK, GREEN)),
        ((-0.007, 1, -1, -0.007, 64, 0), (96, 64, 3), (BLUE, RED, BLACK, GREEN)),
        ((-1, 0.007, -0.007, -1, 96, 64), (64, 96, 3), (BLACK, BLUE, GREEN, RED)),
        ((0.985, 0.174, -0.174, 0.985, 0, 0), (64, 96, 3), (RED, GREEN, BLUE, BLACK)),
        ((0.985, -0.174, 0.174, 0.985, 0, 0), (64, 96, 3), (RED, GREEN, BLUE, BLACK)),
        # No rotations.
        ((0, 0, 0, 0, 0, 0), (64, 96, 3), (RED, GREEN, BLUE, BLACK)),
        ((0, 1, 0, 1, 0, 0), (64, 96, 3), (RED, GREEN, BLUE, BLACK)),
    ],
)
def test_frames_are_turned_as_the_display_matrix_says(tmp_path, matrix, shape, quarters):
    path = with_matrix(write_video(tmp_path / "a.mp4", [mosaic(RED, GREEN, BLUE, BLACK)] * 2), *matrix)
    ((_, frame), _) = read_frames(path)
    assert frame.shape == shape
    corners = frame[8, 8], frame[8, -8], frame[-8, 8], frame[-8, -8]
    np.testing.assert_allclose(corners, quarters, atol=12)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0.007, 1, -1, 0.007, 64, 0), []),
        ((0.985, 0.174, -0.174, 0.985, 0, 0), ["should be rotated by -10°: it is rotated by 0°."]),
        ((0, 0, 0, 0, 0, 0), ["has a display matrix that is no rotation: it is not rotated."]),
    ],
)
def test_a_display_matrix_that_is_not_followed_is_noted(tmp_path, matrix, expected):
    path = with_matrix(write_video(tmp_path / "a.mp4", [portrait(size=64)] * 3), *matrix)
    assert reading_of(path) == (pytest.approx([0, 0.1, 0.2]), "", expected)


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
    assert probe(path).frame_rate_hz == (10 if make is no_frames else 0)


def test_a_section_without_frames_says_so(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered(10))
    _, cut = cut_clip(path, Faces(), NoDetector(), key="a", start_s=50.0)
    assert cut.problem == f"{path} has no frames from 50 s to its end. Its length is 1 s."
    _, cut = cut_clip(path, Faces(), NoDetector(), key="a", start_s=0.31, end_s=0.39)
    assert cut.problem == f"{path} has no frames from 0.31 s to 0.39 s. Its length is 1 s."


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


def test_truncated_avi_without_its_index_is_no_recording_with_holes(tmp_path):
    path = write_coded(tmp_path / "a.avi", [portrait(size=96, shift=(t, 0)) for t in range(48)], options={"g": "12"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    found, error, _ = reading_of(path)
    assert 20 < len(found) < 40
    assert re.search(r"it is truncated: \d\d of 48 frames\.$", error)


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "libx264"), (".webm", "libvpx")])
def test_packets_that_a_container_lost_are_said(tmp_path, suffix, codec):
    frames = [portrait(size=96, shift=(t, 0)) for t in range(48)]
    path = write_coded(tmp_path / f"a{suffix}", frames, codec=codec, options={"g": "12"})
    assert reading_of(path)[1:] == ("", [])
    overwrite(path, 20)
    found, error, _ = reading_of(path)
    assert 40 <= len(found) < 48
    assert re.fullmatch(r"is damaged: its container is broken, .*after \d\.\d\d s \(.{,80}\)\.", error)


@pytest.mark.parametrize("damaged", [12, 28, 29])
def test_damaged_frame_is_left_out_and_named_wherever_it_stands(tmp_path, damaged):
    # The last frame is the trap: decoders that give each thread a frame swallow its error.
    path = write_video(tmp_path / "a.mp4", [portrait(shift=(t, 0)) for t in range(30)])
    whole = times(path)
    overwrite(path, damaged)
    frames, error = read_until_error(path)
    assert re.fullmatch(rf"{path} is damaged: 1 frame could not be decoded, at \d\.\d\d s \(Invalid data .*\)\.", error)
    assert len(frames) == 29
    assert {timestamp_s for timestamp_s, _ in frames} < set(whole)
    clip, cut = cut_clip(path, Faces(), NoDetector(), key="a")
    assert (clip.frames_decoded, cut.problem) == (len(frames), error)


def test_many_damaged_frames_are_one_line(tmp_path):
    path = write_coded(tmp_path / "a.avi", numbered(20) * 10, codec="mjpeg", pix_fmt="yuvj420p")
    overwrite(path, 1)
    expected = "is damaged: 1 frame could not be decoded, at 0.06 s (Invalid data found when processing input)."
    assert reading_of(path) == (pytest.approx([0, *np.arange(2, 200) / 16]), expected, [])
    assert times(path, start_s=1.0) == pytest.approx(np.arange(16, 200) / 16)
    overwrite(path, 5, 190)
    found, error, _ = reading_of(path)
    assert found == pytest.approx(np.array([0, 2, 3, 4, 195, 196, 197, 198, 199]) / 16)
    assert error == expected.replace("1 frame", "191 frames").replace("at 0.06", "the first at 0.06")
    overwrite(path, 0, 200)
    found, error, _ = reading_of(path)
    assert found == [] and error.startswith("is damaged: none of its 200 frames could be decoded (Invalid data found ")


def split_packets(path):
    """Returns the place of each packet of a transport stream's video that begins a frame, and the file's bytes."""
    data = bytearray(path.read_bytes())
    found = []
    for place in range(0, len(data), 188):
        begins, pid = data[place + 1] >> 6 & 1, (data[place + 1] & 31) << 8 | data[place + 2]
        if begins and pid == 256:
            found.append(place)
    return found, data


@pytest.mark.parametrize("how", ["zeros", "cut out", "from within a frame"])
def test_lost_transport_packets_are_said(tmp_path, how):
    frames = [portrait(shift=(t, 0)) for t in range(32)]
    path = write_coded(tmp_path / "a.ts", frames, options={"g": "8", "bf": "0", "crf": "10"})
    assert reading_of(path) == (pytest.approx(np.arange(32) / 16), "", [])
    begins, data = split_packets(path)
    start, end = begins[14], begins[16]
    if how == "zeros":  # the headers of the packets stay, so that their counter has no gap
        for place in range(start, end, 188):
            data[place + 4 : place + 188] = bytes(184)
    elif how == "cut out":
        del data[start:end]
    else:
        del data[start + 188 : start + 2 * 188]
    path.write_bytes(data)
    found, error, notes = reading_of(path)
    assert {round(16 * time_s) for time_s in found} >= {*range(14), *range(16, 32)} and notes == []
    if how == "from within a frame":
        assert re.fullmatch(r"is damaged: .*1 frame (arrived damaged|could not be decoded), at 0\.\d\d s.*\.", error)
    else:
        assert len(found) == 30 and "about 2 frames are missing, the first after 0.81 s" in error


def test_joined_recordings_are_read_to_the_end_and_their_times_rise(tmp_path):
    frames = [portrait(size=64, shift=(t, 0)) for t in range(16)]
    path = write_coded(tmp_path / "a.ts", frames, options={"bf": "2"})
    path.write_bytes(path.read_bytes() * 3)
    found, error, notes = reading_of(path)
    assert (found, error) == (pytest.approx(np.arange(48) / 16, abs=1e-4), "")
    assert notes == [
        "has a clock that jumps back 2 times, the first after 0.94 s: the times of its frames continue without it."
    ]


def test_frames_are_read_one_by_one(tmp_path):
    path = write_video(tmp_path / "a.mp4", [no_face(t) for t in range(30)])
    frames = read_frames(path)
    assert next(frames)[0] == 0.0
    frames.close()


# Coded in another order than shown: the container then needs a time for showing, which AVI does not have.
REORDERED = {"bf": "3", "b-adapt": "0"}


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", REORDERED), ("libx264", {**REORDERED, "b-pyramid": "none"}), ("mpeg4", {"bf": "2"})],
)
def test_reordered_frames_in_avi_have_their_times(tmp_path, codec, options):
    path = write_coded(tmp_path / "a.avi", numbered(24), codec=codec, options=options)
    assert reading_of(path) == (pytest.approx(np.arange(24) / 16), "", [])
    np.testing.assert_allclose([frame.mean() for _, frame in read_frames(path)], 10 * np.arange(24), atol=8)
    assert times(path, frame_rate_hz=4) == pytest.approx(np.arange(6) / 4)


def test_reordered_frames_whose_container_says_when_they_are_decoded_only(tmp_path):
    source, path = write_coded(tmp_path / "a.mp4", numbered(24), options=REORDERED), tmp_path / "a.mkv"
    with av.open(str(source)) as container, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.pts = packet.dts = packet.dts + 2 * packet.duration
                packet.stream = stream
                copy.mux(packet)
    assert reading_of(path) == (pytest.approx(np.arange(24) / 16, abs=1e-3), "", [])


@pytest.mark.parametrize("stored", [[*range(8), *range(16, 24)], [*range(16)], [0, 23]])
def test_frames_that_a_recorder_did_not_store_are_no_damage(tmp_path, stored):
    """AVI has empty chunks for them, which its header counts."""
    path = write_coded(
        tmp_path / "a.avi", numbered(24), codec="mjpeg", pix_fmt="yuvj420p", kept=lambda index: index in stored
    )
    data = path.read_bytes()
    header = data.index(b"vidsMJPG") + 32  # length of the stream in frames
    path.write_bytes(data[:header] + (24).to_bytes(4, "little") + data[header + 4 :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 24
    assert reading_of(path) == (pytest.approx(np.array(stored) / 16), "", [])


@pytest.mark.parametrize(
    ("stored", "expected", "remarks"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], []),
        ([0, 1, 1.5, 7], [0, 1, 1.5, 7], []),  # gaps stay
        ([0, None, None, 3], [0, 1, 2, 3], []),
        ([None, None, 2], [0, 1, 2], []),
        ([8, 9, 10, 0, 1, 2, 0, 1], [8, 9, 10, 11, 12, 13, 14, 15], ["jumps back 2 times, the first after 10.00 s"]),
        ([0, 10, 20, 30, 2, 40, 50], [0, 10, 20, 30, 31, 40, 50], ["1 frame whose time does not rise, after 30.00 s"]),
        ([0, 0, 1, 1, 2, 2], [0, 0.5, 1, 1.5, 2, 2.5], ["3 frames whose time does not rise, the first after 0.00 s"]),
        ([5, 5, 5, 6], [5, 5.5, 5.75, 6], ["2 frames whose time does not rise, the first after 5.00 s"]),
        ([0, 1, 0.9, 2, 3], [0, 1, 1.5, 2, 3], ["1 frame whose time does not rise, after 1.00 s"]),
        (
            [0, 1, 1e9, 1e9 + 1, 4, 5],
            [0, 1, 2, 3, 4, 5],
            ["jumps back once, after 3.00 s", "more than a day once, after 1.00"],
        ),
    ],
)
def test_times_rise_and_no_frame_is_without_one(stored, expected, remarks):
    clock = Clock()
    assert [clock.rise(time_s, 1.0) for time_s in stored] == pytest.approx(expected)
    said = clock.remarks()
    assert len(said) == len(remarks)
    assert all(remark in text for remark, text in zip(remarks, said, strict=True))


def test_any_clock_gives_times_that_rise():
    random = np.random.default_rng(0)
    for _ in range(50):
        clock, size = Clock(), 10.0 ** random.integers(-2, 12)
        stored = random.choice([random.normal(0, size), 0.0, 1.0, None], 400)
        found = [clock.rise(time_s, 0.04) for time_s in stored]
        assert (np.diff(found) > 0).all()
        assert len(clock.remarks()) <= 3


def with_streams(path, *streams):
    """Writes a video of one frame a stream: `(grey, disposition)` of each, and sound where that is `None`."""
    with av.open(str(path), "w", format="mp4" if path.suffix == ".m4a" else None) as container:
        written = []
        for grey, disposition in streams:
            stream = container.add_stream("aac", rate=8000) if grey is None else container.add_stream("mjpeg", rate=10)
            if grey is None:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
                frame.sample_rate = 8000
            else:
                stream.width = stream.height = 64
                stream.pix_fmt, stream.disposition = "yuvj420p", disposition
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), grey, np.uint8), format="rgb24")
            frame.pts = 0
            written.append((stream, frame))
        for stream, frame in written:
            container.mux([*stream.encode(frame), *stream.encode()])
    return path


def test_an_attached_picture_is_no_video(tmp_path):
    path = with_streams(tmp_path / "a.m4a", (None, None), (50, Disposition.attached_pic))
    assert reading_of(path) == ([], "has no video stream but an attached picture.", [])
    assert probe(path).frame_rate_hz == 0
    path = with_streams(tmp_path / "a.mp4", (50, Disposition.attached_pic), (150, Disposition(0)))
    ((_, frame),) = read_frames(path)
    assert frame.mean() == pytest.approx(150, abs=3)
    assert reading_of(path) == ([0], "", [])


@pytest.mark.parametrize(
    ("marks", "read", "expected"),
    [
        ((0, Disposition.default), 1, "number 2, which is marked default, is read"),
        ((Disposition.default, 0), 0, "number 1, which is marked default, is read"),
        ((0, 0), 0, "number 1 is read"),
    ],
)
def test_of_several_streams_the_default_is_read_and_that_is_noted(tmp_path, marks, read, expected):
    streams = [(50 + 100 * index, Disposition(mark)) for index, mark in enumerate(marks)]
    path = with_streams(tmp_path / "a.mkv", *streams)
    assert reading_of(path)[1:] == ("", [f"has 2 video streams: {expected}."])
    ((_, frame),) = read_frames(path)
    assert frame.mean() == pytest.approx(50 + 100 * read, abs=3)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "expected"),
    [
        ("a.h264", "libx264", 16, "16 frames a second (of its header) are assumed"),
        ("a.m4v", "mpeg4", 16, "16 frames a second (of its header) are assumed"),
        ("a.mjpeg", "mjpeg", 16, "25 frames a second are assumed"),
    ],
)
def test_an_assumed_frame_rate_is_noted(tmp_path, name, codec, rate, expected):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_coded(tmp_path / name, numbered(12), rate=rate, codec=codec, form=name[2:], pix_fmt=pix_fmt)
    assumed = int(expected[:2])
    assert reading_of(path) == (pytest.approx(np.arange(12) / assumed), "", [f"has frames without times: {expected}."])
    assert times(path, start_s=0.25, end_s=0.4) == pytest.approx(
        [i / assumed for i in range(12) if 4 <= i * 16 / assumed < 6.4]
    )
    assert probe(path).frame_rate_hz == assumed


HLG = pytest.param("HLG", 18, 144, marks=pytest.mark.large)  # each conversion takes seconds to begin


@pytest.mark.parametrize(("name", "transfer", "grey"), [("PQ", 16, 185), HLG, ("", 1, 128)])
def test_hdr_is_converted_and_noted(tmp_path, name, transfer, grey):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p10le"
        primaries = 1 if transfer == 1 else 9
        codec = stream.codec_context
        codec.color_trc, codec.color_primaries, codec.colorspace, codec.color_range = transfer, primaries, primaries, 1
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
        container.mux([*stream.encode(frame.reformat(format="yuv420p10le")), *stream.encode()])
    ((_, frame),) = read_frames(path)
    # Of white's 203 cd/m², half of PQ's scale is 46 % and half of HLG's is 25 %; a screen of BT.1886 has gamma 2.4.
    assert frame.mean() == pytest.approx(grey, abs=3)
    said = f"is HDR ({name}): it is converted to BT.709, and what is brighter than white is clipped."
    assert reading_of(path) == ([0], "", [said] if name else [])


@pytest.mark.parametrize(
    ("flags", "expected"), [(2, "is an animated WebP picture"), (16, "is a WebP picture"), (None, "is a WebP picture")]
)
def test_a_webp_picture_is_called_that(tmp_path, flags, expected):
    chunk = b"VP8 " if flags is None else b"VP8X"
    (tmp_path / "a.mp4").write_bytes(b"RIFF\x40\0\0\0WEBP" + chunk + b"\x0a\0\0\0" + bytes([flags or 0]) + bytes(43))
    assert reading_of(tmp_path / "a.mp4")[1] == f"{expected}, which cannot be decoded. Convert it to MP4."


FAILING = {
    "h264_b.avi": (np.arange(32), "", []),
    "hole_mjpeg.avi": ([*range(8), *range(16, 32)], "", []),
    "mjpeg_one_bad.avi": ([*range(7), *range(8, 32)], "is damaged: 1 frame could not be decoded, at 0.44 s ", []),
    "ts_bad_middle.ts": ([*range(14), *range(16, 32)], "is damaged: about 2 frames are missing, the first after 0", []),
    "cat.ts": (np.arange(64), "", ["has a clock that jumps back once, after 1.94 s"]),
    "upright89.6.mp4": (np.arange(32), "", []),
    "upright89.999.mp4": (np.arange(32), "", []),
    "rot-10.mp4": (np.arange(32), "", ["should be rotated by -10°"]),
    "zero_matrix.mp4": (np.arange(32), "", ["has a display matrix that is no rotation"]),
    "fps0.2.mp4": (80 * np.arange(32), "", []),
    "two_streams_second_default.mkv": (np.arange(32), "", ["has 2 video streams: number 2, which is marked default"]),
    "anim.webp": ([], "is an animated WebP picture", []),
}


@pytest.mark.parametrize("name", FAILING)
def test_inputs_that_were_read_wrongly(shared_data, name):
    ticks, error, notes = FAILING[name]
    found, found_error, found_notes = reading_of(shared_data / "failing" / name)
    assert found == pytest.approx(np.array(ticks) / 16, abs=1e-3)
    assert bool(error) == bool(found_error) and found_error.startswith(error)
    assert len(notes) == len(found_notes)
    assert all(said.startswith(note) for note, said in zip(notes, found_notes, strict=True))


def test_a_relative_path_is_of_the_present_folder(face_videos, tmp_path, monkeypatch):
    """Of the caller's, although the process that decodes was started in another one and is used again."""
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.mp4").symlink_to(face_videos / "still.mp4")
        monkeypatch.chdir(folder)
        assert len(list(read_frames(f"{name}.mp4"))) == 8
    with pytest.raises(InputError, match=r"^one\.mp4 is not a video that can be opened"):
        list(read_frames("one.mp4"))
