"""`training_free_readouts`: the last-block variants of the training-free literature on one small tower."""

from collections.abc import Mapping
from typing import Any, Final

import torch

from clipself.backbones.readouts import Readout, ReadoutContext, find_readout, read_last_block
from clipself.backbones.transformer import require_blocks
from clipself.choices import pick
from clipself.conformance.check import Check, compare_told
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest, small_clip
from clipself.conformance.told import number_in, whole_patches

MIXES: Final[Mapping[str, str]] = {"vanilla": "qk", "MaskCLIP": "value", "SCLIP": "qq+kk", "ClearCLIP": "qq"}
"""Name in the manifest -> our mix; "residual_" or "noresidual_" stands ahead of it."""

VARIANTS: Final[Mapping[str, str]] = {
    **{f"residual_{name}": mix for name, mix in MIXES.items()},
    **{f"noresidual_{name}": f"{mix}-bare" for name, mix in MIXES.items()},
    "clip_plain": "qk",
    "sclip": "sclip",
    "naclip": "naclip:std={gaussian_std}",
    "kk_reduced": "kk-bare",
    "neighbour_only_reduced": "gauss-bare:std={gaussian_std}",
    "proxyclip": "proxyclip:beta={proxy_beta},gamma={proxy_gamma}",
}
"""Key of the manifest -> our readout, its constants filled in from the manifest."""

INPUTS: Final = ("image", "vfm_feats")


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Builds the small tower, runs every stored variant and compares the projected tokens."""
    config = manifest["config"]
    clip = small_clip(config, fill_manifest(manifest), image_size=config["pretrain_res"])
    trunk = require_blocks(clip, "the readouts of the manifest")
    trunk.resize_positions_by = "scale_factor"  # as these projects do
    trunk.position_offset = number_in(manifest.get("note", ""), r"\(grid \+ ([0-9.]+)\)", default=0.1)
    images = whole_patches(torch.from_numpy(arrays["image"]), config["patch"])
    entered = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-1])
    guide = torch.from_numpy(arrays["vfm_feats"]) if "vfm_feats" in arrays else entered.to_map()
    context = ReadoutContext(trunk=trunk, entered=(entered,), images_B3HW=images, guide_BCyx=guide)
    checks = []
    for key in (key for key in arrays if key not in INPUTS):
        readout = readout_of(key, config)
        tokens = trunk.head(read_last_block(context, readout).tokens)
        patches = tokens[:, entered.prefix :] if readout.guided else tokens  # on the guide's grid, patches alone
        checks.append(compare_told(manifest, key, patches.numpy(), arrays[key], default=2e-4))
    return checks


def readout_of(key: str, config: Mapping[str, Any]) -> Readout:
    """The readout that a key of the manifest names, at the manifest's constants.

    Raises:
        ValueError: The key is unknown, or the manifest lacks a constant.
    """
    spelled = pick(VARIANTS, key, what="readout variant in the manifest")
    try:
        return find_readout(spelled.format_map(config))
    except KeyError as error:
        raise ValueError(f"the manifest's config lacks {error}, which {key!r} depends on") from error
