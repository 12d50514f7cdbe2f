"""The released CORA files by their names."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

TOWER: Final[Mapping[str, str]] = {
    "backbone.0.attnpool.": "visual.attnpool.",
    "backbone.0.attn_pool.": "visual.attnpool.",
    "backbone.0.layer4.": "visual.layer4.",
    "backbone.0.body.": "visual.",
    "classifier.": "",
}
"""Beginning of a released name of the CLIP -> open_clip's."""

TWINS: Final[Mapping[str, str]] = {
    "transformer.decoder.bbox_embed.": "bbox_embed.",
    "transformer.stage1_box_embed.": "stage1_box_embed.",
    "transformer.stage1_obj_embed.": "stage1_obj_embed.",
}
"""Names under which the released files hold a tensor once more -> the name that is read."""


def clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The CLIP within a released state dict by open_clip's names; what is there twice is taken once.

    The released norms are frozen and keep no count of batches.
    """
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        start = next((theirs for theirs in TOWER if name.startswith(theirs)), None)
        if start is not None:
            ours = TOWER[start] + name.removeprefix(start)
            renamed[ours] = tensor
            if ours.endswith(".running_mean"):
                renamed[ours.replace(".running_mean", ".num_batches_tracked")] = torch.tensor(0)
    return renamed


def localiser_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The localiser within a released state dict by our names, which are the released ones; twins are left out."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(("backbone.", "classifier.", *TWINS))}
