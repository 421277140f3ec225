"""affect: read emotion from face video with spatial attention and temporal softmax pooling.

```python
import affect

reading = affect.load("savedmodels/planted").read("video.mp4")
```
"""

from importlib import import_module
from typing import TYPE_CHECKING

from wrapt import register_post_import_hook

__version__ = "0.1.0"

# The modules of what is registered with Keras.
REGISTERED = ("layers", "losses", "metrics", "models.network", "regularizers", "training.optimizers")


def _register(_):
    for name in REGISTERED:
        import_module(f"affect.{name}")


# Keras takes seconds to import, and `import affect` does not import it. As soon as it is imported, before or after, it
# knows all that a checkpoint may hold: `keras.models.load_model` needs no custom objects.
register_post_import_hook(_register, "keras")

if TYPE_CHECKING:
    from affect.config import Experiment as Experiment
    from affect.config import load_config as load_config
    from affect.data.shards import Shards as Shards
    from affect.reading.loading import load as load
    from affect.reading.predictor import Predictor as Predictor
    from affect.reading.predictor import Reading as Reading
    from affect.tasks import build_model as build_model
    from affect.training.train import build_optimizer as build_optimizer
    from affect.training.train import prepare_training as prepare_training

# Name → module. A module is imported when one of its names is used, because TensorFlow takes seconds.
_NAMES = {
    "Experiment": "affect.config",
    "Predictor": "affect.reading.predictor",
    "Reading": "affect.reading.predictor",
    "Shards": "affect.data.shards",
    "build_model": "affect.tasks",
    "build_optimizer": "affect.training.train",
    "load": "affect.reading.loading",
    "load_config": "affect.config",
    "prepare_training": "affect.training.train",
}


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'affect' has no attribute {name!r}. Expected one of {sorted(_NAMES)}.")
    return getattr(import_module(_NAMES[name]), name)


def __dir__():
    return sorted({*globals(), *_NAMES})
