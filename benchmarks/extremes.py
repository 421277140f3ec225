"""Many small videos, long lists and a video of hours: time and memory of the commands.

    python -m benchmarks.extremes [--videos 1000 --videos 10000] [--rows 1000 ...] [--hours 1 --hours 3] [--work FOLDER]

- `prepare` prepares so many videos of 2 frames of 64 pixels without a face. `again` is the same command on its results,
  which compares every video by its SHA-256.
- `list` lists and checks a CSV file with so many rows, as `affect prepare --dataset csv` does first. `missing` does so
  with a list whose videos are not there, so that each name is looked for in other spellings.
- `predict` is `affect predict fer2013 VIDEO --out` of so many hours of video: 2 frames a second of 160 × 160 pixels, a
  still face. Its table has a row for each frame.

Each number is of a new process. Memory is the largest of any process that it started; less than what this process has
cannot be seen.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import repeat
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import skimage.data
import typer

from affect.pipelines.planted.portrait import write_video

LIST = """
import sys
from affect.config import Faces
from affect.pipelines.plan import hash_listing, make_plan
hash_listing(make_plan(sys.argv[1], "csv", Faces()))
"""


def take(*command):
    """Runs Python with arguments; returns its seconds, seconds of CPU and MiB. Exit codes 1 and 2 count lost videos."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1, 2):
        raise SystemExit(f"{command} ended with {process.returncode}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def prepare_videos(folder, count):
    """Yields `(step, numbers)` of so many small videos."""
    one = folder / "one.mp4"
    write_video(one, [np.full((64, 64, 3), 90, np.uint8)] * 2, 10)
    for number in range(count):
        place = folder / "videos" / ("val" if number % 5 == 0 else "train") / ("happy" if number % 2 else "sad")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:06d}.mp4").write_bytes(one.read_bytes())
    arguments = ("-m", "affect", "prepare", folder / "videos", "--out", folder / "shards", "--face-size", "64")
    yield "prepare", take(*arguments)
    yield "again", take(*arguments)


def list_rows(folder, count):
    """Yields `(step, numbers)` of a list with so many rows."""
    (folder / "v").mkdir()
    for number in range(count):
        (folder / "v" / f"{number}.mp4").touch()
    for step, name in (("list", "{}.mp4"), ("missing", "no{}.mp4")):
        rows = (f"v/{name.format(number)},sad,s{number % 500},train\n" for number in range(count))
        (folder / f"{step}.csv").write_text("path,label,subject,split\n" + "".join(rows))
        yield step, take("-c", LIST, folder / f"{step}.csv")


def predict_hours(folder, hours):
    """Yields `(step, numbers)` of so many hours of video."""
    face = cv2.resize(skimage.data.astronaut()[0:240, 104:344], (160, 160), interpolation=cv2.INTER_AREA)
    write_video(folder / "long.mp4", repeat(face, round(hours * 7200)), 2)
    numbers = take("-m", "affect", "predict", "fer2013", folder / "long.mp4", "--out", folder / "out", "--quiet")
    with open(folder / "out" / "frames.csv", "rb") as file:
        if sum(1 for _ in file) != 1 + round(hours * 7200):
            raise SystemExit("frames.csv lacks frames")
    yield "predict", numbers


def main(
    videos: Annotated[list[int] | None, typer.Option(help="Numbers of videos.")] = None,
    rows: Annotated[list[int] | None, typer.Option(help="Numbers of rows.")] = None,
    hours: Annotated[list[float] | None, typer.Option(help="Hours of video.")] = None,
    work: Path | None = None,
) -> None:
    """Measures each and prints a line for each step."""
    given = videos or rows or hours
    cases = [("videos", prepare_videos, count) for count in videos or ([] if given else (1_000, 10_000))]
    cases += [("rows", list_rows, count) for count in rows or ([] if given else (1_000, 10_000, 100_000))]
    cases += [("hours", predict_hours, count) for count in hours or ([] if given else (1, 3))]
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    print("| step | | time | CPU | memory |\n|---|---|---|---|---|")
    for unit, measure, count in cases:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            for step, (seconds, cpu_s, mib) in measure(Path(folder), count):
                line = (step, f"{count:,g} {unit}", f"{seconds:.1f} s", f"{cpu_s:.1f} s", f"{mib:.0f} MiB")
                print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
