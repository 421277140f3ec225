"""Training on several devices, also of several processes: each computes on its part of every batch, by Keras on JAX.

In `model.fit` Keras computes these over the whole batch: the loss, its gradient, batch normalisation, the masks of
dropout and the metrics. Sums are added in another order, so numbers differ in their last digits.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from affect.config import list_changes
from affect.data.ranks import ALONE, Rank
from affect.errors import InputError


@dataclass(frozen=True)
class Replicas:
    """The devices that hold the same weights, and the process that this is.

    Args:
        rank: This process.
        devices: Names of the devices of all processes, as `keras.distribution.list_devices` has them, in the order of
            the rows of a batch; empty if one device computes alone.
        local: JAX's devices of this process among them.
    """

    rank: Rank = ALONE
    devices: tuple[str, ...] = ()
    local: tuple[Any, ...] = ()

    @property
    def are_several(self) -> bool:
        """Whether a batch is divided."""
        return bool(self.devices)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run."""
        return self.rank.number == 0

    def scope(self) -> AbstractContextManager[Any]:
        """Returns a context in which Keras divides each batch over the devices."""
        if not self.are_several:
            return contextlib.nullcontext()
        # Each process gives its own rows, so Keras does not divide the data set.
        return keras.distribution.DataParallel(devices=list(self.devices), auto_shard_dataset=False).scope()

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes in their order. Each process must call it.

        Args:
            value: What JSON can hold.
        """
        if self.rank.processes == 1:
            return [value]
        from jax.experimental.multihost_utils import process_allgather

        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = process_allgather(np.array(len(text), np.int32))
        padded = np.zeros(lengths.max(), np.uint8)
        padded[: len(text)] = text
        texts = process_allgather(padded)
        return [
            json.loads(bytes(np.asarray(text, np.uint8)[:length])) for text, length in zip(texts, lengths, strict=True)
        ]

    def check_same(self, values: Mapping[str, Any], remedy: str) -> None:
        """Checks that all processes have the same values. Each process must call it.

        Args:
            values: Name → what JSON can hold.
            remedy: Sentence that ends the error.

        Raises:
            InputError: In each process, when one differs from the first.
        """
        first, *others = self.gather(dict(values))
        for number, other in enumerate(others, start=1):
            if changed := list_changes(first, other):
                raise InputError(f"Process {number} differs from process 0 in {', '.join(changed[:5])}. {remedy}")

    def run_once(self, work: Callable[[], Any]) -> Any:
        """Runs a function in the first process alone, while the others wait. Each process must call it.

        Args:
            work: The function, which returns what JSON can hold.

        Returns:
            Its result, in each process.

        Raises:
            InputError: In each process, when it raises this.
        """
        outcome: dict[str, Any] = {}
        if self.is_first:
            try:
                outcome = {"result": work()}
            except InputError as error:
                outcome = {"error": str(error)}
        outcome = self.gather(outcome)[0]
        if "error" in outcome:
            raise InputError(outcome["error"])
        return outcome["result"]


@contextlib.contextmanager
def leave_scope() -> Iterator[None]:
    """Leaves the scope of `Replicas.scope` for a `with` block in which Keras saves or loads a model.

    When Keras first saves or loads a model, it makes an optimizer to list its attributes. In the scope its variables
    would need all processes, but one process may save alone.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def find_rank() -> Rank:
    """Returns which process this is. There are several after `jax.distributed.initialize` on the JAX backend alone."""
    if keras.backend.backend() != "jax":
        return ALONE
    import jax

    return Rank(jax.process_index(), jax.process_count())


def check_no_strategy() -> None:
    """Refuses what a program has set to divide batches, because `train` divides them itself.

    Raises:
        InputError: Inside the scope of a strategy of TensorFlow, or with a distribution of Keras.
    """
    import tensorflow as tf

    if keras.backend.backend() == "tensorflow" and tf.distribute.has_strategy():
        name = type(tf.distribute.get_strategy()).__name__
        raise InputError(
            f"Training inside the scope of TensorFlow's {name} is not supported. Leave the scope; Keras on JAX "
            "(KERAS_BACKEND=jax) trains on all devices by itself."
        )
    if keras.distribution.distribution() is not None:
        name = type(keras.distribution.distribution()).__name__
        raise InputError(
            f"Keras has a distribution, {name}, and training on JAX sets its own. "
            "Call keras.distribution.set_distribution(None) first."
        )


def check_divides(size: int, rank: Rank) -> None:
    """Checks that the processes can divide a batch.

    Args:
        size: Of the batch.
        rank: This process.

    Raises:
        InputError: If they cannot.
    """
    if size % rank.processes:
        raise InputError(
            f"{rank.processes} processes cannot divide a batch of {size} into equal parts. Set data.batch_clips to a "
            f"multiple of {rank.processes} that is at most the number of training examples, and "
            "data.keep_last_batch=false."
        )


def find_replicas(sizes: Sequence[int]) -> Replicas:
    """Returns the devices to train on: as many of each process as can divide each batch into equal parts.

    Args:
        sizes: Sizes of the batches.

    Raises:
        InputError: If the processes cannot divide a batch.
    """
    rank = find_rank()
    for size in sizes:
        check_divides(size, rank)
    if keras.backend.backend() != "jax":
        return Replicas(rank)
    import jax

    of_process: dict[int, list[Any]] = {number: [] for number in range(rank.processes)}
    for device in jax.devices():
        of_process[device.process_index].append(device)
    most = min(map(len, of_process.values()))
    count = max(n for n in range(1, most + 1) if all(size % (n * rank.processes) == 0 for size in sizes))
    if count * rank.processes == 1:
        return Replicas(rank)
    used = {number: sorted(found, key=lambda device: device.id)[:count] for number, found in of_process.items()}
    names = [f"{device.platform}:{device.id}" for number in sorted(used) for device in used[number]]
    return Replicas(rank, tuple(names), tuple(used[rank.number]))


class EvaluateSelection(keras.callbacks.Callback):
    """Evaluates the selection at the end of an epoch, and adds its numbers to the logs as `val_...`.

    Each device evaluates some of the batches, whole, so that each batch is the one that a single device would have; the
    loss of a regression depends on that. The sums of the metrics are added at the end. It is the first callback,
    because the others read the logs.

    Args:
        replicas: The devices.
        batches: The batches of this process.
    """

    def __init__(self, replicas: Replicas, batches: Any):
        super().__init__()
        self.replicas = replicas
        self.batches = batches
        self.step: Any = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        import jax

        if self.step is None:
            self.step = jax.jit(self.model.test_step) if self.model.jit_compile else self.model.test_step
        self.model.reset_metrics()
        state = self._copy_state()
        states = [jax.device_put(state, device) for device in self.replicas.local]
        for index, batch in enumerate(self.batches.as_numpy_iterator()):
            place = index % len(states)
            batch = jax.device_put(batch, self.replicas.local[place])
            trainable, *_ = states[place]
            _, (_, non_trainable, metrics) = self.step(states[place], batch)
            states[place] = (trainable, non_trainable, metrics)
        sums = [sum(np.asarray(values[place]) for *_, values in states) for place in range(len(states[0][-1]))]
        with keras.StatelessScope(state_mapping=list(zip(self.model.metrics_variables, self._add(sums), strict=True))):
            found = self.model.get_metrics_result()
        logs.update({f"val_{name}": float(value) for name, value in found.items()})

    def _copy_state(self):
        """Returns the variables of the model in NumPy."""
        model = self.model
        groups = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        return tuple([keras.ops.convert_to_numpy(variable) for variable in group] for group in groups)

    def _add(self, sums):
        """Returns the sums over all processes."""
        import jax.numpy as jnp

        if self.replicas.rank.processes > 1:
            from jax.experimental.multihost_utils import process_allgather

            sums = [np.asarray(process_allgather(values)).sum(axis=0) for values in sums]
        return [jnp.asarray(values) for values in sums]
