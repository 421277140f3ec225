"""The one exception that the command line prints as a single line."""


class InputError(ValueError):
    """The user's mistake: what is wrong, where, and what to do. The command line exits with 2."""
