"""Progress of long work. What shows it is an argument of the function that works, its `track`."""

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from affect.errors import escape_text

Item = TypeVar("Item")


class Track(Protocol):
    """A function that gives the items of an iterable, and shows how many have been given."""

    def __call__(self, iterable: Iterable[Item], total: int, description: str) -> Iterable[Item]:
        """Gives the items.

        Args:
            iterable: What is worked on.
            total: Number of its items.
            description: What they are, in the plural.
        """


def hide_progress(iterable: Iterable[Item], total: int, description: str) -> Iterable[Item]:
    """Gives the items and shows nothing.

    Args:
        iterable, total, description: As in `Track`.
    """
    return iterable


def show_progress(iterable: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Gives the items under a progress bar on stderr, with rate and time left.

    Args:
        iterable, total, description: As in `Track`.
    """
    with make_progress() as progress:
        yield from progress.track(iterable, total=total, description=description)


class VideoProgress:
    """One progress bar over several videos, in seconds of video; for a `with` block.

    Args:
        total_s: Length of all videos that are still to be read, in seconds.
        is_hidden: Whether nothing is shown.
        is_brief: Whether the bar is removed at its end.
    """

    def __init__(self, total_s: float, *, is_hidden: bool = False, is_brief: bool = False):
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} s of video"),
            _RateColumn(" s/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=is_hidden,
            transient=is_brief,
            redirect_stdout=sys.stdout.isatty(),  # otherwise lines for a file or a pipe would go to the terminal
        )
        self._task = self._progress.add_task("videos", total=total_s)
        self._done_s = self._left_s = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, description: str, length_s: float) -> None:
        """Begins a video. The video before it is complete.

        Args:
            description: What is shown beside the bar.
            length_s: Length of the video in seconds.
        """
        self._done_s += self._left_s
        self._left_s = length_s
        self._progress.update(self._task, completed=self._done_s, description=escape_text(description))

    def end(self) -> None:
        """Completes the last video."""
        self.begin("videos", 0.0)

    def track(self, iterable: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Gives the items of one step of the video: a `Track`. A step takes half of what is left of its length.

        Args:
            iterable, total, description: As in `Track`.
        """
        step_s = self._left_s / 2 / max(total, 1)
        for index, item in enumerate(iterable):
            yield item
            if index < total:
                self._done_s, self._left_s = self._done_s + step_s, self._left_s - step_s
                self._progress.update(self._task, completed=self._done_s)


def make_progress() -> Progress:
    """Returns a progress bar on stderr: description, items done, rate, time gone and time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _RateColumn(ProgressColumn):
    def __init__(self, unit: str = "/s"):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}{self._unit}")
