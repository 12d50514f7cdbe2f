"""Pictures to begin with, and names for them: scenes that are drawn here, and packaged photographs."""

from dataclasses import dataclass, field
from typing import Final

from PIL import Image

from clipself.data.photographs import load_photo
from clipself.data.scenes.draw import SceneMaker

SCENES: Final = (3, 0, 5, 1)
"""Of the seed below: the packaged heads were trained on such."""
SEED: Final = 11
SIDE: Final = 320
PHOTOGRAPHS: Final = {
    "cat": ("cat, nose, eye", "fur, sofa"),
    "coffee": ("cup, spoon, saucer", "wooden table"),
    "china": ("palace, tree, roof", "sky, grass"),
    "flower": ("flower, leaf, petal", "garden"),
    "rocket": ("rocket, tower, flame", "smoke, sky"),
    "astronaut": ("woman, flag, helmet", "curtain"),
}
"""Packaged photograph -> names and stuff."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A picture, and what may be asked of it, as it would be typed.

    Attributes:
        image: RGB picture.
        names: Things.
        stuff: What is not counted.
    """

    image: Image.Image = field(repr=False)
    names: str
    stuff: str


def list_samples() -> list[Sample]:
    """The scenes, then the photographs."""
    maker, found = SceneMaker(size=(SIDE, SIDE), seed=SEED), []
    for index in SCENES:
        scene = maker(index)
        things, masses = (
            ", ".join(dict.fromkeys(one.name for one in scene.segments if one.is_thing == wanted))
            for wanted in (True, False)
        )
        found.append(Sample(image=scene.image, names=things, stuff=masses))
    return found + [
        Sample(image=load_photo(name), names=names, stuff=stuff) for name, (names, stuff) in PHOTOGRAPHS.items()
    ]
