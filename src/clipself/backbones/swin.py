"""timm's Swin transformer as a pyramid of maps: any size, one norm a stage (Swin, arXiv:2103.14030, Sec. 4.2)."""

import re
from collections.abc import Sequence
from typing import Any, Final

import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from clipself.backbones.strict import check_fit
from clipself.backbones.weights import read_state_dict
from clipself.ops.padding import pad_to_multiple

SWIN_B: Final[dict[str, Any]] = {
    "embed_dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "window": 7, "mlp_ratio": 4.0,
}  # fmt: skip
"""Sizes of Swin-B, as trained at 224 px."""


class SwinStage(nn.Module):
    """Blocks, and the merging of patches behind them; the last stage has none."""

    def __init__(self, blocks: nn.Module, downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.downsample = blocks, downsample

    def forward(self, map_BYXC: Tensor) -> Tensor:
        """All blocks, ahead of the merging."""
        blocks: Any = self.blocks
        for block in blocks:
            map_BYXC = map_BYXC + block.drop_path1(attend(block, block.norm1(map_BYXC)))
            map_BYXC = map_BYXC + block.drop_path2(block.mlp(block.norm2(map_BYXC)))
        return map_BYXC


class SwinMaps(nn.Module):
    """Stages of a stock Swin transformer, by the names of the released detectors, where merging ends a stage.

    timm's own blocks shift a map ahead of padding it to whole windows; detectors and segmenters pad first, so that the
    windows of a padded map are others.

    Args:
        embed_dim: Channels of the first stage; each later one has twice as many.
        depths: Blocks of each stage.
        heads: Heads of each stage's blocks.
        window: Side of a window, in patches.
        mlp_ratio: Hidden width of a block's layers over its own.
        out_stages: Stages that are handed out, 0-based; each has a norm of its own.
    """

    PATCH: Final = 4

    def __init__(
        self, *, embed_dim: int, depths: Sequence[int], heads: Sequence[int], window: int, mlp_ratio: float = 4.0,
        out_stages: Sequence[int] = (1, 2, 3),
    ) -> None:  # fmt: skip
        super().__init__()
        stock = SwinTransformer(
            img_size=self.PATCH * window, patch_size=self.PATCH, num_classes=0, embed_dim=embed_dim,
            depths=tuple(depths), num_heads=tuple(heads), window_size=window, mlp_ratio=mlp_ratio, drop_path_rate=0.0,
            always_partition=True, strict_img_size=False,
        )  # fmt: skip
        self.patch_embed = stock.patch_embed
        merging = [stage.downsample for stage in stock.layers][1:]
        self.layers = nn.ModuleList(
            [SwinStage(stage.blocks, after) for stage, after in zip(stock.layers, [*merging, None], strict=True)]
        )
        self.out_stages = tuple(out_stages)
        widths = [embed_dim * 2**stage for stage in range(len(depths))]
        for stage in self.out_stages:
            self.add_module(f"norm{stage}", nn.LayerNorm(widths[stage]))
        self.widths = tuple(widths[stage] for stage in self.out_stages)
        self.strides = tuple(self.PATCH * 2**stage for stage in self.out_stages)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) of any size -> one map (B, C, Y, X) a stage, finest first."""
        map_BYXC: Tensor = self.patch_embed(pad_to_multiple(images_B3HW, self.PATCH))
        maps = []
        for place, stage in enumerate(self.layers):
            assert isinstance(stage, SwinStage)
            map_BYXC = stage(map_BYXC)
            if place in self.out_stages:
                maps.append(self.get_submodule(f"norm{place}")(map_BYXC).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                map_BYXC = stage.downsample(map_BYXC)
        return maps

    def start_from(self, weights: str) -> None:
        """Takes the file of a released classifier, such as the one trained on ImageNet-22k; the output norms are new.

        Raises:
            ValueError: The file does not fit.
            FileNotFoundError: There is no such file.
        """
        deepest = len(self.layers) - 1
        held = {name: value for name, value in read_state_dict(weights).items() if not _is_left_out(name, deepest)}
        own = {name: value for name, value in self.state_dict().items() if not _NORMS.match(name)}
        check_fit(held, own, source=weights, advice="pass the file of a released Swin classifier of these sizes")
        self.load_state_dict({**self.state_dict(), **held}, strict=True)


_NORMS: Final = re.compile(r"norm\d\.")
_LEFT_OUT: Final = re.compile(r"^(norm|head)\.|\.(attn_mask|relative_position_index)$")
"""What a classifier has beyond the trunk: its last norm, its head, tables that follow from the sizes."""


def _is_left_out(name: str, deepest: int) -> bool:
    """Whether a classifier's tensor stands behind the last stage that is built."""
    stage = re.match(r"layers\.(\d+)\.(downsample)?", name)
    behind = stage is not None and int(stage[1]) + bool(stage[2]) > deepest
    return behind or bool(_LEFT_OUT.search(name))


def attend(block: Any, map_BYXC: Tensor) -> Tensor:
    """A block's windows over a map that is padded to whole ones with zeros, right and below."""
    rows, cols = map_BYXC.shape[1:3]
    down, right = (-side % window for side, window in zip((rows, cols), block.window_size, strict=True))
    attended: Tensor = block._attn(F.pad(map_BYXC, (0, 0, 0, right, 0, down)))
    return attended[:, :rows, :cols]
