"""The signatures of an exported model: named functions from tensors to tensors, built from a trained model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import tensorflow as tf

from affect.data.augment import view_centre_in_graph
from affect.data.labels import DIMENSIONS
from affect.models.frame_classifier import frame_networks
from affect.tasks.task import MAX_FACES, TrainedModel

if TYPE_CHECKING:
    from affect.tasks.task import Task

# Limits of a request of encoded faces. `affect prepare` stores faces of 2048 pixels at most.
MAX_JPEG_BYTES = 4 * 2**20
MAX_JPEG_SIDE_PX = 2048
# A progressive JPEG usually has 10 scans. A JPEG of 185 kB with 10,000 empty scans took 79 s to decode.
MAX_JPEG_SCANS = 16
# What a JPEG says in its EXIF data if it must be turned or mirrored: the entry "orientation" with a value from 2 to 8,
# in either order of bytes. `\C` is any byte; `.` is any character of UTF-8.
TURNED = (
    r"\C*Exif\x00\x00(?:"
    r"MM\x00\*\C*\x01\x12\x00(?:\x03\x00\x00\x00\x01\x00|\x04\x00\x00\x00\x01\x00\x00\x00)[\x02-\x08]|"
    r"II\*\x00\C*\x12\x01[\x03\x04]\x00\x01\x00\x00\x00[\x02-\x08])\C*"
)

# Name of a tensor → what it holds, for `affect.json`. B clips of F frames, E classes, N heads, L = h·w locations.
TENSORS = {
    "faces": "RGB faces, 0 to 255, aligned and cut by the settings `faces` in affect.json, scaled to the model's size.",
    "frame_mask": "Whether a frame exists. The pixels of the other frames have no effect.",
    "jpegs": "Stored faces as JPEG, before crop and scaling. An empty string is no frame.",
    "probabilities": "p(c|S) of each class; all equal for a clip without a frame.",
    "label": "The likeliest class; empty for a clip without a frame.",
    "frame_importance": "p(f|S) of each frame; 0 where masked.",
    "frame_probabilities": "p(c|f,S) of each frame alone; 0 where masked.",
    "attention": "Attention over the locations of each frame: (B, F, N, L) of N heads, row by row; or, if it is "
    "spatiotemporal, maps (B, F, h, w). Ignore it for masked frames.",
    "frame_logits": "Class scores of a frame, before the softmax and before pooling over time.",
    "frame_features": "Features of a frame, which the model pools over time.",
    "pooled_features": "Features of a clip, pooled over its frames.",
    "logits": "Class scores of a clip, before the softmax.",
    "hidden": "Hidden state of the LSTM; zeros before the first frame. After the last frame it is `pooled_features`.",
    "cell": "Cell state of the LSTM; zeros before the first frame.",
    "dimensions": f"{' and '.join(DIMENSIONS).capitalize()}, before post-processing; 0 where masked.",
}


@dataclass(frozen=True)
class Signature:
    """A function of an exported model.

    Args:
        sentence: What it does.
        function: Inputs by name → dict of outputs.
        inputs: Name → `tf.TensorSpec` of that name.
    """

    sentence: str
    function: Callable[..., dict[str, Any]]
    inputs: dict[str, Any]


class ExportedModel(TrainedModel, Protocol):
    """What the signatures are built from: a run with its task."""

    @property
    def task(self) -> "Task":
        """The task of the run."""


def build_signatures(trained: ExportedModel, *, as_graph: bool = False) -> dict[str, Signature]:
    """Builds the signatures of a trained model.

    Args:
        trained: The model.
        as_graph: Whether the network is traced once, as a graph that the signatures share. Otherwise it runs operation
            by operation.

    Returns:
        Name → signature, `serving_default` first.
    """
    graph = trained.task.graph(trained)
    clip, network, names = graph.function, graph.network, graph.names
    size, crop_ratio = trained.face_size, trained.experiment.data.crop_ratio
    inputs = _specify(faces=((None, None, size, size, 3), tf.uint8), frame_mask=((None, None), tf.bool))
    if as_graph:
        clip = tf.function(clip, input_signature=list(inputs.values()), autograph=False)

    def serving_default(faces, frame_mask):
        outputs = clip(faces, frame_mask)
        return {name: outputs[name] for name in names}

    def jpeg(jpegs):
        faces, frame_mask = decode_faces(jpegs, crop_ratio, size)
        return serving_default(faces, frame_mask) | {"frame_mask": frame_mask}

    signatures = {
        "serving_default": Signature(f"Clips of faces, at most {MAX_FACES} together.", serving_default, inputs),
        "jpeg": Signature(
            "Clips of encoded faces, which are cropped and scaled as in evaluation. A request of more than "
            f"{MAX_FACES} strings is an error. A string that is not a whole JPEG of at most {MAX_JPEG_BYTES} bytes, "
            f"{MAX_JPEG_SIDE_PX} pixels on each side and {MAX_JPEG_SCANS} scans, or whose EXIF data ask to turn or "
            "mirror it, is no frame, and frame_mask says so.",
            jpeg,
            _specify(jpegs=((None, None), tf.string)),
        ),
    }
    if "attention" in network.output:
        signatures["explain"] = Signature("Clips of faces, with the attention to each frame.", clip, inputs)
    return signatures | graph.extra


def decode_faces(jpegs: Any, crop_ratio: float, face_size: int) -> tuple[Any, Any]:
    """Decodes clips of stored faces inside a graph. A string that is no JPEG becomes a masked frame.

    A graph cannot catch an exception, so a dataset inside the graph drops the elements that raise. One dataset for each
    request is 30 times as fast as one for each string.

    Args:
        jpegs: String tensor (B, F) of at most `MAX_FACES` strings.
        crop_ratio: As in `affect.data.views.view_centre`.
        face_size: Height and width of the faces in pixels.

    Returns:
        `(faces, frame_mask)`: uint8 (B, F, face_size, face_size, 3), black where masked; bool (B, F), False for a
        string that is no whole JPEG within the limits, or that its EXIF data ask to turn: stored faces are upright, and
        one that lies on its side would be read as something else.

    Raises:
        tf.errors.InvalidArgumentError: On more than `MAX_FACES` strings.
    """
    shape = tf.shape(jpegs)
    count = tf.size(jpegs, tf.int64)
    tf.debugging.assert_less_equal(count, tf.constant(MAX_FACES, tf.int64), f"More than {MAX_FACES} JPEGs a request")

    def decode(place, jpeg):
        # Check the header before decoding, because a small file can claim to be an image of many gigabytes.
        side_px = tf.reduce_max(tf.image.extract_jpeg_shape(jpeg)[:2])
        content = tf.io.decode_raw(jpeg, tf.uint8)
        is_scan = tf.logical_and(content[:-1] == 0xFF, content[1:] == 0xDA)
        checks = [
            tf.debugging.assert_less_equal(tf.strings.length(jpeg), MAX_JPEG_BYTES),
            tf.debugging.assert_less_equal(side_px, MAX_JPEG_SIDE_PX),
            tf.debugging.assert_less_equal(tf.math.count_nonzero(is_scan, dtype=tf.int32), MAX_JPEG_SCANS),
            tf.debugging.assert_equal(tf.strings.regex_full_match(jpeg, TURNED), False),
        ]
        with tf.control_dependencies(checks):
            jpeg = tf.identity(jpeg)
        return place, view_centre_in_graph(jpeg, crop_ratio, face_size)

    face_shape = (face_size, face_size, 3)
    decoded = tf.data.Dataset.from_tensor_slices(tf.reshape(jpegs, [-1])).enumerate()
    decoded = decoded.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False).ignore_errors()
    # Add one element, because an empty batch is an error too.
    beyond = tf.data.Dataset.from_tensors((count, tf.zeros(face_shape, tf.uint8)))
    places, faces = decoded.concatenate(beyond).batch(count + 1).get_single_element()
    rows = count[None] + 1
    faces = tf.scatter_nd(places[:, None], faces, tf.concat([rows, face_shape], 0))[:-1]
    frame_mask = tf.scatter_nd(places[:, None], tf.ones_like(places), rows)[:-1] > 0
    faces = tf.reshape(faces, tf.concat([shape, face_shape], 0))
    return tf.ensure_shape(faces, (None, None, *face_shape)), tf.reshape(frame_mask, shape)


def classify_clips(network: Any, classes: Sequence[str]) -> Callable[[Any, Any], dict[str, Any]]:
    """Returns the function of a classifier that is exported.

    Args:
        network: From `affect.models.frame_classifier.detail_classifier`.
        classes: Class names in order.

    Returns:
        `function(faces, frame_mask)` → the probabilities, labels and importance of clips and frames, as tensors.
    """
    names = tf.constant([*classes, ""])

    def clip(faces, frame_mask):
        outputs = _call(network, faces, frame_mask)
        valid = tf.expand_dims(tf.cast(frame_mask, tf.float32), -1)
        probabilities = tf.nn.softmax(outputs["logits"])
        likeliest = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        clip_outputs = {
            "probabilities": probabilities,
            "label": tf.gather(names, tf.where(tf.reduce_any(frame_mask, axis=1), likeliest, len(classes))),
            "frame_importance": outputs["frame_importance"],
            "frame_probabilities": tf.nn.softmax(tf.cast(outputs["frame_logits"], tf.float32)) * valid,
        }
        return clip_outputs | {name: outputs[name] for name in ("attention",) if name in outputs}

    return clip


def run_clips(network: Any) -> Callable[[Any, Any], dict[str, Any]]:
    """Returns `function(faces, frame_mask)` → the outputs of a `keras.Model`, as tensors."""
    return lambda faces, frame_mask: _call(network, faces, frame_mask)


def _call(network, faces, frame_mask):
    """Calls a network on clips of one frame or more. It checks the sizes, because they would broadcast."""
    sizes = tf.shape(faces)[:2]
    tf.debugging.assert_equal(sizes, tf.shape(frame_mask), "faces and frame_mask differ in clips or frames")
    tf.debugging.assert_positive(sizes[1], "A clip has one frame at least; mask it where there is none")
    _check_count(tf.reduce_prod(sizes))
    return network({"faces": faces, "frame_mask": frame_mask}, training=False)


def _check_count(faces):
    """Checks the number of faces in a request. The memory that a network takes is proportional to it."""
    tf.debugging.assert_less_equal(faces, MAX_FACES, f"More than {MAX_FACES} faces a request")


def build_frame_signatures(model: Any) -> dict[str, Signature]:
    """Returns the signatures for a stream, by name: a single frame and, where features are pooled, the layers after it.

    Args:
        model: From `affect.models.frame_classifier.build_frame_classifier`.
    """
    networks = frame_networks(model)

    def run(name, **inputs):
        return {key: tf.cast(value, tf.float32) for key, value in networks[name](inputs).items()}

    def frame(faces):
        _check_count(tf.shape(faces)[0])
        return run("frame", faces=faces)

    def classify(pooled_features):
        return run("classify", pooled_features=pooled_features)

    def step(frame_features, hidden, cell):
        return run("step", frame_features=frame_features, hidden=hidden, cell=cell)

    functions: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
        "frame": (f"Faces one by one, at most {MAX_FACES} together.", frame),
        "classify": ("The classifier, on pooled features.", classify),
        "step": ("One step of the LSTM, and the classes by then.", step),
    }
    return {
        name: Signature(*functions[name], _specify(**{key: (x.shape, x.dtype) for key, x in network.input.items()}))
        for name, network in networks.items()
    }


def _specify(**inputs):
    """Returns name → `tf.TensorSpec` from name → `(shape, dtype)`."""
    return {name: tf.TensorSpec(shape, dtype, name) for name, (shape, dtype) in inputs.items()}
