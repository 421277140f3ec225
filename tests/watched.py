"""Configs that note which of their fields are read."""

import dataclasses
import sys

# Copying, comparing, writing and checking a config read all of its fields and use none.
NOT_USED_BY = ("affect.config", "copy", "dataclasses", "typing")


def fields_of(experiment):
    """Returns the names of the fields that have a default, such as `"model.heads"`, each with its value and default."""
    found = {}
    for part in ("model", "data", "train", "windows"):
        value = getattr(experiment, part)
        for field in dataclasses.fields(value):
            if field.default is not dataclasses.MISSING and field.name != "task":
                found[f"{part}.{field.name}"] = (getattr(value, field.name), field.default)
    return found


def watched(config):
    """Returns a copy of a config, of a subclass, and the set of the fields that were read of it, filled as they are.

    Args:
        config: A dataclass of `affect.config`; its dataclasses are watched too, by names such as `"model.heads"`.
    """
    read = set()
    return _watched(config, "", read), read


def _watched(config, prefix, read):
    names = {field.name for field in dataclasses.fields(config)}

    class Watched(type(config)):
        def __getattribute__(self, name):
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if not caller.startswith(NOT_USED_BY):
                if name in names:
                    read.add(prefix + name)
                elif name == "frames":  # of a window
                    read.update((prefix + "length_s", prefix + "frame_rate_hz"))
            return super().__getattribute__(name)

    copy = object.__new__(Watched)
    for name in names:
        value = getattr(config, name)
        if dataclasses.is_dataclass(value):
            value = _watched(value, f"{prefix}{name}.", read)
        object.__setattr__(copy, name, value)
    return copy
