"""From one word to a mask generator."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import torch

from clipself.choices import pick
from clipself.panoptic.generators.files import FileMasks
from clipself.panoptic.generators.mask_set import MaskGenerator
from clipself.panoptic.generators.own import MASK_MODEL, load_own_masks
from clipself.panoptic.generators.transformers import load_transformers_masks

Opener = Callable[[str, str | torch.device], MaskGenerator]

GENERATORS: Final[Mapping[str, Opener]] = {
    "own": lambda source, device: load_own_masks(source, device=device),
    "files": lambda source, device: FileMasks(source),
    "hf": lambda source, device: load_transformers_masks(source, device=device),
}
"""Kind of generator -> how one is opened; "KIND:SOURCE" names the kind, otherwise it is told by what lies there."""


def open_generator(source: str | Path, *, device: str | torch.device = "cpu") -> MaskGenerator:
    """Opens where masks come from.

    Args:
        source: A folder that `panoptic train` wrote, a JSON or folder of stored masks, or "KIND:SOURCE" with a row of
            `GENERATORS`, such as "hf:NAME" for a checkpoint of transformers.
        device: Where a network goes.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: What is there holds no masks, or there is no such kind.
        ImportError: An optional package is missing.
    """
    kind, _, rest = str(source).partition(":")
    path = Path(source)
    if rest and (kind in GENERATORS or not path.exists()):
        return pick(GENERATORS, kind, what="kind of mask generator")(rest, device)
    if not path.exists():
        raise FileNotFoundError(
            f"no masks at {path}; pass a folder that `panoptic train` wrote, a JSON or folder of stored masks, or "
            "'hf:NAME' for a checkpoint of transformers"
        )
    return GENERATORS["own" if MASK_MODEL.is_in(path) else "files"](str(path), device)
