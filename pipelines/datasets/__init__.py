"""Data sets: name → function from a path to its `Clips`."""

from collections.abc import Callable
from pathlib import Path

from affect.pipelines.datasets.afew import PUBLISHED as AFEW_CLIPS
from affect.pipelines.datasets.afew import afew
from affect.pipelines.datasets.afew_faces import afew_faces
from affect.pipelines.datasets.crema_d import PUBLISHED as CREMA_D_CLIPS
from affect.pipelines.datasets.crema_d import crema_d
from affect.pipelines.datasets.csv_list import csv_list
from affect.pipelines.datasets.folder import folder
from affect.pipelines.datasets.ravdess import ravdess
from affect.pipelines.datasets.recola import recola
from affect.pipelines.datasets.sewa import sewa
from affect.pipelines.datasets.source import Clips

DATASETS: dict[str, Callable[[Path | str], Clips]] = {
    "afew": afew,
    "afew_faces": afew_faces,
    "crema_d": crema_d,
    "csv": csv_list,
    "folder": folder,
    "ravdess": ravdess,
    "recola": recola,
    "sewa": sewa,
}

# Published numbers of clips: name of a data set → (split, label) → clips.
PUBLISHED: dict[str, dict[tuple[str, str], int]] = {
    "afew": AFEW_CLIPS,
    "afew_faces": AFEW_CLIPS,
    "crema_d": CREMA_D_CLIPS,
}
