"""What every layer must do, whatever it computes, and a gradient that both backends can take.

`check_layer` runs all the checks; each is also public, for a layer whose inputs do not share a batch size.
Inputs are NumPy arrays; those of boolean dtype are masks.
"""

import inspect
import json
import re
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops


def check_layer(layer_class, init_kwargs, *inputs, call_kwargs=None, frame_axes=None, invalid=()):
    """Runs the whole contract.

    Args:
        layer_class: The layer's class.
        init_kwargs: Its arguments.
        *inputs: Arrays for the positional arguments of `call`, all of one batch size, the first one float.
        call_kwargs: Keyword arguments of `call` that are no tensors.
        frame_axes: For each input its axis of frames, or None. Defaults to axis 1 for each.
        invalid: Pairs of (arguments, text): the class must refuse the arguments with that text.
    """
    call_kwargs = call_kwargs or {}
    check_config(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs)
    check_shapes(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs, frame_axes=frame_axes)
    check_saving(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs, frame_axes=frame_axes)
    check_mixed_precision(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs)
    check_training(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs)
    check_masks(layer_class, init_kwargs, *inputs, call_kwargs=call_kwargs)
    check_refusals(layer_class, invalid)


def check_config(layer_class, init_kwargs, *inputs, call_kwargs):
    """The config covers `__init__`, survives JSON, and makes the same layer again."""
    layer = layer_class(**init_kwargs)
    outputs = run(layer, inputs, call_kwargs)
    config = layer.get_config()
    for parameter in inspect.signature(layer_class.__init__).parameters.values():
        if parameter.name != "self" and parameter.kind != parameter.VAR_KEYWORD:
            assert parameter.name in config, f"{parameter.name} is missing from get_config"
            assert hasattr(layer, parameter.name), f"{parameter.name} is not an attribute"
    assert set(init_kwargs) <= set(config)

    wire = json.loads(json.dumps(config))
    twin = layer_class.from_config(wire)
    assert json.loads(json.dumps(twin.get_config())) == wire
    run(twin, inputs, call_kwargs)
    twin.set_weights(layer.get_weights())
    assert_same(run(twin, inputs, call_kwargs), outputs)


def check_shapes(layer_class, init_kwargs, *inputs, call_kwargs, frame_axes=None):
    """Declared, symbolic and actual shapes and dtypes agree, also with a dynamic number of frames."""
    layer = layer_class(**init_kwargs)
    actual = run(layer, inputs, call_kwargs)
    declared = layer.compute_output_shape(*(x.shape for x in inputs), **call_kwargs)
    declared = [declared] if len(actual) == 1 else declared
    assert [tuple(shape) for shape in declared] == [x.shape for x in actual]

    for batch_size, dynamic in ((None, False), (None, True), ("own", False)):
        tensors = symbolic(inputs, frame_axes if dynamic else (None,) * len(inputs), batch_size)
        outputs = keras.tree.flatten(layer(*tensors, **call_kwargs))
        for output, array in zip(outputs, actual, strict=True):
            assert keras.backend.standardize_dtype(output.dtype) == array.dtype.name
            assert len(output.shape) == array.ndim
            sizes = zip(output.shape, array.shape, strict=True)
            assert all(size in (None, true) for size, true in sizes), (output.shape, array.shape)
            if batch_size == "own":
                assert tuple(output.shape) == array.shape


def check_saving(layer_class, init_kwargs, *inputs, call_kwargs, frame_axes=None):
    """A model with the layer comes back from a `.keras` file with no custom objects and safe mode on."""
    assert keras.saving.get_registered_name(layer_class).startswith("affect>")
    tensors = symbolic(inputs, frame_axes)
    outputs = layer_class(**init_kwargs)(*tensors, **call_kwargs)
    model = keras.Model(tensors, outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
    assert_same(arrays(loaded(list(inputs))), arrays(model(list(inputs))))


def check_mixed_precision(layer_class, init_kwargs, *inputs, call_kwargs):
    """Half precision stays finite, close to float32, and gives the dtypes that it declares."""
    layer = layer_class(**init_kwargs)
    expected = run(layer, inputs, call_kwargs)
    for policy, tolerance in (("mixed_float16", 1e-2), ("mixed_bfloat16", 5e-2)):
        mixed = layer_class(**init_kwargs, dtype=policy)
        specs = keras.tree.flatten(mixed(*symbolic(inputs, None), **call_kwargs))
        mixed.set_weights(layer.get_weights())
        outputs = keras.tree.flatten(mixed(*inputs, **call_kwargs))
        for output, spec, array in zip(outputs, specs, expected, strict=True):
            assert keras.backend.standardize_dtype(output.dtype) == spec.dtype
            output = arrays(ops.cast(output, "float32"))[0]
            assert np.isfinite(output).all()
            np.testing.assert_allclose(output, array, atol=tolerance, rtol=tolerance)


def check_training(layer_class, init_kwargs, *inputs, call_kwargs):
    """One step of `fit` moves each trainable weight of the layer, and of a dense one below it, to a finite value."""
    tensors = symbolic(inputs, None)
    below = keras.layers.Dense(inputs[0].shape[-1])
    layer = layer_class(**init_kwargs)
    outputs = layer(below(tensors[0]), *tensors[1:], **call_kwargs)
    outputs = keras.tree.flatten(outputs)[0]
    model = keras.Model(tensors, SquareLoss()(outputs))
    weights = below.trainable_weights + layer.trainable_weights
    before = arrays(weights)
    model.compile(optimizer=keras.optimizers.SGD(0.1), jit_compile=False)
    history = model.fit(list(inputs), batch_size=len(inputs[0]), epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    for old, new in zip(before, arrays(weights), strict=True):
        assert np.isfinite(new).all()
        assert not np.array_equal(old, new)


def check_masks(layer_class, init_kwargs, *inputs, call_kwargs):
    """A mask is of each frame of each clip: none is broadcast, neither an array nor one of a graph."""
    layer = layer_class(**init_kwargs)
    run(layer, inputs, call_kwargs)
    for place, mask in enumerate(inputs):
        if mask.dtype != bool:
            continue
        batch, frames = mask.shape
        assert batch > 1 and frames > 1
        for shape in ((frames,), (batch, 1), (1, frames), (batch, frames, 1), (batch, frames + 1)):
            wrong = [*inputs[:place], np.ones(shape, bool), *inputs[place + 1 :]]
            with pytest.raises(ValueError, match=re.escape(f"frame_mask of shape {shape}")):
                layer(*wrong, **call_kwargs)
            tensors = symbolic(wrong, (None,) * len(wrong), "own")
            with pytest.raises(ValueError, match=re.escape(f"frame_mask of shape {shape}")):
                layer_class(**init_kwargs)(*tensors, **call_kwargs)


def check_refusals(layer_class, invalid):
    """Arguments that make no sense are refused with a text that shows them."""
    for arguments, text in invalid:
        with pytest.raises(ValueError, match=re.escape(text)):
            layer_class(**arguments)


def run(layer, inputs, call_kwargs=None):
    """Calls the layer and returns its outputs as a list of arrays."""
    return arrays(layer(*inputs, **(call_kwargs or {})))


def arrays(outputs):
    return [np.array(ops.convert_to_numpy(x)) for x in keras.tree.flatten(outputs)]


def assert_same(left, right):
    for x, y in zip(left, right, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6, rtol=1e-6, equal_nan=False)


def symbolic(inputs, frame_axes=None, batch_size=None):
    """Keras inputs like the arrays; the frame axes are dynamic, and so is the batch unless it is "own"."""
    tensors = []
    for x, axis in zip(inputs, frame_axes or (1,) * len(inputs), strict=True):
        shape = [len(x) if batch_size == "own" else None, *x.shape[1:]]
        if axis is not None:
            shape[axis] = None
        tensors.append(keras.Input(batch_shape=tuple(shape), dtype=x.dtype.name))
    return tensors


def gradient(function, value):
    """Returns the gradient of `function`, array → scalar loss, at `value`, on any backend.

    An optimizer with learning rate 1 moves an offset that starts at 0, so the offset becomes minus the
    gradient.
    """
    value = np.asarray(value, "float32")
    model = keras.Sequential([keras.Input((1,)), Offset(function, value)])
    model.compile(optimizer=keras.optimizers.SGD(1.0), run_eagerly=True)
    model.fit(np.zeros((1, 1)), verbose=0)
    return -model.layers[0].get_weights()[0]


class SquareLoss(keras.layers.Layer):
    """Adds the mean square of its input to the loss, so that a model trains without targets."""

    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(ops.cast(inputs, "float32"))))
        return inputs

    def compute_output_shape(self, inputs_shape):
        return inputs_shape


class Offset(keras.layers.Layer):
    """Adds `function(value + offset)` to the loss; the offset is a weight."""

    def __init__(self, function, value):
        super().__init__()
        self.function = function
        self.value = value

    def build(self, inputs_shape):
        self.offset = self.add_weight(name="offset", shape=self.value.shape, initializer="zeros")

    def call(self, inputs):
        self.add_loss(self.function(ops.add(self.value, self.offset)))
        return inputs
