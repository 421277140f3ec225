"""The means of a study's groups, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affect.statistics import compare

# Of a study's videos: the keys of `groups` that name a group.
GROUPINGS = ("condition", "subject")


@dataclass(frozen=True)
class Mean:
    """The mean of a class or dimension in a group.

    Args:
        value: Over subjects or videos.
        interval: 95 %, by the bootstrap; `None` for fewer than two of them.
    """

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Group:
    """A group of videos.

    Args:
        name: Value of the column `condition` or `subject`.
        videos: Number of videos with a face.
        subjects: Number of subjects; `None` where the interval is not over subjects.
        means: In the order of the classes.
    """

    name: str
    videos: int
    subjects: int | None
    means: tuple[Mean, ...]


@dataclass(frozen=True)
class Grouping:
    """The groups by one column.

    Args:
        column: `condition` or `subject`.
        unit: What the bootstrap draws: `subjects` or `videos`.
        groups: In the order of their names.
    """

    column: str
    unit: str
    groups: tuple[Group, ...]


def compute_groups(videos: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[Grouping]:
    """Computes the mean of each class in each group of videos.

    The videos of one subject are not independent. So where a group has subjects, the mean of each subject's videos is
    one value, and the bootstrap draws subjects. Otherwise it draws videos.

    Args:
        videos: Each has `groups`, a dict such as `{"subject": "s1", "condition": "film"}`, and `values`, a dict class →
            number. Videos without a face are not among them.
        classes: Names of the values.

    Returns:
        One grouping by `condition` and one by `subject`, where a video has such a key.
    """
    found = []
    for column in GROUPINGS:
        named = [video for video in videos if video["groups"].get(column)]
        if not named:
            continue
        over_subjects = column != "subject" and all(video["groups"].get("subject") for video in named)
        groups = []
        for name in sorted({str(video["groups"][column]) for video in named}):
            members = [video for video in named if str(video["groups"][column]) == name]
            values = np.array([[video["values"][each] for each in classes] for video in members], float)
            if over_subjects:
                subjects = np.array([str(video["groups"]["subject"]) for video in members])
                values = np.array([values[subjects == each].mean(axis=0) for each in sorted(set(subjects))])
            means = tuple(_mean_of(values[:, place]) for place in range(len(classes)))
            groups.append(Group(name, len(members), len(values) if over_subjects else None, means))
        found.append(Grouping(column, "subjects" if over_subjects else "videos", tuple(groups)))
    return found


def _mean_of(values: np.ndarray) -> Mean:
    interval = compare(values)["interval"]
    return Mean(float(values.mean()), None if interval is None else (interval[0], interval[1]))
