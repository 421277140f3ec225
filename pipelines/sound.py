"""The sound of a video file → an annotated video, which gets it at the same times.

A video may be hostile (`affect.pipelines.video`), so this process does not open it. A child process, which `add_sound`
starts, copies the packets of the sound, or encodes them again, and has limits of time and memory.
"""

import heapq
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.logging
from av.stream import Disposition

from affect.files import name_temporary
from affect.pipelines.decoder import VideoError, open_video, set_limit
from affect.pipelines.video import MAX_PIXELS, MEMORY_BYTES, NO_WINDOW

# Codecs that MP4 holds and players play there. Any other sound is encoded as AAC.
COPIED = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
# Longest time for a source: this, and the length of the video.
PATIENCE_S = 60.0
# Largest size of the file that is written: this, and twice the size of both files that are read.
SPARE_BYTES = 64 * 2**20


def add_sound(source: Path | str, video: Path) -> str:
    """Adds the sound of a video file to an MP4 file that shows it.

    Time 0 of the MP4 file is the first frame of the source's video stream, as in `affect.pipelines.video.read_frames`.
    Sound before it, and after the last frame, is left out. Of several streams of sound, the one that is marked as
    default is taken, otherwise the first one.

    Args:
        source: Video file, which may have no sound.
        video: MP4 file without sound. It is replaced if there is sound.

    Returns:
        Why the sound is missing, in one sentence; empty if it was added or there is none.
    """
    with av.open(str(video), format="mp4") as container:  # which this process wrote
        length_s = _measure_end(container.streams.video[0])
    with_sound = name_temporary(video, "sound-")
    paths = [os.path.abspath(path) for path in (source, video, with_sound)]
    reason = "its reader crashed"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "affect.pipelines.sound", *paths],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE_S + length_s,
            check=False,
            # An interrupt from the keyboard must not damage the file.
            start_new_session=True,
            creationflags=NO_WINDOW,
        )
        reason = json.loads(done.stdout)["reason"]
        if with_sound.is_file() and not reason:
            with_sound.replace(video)
    except subprocess.TimeoutExpired:
        reason = "its reader took too long"
    except ValueError:  # there is no answer
        pass
    finally:
        with_sound.unlink(missing_ok=True)
    return reason and f"{source}: the video is written without its sound ({reason})."


def copy_sound(source: str, video: str, out: str) -> None:
    """Writes an MP4 file of the frames of one file and the sound of another one. Without sound it writes nothing.

    Args:
        source: Video file.
        video: MP4 file.
        out: MP4 file.

    Raises:
        VideoError: When the source cannot be read.
    """
    with open_video(source, MAX_PIXELS) as (container, stream), av.open(video, format="mp4") as shown:
        sounds = [sound for sound in container.streams.audio if sound.codec_context]
        if not sounds:
            return
        sound = min(sounds, key=lambda one: not one.disposition & Disposition.default)
        origin_s = float((stream.start_time or 0) * stream.time_base)
        frames = shown.streams.video[0]
        part_s = origin_s, origin_s + _measure_end(frames)
        with av.open(out, "w", format="mp4") as written:
            copied = written.add_stream_from_template(frames)
            read = _copy if sound.codec_context.codec.canonical_name in COPIED else _encode
            packets = read(container, sound, written, part_s)
            # Each packet comes with its time, so that the file can be played while it is read.
            for _, packet in heapq.merge(_list_frames(shown, frames, copied), packets, key=lambda pair: pair[0]):
                written.mux(packet)


def _list_frames(container, stream, copied) -> Iterator[tuple[float, Any]]:
    for packet in container.demux(stream):
        if packet.dts is not None:
            time_s = float(packet.dts * packet.time_base)
            packet.stream = copied
            yield time_s, packet


def _copy(container, sound, written, part_s) -> Iterator[tuple[float, Any]]:
    """Yields the packets of a part of the sound, with times from its start."""
    copied = written.add_stream_from_template(sound)
    start, last = round(part_s[0] / sound.time_base), None
    for packet in container.demux(sound):
        if packet.pts is None or packet.dts is None:
            continue
        # The first packets of a codec prepare the next one, so the one before the start is kept.
        begins_s = float(packet.pts * sound.time_base)
        lasts_s = float((packet.duration or 0) * sound.time_base)
        if begins_s + 2 * lasts_s <= part_s[0] or (last is not None and packet.dts <= last):
            continue
        if begins_s >= part_s[1]:
            return
        last = packet.dts
        packet.pts, packet.dts = packet.pts - start, packet.dts - start
        packet.stream = copied
        yield begins_s - part_s[0], packet


def _encode(container, sound, written, part_s) -> Iterator[tuple[float, Any]]:
    """Yields packets of AAC of a part of the sound, with times from its start."""
    rate = sound.codec_context.sample_rate
    encoded = written.add_stream("aac", rate=rate if rate in (8000, 16000, 22050, 32000, 44100) else 48000)
    encoded.layout = "mono" if sound.codec_context.channels == 1 else "stereo"
    resampler = av.AudioResampler("fltp", encoded.layout, encoded.rate)
    last_s = 0.0
    for packet in container.demux(sound):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # damage costs a moment
            continue
        for frame in frames:
            if frame.time is None or frame.time + frame.samples / frame.sample_rate <= part_s[0]:
                continue
            if frame.time >= part_s[1]:
                break
            last_s = frame.time - part_s[0]
            frame.pts = round(last_s / frame.time_base)
            for part in resampler.resample(frame):
                yield from ((last_s, packet) for packet in encoded.encode(part))
    yield from ((last_s, packet) for packet in encoded.encode())


def _measure_end(stream):
    """Returns the time in seconds at which a stream of an MP4 file ends."""
    return float(((stream.start_time or 0) + (stream.duration or 0)) * stream.time_base)


def main() -> None:
    """Copies the sound as the arguments say: the source, the MP4 file, and the file that is written."""
    set_limit("AS", MEMORY_BYTES)
    set_limit("CORE", 0)
    most_bytes = SPARE_BYTES + 2 * sum(os.path.getsize(path) for path in sys.argv[1:3])
    set_limit("FSIZE", most_bytes)
    av.logging.set_level(av.logging.PANIC)
    reason = ""
    try:
        copy_sound(*sys.argv[1:])
    except VideoError as error:
        reason = f"it {error}"
    # The source may be hostile, and may cause any exception.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
    print(json.dumps({"reason": reason}))


if __name__ == "__main__":
    main()
