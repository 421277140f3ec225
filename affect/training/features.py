"""Training on the features of a frozen backbone, which are computed once."""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from affect.data.features import KEPT_BYTES, FeatureTable
from affect.models.frame_classifier import separate_head
from affect.progress import make_progress
from affect.tasks import Training

# Faces that the backbone sees at once.
BATCH_FACES = 32


class FrozenNetwork(keras.Model):
    """A network whose backbone is frozen, for `fit`: it takes faces, or the features of faces.

    It shares layers, variables and optimizer with the network, which therefore is what a checkpoint saves.

    Args:
        network: From `affect.models.frame_classifier.build_frame_classifier`.

    Call arguments:
        inputs: Dict of `frame_mask`, and of `faces` or `features`, the output of the layer `local_features`.
    """

    def __init__(self, network: keras.Model):
        super().__init__(name="frozen")
        self.network = network
        self.head = separate_head(network)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return (self.head if "features" in inputs else self.network)(inputs, training=training)


@contextmanager
def freeze(
    training: Training,
    model: keras.Model,
    folder: str | Path,
    *,
    first_epoch: int = 0,
    jit_compile: bool | str = "auto",
    kept_bytes: int = KEPT_BYTES,
    shows_progress: bool = False,
) -> Iterator[tuple[Any, Any]]:
    """Gives the batches for a `FrozenNetwork`, with the features of faces.

    These are the selection faces, always; and the training faces, if their views repeat and all epochs see more of them
    than there are views. They are what a frozen backbone makes of the same faces, up to the noise of float32 in another
    batch size. If there is neither memory nor disk for them, the batches have faces, which give the same result.

    Args:
        training: From a task, with a frozen backbone.
        model: Built and compiled.
        folder: Where features that do not fit in memory are kept in a file, until the end of the `with` block.
        first_epoch: Epoch to start with.
        jit_compile: As `keras.Model.compile` takes it.
        kept_bytes: Largest size of the features in memory.
        shows_progress: Whether to show progress.

    Yields:
        `(batches, selection_batches)`, as `training.batches` returns them.
    """
    batches, selection = training.batches(model, first_epoch)
    frozen = training.freeze_faces() if training.freeze_faces else None
    if frozen is not None and frozen.rows >= frozen.seen:
        frozen = None
    rows = frozen.rows if frozen else 0
    listed = [] if selection is None else _list_selection(selection, rows)
    total = rows + sum(int(mask.sum()) for _, mask, _ in listed)
    if not total:
        yield batches, selection
        return
    shape = model.get_layer("local_features").output.shape[2:]
    dtype = tf.as_dtype(model.get_layer("local_features").compute_dtype).as_numpy_dtype
    sources = [frozen.faces(model, BATCH_FACES)] if frozen else []
    sources += [] if selection is None else [_list_faces(selection, rows)]
    table = None
    try:
        try:
            table = FeatureTable(total, shape, dtype, folder, kept_bytes)
            _fill(table, total, sources, model.get_layer("backbone"), jit_compile, shows_progress)
        except OSError as error:
            print(
                f"affect: There is no room for the features of faces in {folder} ({error.strerror or error}). Training "
                "continues, and the backbone computes them in every epoch. To train faster, free disk space and start "
                "again.",
                file=sys.stderr,
            )
            if table is not None:
                table.close()
            table = None
        if table is not None and frozen:
            batches = _read_rows(frozen.batches(model, first_epoch), table)
        if table is not None and selection is not None:
            selection = _read_rows(_repeat(listed), table)
        yield batches, selection
    finally:
        if table is not None:
            table.close()


def _list_selection(selection, first_row):
    """Returns `(rows, frame_mask, labels)` of each batch: what is left of it without its faces."""
    listed = []
    for inputs, labels in selection.as_numpy_iterator():
        mask = inputs["frame_mask"]
        rows = np.where(mask, first_row + np.cumsum(mask).reshape(mask.shape) - 1, -1)
        listed.append((rows, mask, labels))
        first_row += int(mask.sum())
    return listed


def _list_faces(selection: Any, first_row: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives `(rows, faces)` of the valid frames, as `FrozenFaces.faces` does."""
    for inputs, _ in selection.as_numpy_iterator():
        faces = inputs["faces"][inputs["frame_mask"]]
        for start in range(0, len(faces), BATCH_FACES):
            part = faces[start : start + BATCH_FACES]
            yield np.arange(first_row + start, first_row + start + len(part)), part
        first_row += len(faces)


def _fill(
    table: FeatureTable,
    total: int,
    sources: Sequence[Iterable[Any]],
    backbone: keras.Model,
    jit_compile: bool | str,
    shows_progress: bool,
) -> None:
    """Computes the features of all faces, in batches of one size, so that they are traced once."""
    network = keras.Model(backbone.input, backbone.output)
    network.compile(jit_compile=jit_compile)
    progress = make_progress()
    task = progress.add_task("features of faces", total=total)
    with progress if shows_progress else nullcontext():
        for rows, faces in itertools.chain(*sources):
            rows, faces = np.asarray(rows), np.asarray(faces)
            padded = np.pad(faces, [(0, BATCH_FACES - len(faces)), (0, 0), (0, 0), (0, 0)])
            features = network.predict_on_batch(padded)[: len(faces)]  # (N, h, w, D)
            table.write(int(rows[0]), features.reshape(len(faces), *table.shape))
            progress.advance(task, len(faces))
    table.flush()


def _read_rows(dataset, table):
    """Returns batches with the features of their rows."""
    dtype = tf.as_dtype(table.dtype)

    def read(inputs, labels):
        features = tf.numpy_function(table.read, [inputs["rows"]], dtype)
        features = tf.ensure_shape(features, (*inputs["rows"].shape, *table.shape))
        return {"features": features, "frame_mask": inputs["frame_mask"]}, labels

    return dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(2)


def _repeat(listed):
    """Returns a dataset of the batches that `_list_selection` has listed."""
    (rows, mask, labels), *_ = listed
    signature = (
        {
            "rows": tf.TensorSpec((None, None), rows.dtype),
            "frame_mask": tf.TensorSpec((None, None), mask.dtype),
        },
        tf.TensorSpec((None, *labels.shape[1:]), labels.dtype),
    )
    batches = [({"rows": rows, "frame_mask": mask}, labels) for rows, mask, labels in listed]
    dataset = tf.data.Dataset.from_generator(lambda: batches, output_signature=signature)
    # Without a known number of batches Keras warns that the data ran out.
    return dataset.apply(tf.data.experimental.assert_cardinality(len(batches)))
