"""Settings that can have no effect: the table that says which agrees with what the code reads, and they are refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from affect.config import (
    EFFECTS,
    Data,
    Experiment,
    FrameClassifier,
    Train,
    VideoClassifier,
    VideoRegressor,
    check_effects,
    find_without_effect,
    from_json,
    load_config,
    load_rows,
    override,
    to_json,
)
from affect.errors import InputError
from affect.models.backbones import BACKBONES
from affect.tasks import TASKS
from tests.watched import fields_of, watched

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SMALL = {"face_size": 16, "blocks": 2, "filters": 2}
XCEPTION = FrameClassifier("mini_xception", None, face_size=32)
NETWORKS = {
    "attention": XCEPTION,
    "shift": replace(XCEPTION, spatial_pooling="shift", temporal_pooling="max"),
    "average": replace(XCEPTION, spatial_pooling="average", temporal_pooling="statistics"),
    "lstm": replace(XCEPTION, spatial_pooling="average", temporal_pooling="lstm"),
    "own classifier": FrameClassifier("mini_xception", None, spatial_pooling=None),
    "cnn": VideoRegressor(None, **SMALL),
    "rnn": VideoRegressor("rnn", **SMALL),
    "bilstm, attention over locations": VideoRegressor("bilstm", **SMALL, spatial_pooling="attention"),
    "cnn3d": VideoRegressor("conv3d", **SMALL),
    "sta": VideoRegressor("conv3d", "softmax", **SMALL, predicts="end"),
    "lgbp": VideoRegressor(None, features="lgbp_top"),
    "lgbp lstm": VideoRegressor("lstm", features="lgbp_top"),
    "classes by lstm": VideoClassifier("lstm", **SMALL),
    "classes by sta": VideoClassifier("conv3d", "sigmoid", **SMALL, spatial_pooling="shift"),
}
KINDS = {name: Experiment(name, model) for name, model in NETWORKS.items()} | {
    "adam": Experiment("adam", XCEPTION, train=Train(optimizer="adam")),
    "no momentum": Experiment("no momentum", XCEPTION, train=Train(momentum=0.0)),
    "frozen backbone": Experiment("frozen", XCEPTION, train=Train(trainable="head")),
    "one period": Experiment("one period", XCEPTION, train=Train(epochs=5, restart_epochs=5)),
    "nothing selects": Experiment("all", XCEPTION, data=Data(selection_ratio=0.0)),
    "nothing selects a regression": Experiment("all", NETWORKS["sta"], data=Data(selection_ratio=0.0)),
    "a split selects": Experiment("split", XCEPTION, data=Data(selection_ratio=0.0, selection_split="val")),
    "no views": Experiment("no views", XCEPTION, data=Data(random_crop=False, flip=False, rotation_deg=0.0)),
    "whole faces": Experiment("whole", XCEPTION, data=Data(crop_ratio=1.0, flip=False, rotation_deg=0.0)),
    "features of one view": Experiment(
        "one view", NETWORKS["lgbp"], data=Data(random_crop=False, flip=False, rotation_deg=0.0)
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
CHOICES = {
    "train.trainable": "last 1 block",
    "data.train_split": "dev",
    "data.selection_split": "dev",
    "data.frame_spacing": "floor",
    "data.rotation_border": "black",
    "model.initial_weights": "pytorch",
    "train.weight_decay_schedule": "cosine",
    "model.input_scaling": "unit",
    "model.spatial_pooling": "average",
    "model.temporal_pooling": "average",
    "train.optimizer": "adam",
    "train.selection_metric": "ccc",
    "train.precision": "bfloat16",
    "windows.protocol": "faces",
    "model.predicts": "end",
    "model.features": "lgbp_top",
}


def another(name, value, default):
    """Returns a value of the field that is neither the one it has nor its default, in JSON."""
    if isinstance(default, bool):
        return json.dumps(not default)
    if name in CHOICES:
        return CHOICES[name]
    if name == "model.face_size":
        return "48"
    if name == "train.deterministic":
        return "true"
    if isinstance(default, float) and 0 < default <= 1:
        return json.dumps(default * 0.75)
    assert default is None or isinstance(default, int | float), f"Name another value of {name} in CHOICES."
    return json.dumps((default or 0) + 1)


@pytest.mark.parametrize(
    ("config", "setting", "cause"),
    [
        ("paper_a", "windows.length_s=1", "of a clip, data.frames and data.eval_frames are read"),
        ("paper_a", "train.concordance=1", "the loss of classes is set by train.label_smoothing, train.class_weights"),
        ("paper_a", "model.lstm_units=64", "it needs model.temporal_pooling='lstm'"),
        ("paper_b", "data.frames=8", "a regression reads windows.length_s · windows.frame_rate_hz frames a window"),
        ("paper_b", "data.eval_frames=8", "a regression reads windows.length_s · windows.frame_rate_hz frames"),
        ("paper_b", "data.shuffle_clips=8", "the windows of a regression are all shuffled"),
        ("paper_b", "train.momentum=0.5", "it needs train.optimizer='sgd'"),
        ("paper_b", "train.nesterov=false", "it needs train.optimizer='sgd'"),
        ("paper_b", "train.trainable=head", "this network has no backbone and learns as a whole"),
        ("paper_b", "train.feature_views=4", "it needs a frozen backbone, and this network has none"),
        ("paper_a", "train.feature_views=4", "features change while the backbone learns"),
        ("fer2013", "train.feature_views=4", "a network with its backbone's own classifier"),
        ("paper_b", "train.backbone_learning_rate=0.1", "learns as a whole at train.head_learning_rate"),
        ("paper_b", "train.label_smoothing=0.1", "the loss of a regression is set by train.concordance"),
        ("paper_b", "train.class_weights=true", "the loss of a regression is set by train.concordance"),
        ("paper_b", "model.recurrent_units=4", "model.temporal='rnn', 'lstm' or 'bilstm'"),
        ("paper_b", "model.heads=4", "it needs attention, model.spatial_pooling='attention' or 'shift'"),
        ("paper_b_recola/cnn3d", "model.kernel_size=3", "model.kernel_size_3d belongs to the 3D-CNN"),
        ("paper_b_recola/cnn3d", "model.attention_filters=8", "model.attention='softmax' or 'sigmoid'"),
        ("paper_b_recola/lgbp_lstm", "model.filters=8", "the sizes of LGBP-TOP are in affect/data/lgbp.py"),
        ("paper_b_recola/lgbp_lstm", "data.view_per_frame=true", "no view is drawn at random"),
        ("paper_a_table1/tp", "model.heads=4", "it needs attention, model.spatial_pooling='attention' or 'shift'"),
        ("paper_a_table1/tp", "model.diversity=0", "it needs attention, model.spatial_pooling='attention' or 'shift'"),
        ("video_classes", "windows.delay_s=1", "windows are cut of recordings for a regression"),
        ("fer2013", "train.epochs=2", "a network with its backbone's own classifier (model.spatial_pooling=None)"),
        ("fer2013", "data.flip=false", "a network with its backbone's own classifier (model.spatial_pooling=None)"),
    ],
)
def test_a_setting_that_can_have_no_effect_is_refused_in_one_line(config, setting, cause):
    path, name = config, setting.partition("=")[0]
    with pytest.raises(InputError) as caught:
        load_config(path, [setting])
    text = str(caught.value)
    assert text.startswith(f"{name}=") and " has no effect: " in text and cause in text and "\n" not in text
    default = fields_of(load_config(path))[name][1]
    assert text.endswith(f"Leave it at its default, {default!r}.")


@each_kind
def test_every_field_is_refused_where_it_has_no_effect_and_nowhere_else(kind, tmp_path):
    base, path = KINDS[kind], tmp_path / "config.json"
    path.write_text(json.dumps({"experiment": to_json(base)}))
    assert load_config(path) == base
    found = find_without_effect(base)
    for name, (value, default) in fields_of(base).items():
        setting = f"{name}={another(name, value, default)}"
        try:
            changed = override(base, setting)
        except InputError as error:
            assert name not in found and "has no effect" not in str(error), setting  # it contradicts another field
            continue
        if name not in found:
            continue
        if fields_of(changed)[name][0] in found[name].also:
            load_config(path, [setting])
            continue
        with pytest.raises(InputError, match=f"^{name}=.* has no effect: "):
            load_config(path, [setting])
        with pytest.raises(InputError, match=f"^{name}=.* has no effect: "):
            check_effects(changed)
        path.write_text(json.dumps({"experiment": to_json(changed)}))
        with pytest.raises(InputError, match=f"config.json: {name}=.* has no effect: "):
            load_config(path)
        assert load_config(path, [f"{name}={json.dumps(default)}"]) == base  # the way back
        path.write_text(json.dumps({"experiment": to_json(base)}))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_reads_the_fields_that_have_an_effect_and_no_others(kind):
    experiment, (config, read) = KINDS[kind], watched(NETWORKS[kind])
    task = NETWORKS[kind].task
    classes = BACKBONES["mini_xception"].classes if task == "classification" else ("happy", "sad")
    TASKS[task].build(config, classes)
    names = {name.removeprefix("model.") for name in fields_of(experiment) if name.startswith("model.")}
    effective = {name for name in names if f"model.{name}" not in find_without_effect(experiment)}
    if kind.startswith("lgbp"):
        effective -= {"face_size", "spatial_pooling"}  # of the faces that features are taken of; a contradiction
    if not kind.endswith("sta"):
        effective -= {"attention"}  # of the 3D-CNN, to others a contradiction
    assert effective == (read & names) - ({"attention"} if kind == "cnn3d" else set())


def test_the_table_names_fields_that_there_are():
    known = {name for experiment in KINDS.values() for name in fields_of(experiment)}
    named = {name for row in EFFECTS for name in row.fields if not name.endswith(".*")}
    assert named <= known


def test_an_override_that_changes_nothing_where_nothing_can_change_is_refused_too():
    with pytest.raises(InputError, match=r"^model\.heads=2 has no effect: "):
        load_config("paper_a_table1/tp", ["model.heads=2"])


def test_what_lost_its_effect_by_an_override_is_named_with_its_file_and_can_be_taken_back():
    path, settings = CONFIGS / "paper_a.py", ["model.spatial_pooling=average", "model.hidden_units=null"]
    with pytest.raises(
        InputError, match=r"paper_a\.py: model\.hidden_units=256 has no effect: .* its default, None\.$"
    ):
        load_config(path, settings[:1])
    for order in (settings, settings[::-1]):
        assert load_config(path, order).model.hidden_units is None


def test_an_override_of_a_table_holds_for_the_rows_in_which_it_has_an_effect():
    names = ("tp", "tp_sa_n1", "tp_sa_n4_l1")
    rows = load_rows("paper_a_table1", ["model.heads=3", "train.epochs=2"], names=names)
    assert [rows[name].model.heads for name in names] == [2, 3, 3]
    assert {row.train.epochs for row in rows.values()} == {2}
    with pytest.raises(InputError, match=r"^model\.lstm_units=8 has no effect: .* It has none in any row\.$"):
        load_rows("paper_a_table1", ["model.lstm_units=8"])


def test_a_run_of_before_settings_were_checked_is_read():
    old = to_json(KINDS["average"]) | {"windows": {"length_s": 1.0}}
    assert from_json(Experiment, old, "run").windows.length_s == 1.0
