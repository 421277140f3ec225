"""Frame masks: which frames of a clip exist. A mask must have one value for each frame; it is never broadcast."""

from typing import Any

from keras import ops


def check_frame_mask(frame_mask: Any, frames: Any) -> None:
    """Checks that a mask has the shape `(B, F)`.

    Args:
        frame_mask: Tensor, or `None`, which passes.
        frames: Tensor `(B, F, ...)` that the mask belongs to.

    Raises:
        ValueError: When the mask does not have two axes, or a known size differs. A size of 1 must match too.
    """
    if frame_mask is None:
        return
    found, expected = tuple(frame_mask.shape), tuple(frames.shape[:2])
    is_known = all(size is None or other is None or size == other for size, other in zip(found, expected, strict=False))
    if len(found) != 2 or not is_known:
        raise ValueError(
            f"Invalid `frame_mask`. Expected a value for each frame of each clip, of shape {expected}. "
            f"Received: frame_mask of shape {found}, for frames of shape {tuple(frames.shape)}"
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
