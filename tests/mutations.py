"""Files as others may damage them."""

import random
import re

from affect.errors import InputError

# What numbers, names and quotes may be exchanged for.
WORDS = ("", "-1", "1e999", "nan", "-inf", "1e300", "0x10", "1_0", "٣", "a" * 5000, "../../x", "/etc/passwd", "\0", '"')
WORDS += ("\n", "\r", ";", ",", "{1 2}", "\u2028", "\ud800", "\x1b[2J", "'", "%", "?", "@data")


def mutate(content, rng):
    """Returns bytes with one or three places changed: a bit, a piece that goes, comes twice or is cut, or a word."""
    for _ in range(rng.choice((1, 1, 3))):
        at = rng.randrange(max(1, len(content)))
        to = min(len(content), at + rng.choice((1, 3, 10, 60)))
        kind = rng.randrange(6)
        if kind == 0 and content:
            content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[to:]
        elif kind == 2:
            content = content[:to] + content[at:]
        elif kind == 3:
            content = content[:at] + rng.randbytes(to - at) + content[to:]
        elif kind == 4:
            content = content[:at]
        else:
            words = [*re.finditer(rb"[\w.:-]+", content)] or [re.match(b"", content)]
            word = rng.choice(words)
            content = content[: word.start()] + rng.choice(WORDS).encode(errors="surrogatepass") + content[word.end() :]
    return content


def survive(read, content, path, count, seed):
    """Reads mutations of a file. Each must be read, or refused in one line.

    Args:
        read: Function of the path.
        content: Bytes of the file.
        path: Where the mutations are written.
        count: Number of mutations.
        seed: Seed, so that a failure comes back.

    Returns:
        `(read, refused)`: how many were read, and how many were refused.
    """
    rng, outcomes = random.Random(seed), {True: 0, False: 0}
    for index in range(count):
        path.write_bytes(mutate(content, rng))
        try:
            read(path)
            outcomes[True] += 1
        except InputError as error:
            assert len(str(error).splitlines()) == 1, (index, str(error))
            outcomes[False] += 1
        except Exception as error:
            error.add_note(f"mutation {index} of seed {seed}: {path.read_bytes()[:2000]}")
            raise
    return outcomes[True], outcomes[False]
