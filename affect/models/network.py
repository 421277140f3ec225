"""The bases of networks: one that reads faces checks its inputs, and a frozen backbone computes as in evaluation."""

from typing import Any

import keras

from affect.layers.frame_mask import check_frame_mask


@keras.saving.register_keras_serializable(package="affect")
class FaceNetwork(keras.Model):
    """A functional `keras.Model` that checks its faces and masks.

    Keras casts its inputs to uint8, so faces that are scaled to [0, 1] would become black. A mask of shape (B, 1) would
    be broadcast to all frames of a clip.

    Call arguments:
        inputs: Dict of the inputs by their names: `faces`, whole numbers from 0 to 255, or `features`; and `frame_mask`
            (B, F).

    Raises:
        ValueError: From a call, when faces are not whole numbers, or the mask does not have one value for each frame.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        _check(inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts one batch, after the same checks as in a call.

        A graph that was traced for batches of several sizes has no sizes to check, so they are checked here.
        """
        _check(x)
        return super().predict_on_batch(x)


@keras.saving.register_keras_serializable(package="affect")
class FeatureNetwork(keras.Model):
    """A functional `keras.Model` that computes as in evaluation while it is not trainable: without dropout too.

    Keras makes batch normalisation compute so, and no other layer.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs: Any) -> Any:
        return super().call(inputs, training=training if self.trainable else False, mask=mask, **kwargs)


def _check(inputs: Any) -> None:
    if not isinstance(inputs, dict):
        return
    faces, frames = inputs.get("faces"), inputs.get("features", inputs.get("faces"))
    if faces is not None and "int" not in (dtype := keras.backend.standardize_dtype(faces.dtype)):
        raise ValueError(
            "Invalid `faces`. Expected pixels of 0 to 255, uint8; multiply those that are scaled to [0, 1] by 255 and "
            f"round them. Received: faces of {dtype}"
        )
    if frames is not None:
        check_frame_mask(inputs.get("frame_mask"), frames)
