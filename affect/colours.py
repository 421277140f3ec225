"""The colours of classes and people in figures and videos."""

# Okabe and Ito's colours, which people with a colour vision deficiency tell apart, as hexadecimal RGB. A class, or a
# person, has one by its place.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# The same for letters on white, at 72 % of the brightness, because thin strokes need more contrast.
LETTER_COLOURS = ("#005280", "#994400", "#007253", "#935778", "#a67200", "#3e82a8", "#000000")


def to_rgb(colour: str) -> tuple[int, int, int]:
    """Returns red, green and blue, 0 to 255, of a colour like `"#0072b2"`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
