"""OWL-ViT's weights by transformers' names, to our modules and back."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from clipself.backbones.layouts import StateDict, from_transformers

HEADS: Final[Mapping[str, str]] = {
    "layer_norm.": "heads.norm.",
    "class_head.dense0.": "heads.embed.",
    "class_head.logit_shift.": "heads.shift.",
    "class_head.logit_scale.": "heads.scale.",
    "box_head.": "heads.box.",
    "objectness_head.": "heads.objectness.",
}
"""Beginning of a name in OwlViTForObjectDetection or Owlv2ForObjectDetection -> ours."""

TOWERS: Final = ("owlvit.", "owlv2.")
CLIP: Final = "clip.clip."
"""What stands ahead of open_clip's names in a detector's."""
NO_BOX_NEEDS: Final = ("logit_scale", "visual_projection.weight", "position_ids")


def from_owlvit(state: Mapping[str, Tensor]) -> StateDict:
    """Renames an OwlViTForObjectDetection or Owlv2ForObjectDetection to a detector of ours.

    Left out are the temperature and the image projection of the CLIP beneath, which no box depends on, and numbers that
    follow from the sizes.

    Raises:
        ValueError: The names are not of that model.
    """
    heads = {name: tensor for name, tensor in state.items() if name.startswith(tuple(HEADS))}
    towers = {_in_clip(name): tensor for name, tensor in state.items() if name.startswith(TOWERS)}
    rest = [name for name in state if not name.startswith((*HEADS, *TOWERS)) and name != "box_bias"]
    if not heads or not towers or rest:
        raise ValueError(
            f"tensors such as {', '.join(rest[:3] or list(state)[:3])} are no OwlViTForObjectDetection; pass the "
            "weights of a transformers' checkpoint such as google/owlvit-base-patch16"
        )
    needed = {name: tensor for name, tensor in towers.items() if not name.endswith(NO_BOX_NEEDS)}
    return {
        **{_in_heads(name): tensor for name, tensor in heads.items()},
        **{f"{CLIP}{name}": tensor for name, tensor in from_transformers(needed).items()},
    }


def whole_clip(state: Mapping[str, Tensor]) -> StateDict:
    """The CLIP beneath by open_clip's names, with what no box depends on."""
    towers = {_in_clip(name): tensor for name, tensor in state.items() if name.startswith(TOWERS)}
    return from_transformers(towers)


def part_of(ours: Mapping[str, Tensor], published: str) -> Tensor:
    """What has become of one published tensor: queries, keys and values are cut out of the joint projection.

    Args:
        ours: Tensors by the detector's names, such as gradients.
        published: A name of transformers'.
    """
    if published.startswith(tuple(HEADS)):
        return ours[_in_heads(published)]
    (name,) = from_transformers({_in_clip(published): torch.zeros(1, 1)})
    before, attention, part = f"{CLIP}{name}".partition("self_attn.")
    if attention:
        return ours[f"{before}attn.in_proj_{part.split('.')[1]}"].chunk(3)["qkv".index(part[0])]
    return ours[f"{CLIP}{name}"].mT if published.endswith("_projection.weight") else ours[f"{CLIP}{name}"]


def _in_heads(published: str) -> str:
    theirs = next(theirs for theirs in HEADS if published.startswith(theirs))
    return HEADS[theirs] + published.removeprefix(theirs)


def _in_clip(published: str) -> str:
    """Its name in transformers' CLIPModel, which spells one norm another way."""
    return published.partition(".")[2].replace(".pre_layernorm.", ".pre_layrnorm.")
