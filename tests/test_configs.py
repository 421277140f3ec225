"""Every experiment under configs/ loads, survives JSON, builds, and takes a step; at a tiny size, without weights."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from affect.backbones import BACKBONES
from affect.config import Experiment, from_json, load_config, to_json
from affect.labels import EMOTIONS
from affect.layers import SPATIAL_POOLINGS, TEMPORAL_POOLINGS
from affect.model import build_model

FOLDER = Path(__file__).resolve().parents[1] / "configs"


def exposes_config(path):
    body = ast.parse(path.read_text(encoding="utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return any(isinstance(target, ast.Name) and target.id == "CONFIG" for target in targets)


ROWS = sorted(path for path in FOLDER.rglob("*.py") if exposes_config(path))
each_row = pytest.mark.parametrize("path", ROWS, ids=lambda path: path.relative_to(FOLDER).as_posix())


def random_clips(face_size):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (2, 3, face_size, face_size, 3), dtype=np.uint8)
    return {"faces": faces, "frame_mask": np.array([[True, True, True], [True, False, False]])}


def test_the_rows_are_found():
    assert {"fer2013.py", "paper_a.py", "planted.py", "smoke.py"} <= {path.name for path in ROWS}


@each_row
def test_it_loads_and_says_what_it_is(path):
    config = load_config(path)
    assert config.name == path.stem
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ";"))
    assert config.model.backbone in BACKBONES
    assert config.model.weights in (None, BACKBONES[config.model.backbone].published.name)
    assert config.model.spatial_pooling in {None, *SPATIAL_POOLINGS}
    assert config.model.temporal_pooling in TEMPORAL_POOLINGS
    assert config.train.selection_metric in ("accuracy", "loss")
    assert set(config.reported) <= {"accuracy", "uar", "macro_f1"}
    assert all(0 < value < 1 for value in config.reported.values())


@each_row
def test_it_survives_json(path, tmp_path):
    config = load_config(path)
    wire = tmp_path / "config.json"
    wire.write_text(json.dumps({"experiment": to_json(config)}))
    assert load_config(wire) == config
    assert from_json(Experiment, to_json(config), "row") == config


@each_row
def test_it_builds_and_takes_a_step(path):
    config = replace(load_config(path).model, weights=None, face_size=32)
    classes = BACKBONES[config.backbone].classes if config.spatial_pooling is None else EMOTIONS[:3]
    keras.utils.set_random_seed(0)
    model = build_model(config, classes)
    clips = random_clips(32)
    logits = model.predict_on_batch(clips)
    assert logits.shape == (2, len(classes))
    assert np.isfinite(logits).all()
    if config.spatial_pooling is None:
        return
    before = [np.array(weight) for weight in model.trainable_weights]
    model.compile(
        optimizer=keras.optimizers.SGD(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    history = model.fit(clips, np.array([0, 2]), batch_size=2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    after = [np.array(weight) for weight in model.trainable_weights]
    assert all(np.isfinite(weight).all() for weight in after)
    moved = {
        weight.path
        for weight, old, new in zip(model.trainable_weights, before, after, strict=True)
        if (old != new).any()
    }
    for part in ("backbone/", "spatial_pooling/", "frame_logits/"):
        assert any(name.startswith(part) for name in moved), part
