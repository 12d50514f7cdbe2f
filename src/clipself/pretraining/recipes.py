"""Settings of contrastive pre-training, published and our own.

A recipe gives everything but data and output; a caller replaces what differs.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from clipself.engine.fields import UNSET
from clipself.engine.resolve import recipe
from clipself.pretraining.config import PretrainConfig


def small() -> PretrainConfig:
    """The packaged small CLIP taught on, by softmax: minutes on a CPU."""
    return PretrainConfig(annotations=UNSET, out=UNSET)


def rovit() -> PretrainConfig:
    """RO-ViT (arXiv:2305.07011) on a ViT-B/16 from scratch: cropped positions, focal contrast, 500,000 steps.

    32 processes of 128 pairs are its batch of 4,096. Published in words: crops, loss, batch, steps. Rate, decay and
    warm-up are CLIP's (arXiv:2103.00020), and so are class token and projection, which RO-ViT has not.
    """
    return PretrainConfig(
        annotations=UNSET, out=UNSET, model="ViT-B-16", pretrained="random", contrast="focal", cropped_positions=True,
        max_steps=500_000, batch_size=128, lr=5e-4, weight_decay=0.2, warmup_steps=2000, exact_warmup=True,
        precision="bf16", workers=8, save_every=5000,
    )  # fmt: skip


def cfm() -> PretrainConfig:
    """CFM-ViT (arXiv:2309.00775): softmax contrast, hidden patches reconstructed, positions dropped at random.

    No code was published: shares and weights are our reading of the paper, the rest is as in `rovit`.
    """
    return replace(
        rovit(), contrast="softmax", cropped_positions=False, hidden=0.75, position_drop=0.5, counted="all",
    )  # fmt: skip


PRETRAIN_RECIPES: Final[Mapping[str, Callable[[], PretrainConfig]]] = {"small": small, "rovit": rovit, "cfm": cfm}


def pretrain_recipe(name: str, **changes: Any) -> PretrainConfig:
    """A recipe by name with some settings replaced.

    Raises:
        ValueError: There is no such recipe.
    """
    return recipe(PRETRAIN_RECIPES, name, **changes)
