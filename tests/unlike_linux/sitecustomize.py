"""Takes from a Python process what Windows lacks, where affect would notice it. `tests/systems.py` starts such ones.

Python imports a module of this name by itself, so workers and decoders lack the same. As on Windows, a process cannot
remove, rename or replace a file that it has open, a folder cannot be opened, and `msvcrt` locks bytes of a file.
"""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import types

GONE = ("fork", "forkpty", "memfd_create", "mkfifo", "register_at_fork", "sched_getaffinity", "setsid")
SIGNALS = ("SIGALRM", "SIGHUP", "SIGIO", "SIGKILL", "SIGPIPE", "SIGSTOP")


def _lock(file, mode, count):
    """`msvcrt.locking`, without waiting: locks bytes from the position of a file, for this descriptor alone."""
    start = os.lseek(file, 0, os.SEEK_CUR)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, start, count, 0))
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


def _list_open():
    for name in os.listdir("/proc/self/fd"):
        try:
            yield os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing itself
            continue


def _refuse_open(function):
    def changed(*paths, **options):
        for path in paths:
            if os.path.realpath(path) in set(_list_open()):
                raise PermissionError(errno.EACCES, "The file is open", os.fspath(path))
        return function(*paths, **options)

    return changed


def _open(path, flags, *rest, _open=os.open, **options):
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return _open(path, flags, *rest, **options)


def _kill(process, _number=signal.SIGKILL):
    if process.poll() is None:
        os.kill(process.pid, _number)


msvcrt = types.ModuleType("msvcrt")
msvcrt.locking, msvcrt.LK_NBLCK = _lock, 2
sys.modules |= {"fcntl": None, "resource": None}
subprocess.Popen.kill = _kill
sys.modules["msvcrt"] = msvcrt
for name in GONE:
    delattr(os, name)
for name in SIGNALS:
    delattr(signal, name)
for name in ("remove", "rename", "replace", "rmdir", "unlink"):
    setattr(os, name, _refuse_open(getattr(os, name)))
os.open = _open
import shutil  # noqa: E402  # it asks what `os` can do
import tempfile  # noqa: E402

shutil._use_fd_functions = False
tempfile.TemporaryFile = tempfile.NamedTemporaryFile
