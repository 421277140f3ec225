"""The sound of an annotated video: it is there, it is in time, and what cannot be read is said."""

import shutil

import av
import numpy as np
import pytest

from affect.pipelines.sound import add_sound
from affect.pipelines.video import read_frames
from affect.reading.watch import AnnotatedVideo
from tests.pictures import write_video

RATE_HZ, FLASH_S, BEEP_S = 25, 1.0, 0.2


def write_beep(path, codec, *, length_s=2.0, video_from_s=0.0, channels=1, rate=48000):
    """Writes black frames and silence; at `FLASH_S` of the video the frames are white, and a tone begins.

    Args:
        path: File.
        codec: Of the sound.
        length_s: Length of the video.
        video_from_s: Time by which the video begins after the sound.
        channels, rate: Of the sound.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "veryfast", "threads": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout="mono" if channels == 1 else "stereo")
        times_s = np.arange(round((length_s + video_from_s) * rate)) / rate - video_from_s
        tone = 0.5 * np.sin(2 * np.pi * 1000 * times_s) * ((times_s >= FLASH_S) & (times_s < FLASH_S + BEEP_S))
        samples = np.repeat((tone * 32767).astype(np.int16)[None], channels, axis=0).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, "s16", "mono" if channels == 1 else "stereo")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode())
        for index in range(round(length_s * RATE_HZ)):
            is_white = FLASH_S <= index / RATE_HZ < FLASH_S + BEEP_S
            image = np.full((64, 64, 3), 255 * is_white, np.uint8)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts = index + round(video_from_s * RATE_HZ)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def annotate(source, out, *, most=10**9, add=add_sound):
    """Writes the frames of a video as `affect watch` does; returns what is said of the sound."""
    said = []
    video = AnnotatedVideo(out, lambda path: said.append(add(source, path)))
    for index, (timestamp_s, frame) in enumerate(read_frames(source)):
        if index < most:
            video.add(timestamp_s, frame)
    video.close()
    return said


def onsets(path):
    """Returns when the picture becomes white and when the tone begins, in seconds, and the lengths of both streams."""
    with av.open(str(path)) as container:
        bright = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    loud = []
    with av.open(str(path)) as container:
        codec = container.streams.audio[0].codec_context.codec.canonical_name
        for frame in container.decode(audio=0):
            values = np.abs(frame.to_ndarray().astype(float)).reshape(-1)
            loud += [(frame.time, values.max() / (1 if "flt" in frame.format.name else 32768))]
            end_s = frame.time + frame.samples / frame.sample_rate
    flash_s = next(time_s for time_s, light in bright if light > 128)
    beep_s = next(time_s for time_s, volume in loud if volume > 0.2)
    return flash_s, beep_s, bright[-1][0] + 1 / RATE_HZ, end_s, codec


@pytest.mark.parametrize(
    ("name", "codec", "kept", "options"),
    [
        ("a.mp4", "aac", "aac", {}),
        ("a.mkv", "aac", "aac", {"channels": 2}),
        ("a.ts", "aac", "aac", {}),
        ("late.mkv", "aac", "aac", {"video_from_s": 0.4}),
        ("a.mkv", "libmp3lame", "mp3", {"rate": 44100}),
        ("a.mkv", "libopus", "opus", {}),
        ("a.avi", "pcm_s16le", "aac", {"rate": 44100, "channels": 2}),
        ("a.mkv", "pcm_s16le", "aac", {"rate": 11025}),
        ("late.mkv", "pcm_s16le", "aac", {"video_from_s": 0.4}),
        ("a.mkv", "mp2", "aac", {"channels": 2}),
    ],
)
def test_sound_is_kept_in_time(tmp_path, name, codec, kept, options):
    source = write_beep(tmp_path / name, codec, **options)
    out = tmp_path / "out" / "annotated.mp4"
    assert annotate(source, out) == [""]
    flash_s, beep_s, video_s, sound_s, found = onsets(out)
    assert found == kept
    assert flash_s == pytest.approx(FLASH_S, abs=0.001)
    assert beep_s == pytest.approx(FLASH_S, abs=0.035)  # a frame of sound lasts 21 to 26 ms
    assert video_s == pytest.approx(2.0, abs=0.001)
    assert sound_s == pytest.approx(video_s, abs=0.1)
    assert [path.name for path in out.parent.iterdir()] == ["annotated.mp4"]


def test_the_sound_of_a_video_that_was_stopped_ends_with_it(tmp_path):
    source = write_beep(tmp_path / "a.mp4", "aac")
    assert annotate(source, tmp_path / "out.mp4", most=30) == [""]
    flash_s, beep_s, video_s, sound_s, _ = onsets(tmp_path / "out.mp4")
    assert (flash_s, video_s) == (pytest.approx(FLASH_S, abs=0.001), pytest.approx(1.2, abs=0.001))
    assert beep_s == pytest.approx(FLASH_S, abs=0.035) and sound_s == pytest.approx(1.2, abs=0.05)


def test_a_video_without_sound_stays_as_it_is(tmp_path):
    source = write_video(tmp_path / "a.mp4", [np.zeros((64, 64, 3), np.uint8)] * 5)
    assert annotate(source, tmp_path / "out.mp4") == [""]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams) == 1


def test_a_source_that_cannot_be_read_is_said_and_the_video_is_whole(tmp_path):
    source, out = write_beep(tmp_path / "a.mp4", "aac"), tmp_path / "out.mp4"
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing" * 100)
    said = annotate(source, out, add=lambda _, path: add_sound(bad, path))
    assert said[0].startswith(f"{bad}: the video is written without its sound (it is not a video that can be opened")
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50
    cut = tmp_path / "cut.mkv"
    shutil.copy(write_beep(tmp_path / "whole.mkv", "pcm_s16le"), cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    assert annotate(source, out, add=lambda _, path: add_sound(cut, path)) == [""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "bad.mp4", "cut.mkv", "out.mp4", "whole.mkv"]
