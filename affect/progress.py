"""Progress of long work. What shows it is an argument of the function that works, its `track`."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

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


def make_progress() -> Progress:
    """Returns a progress bar on stderr: description, items done, rate, time gone and time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:.1f}/s")
