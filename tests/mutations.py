"""Files as others may damage them."""

import re

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
