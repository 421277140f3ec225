"""Data sets: name → function from a path to its list of `Source`."""

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

DATASETS = {
    "afew": afew,
    "afew_faces": afew_faces,
    "crema_d": crema_d,
    "csv": csv_list,
    "folder": folder,
    "ravdess": ravdess,
    "recola": recola,
    "sewa": sewa,
}

# Data sets whose publishers say how many clips there are: name → (split, label) → clips.
PUBLISHED = {
    "afew": AFEW_CLIPS,
    "afew_faces": AFEW_CLIPS,
    "crema_d": CREMA_D_CLIPS,
}
