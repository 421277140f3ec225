"""The decoder's process: what a hostile video can cost, and what becomes of the process and of the next video."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from affect.config import read_json
from affect.data.verify import verify
from affect.errors import InputError
from affect.pipelines import decoder
from affect.pipelines.video import Limits, end_idle_decoders, probe, read_frames
from tests.pictures import grey, portrait, write_two_sizes, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 100 frames, 10 a second."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", grey(100))


def decoders(pid=None):
    """Returns the ids of the decoders that a process has, by default this one."""
    tasks = Path(f"/proc/{pid or os.getpid()}/task").glob("*/children")
    children = b" ".join(map(read, tasks)).decode().split()
    return [int(child) for child in children if b"decoder.py" in read(f"/proc/{child}/cmdline")]


def read(path):
    """Returns the content of a file in /proc, which is empty for a process that has ended, or not there."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""


def state(pid):
    """Returns the state of a process: "Z" where it has ended and nobody has asked how."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def until(condition):
    """Waits until a condition holds; a test that hangs here has failed."""
    for _ in range(1000):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("It does not come about.")


@pytest.fixture
def fresh():
    """Begins without a decoder, so that the one that is started is the test's."""
    end_idle_decoders()
    until(lambda: not decoders())


def error_of(frames):
    """Returns how many frames come before the error, and its text."""
    count = 0
    with pytest.raises(InputError) as error:
        for _ in frames:
            count += 1
    return count, str(error.value)


def test_frames_are_the_callers_own(clip):
    # More than are decoded ahead, so that every place in the shared memory is used again.
    frames = [frame for _, frame in read_frames(clip)]
    np.testing.assert_allclose([frame.mean() for frame in frames], [frame.mean() for frame in grey(100)], atol=4)
    assert all(frame.flags.owndata and frame.flags.writeable for frame in frames)


def test_one_process_reads_video_after_video(fresh, clip):
    assert len(list(read_frames(clip))) == 100
    (first,) = decoders()
    assert len(list(read_frames(clip, start_s=5))) == 50
    assert probe(clip).frame_rate_hz == 10
    assert decoders() == [first]


def test_two_videos_are_read_at_the_same_time(fresh, clip):
    pairs = list(zip(read_frames(clip), read_frames(clip, start_s=5), strict=False))
    assert len(pairs) == 50
    for (one_s, _), (other_s, _) in pairs:
        assert other_s == pytest.approx(one_s + 5)


def test_the_process_outlives_the_thread_that_started_it(fresh, clip):
    counts = []
    thread = threading.Thread(target=lambda: counts.append(len(list(read_frames(clip)))))
    thread.start()
    thread.join()
    (first,) = decoders()
    counts.append(len(list(read_frames(clip))))
    assert counts == [100, 100]
    assert decoders() == [first]


def test_a_video_that_is_left_early_leaves_no_process(fresh, clip):
    frames = read_frames(clip)
    next(frames)
    assert len(decoders()) == 1
    frames.close()
    assert decoders() == []
    assert len(list(read_frames(clip))) == 100


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_costs_that_video_only(fresh, clip, how):
    frames = read_frames(clip)
    next(frames)
    (pid,) = decoders()
    os.kill(pid, how)
    more, error = error_of(frames)
    assert more <= decoder.PIPE_BYTES // (64 * 64 * 3)  # what was sent already is read
    assert error == f"{clip} crashed the decoder after {1 + more} frames ({how.name})."
    assert decoders() == []
    assert len(list(read_frames(clip))) == 100


def test_a_process_that_ended_between_two_videos_costs_none(fresh, clip):
    list(read_frames(clip))
    (pid,) = decoders()
    os.kill(pid, signal.SIGKILL)
    until(lambda: state(pid) == "Z")  # its command line goes a moment before it has ended
    assert len(list(read_frames(clip))) == 100


def test_a_process_whose_end_does_not_show_yet_costs_none(fresh, clip, monkeypatch):
    list(read_frames(clip))
    (pid,) = decoders()
    os.kill(pid, signal.SIGKILL)
    until(lambda: state(pid) == "Z")
    monkeypatch.setattr(subprocess.Popen, "poll", lambda process: None)
    assert len(list(read_frames(clip))) == 100


def test_a_hang_costs_that_video_only(fresh, clip):
    frames = read_frames(clip, limits=Limits(stall_s=2.5))
    next(frames)
    (pid,) = decoders()
    os.kill(pid, signal.SIGSTOP)
    more, error = error_of(frames)
    assert error == f"{clip} gave no frame for 2.5 s after {1 + more} frames; its decoder was stopped."
    assert decoders() == []
    assert len(list(read_frames(clip))) == 100


def test_a_file_that_never_answers_is_given_up(tmp_path):
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    _, error = error_of(read_frames(path, limits=Limits(stall_s=0.5)))
    assert error.startswith(f"{path} gave no frame for 0.5 s")


def test_frames_that_are_passed_over_are_a_sign_of_life():
    read, write = os.pipe()
    ahead = decoder.Ahead(os.fdopen(write, "wb"))
    ahead.keep_alive()
    ahead.sent_s -= decoder.ALIVE_S
    ahead.keep_alive()
    ahead.keep_alive()
    ahead.note("is over.")
    with os.fdopen(read, "rb") as sent:
        assert [sent.readline(), sent.readline()] == [b"{}\n", b'{"note": "is over."}\n']


def reader_of(path):
    """Starts a process that reads a video, says so and sleeps. Returns it and its decoder's id."""
    code = "import sys, time; from affect.pipelines.video import *; list(read_frames(sys.argv[1])); print(); "
    code += "time.sleep(600)"
    reader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    (pid,) = until(lambda: decoders(reader.pid))
    return reader, pid


def test_an_idle_decoder_ends_with_its_reader(clip):
    reader, pid = reader_of(clip)
    reader.stdout.readline()
    reader.kill()
    reader.communicate()
    until(lambda: not read(f"/proc/{pid}/cmdline"))


def test_a_busy_decoder_ends_with_its_reader(tmp_path):
    path = tmp_path / "a.mp4"
    os.mkfifo(path)
    reader, pid = reader_of(path)

    def writer():
        with suppress(OSError):  # there is no reader yet
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)

    pipe = until(writer)  # nothing is written, so that the decoder waits for its first bytes
    reader.kill()
    reader.communicate()
    until(lambda: not read(f"/proc/{pid}/cmdline"))
    os.close(pipe)


def test_interrupts_while_decoders_start_and_end_leave_nothing(clip):
    """Ctrl-C comes at any moment of it, 60 times. No process and no open file remains, and nothing is said."""
    code = (
        "import os, random, signal, sys, time\n"
        "from affect.pipelines.video import end_idle_decoders, read_frames\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background ignores it
        "signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))\n"
        "random.seed(0)\n"
        "stopped = 0\n"
        "for number in range(60):\n"
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, random.random() * (0.02 if number % 2 else 0.4))\n"
        "        list(read_frames(sys.argv[1]))\n"
        "        end_idle_decoders()\n"
        "    except KeyboardInterrupt:\n"
        "        stopped += 1\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0)\n"
        "end_idle_decoders()\n"
        "time.sleep(1)\n"
        "list(read_frames(sys.argv[1]))\n"
        "end_idle_decoders()\n"
        "children = open(f'/proc/self/task/{os.getpid()}/children').read().split()\n"
        "print(stopped, len(os.listdir('/proc/self/fd')) - 1, len(children))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(clip)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    stopped, files, children = map(int, done.stdout.split())
    assert stopped >= 30
    assert (files, children) == (3, 0)


def test_the_process_may_write_no_file(fresh, clip):
    list(read_frames(clip))
    (pid,) = decoders()
    limits = dict(re.findall(r"^(Max [a-z ]+?)  +(\w+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE))
    assert (limits["Max file size"], limits["Max core file size"], limits["Max open files"]) == ("0", "0", "16")
    assert limits["Max address space"] == str(3 * 2**30)


def test_too_large_frames_are_refused_from_the_header(clip):
    error = f"{clip} has frames of 64×64 pixels; at most 0.004095 million can be read."
    assert error_of(read_frames(clip, limits=Limits(max_pixels=64 * 64 - 1))) == (0, error)
    assert len(list(read_frames(clip, limits=Limits(max_pixels=64 * 64)))) == 100


def test_pixels_that_are_too_wide_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", grey(2), aspect_ratio=Fraction(40, 1))
    error = f"{path} has frames of 2560×64 pixels; at most 0.1 million can be read."
    assert error_of(read_frames(path, limits=Limits(max_pixels=10**5))) == (0, error)


@pytest.mark.parametrize("start_s, jumps", [(3, False), (1, True)])
def test_no_frame_is_left_out_where_the_clock_jumps(start_s, jumps, tmp_path):
    path = write_two_sizes(tmp_path, starts_s=(0, start_s))
    with av.open(str(path)) as container:
        stream = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    notes = []
    found = list(read_frames(path, notes=notes))
    assert all(before_s < after_s for (before_s, _), (after_s, _) in pairwise(found))
    for (_, frame), expected in zip(found, stream, strict=True):
        np.testing.assert_array_equal(frame, expected)
    assert any(" has a clock that jumps back once, after 1.96 s:" in note for note in notes) == jumps
    assert all(note.startswith(f"{path} has ") and note.count("\n") == 0 for note in notes)


def test_frames_that_change_their_size(tmp_path):
    path = write_two_sizes(tmp_path, starts_s=(0, 3))
    assert {frame.shape for _, frame in read_frames(path)} == {(64, 64, 3), (128, 128, 3)}
    count, error = error_of(read_frames(path, limits=Limits(max_pixels=64 * 64)))
    assert 40 <= count <= 50
    assert error.startswith(f"{path} is damaged: 50 frames could not be decoded, the first at 2.")


def test_memory_is_limited(tmp_path, clip):
    path = write_video(tmp_path / "a.avi", grey(3, 3072), codec="mpeg4")
    assert len(list(read_frames(path))) == 3
    limits = Limits(memory_bytes=340 * 2**20)
    assert error_of(read_frames(path, limits=limits))[1] == f"{path} needs more than 340 MiB of memory."
    assert len(list(read_frames(clip))) == 100


def test_frames_do_not_stay_in_memory(tmp_path, fresh):
    path = write_video(tmp_path / "a.avi", grey(60, 1536), codec="mpeg4")  # of 3.5 MB as it is decoded
    limits = Limits(memory_bytes=460 * 2**20)  # of which about 270 MiB are taken before the first frame
    assert sum(1 for _ in read_frames(path, limits=limits)) == 60


def test_the_containers_are_named_as_the_library_names_them():
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(decoder.FORMATS) <= known
    # Each of these opens what others name.
    assert not {"concat", "dash", "hls", "image2", "sdp"} & set(decoder.FORMATS)


# Where each kind of playlist is written: text for a video beside it.
PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
    "a.mp4": "ffconcat version 1.0\nfile {path.name}\n",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_no_other_file(tmp_path, clip, name):
    beside = tmp_path / "beside.ts"
    with av.open(str(clip)) as source, av.open(str(beside), "w") as copy:
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(path=beside))
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 100  # so the playlist is a good one
    count, error = error_of(read_frames(path))
    assert count == 0
    assert error.startswith(f"{path} is not a video that can be opened (Invalid argument: damaged, or none of ")


def test_names_that_look_like_addresses_are_files(tmp_path, clip, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http://127.0.0.1/a.mp4", f"concat:{clip}|{clip}", f"subfile,,start,0,end,0,,:{clip}", "pipe:0"):
        assert error_of(read_frames(name))[1].startswith(f"{name} is not a video that can be opened (No such file")
    Path("concat:a.mp4").write_bytes(clip.read_bytes())
    assert len(list(read_frames("concat:a.mp4"))) == 100


def test_what_is_read_does_not_hang_on_the_text_of_a_container(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes().replace(b"TITLE", b"\xff\xfe\xfd\xfc\xfb"))
    assert len(list(read_frames(path))) == 1


CODECS = {".avi": "mpeg4", ".flv": "flv1", ".mkv": "libx264", ".mov": "libx264", ".mp4": "libx264"}
CODECS |= {".mpg": "mpeg2video", ".webm": "libvpx-vp9", ".wmv": "wmv2"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Bytes of a video of 12 frames for each suffix in `CODECS`."""
    frames = [portrait(size=64, shift=(t, 0)) for t in range(12)]
    folder = tmp_path_factory.mktemp("originals")
    written = {
        suffix: write_video(
            folder / f"a{suffix}", frames, frame_rate_hz=25, codec=codec, audio_s=0.5 * (suffix == ".mp4")
        )
        for suffix, codec in CODECS.items()
    }
    return {suffix: path.read_bytes() for suffix, path in written.items()}


def mutate(data, seed):
    """Returns a file with bits flipped, bytes of its head or tail replaced, cut off, or spliced with itself."""
    random = np.random.default_rng(seed)
    data = np.frombuffer(data, np.uint8).copy()
    match random.integers(4):
        case 0:
            places = random.integers(0, len(data), random.integers(1, 40))
            data[places] ^= np.left_shift(1, random.integers(0, 8, len(places))).astype(np.uint8)
        case 1:
            places = random.integers(0, min(len(data), 600), random.integers(1, 6))
            data[places if random.random() < 0.5 else -1 - places] = random.integers(0, 256, len(places))
        case 2:
            data = data[: random.integers(0, len(data))]
        case 3:
            end, start, rest = random.integers(0, len(data), 3)
            part = data[start : start + random.integers(1, len(data) // 4)]
            data = np.concatenate([data[:end], part, data[rest:]])
    return data.tobytes()


@pytest.mark.parametrize(
    ("first", "count"), [(0, 80), *(pytest.param(1000 * n, 250, marks=pytest.mark.large) for n in range(1, 8))]
)
def test_mutated_videos_are_read_or_named(tmp_path, originals, first, count):
    outcomes = {"whole": 0, "in part": 0, "not at all": 0}
    suffixes = sorted(originals)
    for seed in range(first, first + count):
        suffix = suffixes[seed % len(suffixes)]
        path = tmp_path / f"{seed}{suffix}"
        path.write_bytes(mutate(originals[suffix], seed))
        frames, error = 0, ""
        try:
            for _, frame in read_frames(path):
                assert frame.dtype == np.uint8 and frame.ndim == 3
                frames += 1
        except InputError as problem:
            error = str(problem)
            assert re.fullmatch(rf"{re.escape(str(path))} [^\n]+\.", error)
        assert frames or error
        outcomes["whole" if not error else "in part" if frames else "not at all"] += 1
    # Mutations that all passed, or all failed at the door, would test nothing.
    assert min(outcomes.values()) >= count // 20, outcomes
    assert len(list(tmp_path.iterdir())) == count


@pytest.mark.large
def test_a_folder_of_mutated_videos_is_prepared(tmp_path, originals):
    """As a process: it ends by itself, names each video that cannot be used, and writes only where it is told."""
    videos, out, home, caches = (tmp_path / name for name in ("videos", "out", "home", "caches"))
    videos.mkdir()
    home.mkdir()
    suffixes = sorted(originals)
    for seed in range(5000, 5240):
        suffix = suffixes[seed % len(suffixes)]
        (videos / f"{seed}{suffix}").write_bytes(mutate(originals[suffix], seed))
    before = {path: path.read_bytes() for path in videos.iterdir()}
    times, errors = {path.stem: [] for path in before}, {}
    for path in before:
        try:
            times[path.stem].extend(time_s for time_s, _ in read_frames(path))
        except InputError as error:
            errors[path.stem] = str(error)
    assert 60 <= len(errors) <= 210

    command = [sys.executable, "-c", "from affect.cli import main; main()", "prepare", videos, "--out", out]
    places = {"HOME": str(home), "TMPDIR": str(home), "KERAS_HOME": str(caches), "MPLCONFIGDIR": str(caches)}
    done = subprocess.run(
        [*command, "--face-size", "32", "--min-face-px", "30", "--workers", "2"],
        cwd=home,
        env=os.environ | places | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 1, done.stderr
    clips = {clip["key"]: clip for clip in read_json(out / "manifest.json")["clips"]}
    assert clips.keys() == times.keys()
    for key, clip in clips.items():
        if key in errors:
            assert clip["problem"] == errors[key]
        else:
            assert clip["frames_decoded"] == len(times[key])
            shown = re.fullmatch(r".*/\d+\.\w+ shows no face in \d+ frames\.", clip["problem"]) is None
            assert shown == (clip["frames_with_a_face"] > 0)
            assert not shown or not clip["problem"]
    lines = {line for line in done.stderr.splitlines() if line.startswith("affect: ")}
    problems = {f"affect: {key}: {clip['problem']}" for key, clip in clips.items() if clip["problem"]}
    notes = {f"affect: {key}: note: {note}" for key, clip in clips.items() for note in clip.get("notes", ())}
    assert {line for line in lines if not line.startswith(f"affect: {out}: in ")} == problems | notes
    with_a_face = sum(clip["frames_with_a_face"] > 0 for clip in clips.values())
    assert f"240 clips, {with_a_face} of them with a face" in done.stdout
    assert with_a_face >= 60

    assert sorted(path.name for path in out.iterdir()) == ["all-00000-of-00001.tfrecord", "manifest.json"]
    assert not list(home.iterdir())
    assert {path: path.read_bytes() for path in videos.iterdir()} == before
    assert verify(out)["damage"] == []
