"""Networks that read faces: what they are given is checked."""

import keras

from affect.layers.frame_mask import check_frame_mask


@keras.saving.register_keras_serializable(package="affect")
class FaceNetwork(keras.Model):
    """A functional `keras.Model` that refuses faces that are no pixels, and masks that are not of each frame.

    Keras casts what it is given to the dtype of the input, uint8, which makes black of faces scaled to [0, 1]; and a
    mask of one column would hold for all frames of a clip.

    Call arguments:
        inputs: Dict by the names of the inputs: `faces` of whole numbers from 0 to 255, or `features`; `frame_mask`
            (B, F).

    Raises:
        ValueError: When they are not so.
    """

    def call(self, inputs, training=None, mask=None, **kwargs):
        _check(inputs)
        return super().call(inputs, training=training, mask=mask, **kwargs)

    def predict_on_batch(self, x):
        _check(x)  # A graph that was traced for batches of several sizes knows none of them.
        return super().predict_on_batch(x)


def _check(inputs):
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
