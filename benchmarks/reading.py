"""How long it takes to read a video, from the start of Python to the answer, beside other packages.

    python -m benchmarks.reading CLIP [--peers PYTHON] [--seconds 2.4 --seconds 60] [--rounds 3] [--out result.json]

The clip is repeated to each length. Each way reads it in a new process, in turns; the median of the rounds counts.
Two lengths give the frames a second, without the start, and the start, without the frames:

- `tflite`, `savedmodel` and `keras` are `affect.load(...).read(...)` for the same network, mini-Xception: the TFLite
  file that comes with affect, an export of it, and the config.
- `fer` is the package fer, which has the same network, with its defaults: OpenCV's Haar cascade finds the faces. With
  `mtcnn=True` its process crashes, because TensorFlow 2.21 and PyTorch 2.14 do not run in one process.
- `facenet` is facenet-pytorch's MTCNN on 16 frames at a time, and fer's network in LiteRT on their first faces.

The last two need an environment with these packages and ai-edge-litert, whose Python is PYTHON:
`pip install fer==25.10.3 tensorflow "setuptools<81"`; then `pip uninstall opencv-contrib-python` and
`pip install 'opencv-python-headless<5'`, because OpenCV 5 has no Haar cascade.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import av
import typer
from rich.console import Console
from rich.table import Table

from affect.config import write_json

OURS = """
import sys
import affect
reading = affect.load(sys.argv[1]).read(sys.argv[2])
print("FRAMES", len(reading.curves.times_s), "FACES", len(reading.faces))
"""
FER = """
import sys
import cv2
from fer.fer import FER
reader, video, frames, faces = FER(), cv2.VideoCapture(sys.argv[2]), 0, 0
while (read := video.read())[0]:
    frames, faces = frames + 1, faces + bool(reader.detect_emotions(read[1]))
print("FRAMES", frames, "FACES", faces)
"""
FACENET = """
import sys
from pathlib import Path
import cv2, facenet_pytorch, numpy as np
from ai_edge_litert.interpreter import Interpreter
data = Path(facenet_pytorch.__file__).parents[1] / "fer" / "data"
content = (data / "emotion_model_quantized.tflite").read_bytes()
network, detector = Interpreter(model_content=content), facenet_pytorch.MTCNN(keep_all=True)
network.allocate_tensors()
place = network.get_input_details()[0]["index"]
def read(batch):
    faces = 0
    for frame, boxes in zip(batch, detector.detect(batch)[0]):
        for x0, y0, x1, y1 in np.maximum(0, [] if boxes is None else boxes[:1]).astype(int):
            grey = cv2.resize(cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY), (64, 64))
            network.set_tensor(place, (grey / 127.5 - 1).astype("float32")[None, ..., None])
            network.invoke()
            faces += 1
    return faces
video, frames, faces, batch = cv2.VideoCapture(sys.argv[2]), 0, 0, []
while (got := video.read())[0]:
    frames, batch = frames + 1, [*batch, cv2.cvtColor(got[1], cv2.COLOR_BGR2RGB)]
    if len(batch) == 16:
        faces, batch = faces + read(batch), []
if batch:
    faces += read(batch)
print("FRAMES", frames, "FACES", faces)
"""
# Runs a program and adds what it used, with the processes that it started.
MEASURED = """
import resource
usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print("CPU", sum(each.ru_utime + each.ru_stime for each in usage), "MIB", max(each.ru_maxrss for each in usage) / 1024)
"""


def repeat(clip: Path, out: Path, seconds: float) -> None:
    """Writes the packets of a clip again and again, until it is so long.

    Args:
        clip: Video file.
        out: MP4 file.
        seconds: Length of `out`; the last repetition is whole.
    """
    with av.open(str(out), "w") as target:
        written_s, stream = 0.0, None
        while written_s < seconds - 1e-3:
            with av.open(str(clip)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                ticks, last = round(written_s / video.time_base), 0
                for packet in source.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                        last = max(last, packet.pts + (packet.duration or 0))
                        packet.stream = stream
                        target.mux(packet)
                written_s = float(last * video.time_base)


def run(python: str, program: str, *arguments: str | Path) -> dict[str, float]:
    """Runs a program in a new process; returns its seconds, CPU seconds, MiB, frames and faces.

    Args:
        python: Python interpreter.
        program: Source that prints FRAMES and FACES.
        *arguments: Of the program.
    """
    before_s = time.perf_counter()
    command = [python, "-c", program + MEASURED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - before_s
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:1])} failed: {done.stderr[-1500:]}")
    words = done.stdout.split()
    found = {name: float(words[words.index(name) + 1]) for name in ("FRAMES", "FACES", "CPU", "MIB")}
    return {"seconds": seconds, **{name.lower(): value for name, value in found.items()}}


def measure(ways, clips, rounds):
    """Returns way → length → the median of each number."""
    found = {name: {length: [] for length in clips} for name in ways}
    for number in range(rounds):
        for name, (python, program, argument) in ways.items():
            for length, clip in clips.items():
                found[name][length].append(run(python, program, argument, clip))
                latest = found[name][length][-1]
                print(
                    f"{number + 1}/{rounds} {name} {length:g} s: {latest['seconds']:.2f} s", file=sys.stderr, flush=True
                )
    return {
        name: {
            length: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
            for length, runs in lengths.items()
        }
        for name, lengths in found.items()
    }


def summarise(lengths: dict[float, dict[str, float]]) -> dict[str, float]:
    """Returns what a way takes to start, and for each frame.

    Args:
        lengths: Length → numbers, of two lengths or more.
    """
    (shortest, longest) = min(lengths), max(lengths)
    few, many = lengths[shortest], lengths[longest]
    frames = many["frames"] - few["frames"]
    frame_s, frame_cpu_s = (many["seconds"] - few["seconds"]) / frames, (many["cpu"] - few["cpu"]) / frames
    return {
        "first_seconds": few["seconds"],
        "first_cpu": few["cpu"],
        "start_seconds": few["seconds"] - few["frames"] * frame_s,
        "frames_a_second": 1 / frame_s,
        "cpu_ms_a_frame": 1000 * frame_cpu_s,
        "mib": few["mib"],
        "mib_longest": many["mib"],
        "faces": few["faces"] / few["frames"],
    }


def main(
    clip: Annotated[Path, typer.Argument(help="Video file.")],
    peers: Annotated[str | None, typer.Option(help="Python with fer and facenet-pytorch.")] = None,
    seconds: Annotated[list[float] | None, typer.Option(help="Lengths, two or more.")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    way: Annotated[list[str] | None, typer.Option(help="Only these ways.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file.")] = None,
) -> None:
    """Measures each way at each length and prints a table."""
    lengths = sorted(seconds or (2.4, 60.0))
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder, "fer2013")
        if not way or "savedmodel" in way:
            subprocess.run(
                [sys.executable, "-m", "affect", "export", "fer2013", exported], check=True, capture_output=True
            )
        config = Path(__file__).parents[1] / "configs" / "fer2013.py"
        ways = {
            "tflite": (sys.executable, OURS, "fer2013"),
            "savedmodel": (sys.executable, OURS, exported / "1"),
            "keras": (sys.executable, OURS, config),
        }
        if peers:
            ways |= {
                "fer": (peers, FER, ""),
                "facenet": (peers, FACENET, ""),
            }
        ways = {name: found for name, found in ways.items() if not way or name in way}
        clips = {length: Path(folder, f"{length:g}.mp4") for length in lengths}
        for length, path in clips.items():
            repeat(clip, path, length)
        result = {name: summarise(found) | {"lengths": found} for name, found in measure(ways, clips, rounds).items()}
    table = Table(
        "way",
        f"{lengths[0]:g} s: s",
        "CPU s",
        "MiB",
        f"MiB of {lengths[-1]:g} s",
        "start s",
        "frames/s",
        "CPU ms a frame",
        "faces",
    )
    for name, found in result.items():
        keys = (
            "first_seconds",
            "first_cpu",
            "mib",
            "mib_longest",
            "start_seconds",
            "frames_a_second",
            "cpu_ms_a_frame",
            "faces",
        )
        table.add_row(name, *(f"{found[key]:.2f}" if found[key] < 10 else f"{found[key]:.0f}" for key in keys))
    Console(width=120).print(table)
    if out:
        write_json(out, result)


if __name__ == "__main__":
    typer.run(main)
