"""Every experiment under configs/ loads, survives JSON, builds, and takes a step; at a tiny size, without weights."""

import ast
import json
import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from affect.config import Experiment, find_config, from_json, list_bundled_configs, load_config, load_rows, to_json
from affect.data.labels import EMOTIONS
from affect.data.lgbp import FEATURES
from affect.layers import SPATIAL_POOLINGS, TEMPORAL_POOLINGS
from affect.losses import ConcordanceLoss
from affect.models.backbones import BACKBONES
from affect.models.frame_classifier import build_frame_classifier
from affect.models.published import PUBLISHED
from affect.models.video_networks import build_video_classifier, build_video_regressor
from affect.training.train import build_optimizer
from tests.bundled import ROWS, TABLES, defines

# Accuracy on AFEW's validation clips, arXiv:1910.01254.
REPORTED = {
    "paper_a_table1": {
        "tp": 0.464,
        "tp_shift_n2": 0.450,
        "tp_sa_n1": 0.476,
        "tp_sa_n2_l0p1": 0.489,
        "tp_sa_n2_l1": 0.490,
        "tp_sa_n4_l0p1": 0.483,
        "tp_sa_n4_l1": 0.486,
    },
    "paper_a_table2": {"lstm": 0.462, "avg": 0.460, "tp": 0.464, "tp_sa": 0.490},
}


# RMSE, CC and CCC of valence, the poster of Lee et al., ICASSP 2018.
REPORTED_B = {
    "paper_b_recola": {
        "cnn": (0.113, 0.426, 0.326),
        "cnn_rnn_1s": (0.111, 0.501, 0.474),
        "cnn_rnn_4s": (0.108, 0.544, 0.506),
        "lgbp_lstm": (0.114, 0.430, 0.354),
        "lgbp_bilstm": (0.105, 0.501, 0.346),
        "lgbp_lstm_closs": (0.121, 0.488, 0.463),
        "cnn_lstm_closs": (0.116, 0.561, 0.538),
        "cnn3d": (0.104, 0.510, 0.493),
        "sta": (0.102, 0.572, 0.546),
    },
    "paper_b_avec17": {
        "cnn": (0.114, 0.564, 0.528),
        "cnn_rnn_4s": (0.104, 0.616, 0.588),
        "sta": (0.099, 0.638, 0.612),
    },
}


OF_PAPER_A = [name for name in ROWS if name.startswith("paper_a")]
OF_PAPER_B = [name for name in ROWS if name.startswith("paper_b")]
RECIPES = ("ours", "paper", "authors_code", "authors_first")

each_row = pytest.mark.parametrize("name", ROWS)
each_recipe = pytest.mark.parametrize("recipe", RECIPES)
each_classifier = pytest.mark.parametrize("name", [name for name in ROWS if name not in (*OF_PAPER_B, "video_classes")])
each_row_of_paper_a = pytest.mark.parametrize("name", OF_PAPER_A)


def distinct(names):
    """Yields each network and optimiser of the rows and their recipes once, by the first that has them."""
    found = {}
    for name in sorted(names):
        for recipe in RECIPES if name in OF_PAPER_A else (None,):
            if recipe == "authors_first" and name != "paper_a":
                continue  # Its rows put together what the base and the rows of other recipes have.
            config = load_config(name, recipe=recipe)
            found.setdefault((config.model, config.train), (f"{name} {recipe or ''}".strip(), config))
    yield from (pytest.param(config, id=name) for name, config in found.values())


def random_clips(face_size):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (2, 3, face_size, face_size, 3), dtype=np.uint8)
    return {"faces": faces, "frame_mask": np.array([[True, True, True], [True, False, False]])}


def test_the_rows_are_found():
    assert {"fer2013", "paper_a", "paper_a_table1/tp", "planted", "smoke"} <= set(ROWS)
    assert sorted(TABLES) == sorted([*REPORTED, *REPORTED_B])


@pytest.mark.parametrize("table", sorted(REPORTED))
def test_a_table_has_all_its_rows_and_the_numbers_reported(table):
    assert {name: row.reported["accuracy"] for name, row in load_rows(table).items()} == REPORTED[table]


def test_the_best_row_is_the_base():
    base = load_config("paper_a")
    for row in ("paper_a_table1/tp_sa_n2_l1", "paper_a_table2/tp_sa"):
        assert replace(load_config(row), name=base.name) == base


def test_frames_taken_alone_are_as_many_as_in_the_other_rows():
    """The overrides in the docstring of the table, which make its average eq. 7."""
    overrides = re.findall(r"--set (\S+)", list_bundled_configs()["paper_a_table2"].read_text(encoding="utf-8"))
    base, alone = load_config("paper_a"), load_config("paper_a_table2/avg", overrides)
    assert alone.data.frames == 1
    faces = [config.data.batch_clips * config.data.frames for config in (base, alone)]
    seen = [config.data.frames * config.train.epochs for config in (base, alone)]
    restarts = [config.data.frames * config.train.restart_epochs for config in (base, alone)]
    assert faces[0] == faces[1] and seen[0] == seen[1] and restarts[0] == restarts[1]


@each_row
def test_it_loads_and_says_what_it_is(name):
    config = load_config(name)
    assert config.name == name.split("/")[-1]
    path, _ = find_config(name)
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ";"))
    assert config.train.selection_metric in ("accuracy", "loss")
    assert all(0 < value < 1 for value in config.reported.values())


@each_classifier
def test_a_classifier_is_made_of_what_there_is(name):
    config = load_config(name)
    assert config.model.backbone in BACKBONES
    assert config.model.weights in (None, PUBLISHED[config.model.backbone].name)
    assert config.model.spatial_pooling in {None, *SPATIAL_POOLINGS}
    assert config.model.temporal_pooling in TEMPORAL_POOLINGS
    assert set(config.reported) <= {"accuracy", "uar", "macro_f1"}


@pytest.mark.parametrize("table", sorted(REPORTED_B))
def test_a_table_of_paper_b_has_its_rows_and_the_numbers_reported(table):
    rows = load_rows(table)
    reported = {
        name: dict(zip(("rmse", "cc", "ccc"), numbers, strict=True)) for name, numbers in REPORTED_B[table].items()
    }
    assert {name: row.reported for name, row in rows.items()} == reported
    for name, row in rows.items():
        temporal = {"cnn": None, "cnn3d": "conv3d", "sta": "conv3d"}
        assert row.model.temporal == (temporal[name] if name in temporal else name.split("_")[1])
        assert row.model.features == ("lgbp_top" if name.startswith("lgbp") else "faces")
        assert (row.model.attention is not None) == (name == "sta")
        assert row.windows.length_s == (1.0 if name.endswith("1s") else 4.0)
        assert row.train.concordance == (1.0 if name.endswith("closs") else 0.0)


def test_paper_b_is_the_base_of_its_rows_and_its_best_one():
    base = load_config("paper_b")
    assert replace(load_config("paper_b_recola/sta"), name=base.name) == base
    for name in OF_PAPER_B:
        row = load_config(name)
        model = replace(row.model, temporal="conv3d", attention="softmax", features="faces")
        windows, data = replace(row.windows, length_s=4.0, stride_s=2.0), row.data
        if row.model.features != "faces":
            assert (model.face_size, data.random_crop, data.flip, data.rotation_deg) == (64, False, False, 0.0)
            model = replace(model, face_size=base.model.face_size)
            data = replace(data, random_crop=True, flip=True, rotation_deg=base.data.rotation_deg)
        assert (model, data, windows) == (base.model, base.data, base.windows)
        assert replace(row.train, concordance=0.0) == base.train


@pytest.mark.parametrize("experiment", distinct(OF_PAPER_B))
def test_a_row_of_paper_b_builds_and_takes_a_step(experiment):
    config = replace(experiment.model, face_size=16, filters=2, attention_filters=2, recurrent_units=3, hidden_units=4)
    keras.utils.set_random_seed(0)
    model = build_video_regressor(config)
    clips = random_clips(16)
    if config.features == "lgbp_top":
        features = np.random.default_rng(0).normal(size=(2, 3, FEATURES)).astype("float32")
        clips = {"features": features, "frame_mask": clips["frame_mask"]}
    optimizer = build_optimizer(model, experiment.train, 10)
    model.compile(optimizer, ConcordanceLoss(experiment.train.concordance), run_eagerly=True)
    before = [np.array(weight) for weight in model.trainable_weights]
    labels = np.random.default_rng(0).uniform(-1, 1, (2, 3, 2))
    assert np.isfinite(model.train_on_batch(clips, labels, sample_weight=clips["frame_mask"].astype("float32")))
    assert any((old != np.array(new)).any() for old, new in zip(before, model.trainable_weights, strict=True))


def test_paper_bs_network_builds_on_classes_and_sees_as_much_of_a_clip_in_evaluation():
    experiment, base = load_config("video_classes"), load_config("paper_b").model
    assert experiment.data.eval_frames == experiment.data.frames
    for name in ("temporal", "attention", "face_size", "blocks", "filters", "hidden_units"):
        assert getattr(experiment.model, name) == getattr(base, name)
    config = replace(experiment.model, face_size=16, filters=2, attention_filters=2, hidden_units=4)
    model = build_video_classifier(config, EMOTIONS[:3])
    optimizer = build_optimizer(model, experiment.train, 10)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    before = [np.array(weight) for weight in model.trainable_weights]
    assert np.isfinite(model.train_on_batch(random_clips(16), np.array([0, 2])))
    assert any((old != np.array(new)).any() for old, new in zip(before, model.trainable_weights, strict=True))


def test_all_rows_of_the_paper_have_recipes_and_only_they():
    assert len(OF_PAPER_A) == 12
    for name, path in list_bundled_configs().items():
        assert defines(path, "RECIPES") == name.startswith("paper_a")


@each_recipe
@each_row_of_paper_a
def test_a_recipe_leaves_what_makes_the_row(name, recipe, tmp_path):
    row, config = load_config(name), load_config(name, recipe=recipe)
    assert config.recipe == recipe and row.recipe == "ours"
    assert (config.name, config.reported) == (row.name, row.reported)
    own = ["backbone", "weights", "spatial_pooling", "heads", "temporal_pooling", "lstm_units"]
    if (name, recipe) != ("paper_a", "authors_first"):  # which is one run, without a penalty
        own.append("diversity")
    assert [getattr(config.model, name) for name in own] == [getattr(row.model, name) for name in own]
    wire = tmp_path / "config.json"
    wire.write_text(json.dumps({"experiment": to_json(config)}))
    assert load_config(wire) == config


@each_row_of_paper_a
def test_ours_and_the_papers_are_what_the_paper_writes(name):
    """Section 4 of arXiv:1910.01254, and what a recipe may not take over from the code."""
    ours, paper = (load_config(name, recipe=recipe) for recipe in ("ours", "paper"))
    assert ours == load_config(name)
    for config in (ours, paper):
        assert (config.model.input_scaling, config.model.output_stride) == ("published", 16)
        attends = config.model.spatial_pooling in ("attention", "shift")
        assert bool(config.model.hidden_units) == attends  # two layers
        assert (config.data.frames, config.data.flip, config.data.random_crop) == (16, True, True)
        assert config.data.selection_split is None
        train = config.train
        assert (train.epochs, train.backbone_learning_rate, train.head_learning_rate) == (30, 1e-5, 0.1)
        assert (train.weight_decay, train.restart_epochs * (1 + train.restart_factor)) == (5e-5, 30)
    assert (paper.data.rotation_deg, paper.data.selection_ratio) == (0.0, 0.0)
    assert (ours.data.rotation_deg, ours.data.selection_ratio) == (10.0, 0.15)


@pytest.mark.parametrize("recipe", ["authors_code", "authors_first"])
@each_row_of_paper_a
def test_a_row_differs_from_the_authors_run_in_what_makes_the_row_alone(name, recipe):
    """tests/test_authors_code.py holds paper_a.py's recipes against golden numbers of their code."""
    base, row = (load_config(file, recipe=recipe) for file in ("paper_a", name))
    assert row.data == base.data
    if row.model.spatial_pooling in ("attention", "shift"):
        assert row.train == base.train
        names = ("hidden_units", "attention_bias", "input_scaling", "output_stride", "initial_weights", "dropout")
    else:
        plain = {"epochs": 30, "backbone_learning_rate": 1e-5, "head_learning_rate": 0.1}  # their log's plain runs
        assert row.train == (replace(base.train, **plain) if recipe == "authors_code" else base.train)
        assert not row.model.attention_bias
        names = ("input_scaling", "output_stride", "initial_weights", "dropout")
    assert [getattr(row.model, name) for name in names] == [getattr(base.model, name) for name in names]


@each_row
def test_it_survives_json(name, tmp_path):
    config = load_config(name)
    wire = tmp_path / "config.json"
    wire.write_text(json.dumps({"experiment": to_json(config)}))
    assert load_config(wire) == config
    assert from_json(Experiment, to_json(config), "row") == config


@pytest.mark.parametrize("experiment", distinct(set(ROWS) - {*OF_PAPER_B, "video_classes"}))
def test_it_builds_and_takes_a_step(experiment):
    size = 2 * (experiment.model.output_stride or 16)  # four locations to attend to
    config = replace(experiment.model, weights=None, face_size=size)
    classes = BACKBONES[config.backbone].classes if config.spatial_pooling is None else EMOTIONS[:3]
    keras.utils.set_random_seed(0)
    model = build_frame_classifier(config, classes, experiment.train)
    clips = random_clips(size)
    logits = np.array(model(clips))
    assert logits.shape == (2, len(classes))
    assert np.isfinite(logits).all()
    if config.spatial_pooling is None:
        return
    optimizer = build_optimizer(model, experiment.train, 10)
    before = {layer.name: [np.array(weight) for weight in layer.trainable_weights] for layer in model.layers}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, run_eagerly=True)  # because tracing one step takes longer than the step
    assert np.isfinite(model.train_on_batch(clips, np.array([0, 2])))
    for name, old in before.items():
        new = [np.array(weight) for weight in model.get_layer(name).trainable_weights]
        assert all(np.isfinite(weight).all() for weight in new), name
        assert not old or any((x != y).any() for x, y in zip(old, new, strict=True)), f"{name} did not learn"
    assert before["frame_logits"] and bool(before["backbone"]) == (experiment.train.trainable != "head")
