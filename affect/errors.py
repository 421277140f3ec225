"""The one exception that the command line prints as a single line, and the one line of the exceptions of others."""


class InputError(ValueError):
    """The user's mistake: what is wrong, where, and what to do. The command line exits with 2."""


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's error, or the name of its class if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
