"""From one word to a mask generator."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from clipself.backbones.packaged_heads import heads_folder
from clipself.choices import pick
from clipself.panoptic.generators.files import FileMasks
from clipself.panoptic.generators.mask_set import MaskGenerator, StoredMasks
from clipself.panoptic.generators.own import MASK_MODEL, load_own_masks
from clipself.panoptic.generators.transformers import load_transformers_masks
from clipself.renamed import warn_renamed

log = logging.getLogger(__name__)
PACKAGED_MASKS: Final = "clipself-mini-masks"
"""The generator that ships with the package."""

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
    path = heads_folder(source)
    if rest and (kind in GENERATORS or not path.exists()):
        return pick(GENERATORS, kind, what="kind of mask generator")(rest, device)
    if not path.exists():
        raise FileNotFoundError(
            f"no masks at {path}; pass a folder that `panoptic train` wrote, a JSON or folder of stored masks, or "
            "'hf:NAME' for a checkpoint of transformers"
        )
    return GENERATORS["own" if MASK_MODEL.is_in(path) else "files"](str(path), device)


def generator_of(
    checkpoint: str | None, masks: str | Path | None, *, device: str | torch.device = "cpu"
) -> MaskGenerator:
    """The generator that settings name: a trained one, or masks that are stored.

    Args:
        checkpoint: A folder that `panoptic train` wrote, or "hf:NAME"; the packaged one if neither is given.
        masks: A JSON or folder of stored masks.
        device: Where a network goes.

    Raises:
        FileNotFoundError: There is nothing at that path.
        ValueError: What is there holds no masks.
        ImportError: An optional package is missing.
    """
    if checkpoint is None and masks is None:
        return open_generator(PACKAGED_MASKS, device=device)
    if checkpoint is None:
        assert masks is not None
        if _is_named(str(masks)) or MASK_MODEL.is_in(masks):
            warn_renamed(f"a trained generator as masks ({masks})", "checkpoint", stacklevel=4)
        return open_generator(masks, device=device)
    if not _is_named(checkpoint) and not MASK_MODEL.is_in(checkpoint):
        raise FileNotFoundError(
            f"no {MASK_MODEL.card} in {checkpoint}; pass a folder that `panoptic train` wrote, or 'hf:NAME' for a "
            "checkpoint of transformers; masks that are stored in files are passed as masks"
        )
    return open_generator(checkpoint, device=device)


def _is_named(source: str) -> bool:
    return source.partition(":")[0] in GENERATORS and ":" in source


def tell_files(generator: MaskGenerator, files: Sequence[str], ids: Sequence[int | str] = ()) -> None:
    """Lets stored masks look for all pictures ahead of the work; tells how many have none. See `StoredMasks.expect`.

    Raises:
        ValueError: It is not clear whose masks some are, or no picture has any.
    """
    if not isinstance(generator, StoredMasks):
        return
    found = generator.expect(files, ids)
    if not found:
        raise ValueError(f"no picture has masks, of {len(files)} such as {files[0]}; were they made for others?")
    if found < len(files):
        log.warning("%d of %d pictures have masks", found, len(files))
