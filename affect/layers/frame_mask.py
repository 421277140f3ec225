"""Frame masks: which frames of a clip exist. One that is not of each frame is refused, and never broadcast."""

from keras import ops


def check_frame_mask(frame_mask, frames):
    """Refuses a mask that is not `(B, F)`.

    Args:
        frame_mask: Tensor, or `None`.
        frames: Tensor `(B, F, ...)`, of what is masked.

    Raises:
        ValueError: On another number of axes, or other sizes, of those that are known; 1 is a size like any other.
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


def valid_frames(frame_mask, frames, dtype="float32"):
    """Returns the mask as numbers `(B, F)`, 1 for frames that exist; without a mask, all do.

    Raises:
        ValueError: As `check_frame_mask`.
    """
    if frame_mask is None:
        return ops.ones_like(frames[(slice(None), slice(None), *([0] * (len(frames.shape) - 2)))], dtype=dtype)
    check_frame_mask(frame_mask, frames)
    return ops.cast(frame_mask, dtype)
