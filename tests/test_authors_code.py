"""The recipes `authors_code` and `authors_first` against golden numbers made by running the authors' code.

`golden/authors_code.py` made them and says with what command.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from affect.config import load_config, override, read_json
from affect.data.augment import turn_face
from affect.data.batches import batch_sizes
from affect.data.labels import EMOTIONS
from affect.data.views import space_evenly
from affect.models.backbones import import_weights
from affect.models.frame_classifier import build_frame_classifier, detail_classifier
from affect.regularizers import AttentionDiversity
from affect.training.optimizers import PyTorchSGD
from affect.training.train import build_optimizer
from tests.golden.authors_code import draw, draw_faces

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = read_json(ROOT / "tests" / "golden" / "authors_code.json")
SIZE, FRAMES, HEADS, CLASSES, SHOWN = GOLDEN["faces"].values()
RECIPES = ("authors_code", "authors_first")
# torchvision's place of each convolution, and its outputs.
CONVOLUTIONS = dict(
    zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6, strict=True)
)

each_recipe = pytest.mark.parametrize("recipe", RECIPES)


def load(recipe, *overrides):
    return load_config(ROOT / "configs" / "paper_a.py", overrides, recipe)


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """A cache that holds the drawn weights of VGG16, imported from a file with PyTorch's names and order."""
    folder, state, inputs = tmp_path_factory.mktemp("authors"), {}, 3
    for place, outputs in CONVOLUTIONS.items():
        for name, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            state[f"features.{place}.{name}"] = draw(0, f"features.{place}.{name}", shape)
        inputs = outputs
    save_file(state, folder / "vgg16.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFFECT_CACHE", str(folder / "cache"))
        import_weights("vgg16", folder / "vgg16.safetensors")
        yield


@pytest.mark.parametrize("name", GOLDEN["networks"])
def test_network_is_theirs(vgg16, name):
    golden = GOLDEN["networks"][name]
    pooling = "shift" if golden["shift"] else "attention"
    config = load(
        name.removesuffix("_shift"), f"model.face_size={SIZE}", f"model.spatial_pooling={pooling}", "model.diversity=1"
    )
    model = build_frame_classifier(config.model, EMOTIONS[:CLASSES])
    theirs = {
        key: draw(golden["seed"], key, shape).reshape(shape[:2])  # a 1 × 1 convolution is a matrix
        for key, shape in golden["shapes"].items()
    }
    scalars = [theirs.pop(f"attention.{key}")[:, None] for key in ("w", "b")]
    weights = [theirs[key].T for key in theirs if key.startswith("attention")]
    if len(weights) == 3:
        assert [weight.shape for weight in weights] == [(512, 512), (512,), (512, HEADS)]
    model.get_layer("spatial_pooling").set_weights(weights + (scalars if golden["shift"] else []))
    kernel = theirs["classifier.0.weight"]  # (E, N·D), or (E, D·N)
    if not golden["head_first"]:
        kernel = kernel.reshape(CLASSES, -1, HEADS).swapaxes(1, 2).reshape(CLASSES, -1)
    model.get_layer("frame_logits").set_weights([kernel.T, theirs["classifier.0.bias"]])

    faces = draw_faces(golden["seed"])
    local = np.array(model.get_layer("backbone")(faces)).reshape(FRAMES, -1, 512)
    close(local[..., :SHOWN], golden["features"], 5e-6)
    inputs = {"faces": faces[None], "frame_mask": np.ones((1, FRAMES), bool)}
    outputs = {key: np.array(value) for key, value in detail_classifier(model)(inputs).items()}
    close(outputs["attention"][0], golden["attention"], 2e-6)
    log_probabilities = keras.ops.log_softmax(outputs["logits"][0])
    close(log_probabilities, golden["log_probabilities"], 5e-6)
    joint = np.array(keras.ops.softmax(outputs["frame_logits"][0].ravel()))
    close(joint.reshape(FRAMES, CLASSES), golden["joint"], 2e-6)
    pooled, _ = model.get_layer("spatial_pooling")(local[None], return_attention=True)
    close(np.array(pooled).reshape(FRAMES, HEADS, 512)[..., :SHOWN], golden["pooled"], 5e-6)
    if not golden["shift"]:
        penalty = AttentionDiversity(1.0)(outputs["attention"])
        assert float(penalty) == pytest.approx(golden["penalty"], rel=2e-6)
        model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
        loss = model.evaluate(inputs, np.array([3]), verbose=0)
        assert loss == pytest.approx(golden["loss_of_class_3"], rel=5e-6)


def close(ours, theirs, tolerance):
    theirs = np.array(theirs)
    np.testing.assert_allclose(np.array(ours), theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))


def head_optimizer(config, batches):
    with keras.name_scope("backbone"):
        backbone = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)], name="backbone")
    model = keras.Sequential([keras.Input((1,)), backbone, keras.layers.Dense(1)])
    return build_optimizer(model, config.train, batches)


@each_recipe
def test_rate_and_decay_of_each_step_are_theirs(recipe):
    config, golden = load(recipe), GOLDEN["schedules"][recipe]
    assert len(batch_sizes(golden["clips"], config.data)) == golden["batches_an_epoch"]
    for group, rate in zip(head_optimizer(config, golden["batches_an_epoch"]).optimizers, (1e-3, 1e-2), strict=True):
        assert isinstance(group, PyTorchSGD)
        decay, rates = group.coupled_weight_decay, group.get_config()["learning_rate"]
        rates = keras.optimizers.schedules.deserialize(rates)
        epochs, steps, their_rates, their_decays = np.array(golden["steps"]).T
        places = epochs * golden["batches_an_epoch"] + steps
        after_restart = their_rates == 0  # the first batch, which has the full rate here
        assert ((steps[after_restart] == 0) & (epochs[after_restart] > 0)).all() and after_restart.sum() in (1, 2)
        same = ~after_restart
        np.testing.assert_allclose(rates(places)[same], rate * their_rates[same], rtol=1e-4, atol=rate * 1e-6)
        np.testing.assert_allclose(decay(places)[same], their_decays[same], rtol=1e-4, atol=1e-11)
        steps = np.arange(golden["epochs"] * golden["batches_an_epoch"])
        total = np.sum(np.array(decay(steps)) * np.array(rates(steps)) / rate)
        assert total == pytest.approx(golden["sum_of_rate_times_decay"], rel=1e-3)


def test_steps_with_a_scheduled_decay_are_theirs():
    golden = GOLDEN["optimizer"]
    config = load("authors_code")
    for name in ("weight_decay", "momentum"):
        config = override(config, f"train.{name}={golden[name]}")
    config = override(config, f"train.restart_epochs={golden['period']}")
    config = override(config, f"train.head_learning_rate={golden['rate']}")
    optimizer = head_optimizer(config, golden["batches_an_epoch"]).optimizers[-1]
    # Written and read again, as with a checkpoint.
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    weights = keras.Variable(np.array(golden["start"], "float32"))
    for theirs in golden["weights"]:
        optimizer.apply([weights.value], [weights])  # the gradient is the weight
        np.testing.assert_allclose(np.array(weights), theirs, rtol=0, atol=2e-6)


@each_recipe
def test_settings_are_those_they_log(recipe):
    config, golden = load(recipe), GOLDEN["experiments"][recipe]
    train, model = config.train, config.model
    rates = [golden["base_lr"] / divisor for divisor in golden["lrs"]]
    assert [train.backbone_learning_rate, train.head_learning_rate] == pytest.approx(rates)
    assert (train.optimizer, train.epochs, train.trainable) == (golden["opt"], golden["ep"], "all")
    assert (model.heads, model.dropout) == (golden["attention_hop"], golden["dropout"])
    assert (golden["pooling"], model.temporal_pooling) == ("softmax", "joint_softmax")
    assert recipe == "authors_code" or model.diversity == golden.get("C", 0)
    period = GOLDEN["schedules"][recipe]
    decay = golden["wd"] * (period["batch"] / (period["clips"] * period["period"])) ** 0.5
    assert train.weight_decay == pytest.approx(decay)


@each_recipe
def test_clips_are_read_as_theirs(recipe):
    data, golden = load(recipe).data, GOLDEN["loader"]
    shapes = golden["training_shapes"]
    assert batch_sizes(7, data) == [shape[0] for shape in shapes]
    assert data.frames == shapes[0][1] and data.repeat_frames  # of five frames sixteen
    assert data.crop_ratio == golden["crop"][0] / 256 and not data.random_crop
    assert golden["rotation_deg"] == [-data.rotation_deg, data.rotation_deg]
    assert (golden["rotation_fill"], golden["rotation_interpolation"]) == (0, "nearest")
    assert data.rotation_border == "black" and data.view_per_frame
    assert golden["flip"] == 0.5 and data.flip
    assert data.eval_frames == golden["most_evaluated_frames"]
    assert [name.lower() for name in golden["classes"]] == [name.lower() for name in EMOTIONS[:CLASSES]]


def test_evaluated_frames_are_theirs():
    data = load("authors_code").data
    for total, theirs in GOLDEN["views"]["evaluated"].items():
        assert space_evenly(int(total), data.eval_frames, data.frame_spacing).tolist() == theirs
    for total in (1, 7, 119, 120, 121, *range(122, 1200, 7)):
        expected = np.linspace(0, total - 1, min(total, data.eval_frames)).astype(int)
        np.testing.assert_array_equal(space_evenly(total, data.eval_frames, "floor"), expected)


def test_a_turned_face_is_theirs():
    face = draw_faces(0)[0, :12, :12]
    border = load("authors_code").data.rotation_border
    for angle, theirs in GOLDEN["views"]["turned"].items():
        turned = turn_face(face, float(angle) * np.pi / 180, border)
        assert (turned == np.array(theirs)).all(axis=-1).mean() >= 0.99
        assert (np.array(theirs)[0, 0] == 0).all() or (np.array(theirs)[0, -1] == 0).all()  # a black corner


@pytest.mark.parametrize(("recipe", "pooling"), [("authors_code", "shift"), ("authors_first", "attention")])
def test_weights_start_in_the_range_of_theirs(recipe, pooling):
    config, golden = load(recipe), GOLDEN["initial_weights"][recipe]
    for text in ("model.weights=None", "model.face_size=32", f"model.spatial_pooling={pooling}"):
        config = override(config, text)
    keras.utils.set_random_seed(0)
    model = build_frame_classifier(config.model, EMOTIONS[:CLASSES])
    layer, classifier = model.get_layer("spatial_pooling"), model.get_layer("frame_logits")
    ours = [weight for weight in layer.weights if weight.name not in ("scale", "offset")] + classifier.weights
    assert len(ours) == len(golden["largest"])
    for weight, largest, deviation in zip(ours, golden["largest"].values(), golden["deviation"].values(), strict=True):
        values, few = np.array(weight), np.array(weight).size < 100  # seven numbers say little of a deviation
        limit = 0.03126 if weight.path.startswith("frame_logits") else 0.04420  # 1 / √1024, 1 / √512
        assert np.abs(values).max() <= limit and largest <= limit
        assert values.std() == pytest.approx(deviation, rel=0.5 if few else 0.05)
        assert len(np.unique(values)) > 0.9 * values.size
    if pooling == "shift":
        scale, offset = np.array(layer.scale), np.array(layer.offset)
        assert not np.allclose(scale, offset)
        many = np.array(layer.shift_initializer((20000,)))
        assert many.std() == pytest.approx(golden["shift_deviation"], rel=0.03)
