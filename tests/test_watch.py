"""Watching: what is read frame by frame is what `predict` says of all frames; which face is followed; the video."""

import functools
import http.server
import json
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from affect.colours import COLOURS, to_rgb
from affect.config import Experiment, Faces, FrameClassifier, VideoRegressor
from affect.errors import InputError
from affect.models.frame_classifier import build_frame_classifier
from affect.models.stream import Reading
from affect.pipelines.detectors import DETECTORS
from affect.pipelines.detectors.mtcnn import Mtcnn
from affect.pipelines.faces import cut_clip
from affect.pipelines.follow import find_faces
from affect.pipelines.live import HELD_FRAMES, Live, follow_face, read_source
from affect.pipelines.tracks import TRACK_GAP_S, Tracks
from affect.pipelines.video import read_frames
from affect.reading.predict import predict
from affect.reading.run import Trained, load_trained
from affect.reading.watch import AnnotatedVideo, Moment, Watched, draw_watched, watch
from tests.commands import affect
from tests.detections import Known, detection
from tests.pictures import no_face, portrait, with_matrix, write_video

FER2013 = Path(__file__).parents[1] / "configs" / "fer2013.py"
RED, GREY = (192, 57, 43), (130, 137, 143)


@pytest.fixture(scope="module")
def trained():
    return load_trained(FER2013)


@pytest.fixture(scope="module")
def detector(trained):
    return Mtcnn(trained.faces)


@pytest.fixture(scope="module")
def clip(trained, detector, face_videos):
    return cut_clip(face_videos / "moving.mp4", trained.faces, detector, key="moving")[0]


@pytest.fixture
def ready(monkeypatch, detector):
    """The command finds the detector loaded."""
    monkeypatch.setitem(DETECTORS, "mtcnn", lambda faces: detector)


class Interrupted:
    """A detector that gets a signal, as of Ctrl-C, when it is called for the second time."""

    def __init__(self, detector, number):
        self.detector, self.number, self.calls = detector, number, 0

    def detect(self, frames):
        self.calls += 1
        if self.calls == 2:
            signal.raise_signal(self.number)
        return self.detector.detect(frames)

    def follow(self, frames, boxes):
        return self.detector.follow(frames, boxes)


def frames_of(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def blank(count, size=64):
    """Frames at 10 a second whose first pixel is their index."""
    for index in range(count):
        frame = np.zeros((size, size, 3), np.uint8)
        frame[0, 0] = index
        yield index / 10, frame


def test_the_last_line_is_what_predict_says(trained, detector, shared_data):
    video = shared_data / "clips" / "single_face.mp4"
    whole = predict(trained, cut_clip(video, trained.faces, detector, key="")[0])
    code, out, lines = affect("watch", FER2013, video, "--json")
    assert (code, lines) == (0, [])
    watched = [json.loads(line) for line in out.splitlines()]
    assert len(watched) == watched[-1]["frames"] == whole["frames_decoded"] == len(whole["frames"])
    assert watched[-1]["label"] == whole["label"]
    assert watched[-1]["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-6)
    for line, frame in zip(watched, whole["frames"], strict=True):
        assert line["timestamp_s"] == frame["timestamp_s"]
        assert line["frame_probabilities"] == pytest.approx(frame["probabilities"], abs=1e-5)
    assert watched[-1]["importance"] == pytest.approx(whole["frames"][-1]["importance"], abs=1e-6)


def test_exported_models_are_watched_as_they_predict(ready, exported, converted, face_videos):
    video, saved = face_videos / "moving.mp4", exported("lstm")[1].path
    clips, single = converted("lstm")[1].path, converted("lstm", part="frame")[1].path
    whole, as_tflite = (json.loads(affect("predict", path, video, "--json")[1]) for path in (saved, clips))
    _, _, lines = affect("predict", saved.parent, video)
    assert lines == [f"affect: {saved} is the latest version of {saved.parent}."]
    assert as_tflite["label"] == whole["label"]
    assert as_tflite["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-5)
    for path in (saved, single):
        code, out, lines = affect("watch", path, video, "--json")
        assert (code, lines) == (0, [])
        last = json.loads(out.splitlines()[-1])
        assert (last["label"], last["frames_with_a_face"]) == (whole["label"], 8)
        assert last["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-5)
    assert affect("watch", clips, video) == (
        2,
        "",
        [
            f"affect: {clips} takes whole clips. Convert the network for single faces: "
            "affect convert NAME/VERSION --part frame --to float32"
        ],
    )
    by_face = json.loads(affect("predict", single, video, "--json")[1])
    assert by_face["probabilities"] == pytest.approx(whole["probabilities"], abs=1e-5)


def test_each_face_that_is_followed_is_a_clip_of_its_own(trained, clip):
    frame, (*first, second, third) = np.zeros((16, 16, 3), np.uint8), clip.faces
    faces = [(face.timestamp_s, frame, 0, face, {}) for face in first]
    faces.insert(2, (0.15, frame, 0, None, {}))
    faces = [(-0.1, frame, None, None, {}), *faces]
    faces += [(face.timestamp_s, frame, 4, face, {0: (1.0, 2.0, 3.0, 4.0)}) for face in (second, third)]
    watched = list(watch(trained, faces))
    assert [one.track for one in watched] == [None, *[0] * 7, 4, 4]
    assert (watched[0].reading.probabilities, watched[0].importances) == (None, ())
    assert watched[3].box is None
    assert watched[3].reading.probabilities == watched[2].reading.probabilities
    for last, part in ((watched[7], first), (watched[9], (second, third))):
        alone = predict(trained, type(clip)("part", frames_decoded=len(part), faces=tuple(part)))
        assert last.reading.probabilities == pytest.approx(alone["probabilities"], abs=1e-6)
        importances = [frame["importance"] for frame in alone["frames"]]
        assert last.importances == pytest.approx(importances, abs=1e-6)
        seen = [moment for moment in last.moments if moment.probabilities]
        assert [moment.importance for moment in seen] == pytest.approx(importances, abs=1e-6)
        for moment, frame in zip(seen, alone["frames"], strict=True):
            assert moment.timestamp_s == frame["timestamp_s"]
            assert moment.probabilities == pytest.approx(frame["probabilities"], abs=1e-5)
    assert len(watched[7].moments) == 8 and watched[9].others == {0: (1.0, 2.0, 3.0, 4.0)}
    assert watched[9].reading.frames == 2


def followed(truth, tracks="main", detect="every"):
    """Returns (track, x0 of the box) of each frame; `truth` is a list of lists of `Detection`, ten a second."""
    settings = Faces(face_size=32, detect=detect, tracks=tracks)
    found = follow_face(blank(len(truth)), settings, Known(truth))
    return [(track, face and face.box[0]) for _, _, track, face, _ in found]


def test_the_others_who_are_seen_have_boxes_and_numbers():
    central, larger, third = detection(22.0), detection(0.0, y=0.0, size=18.0), detection(43.0, y=43.0)
    truth = [[central], [central, larger], [larger], [third, central, larger]]
    found = list(follow_face(blank(4), Faces(face_size=32, detect="every"), Known(truth)))
    assert [(track, face is not None) for _, _, track, face, _ in found] == [
        (0, True),
        (0, True),
        (0, False),
        (0, True),
    ]
    boxes = [{number: box[0] for number, box in others.items()} for *_, others in found]
    assert boxes == [{}, {1: 0.0}, {1: 0.0}, {1: 0.0, 2: 43.0}]


def test_the_face_that_is_followed_is_kept_until_it_is_gone():
    central, larger = detection(22.0), detection(0.0, y=0.0, size=26.0)
    gone = round(TRACK_GAP_S * 10) + 2  # from the first of these frames to the last it is more than the gap
    truth = [[], [larger], *[[central, larger]] * 3, *[[central]] * gone, [central, larger], [larger]]
    expected = [(None, None), *[(0, 0.0)] * 4, *[(0, None)] * (gone - 1), *[(1, 22.0)] * 2, (1, None)]
    assert followed(truth) == expected
    assert followed([[central, larger]]) == [(0 if central.box[0] < larger.box[0] else 1, 22.0)]
    assert followed([[central, larger]], tracks="largest") == [(0, 0.0)]
    # Back within the gap, it is the same face; nobody else is taken meanwhile.
    truth = [[central], *[[larger]] * (gone - 2), [central, larger]]
    assert followed(truth, detect="follow") == [(0, 22.0), *[(0, None)] * (gone - 2), (0, 22.0)]


def test_a_picture_on_the_wall_is_left_where_a_person_moves():
    picture = detection(22.0)
    people = [detection(2.0 + 3 * np.sin(index), y=0.0, size=16.0) for index in range(60)]
    truth = [[picture, person] if index >= 10 else [picture] for index, person in enumerate(people)]
    found = [track for track, _ in followed(truth)]
    assert found[:20] == [0] * 20 and found[-35:] == [1] * 35
    assert {track for track, _ in followed(truth, tracks="largest")} == {0}
    assert {track for track, _ in followed([[picture]] * 60)} == {0}


def test_tracks_of_a_stream_are_forgotten():
    tracks = Tracks(forgets=True)
    for index in range(1000):
        (track,) = tracks.add(9.0 * index, (64, 64, 3), [detection(20.0)])
        assert track == index
        assert [known.id for known in tracks.summaries()] == [index]
        for later_s in (1.0, 4.0):
            assert tracks.add(9.0 * index + later_s, (64, 64, 3), []) == []
        assert tracks.summaries() == []
    assert tracks.frames == 3000


@pytest.mark.parametrize(("detect", "rate_hz"), [("every", 4), ("every", 40), ("follow", 4)])
def test_a_frame_is_held_back_for_half_a_second_and_a_frame(detect, rate_hz):
    read = []

    def frames():
        for index in range(80):
            read.append(index / rate_hz)
            yield index / rate_hz, np.zeros((64, 64, 3), np.uint8)

    for timestamp_s, _, _ in find_faces(frames(), Known([[]]), detect, most_s=0.5):
        assert read[-1] - timestamp_s <= 0.5 + 1 / rate_hz
    assert len(read) == 80


@pytest.fixture
def address(face_videos, tmp_path):
    """An address on this machine that gives the files of its folder, `still.mkv` among them."""
    write_video(tmp_path / "still.mkv", [frame for _, frame in read_frames(face_videos / "still.mp4")])

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_address_is_read_as_a_file_is(address, tmp_path):
    live, file = read_source(f"{address}/still.mkv"), read_source(tmp_path / "still.mkv")
    assert isinstance(live, Live)
    for (time_s, frame), (expected_s, expected) in zip(live, file, strict=True):
        assert time_s == pytest.approx(expected_s, abs=1e-3)
        np.testing.assert_array_equal(frame, expected)
    assert live.left_out == 0
    assert [round(time_s, 3) for time_s, _ in read_source(f"{address}/still.mkv", 4)] == [0.0, 0.3, 0.5]


def test_a_stream_that_begins_again_is_read_on(address, tmp_path):
    path = write_video(tmp_path / "twice.ts", [frame for _, frame in blank(6)])
    path.write_bytes(path.read_bytes() * 2)
    live = Live(f"{address}/twice.ts")
    assert [time_s for time_s, _ in live] == pytest.approx(np.arange(12) / 10, abs=1e-3)
    assert live.left_out == 0


def test_what_comes_too_fast_is_left_out_and_counted(address, tmp_path):
    write_video(tmp_path / "long.mkv", [frame for _, frame in blank(60)])
    live = Live(f"{address}/long.mkv")
    frames = iter(live)
    next(frames)
    deadline_s = time.monotonic() + 600
    while live.left_out < 60 - 1 - HELD_FRAMES and time.monotonic() < deadline_s:
        time.sleep(0.01)
    rest = [time_s for time_s, _ in frames]
    assert len(rest) in (HELD_FRAMES - 1, HELD_FRAMES)  # one fewer if all frames came before the first was read
    np.testing.assert_allclose(rest, np.arange(60 - len(rest), 60) / 10, atol=1e-3)
    assert live.left_out == 60 - 1 - len(rest)


@pytest.mark.parametrize("source", ["987", "/dev/video987", "http://127.0.0.1:9/none", "file:///etc/hostname"])
def test_sources_that_give_nothing(source):
    with pytest.raises(InputError, match="(/dev/video987|http:.*none|file:.*hostname) cannot be read \\(.*\\)"):
        list(read_source(source))


NAMES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def seen(height, width, box, *, names=NAMES, others=None, track=0, frames=50):
    """A grey frame, and what was watched up to it: after a gap the first class falls and the fourth rises."""
    moments, probabilities = [], {}
    for index in range(frames):
        share = index / frames
        probabilities = dict.fromkeys(names, 0.0) | {names[0]: 1 - share, names[min(3, len(names) - 1)]: share}
        moments.append(Moment(index / 25, probabilities if not 10 < index < 20 else None, 0.01 * (index > 25)))
    label = max(probabilities, key=probabilities.get)
    reading = Reading((frames - 1) / 25, frames, frames - 9, label, probabilities, probabilities, 0.1, None)
    frame = np.full((height, width, 3), 90, np.uint8)
    return frame, Watched(reading, track, box, (0.1,), tuple(moments), others or {})


@pytest.mark.parametrize(("height", "width", "times"), [(120, 160, 2), (480, 640, 1), (1080, 1920, 1), (640, 360, 1)])
def test_the_panel_is_below_the_frame_and_hides_no_face(height, width, times):
    x0, y0, x1, y1 = box = (round(0.4 * width), round(0.3 * height), round(0.6 * width), round(0.7 * height))
    frame, watched = seen(height, width, box, others={3: (0.05 * width, 0.3 * height, 0.2 * width, 0.6 * height)})
    image = draw_watched(frame, watched)
    assert (frame == 90).all()
    assert image.shape[1] == times * width and 1.15 < image.shape[0] / (times * height) < 1.7
    inside = image[times * y0 + 8 : times * y1 - 8, times * x0 + 8 : times * x1 - 8]
    assert (inside == 90).all()
    assert (image[: times * height] == RED).all(axis=-1).any() and (image[: times * height] == GREY).all(axis=-1).any()
    panel = image[times * height :]
    for place in (0, 3):  # the curves of the two classes that change
        near = np.abs(panel.astype(int) - to_rgb(COLOURS[place])).max(axis=-1) < 30  # lines have smooth edges
        assert near.sum() > 50
    # A name is drawn where it is read: with another one the panel differs only on the right and in the first line.
    _, other = seen(height, width, box, names=("anger", *NAMES[1:]))
    changed = (draw_watched(frame, other)[times * height :] != panel).any(axis=-1)
    columns = np.flatnonzero(changed[round(0.2 * len(panel)) :].any(axis=0))
    assert len(columns) and columns.min() > 0.5 * times * width


def test_the_text_of_a_box_finds_a_place():
    free = seen(480, 640, (250.0, 100.0, 400.0, 300.0))
    at_the_top = seen(480, 640, (250.0, 2.0, 400.0, 300.0))
    between = seen(480, 640, (250.0, 100.0, 400.0, 300.0), others={1: (240.0, 40.0, 420.0, 95.0)})
    filling = seen(480, 640, (2.0, 2.0, 638.0, 478.0))
    for (frame, watched), rows, hidden in (
        (free, (77, 100), False),
        (at_the_top, (300, 325), False),
        (between, (300, 325), False),
        (filling, (2, 25), True),
    ):
        image = draw_watched(frame, watched)[:480]
        reds = np.flatnonzero((image == RED).all(axis=-1).sum(axis=1) > 60)
        plate = [row for row in reds if rows[0] <= row <= rows[1]]
        assert len(plate) > 15, (rows, reds)
        assert hidden or (image[110:290, 260:390] == 90).all()


def test_names_in_any_script_are_drawn():
    """Letters that the font lacks are drawn as question marks."""
    images = []
    for names in (("радость", "喜び"), ("???????", "??")):
        frame, watched = seen(480, 640, None, names=names)
        images.append(draw_watched(frame, watched)[480:])
    assert (images[0] != images[1]).any(axis=-1).sum() > 200


def test_nothing_is_drawn_before_the_first_face_but_that_there_is_none():
    frame = np.full((480, 600, 3), 90, np.uint8)
    nothing = Reading(0.0, 1, 0, None, None, None, 0.0, None)
    image = draw_watched(frame, Watched(nothing, None, None, ()))
    np.testing.assert_array_equal(image[:480], frame)
    assert (image[480:500, :200] < 100).any()  # "no face yet"


def test_the_panel_begins_again_and_says_whom_it_shows(trained, clip, tmp_path):
    frame = np.full((480, 640, 3), 90, np.uint8)
    faces = [(face.timestamp_s, frame, 0 if index < 5 else 7, face, {}) for index, face in enumerate(clip.faces)]
    watched = list(watch(trained, faces))
    assert [len(one.moments) for one in watched] == [1, 2, 3, 4, 5, 1, 2, 3]
    same = replace(watched[5], track=0)
    lines = [draw_watched(frame, one)[480:505, :300] for one in (watched[5], same)]
    assert (lines[0] != lines[1]).any()


def test_a_video_of_odd_frames_that_change_their_size(tmp_path):
    path = tmp_path / "new" / "video.mp4"
    video = AnnotatedVideo(path)
    for time_s, side in ((0.0, 65), (0.04, 65), (0.5, 40)):
        video.add(time_s, np.full((65, side, 3), (200, 40, 40), np.uint8))
        assert not path.exists()
    video.close()
    frames = frames_of(path)
    assert [time_s for time_s, _ in frames] == [0.0, 0.04, 0.5]
    for _, frame in frames:
        assert frame.shape == (66, 66, 3)
        assert np.abs(frame.astype(int) - (200, 40, 40)).max() < 10
    assert [found.name for found in path.parent.iterdir()] == ["video.mp4"]


def test_a_video_needs_a_frame_and_a_name(tmp_path):
    AnnotatedVideo(tmp_path / "none.mp4").close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="The video must be an .mp4 file. Received: video.gif"):
        AnnotatedVideo("video.gif")


def test_an_interrupt_while_a_frame_is_written_waits_for_it(tmp_path, monkeypatch):
    video, resize = AnnotatedVideo(tmp_path / "video.mp4"), cv2.resize
    image = np.zeros((64, 64, 3), np.uint8)
    video.add(0.0, image)
    monkeypatch.setattr(cv2, "resize", lambda *args: signal.raise_signal(signal.SIGINT) or resize(*args))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            video.add(0.1, image)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    video.close()
    assert len(frames_of(tmp_path / "video.mp4")) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_a_summary_and_a_whole_video(detector, face_videos, tmp_path, monkeypatch, number):
    source, out = tmp_path / "moving.mp4", tmp_path / "out.mp4"
    write_video(source, [frame for _, frame in read_frames(face_videos / "moving.mp4")], audio_s=0.8)
    # In the second half of a second.
    monkeypatch.setitem(DETECTORS, "mtcnn", lambda faces: Interrupted(detector, number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it
    ends = signal.getsignal(signal.SIGTERM)
    try:
        code, printed, lines = affect("watch", FER2013, source, "--out", out, "--half-life", 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert signal.getsignal(signal.SIGTERM) is ends
    assert (code, lines) == (0, [])
    count = len(frames_of(out))
    assert 0 < count < 8
    assert f"face in {count}/{count} frames" in printed and f"{out}: {count} frames" in printed
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moving.mp4", "out.mp4"]


@pytest.mark.parametrize("detect", ["follow", "every"])
def test_each_frame_has_the_numbers_of_predict(trained, detector, tmp_path, detect):
    """A face that goes and comes back: p(c | f, S) is the same in every frame, and all the rest after the last one."""
    frames = [portrait(shift=(2 * t, t)) for t in range(9)] + [no_face(t) for t in range(6)]
    frames += [portrait(shift=(2 * t, t), gain=1.1) for t in range(9)]
    video = write_video(tmp_path / "video.mp4", frames)
    settings = replace(trained.faces, detect=detect)
    clip, cut = cut_clip(video, settings, detector, key="")
    whole = predict(trained, clip, cut)
    watched = list(watch(trained, follow_face(read_source(video), settings, detector)))
    assert len(watched) == len(whole["frames"]) == 24
    both = 0
    for one, frame in zip(watched, whole["frames"], strict=True):
        assert one.reading.timestamp_s == frame["timestamp_s"]
        assert (one.box is not None) == frame["has_face"]
        if one.box is not None:
            both += 1
            assert one.reading.frame_probabilities == pytest.approx(frame["probabilities"], abs=1e-5)
    assert both >= 16
    last = watched[-1]
    assert last.reading.probabilities == pytest.approx(whole["probabilities"], abs=1e-6)
    importances = [frame["importance"] for frame in whole["frames"] if frame["has_face"]]
    assert last.importances == pytest.approx(importances, abs=1e-6)


def test_a_camera_is_read_as_an_address_is(ready, address, tmp_path):
    """No camera was tried. An address of this machine takes its place: `Live` opens both by FFmpeg."""
    out = tmp_path / "out.mp4"
    code, printed, lines = affect("watch", FER2013, f"{address}/still.mkv", "--out", out)
    assert (code, lines) == (0, []) and "face in 8/8 frames" in printed
    assert len(frames_of(out)) == 8


def test_a_live_stream_is_turned_as_it_says(address, tmp_path):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32, :48] = (200, 0, 0)
    path = write_video(tmp_path / "phone.mp4", [frame] * 3, options={"movflags": "+faststart"})
    with_matrix(path, 0, 1, -1, 0, 64, 0)
    live, file = list(read_source(f"{address}/phone.mp4")), list(read_source(path))
    assert len(live) == 3
    for (_, found), (_, expected) in zip(live, file, strict=True):
        assert found.shape == (96, 64, 3)
        np.testing.assert_array_equal(found, expected)
    notes = []
    with_matrix(path, 0, 0, 0, 0, 0, 0)
    list(read_source(f"{address}/phone.mp4", notes=notes))
    assert notes == [f"{address}/phone.mp4 has a display matrix that is no rotation: it is not rotated."]


def test_mistakes_are_one_line(ready, face_videos, tmp_path):
    video = face_videos / "moving.mp4"
    assert affect("watch", FER2013, video, "--out", video) == (
        2,
        "",
        [f"affect: --out must be another file than SOURCE. Received: {video} for both"],
    )
    code, _, (line,) = affect("watch", FER2013, video, "--half-life", 0)
    assert (code, line) == (2, "affect: half_life_s must be a positive number of seconds. Received: 0.0")
    code, _, (line,) = affect("watch", FER2013, tmp_path / "gone.mp4")
    assert (code, line) == (2, f"affect: There is no file {tmp_path / 'gone.mp4'}.")
    code, out, (line,) = affect("watch", FER2013, face_videos / "no_face.mp4", "--json")
    assert (code, line) == (2, f"affect: {face_videos / 'no_face.mp4'} shows no face in 8 frames.")
    assert [json.loads(row)["probabilities"] for row in out.splitlines()] == [None] * 8
    short = tmp_path / "short.mkv"
    write_video(tmp_path / "whole.mkv", [frame for _, frame in read_frames(video)] * 4)
    shutil.copy(tmp_path / "whole.mkv", short)
    short.write_bytes(short.read_bytes()[: short.stat().st_size * 2 // 3])
    code, out, (line,) = affect("watch", FER2013, short, "--json")
    assert code == 1 and "truncated" in line
    assert json.loads(out.splitlines()[-1])["label"] is not None


def test_a_regression_network_is_refused():
    config = VideoRegressor(temporal=None, face_size=16, blocks=1, filters=2)
    with pytest.raises(
        InputError, match="row is a regression network, .* Use affect.models.stream.StreamingRegressor."
    ):
        next(watch(Trained(None, Experiment("row", config), (), Faces()), []))


def test_a_network_of_whole_clips_is_refused(exported):
    with pytest.raises(InputError, match="video_sta reads whole clips, and does not judge their frames one by one."):
        next(watch(exported("video_sta")[0], []))


def test_a_half_life_needs_a_pooling_that_forgets():
    config = FrameClassifier(backbone="mini_xception", weights=None, face_size=32, temporal_pooling="max")
    model = Trained(build_frame_classifier(config, ("a", "b")), Experiment("row", config), ("a", "b"), Faces())
    with pytest.raises(InputError, match="Received: temporal_pooling='max'. Leave the half-life out."):
        next(watch(model, [], half_life_s=1.0))
