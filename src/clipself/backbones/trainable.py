"""Which parameters learn: chosen by object, never by a match on names."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clipself.backbones.readouts import Readout, find_readout
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import Trunk


def train_last_blocks(trunk: Trunk, num_blocks: int, *, readout: str | Readout = "value") -> list[nn.Parameter]:
    """Freezes the whole tower but for its last blocks and returns the parameters that will learn.

    Convolution, class token, positions, final norm and head stay frozen (CLIPSelf, released recipe). Parameters that
    the readout does not use stay frozen too: they would never receive a gradient. Of a convolutional tower the parts
    are its stages and what pools them.

    Args:
        trunk: The student's tower.
        num_blocks: How many parts learn, counted from the end; 0 freezes everything.
        readout: The readout that the loss will see.

    Raises:
        ValueError: There are fewer blocks than asked for, or the readout is not one of this tower.
    """
    train_last_parts(trunk, num_blocks)
    freeze_idle(trunk, trunk.tower.parameters(), readout=readout)
    return [parameter for parameter in trunk.tower.parameters() if parameter.requires_grad]


def train_last_parts(trunk: Trunk, num_blocks: int) -> None:
    """Freezes the whole tower but for its last blocks; what no loss reads must be frozen too, see `freeze_unreached`.

    Raises:
        ValueError: There are fewer blocks than asked for.
    """
    depth = len(trunk.parts)
    if not 0 <= num_blocks <= depth:
        raise ValueError(f"cannot train the last {num_blocks} blocks of a trunk of {depth}; choose 0 to {depth}")
    trunk.tower.requires_grad_(False)
    for part in list(trunk.parts)[depth - num_blocks :]:  # parts[-0:] would be every one
        part.requires_grad_(True)


def train_whole(module: nn.Module) -> list[nn.Parameter]:
    """Lets all of a tower learn, but for a stem that is pre-trained and stays as it is (`EfficientStem`)."""
    from clipself.backbones.mini_tower import EfficientStem

    module.requires_grad_(True)
    for part in module.modules():
        if isinstance(part, EfficientStem):
            part.requires_grad_(False)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def freeze_idle(
    trunk: Trunk, parameters: Iterable[nn.Parameter], *, readout: str | Readout, taps: Iterable[int] = ()
) -> None:
    """Freezes those that no gradient reaches: many processes would wait for one that never comes.

    Found by one backward pass from the dense map, and the taps, of two patches: whatever the tower and the readout do,
    it is they that say what they use.

    Args:
        trunk: The tower.
        parameters: Where to look; those that are frozen already are left alone.
        readout: The readout that the loss will see.
        taps: Taps that the loss will see too.
    """
    patch, like = trunk.patch_size, next(trunk.tower.parameters())
    with torch.enable_grad():
        read = trunk.read(
            like.new_ones(1, 3, patch, 2 * patch), taps=tuple(taps), dense=True, pooled=False,
            readout=find_readout(readout),
        )  # fmt: skip
        assert read.dense is not None
        seen = sum((tap.sum() for tap in read.taps), read.dense.sum())
    freeze_unreached(seen, parameters)


def freeze_unreached(seen: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Freezes those that a number does not depend on.

    Args:
        seen: Made with gradient of all that a loss will see.
        parameters: Where to look; those that are frozen already are left alone.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if not seen.requires_grad:
        return
    gradients = torch.autograd.grad(seen, learning, allow_unused=True)
    for parameter, gradient in zip(learning, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)


class StackedProjections(nn.Module):
    """Query, key and value matrices that a tower keeps as one: learnt apart, stacked where they are used."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The fused matrix."""
        return torch.cat([query, key, value])

    def right_inverse(self, fused: Tensor) -> tuple[Tensor, ...]:
        """The three matrices."""
        return tuple(part.clone() for part in fused.chunk(3))


def split_attention(module: nn.Module) -> list[dict[str, nn.Parameter]]:
    """Makes query, key and value matrices of every attention parameters of their own; outputs stay as they are.

    A fused matrix becomes a parametrisation (`torch.nn.utils.parametrize`), so that an optimizer can hold its parts
    apart: a frozen part is then neither moved nor decayed.

    Args:
        module: A tower, or both.

    Returns:
        For each attention, in the order of the modules, its "q", "k" and "v".
    """
    return [parts for attention in list(module.modules()) if (parts := _split_one(attention))]


def _split_one(attention: Any) -> dict[str, nn.Parameter]:
    if isinstance(attention, nn.MultiheadAttention):
        owner, name = attention, "in_proj_weight"
    elif isinstance(getattr(attention, "qkv", None), nn.Linear):
        owner, name = attention.qkv, "weight"
    elif isinstance(getattr(attention, "q_proj", None), nn.Linear):
        return {part: getattr(attention, f"{part}_proj").weight for part in "qkv"}
    else:
        return {}
    if not parametrize.is_parametrized(owner, name):
        parametrize.register_parametrization(owner, name, StackedProjections())
    held: Any = owner.parametrizations[name]  # type: ignore[index]
    return {part: getattr(held, f"original{place}") for place, part in enumerate("qkv")}


def train_queries_and_values(clip: nn.Module) -> list[nn.Parameter]:
    """Freezes a CLIP but for the query and value matrices of every attention in both towers.

    Source: CAT-Seg, second release. Keys, biases, output projections, norms, MLPs and positions stay as they are; so do
    matrices that no gradient reaches, but those are returned all the same, as the release hands them to its optimizer.
    """
    clip.requires_grad_(False)
    learning = [parts[name] for parts in split_attention(clip) for name in ("q", "v")]
    for parameter in learning:
        parameter.requires_grad_(True)
    return learning


def train_visual_attention(trunk: TransformerTrunk, positions: nn.Parameter) -> list[nn.Parameter]:
    """Freezes the tower but for all of its attention weights and biases and its position table.

    Source: CAT-Seg, first release, which CLIPSelf used.

    Args:
        trunk: The view of the tower.
        positions: Its position table.
    """
    trunk.tower.requires_grad_(False)
    for block in trunk.blocks:
        attention: nn.Module = block.attn  # type: ignore[assignment]
        attention.requires_grad_(True)
    positions.requires_grad_(True)
    return [parameter for parameter in trunk.tower.parameters() if parameter.requires_grad]
