"""Frame masks: which frames of a clip exist. A mask must have one bool for each frame; it is never broadcast.

The layers take it as `frame_mask`, or as `mask`, which is Keras's name: `keras.layers.Masking` below a layer gives it.
If a call has both, a frame exists where both say so. A mask that Keras has attached to frames is not asked for where
a call has `frame_mask`.
"""

from typing import Any

import keras
from keras import ops


def check_frame_mask(frame_mask: Any, frames: Any) -> None:
    """Checks that a mask has the shape `(B, F)`.

    Args:
        frame_mask: Tensor, or `None`, which passes.
        frames: Tensor `(B, F, ...)` that the mask belongs to.

    Raises:
        ValueError: When the mask is not bool, does not have two axes, or a known size differs. A size of 1 must match
            too.
    """
    if frame_mask is None:
        return
    if (dtype := keras.backend.standardize_dtype(frame_mask.dtype)) != "bool":
        raise ValueError(
            "Invalid `frame_mask`. Expected bool, True for frames that exist; of numbers write `numbers > 0`. "
            f"Received: frame_mask of dtype {dtype!r}"
        )
    found, expected = tuple(frame_mask.shape), tuple(frames.shape[:2])
    is_known = all(size is None or other is None or size == other for size, other in zip(found, expected, strict=False))
    if len(found) != 2 or not is_known:
        raise ValueError(
            f"Invalid `frame_mask`. Expected a value for each frame of each clip, of shape {expected}. "
            f"Received: frame_mask of shape {found}, for frames of shape {tuple(frames.shape)}"
        )


def join_masks(frame_mask: Any, mask: Any, frames: Any) -> Any:
    """Returns one mask of the two names that it has in a call; `None` if the call has neither.

    Args:
        frame_mask: Tensor `(B, F)`, or `None`.
        mask: The same under Keras's name.
        frames: Tensor `(B, F, ...)` that they belong to.

    Raises:
        ValueError: As in `check_frame_mask`.
    """
    check_frame_mask(frame_mask, frames)
    check_frame_mask(mask, frames)
    if frame_mask is None or mask is None:
        return mask if frame_mask is None else frame_mask
    return ops.logical_and(frame_mask, mask)


def keep_valid(frames: Any, frame_mask: Any) -> Any:
    """Returns the frames with 0 where they do not exist. What they hold there, also NaN, has no effect.

    Args:
        frames: Float tensor `(B, F, ...)`.
        frame_mask: Bool tensor `(B, F)`, or `None`, with which nothing changes.
    """
    if frame_mask is None:
        return frames
    check_frame_mask(frame_mask, frames)
    exists = ops.reshape(frame_mask, (*ops.shape(frame_mask), *([1] * (len(frames.shape) - 2))))
    return ops.where(exists, frames, ops.zeros_like(frames))


def check_locations(features: Any, frame_mask: Any) -> None:
    """Checks that local features are not the maps of single images, (B, h, w, D), which have as many axes.

    It is for a model that is built. When a model is called, a clip may have as many frames as a frame has locations.

    Args:
        features: Keras tensor `(B, F, L, D)`.
        frame_mask: Tensor `(B, F)`, or `None`.

    Raises:
        ValueError: When two known sizes F and L are equal, as those of a map usually are, and no mask says that F
            counts frames.
    """
    _, frames, locations, _ = features.shape
    if frame_mask is None and frames is not None and frames == locations and frames > 1:
        raise ValueError(
            "Invalid `features`. Expected (B, F, L, D), and a square map (B, h, w, D) looks the same: reshape maps to "
            f"(B, F, h*w, D), or give `frame_mask` (B, F). Received: features of shape {tuple(features.shape)!r}"
        )


def valid_frames(frame_mask: Any, frames: Any, dtype: str = "float32") -> Any:
    """Returns the mask as numbers `(B, F)`: 1 for frames that exist, 0 for others; all 1 without a mask.

    Args:
        frame_mask: Tensor `(B, F)`, or `None`.
        frames: Tensor `(B, F, ...)` that the mask belongs to.
        dtype: Of the result.

    Raises:
        ValueError: As in `check_frame_mask`.
    """
    if frame_mask is None:
        return ops.ones_like(frames[(slice(None), slice(None), *([0] * (len(frames.shape) - 2)))], dtype=dtype)
    check_frame_mask(frame_mask, frames)
    return ops.cast(frame_mask, dtype)
