"""Training that is stopped, as by Ctrl-C."""

from contextlib import contextmanager

import keras
import pytest


@contextmanager
def stop_before_the_second_epoch(monkeypatch):
    """Stops the training inside the `with` block after one epoch.

    Args:
        monkeypatch: Pytest's fixture.
    """

    def stop(callbacks, epoch, logs=None, begin=keras.callbacks.CallbackList.on_epoch_begin):
        if epoch:
            raise KeyboardInterrupt
        begin(callbacks, epoch, logs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(keras.callbacks.CallbackList, "on_epoch_begin", stop)
        yield
