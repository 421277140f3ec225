"""The one exception that the command line prints as a single line; texts of others in a line that can be shown."""

import unicodedata

# Unicode's categories of control characters, line ends, and the surrogates that Python reads from text that is not
# UTF-8; and the characters that turn the direction of what follows.
NO_TEXT = ("Cc", "Cs", "Zl", "Zp")
TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class InputError(ValueError):
    """The user's mistake: what is wrong, where, and what to do. The command line exits with 2."""


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's error, or the name of its class if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def escape_text(text: object) -> str:
    """Returns a text with escape sequences for the characters that a terminal or page would obey and not show."""
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in NO_TEXT or character in TURNS
        else character
        for character in str(text)
    )
