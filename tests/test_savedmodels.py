"""The models that a clone has: it predicts at once, and imports no code that builds networks."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from affect.config import read_json, to_json
from affect.models.published import weights_sha256
from affect.pipelines.planted.clips import generate
from affect.reading.loading import load
from tests.commands import RUN_COMMAND, affect

SAVEDMODELS = Path(__file__).parents[1] / "savedmodels"
CONFIGS = Path(__file__).parents[1] / "configs"
PLANTED = SAVEDMODELS / "planted" / "1"
# Layers are imported as soon as Keras is, to be known to it (affect/__init__.py).
MODEL_CODE = ("models.frame_classifier", "models.video_networks", "models.backbones", "tasks.signatures")


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A clip of a subject that the model has not seen, and its label."""
    oracle = generate(tmp_path_factory.mktemp("planted"), train_clips=0, test_clips=1, seed=1)
    ((key, clip),) = read_json(oracle)["clips"].items()
    return oracle.parent / f"{key}.mp4", clip["label"]


def test_the_planted_model_passes_its_check():
    code, out, lines = affect("check", PLANTED)
    assert (code, lines) == (0, [])
    assert out.splitlines()[-1] == f"{PLANTED}: passed"


def test_fer2013_is_the_network_of_its_config(video):
    """The TFLite file that comes with affect, beside the network that Keras builds with the published weights."""
    artefact, trained = load("fer2013"), load(CONFIGS / "fer2013.py")
    assert to_json(artefact.experiment) == to_json(trained.experiment)
    assert (artefact.classes, artefact.faces, artefact.face_size) == (trained.classes, trained.faces, trained.face_size)
    assert artefact.description["weights_sha256"] == weights_sha256("mini_xception", "fer2013")
    found, expected = (np.array([*each.read(video[0]).probabilities.values()]) for each in (artefact, trained))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_licence_of_fer2013_stands_beside_it():
    assert "Copyright (c) 2018 Justin Shenk" in (CONFIGS / "fer2013.LICENSE").read_text(encoding="utf-8")


def test_it_names_a_planted_expression_without_model_code(video):
    code = (
        f"{RUN_COMMAND}"
        "loaded = {name.removeprefix('affect.') for name in sys.modules if name.startswith('affect.')}\n"
        f"assert 'reading.loading' in loaded and not loaded & set({MODEL_CODE}), loaded\n"
    )
    command = [sys.executable, "-c", code, "predict", PLANTED, video[0], "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert (result["key"], result["label"]) == (str(video[0]), video[1])
