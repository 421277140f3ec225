"""Ctrl-C at a bad moment: it is delayed until the moment is over."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delays Ctrl-C and SIGTERM until the block is done. They reach the main thread only; others are not changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held_back: list[int] = []  # without the frames of the program: they would keep what an error should free
    # A handler that is not of Python, such as that of a program in which Python runs, could not be set again.
    caught = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not None]
    before = {number: signal.signal(number, lambda number, _: held_back.append(number)) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held_back:
        signal.raise_signal(held_back[0])  # now it is handled as it would have been
