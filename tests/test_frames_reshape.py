import keras
import numpy as np
import pytest

from affect.layers import MergeFrames, SplitFrames
from tests import contracts

CLIPS = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
FRAMES = CLIPS.reshape(6, 4, 5)
FRAME_MASK = np.ones((2, 3), "bool")


def test_merge_contract():
    contracts.check_layer(MergeFrames, {}, CLIPS)
    contracts.check_layer(MergeFrames, {"name": "to_faces"}, CLIPS[..., 0])


@pytest.mark.parametrize("like", [CLIPS, FRAME_MASK], ids=["like clips", "like mask"])
def test_split_contract(like):  # the batches differ, so `fit` waits for the pair below
    inputs, axes = (FRAMES, like), (None, 1)
    contracts.check_config(SplitFrames, {}, *inputs, call_kwargs={})
    contracts.check_shapes(SplitFrames, {}, *inputs, call_kwargs={}, frame_axes=axes)
    contracts.check_saving(SplitFrames, {}, *inputs, call_kwargs={}, frame_axes=axes)


def test_frames_of_a_clip_stay_together():
    merged = contracts.run(MergeFrames(), (CLIPS,))[0]
    split = contracts.run(SplitFrames(), (FRAMES, FRAME_MASK))[0]
    for clip, frame in np.ndindex(2, 3):
        np.testing.assert_array_equal(merged[3 * clip + frame], CLIPS[clip, frame])
        np.testing.assert_array_equal(split[clip, frame], FRAMES[3 * clip + frame])


def test_pair_around_a_frame_network_with_dynamic_frames():
    faces = keras.Input((None, 8, 8, 3))
    merged = MergeFrames()(faces)
    assert merged.shape == (None, 8, 8, 3)
    maps = keras.layers.Conv2D(4, 3, strides=2)(merged)
    split = SplitFrames()(maps, faces)
    assert split.shape == (None, None, 3, 3, 4)
    model = keras.Model(faces, keras.layers.Dense(1)(split))
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    for batch, frames in ((2, 3), (1, 5)):
        clips = np.random.default_rng(1).random((batch, frames, 8, 8, 3))
        targets = np.zeros((batch, frames, 3, 3, 1))
        assert np.isfinite(model.fit(clips, targets, verbose=0).history["loss"]).all()
        one_by_one = [model.predict(clips[:, i : i + 1], verbose=0) for i in range(frames)]
        outputs = model.predict(clips, verbose=0)
        np.testing.assert_allclose(outputs, np.concatenate(one_by_one, axis=1), atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "bool"])
def test_dtype_and_values_are_kept(policy, dtype):
    clips = (CLIPS * 1e5).astype(dtype)  # beyond float16
    merged = MergeFrames(dtype=policy)(clips)
    split = SplitFrames(dtype=policy)(merged, clips)
    assert keras.backend.standardize_dtype(merged.dtype) == dtype
    assert MergeFrames(dtype=policy)(keras.Input((3, 4), dtype=dtype)).dtype == dtype
    np.testing.assert_array_equal(split, clips)


@pytest.mark.parametrize(
    "static, merged, split",
    [
        ((2, 3, 4), (6, 4), (2, 3, 4)),
        ((2, None, 4), (None, 4), (2, None, 4)),
        ((None, 3), (None,), (None, 3)),
    ],
)
def test_static_sizes_are_kept(static, merged, split):
    clips = keras.Input(batch_shape=static)
    assert MergeFrames()(clips).shape == merged
    assert SplitFrames()(MergeFrames()(clips), clips).shape == split


def test_empty_batch():
    merged = MergeFrames()(np.zeros((0, 3, 4)))
    assert tuple(merged.shape) == (0, 4)
    assert tuple(SplitFrames()(merged, np.zeros((0, 3))).shape) == (0, 3, 4)


def test_wrong_rank():
    with pytest.raises(ValueError, match="expected min_ndim=2, found ndim=1"):
        MergeFrames()(np.zeros(6))
