"""Data sets: name → function from a path to its list of `Source`."""

from pipelines.datasets.afew import PUBLISHED as AFEW_CLIPS
from pipelines.datasets.afew import afew
from pipelines.datasets.csv_list import csv_list
from pipelines.datasets.folder import folder

DATASETS = {
    "afew": afew,
    "csv": csv_list,
    "folder": folder,
}

# Data sets whose publishers say how many clips there are: name → (split, label) → clips.
PUBLISHED = {
    "afew": AFEW_CLIPS,
}
