"""affect: read emotion from face video with spatial attention and temporal softmax pooling."""

from importlib import import_module

from wrapt import register_post_import_hook

__version__ = "0.1.0"

# The modules of what is registered with Keras.
REGISTERED = ("layers", "losses", "metrics", "network", "optimizers", "regularizers")


def _register(_):
    for name in REGISTERED:
        import_module(f"affect.{name}")


# Keras takes seconds to import, and `import affect` does not import it. As soon as it is imported, before or after, it
# knows all that a checkpoint may hold: `keras.models.load_model` needs no custom objects.
register_post_import_hook(_register, "keras")
