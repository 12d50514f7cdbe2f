"""The colour of a class, the same in every picture, and of the text on it."""

import colorsys

GOLDEN_ANGLE = 0.61803398875
"""Turn between the hues of neighbouring classes, so that any few of them stand apart."""


def class_colour(index: int) -> tuple[int, int, int]:
    """A colour for a class, always the same."""
    hue = (0.07 + index * GOLDEN_ANGLE) % 1.0
    value = (1.0, 0.8, 0.62)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.75, 0.55, 0.95)[index // 3 % 3], value)
    return int(255 * red), int(255 * green), int(255 * blue)


def text_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever stands out on the colour (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)
