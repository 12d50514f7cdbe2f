"""The things of the scenes: pictures with transparency, by plain English name."""

from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import Image

from clipself.files import read_json

ART: Final = Path(__file__).parent / "art"

THINGS: Final = (
    "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "ambulance",
    "tractor", "helicopter", "rocket", "chair", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "zebra",
    "giraffe", "pig", "rabbit", "monkey", "lion", "tiger", "camel", "penguin", "owl", "rooster", "flamingo", "turtle",
    "crocodile", "frog", "fish", "octopus", "crab", "butterfly", "ladybug", "snail", "backpack", "umbrella", "handbag",
    "hat", "dress", "crown", "football", "soccer ball", "basketball", "skateboard", "tennis racket", "wine glass",
    "banana", "apple", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "hamburger", "strawberry", "grapes",
    "watermelon", "pineapple", "corn", "mushroom", "couch", "potted plant", "toilet", "tv", "laptop", "camera",
    "clock", "scissors", "teddy bear", "guitar", "violin", "sunflower", "cactus", "house", "tent",
)  # fmt: skip
"""Classes of the scenes, in the order of their ids."""

NOVEL: Final = THINGS[3::4]
"""Every fourth class is held out of training wherever a split is asked for."""


@lru_cache(maxsize=2)
def load_art(style: str = "noto") -> dict[str, Image.Image]:
    """Name -> picture (RGBA) of every drawn thing, more than the scenes use.

    Args:
        style: Sheet in the package; "noto" is Noto Color Emoji (SIL Open Font License 1.1).

    Raises:
        ValueError: There is no such sheet.
    """
    sheet_path = ART / f"{style}.webp"
    if not sheet_path.is_file():
        raise ValueError(f"unknown style {style!r}, expected one of {sorted(path.stem for path in ART.glob('*.webp'))}")
    index = read_json(ART / f"{style}.json")
    with Image.open(sheet_path) as sheet:
        pixels = sheet.convert("RGBA")
    return {entry["name"]: pixels.crop(tuple(entry["box"])) for entry in index}
