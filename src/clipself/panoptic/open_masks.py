"""From one word to a mask generator."""

from pathlib import Path

import torch

from clipself.panoptic.mask_model import CONFIG_NAME, load_mask_model
from clipself.panoptic.masks import FileMasks, MaskGenerator
from clipself.panoptic.transformers_masks import load_transformers_masks

TRANSFORMERS = "hf:"


def open_masks(source: str | Path, *, device: str | torch.device = "cpu") -> MaskGenerator:
    """Opens where masks come from.

    Args:
        source: A folder that `panoptic train` wrote, a JSON or folder of stored masks, or "hf:NAME".
        device: Where a network goes.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: What is there holds no masks.
        ImportError: An optional package is missing.
    """
    if str(source).startswith(TRANSFORMERS):
        return load_transformers_masks(str(source).removeprefix(TRANSFORMERS), device=device)
    path = Path(source)
    if (path / CONFIG_NAME).is_file():
        return load_mask_model(path, device=device)
    if not path.exists():
        raise FileNotFoundError(
            f"no masks at {path}; pass a folder that `panoptic train` wrote, a JSON or folder of stored masks, or "
            f"'{TRANSFORMERS}NAME' for a checkpoint of transformers"
        )
    return FileMasks(path)
