"""Processes that lack what a system other than Linux lacks; `tests/unlike_linux` takes it from them."""

import os
import subprocess
import sys
from pathlib import Path


def start_unlike_linux(code, *arguments):
    """Starts a process that runs code of Python. What it writes is in the encoding that Windows has by default.

    Args:
        code: The code; `sys.argv[1:]` are the arguments.
        *arguments: Texts or paths.

    Returns:
        The process, with pipes to all its streams.
    """
    places = [str(Path(__file__).with_name("unlike_linux")), *filter(None, sys.path)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places), "PYTHONIOENCODING": "cp1252"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_unlike_linux(code, *arguments, returns=0):
    """Runs code as `start_unlike_linux` does, to its end; returns what it printed, as bytes."""
    process = start_unlike_linux(code, *arguments)
    printed, said = process.communicate()
    assert process.returncode == returns, said.decode(errors="replace")[-3000:]
    return printed
