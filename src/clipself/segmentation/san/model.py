"""SAN: masks from a side network, their classes from copies of CLIP's class token that look where they are told.

Source: SAN (arXiv:2302.12242).
"""

from collections.abc import Sequence
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.backbones.transformer import TransformerTrunk, require_blocks
from clipself.backbones.trunk import ClipReading, Tokens, join_heads
from clipself.losses.mask_classification import MaskPredictions
from clipself.ops.axes import unfold_axis
from clipself.segmentation.san.settings import SanSettings, SideSettings
from clipself.segmentation.san.side_adapter import Proposals, SideAdapter

BLOCKED: Final = -100.0
"""Added to the attention of what must not be seen (the published value)."""

Head = Literal["queries", "all"]


class San(nn.Module):
    """The whole model.

    Args:
        clip: Any dense CLIP; the model has a copy of its own, frozen but for its position table.
        settings: How it is built.

    Raises:
        ValueError: The sizes do not fit the CLIP.
    """

    def __init__(self, clip: DenseCLIP, settings: SanSettings) -> None:
        super().__init__()
        clip = clip.copy()
        trunk, side = require_blocks(clip, "SAN"), settings.side
        if not max(side.fusion) <= settings.split < trunk.depth:
            raise ValueError(
                f"split={settings.split} must leave a block of {trunk.depth} to recognise and lie behind all taps "
                f"{sorted(side.fusion)}"
            )
        if side.clip_heads != trunk.num_heads:
            raise ValueError(f"the side network biases {side.clip_heads} heads, {clip.name} has {trunk.num_heads}")
        self.clip, self.settings = clip, settings
        self.clip.requires_grad_(False)
        trunk.position_table.requires_grad_(settings.learn_positions)
        self.side = SideAdapter(side, clip_width=trunk.width)
        self.bg_embed = nn.Parameter(torch.randn(1, clip.embed_dim) * clip.embed_dim**-0.5)

    def train(self, mode: bool = True) -> "San":
        """CLIP stays in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def forward(self, images_B3HW: Tensor, texts_TD: Tensor) -> list[MaskPredictions]:
        """Predictions of every supervised depth in training, of the last one else; the last column is background.

        Args:
            images_B3HW: Normalised images, sides multiples of 32.
            texts_TD: Unit text embeddings.
        """
        read = self.extract(images_B3HW)
        supervised = self.settings.side.supervised
        depths = supervised if self.training else supervised[-1:]
        found = self.side(images_B3HW, read.taps, depths=depths)
        return [
            MaskPredictions(logits_BQK=self.classify(self.recognise(read, one), texts_TD), masks_BQYX=one.masks_BQYX)
            for one in found
        ]

    def extract(self, images_B3HW: Tensor) -> ClipReading:
        """The first blocks of CLIP on the smaller picture; tap 0 is what enters the first of them."""
        return self.clip.read(self.shrink(images_B3HW), taps=range(-1, self.settings.split))

    def shrink(self, images_B3HW: Tensor) -> Tensor:
        """CLIP's input: the picture scaled bilinearly, its sides brought to whole patches."""
        patch, scale = self.clip.patch_size, self.settings.clip_scale
        scaled = [int(side * scale) for side in images_B3HW.shape[-2:]]
        whole = [max(1, side // patch) * patch for side in scaled]
        if self.settings.cut_remainder or whole == scaled:
            small = F.interpolate(images_B3HW, scale_factor=scale, mode="bilinear", align_corners=False)
            return small[..., : whole[0], : whole[1]]
        return F.interpolate(images_B3HW, size=whole, mode="bilinear", align_corners=False)

    def recognise(self, read: ClipReading, proposals: Proposals, *, head: Head = "queries") -> Tensor:
        """Embeds each mask by a copy of the class token that looks at the patches where its bias is high.

        Args:
            read: Of `extract`.
            proposals: Of the side network.
            head: "queries" runs CLIP's own tokens as ever and lets the copies look at them; "all" runs everything under
                one mask, as SAN's figure draws it. Both give the same up to exp(-100).

        Returns:
            Unit embeddings (B, Q, D).
        """
        trunk, tokens = require_blocks(self.clip, "SAN"), read.tokens
        assert tokens is not None
        bias = pool_bias(proposals.bias_BhQYX, tokens.grid)
        copies = tokens.tokens[:, :1].expand(-1, bias.shape[2], -1)
        blocks = list(trunk.blocks)[self.settings.split :]
        if head == "queries":
            for block in blocks:
                copies = look(trunk, block, copies, tokens, bias)
                if block is not blocks[-1]:
                    tokens = tokens.with_tokens(trunk.forward_block(block, tokens))
        else:
            joined, whole = torch.cat([copies, tokens.tokens], dim=1), format_bias(bias)
            for block in blocks:
                joined = trunk.run_biased(block, joined, tokens, whole)
            copies = joined[:, : copies.shape[1]]
        return F.normalize(trunk.head(copies), dim=-1)

    def classify(self, masks_BQD: Tensor, texts_TD: Tensor) -> Tensor:
        """Cosines with the texts and with the learnt background, scaled: (B, Q, T + 1)."""
        texts = F.normalize(torch.cat([texts_TD.to(masks_BQD), self.bg_embed.to(masks_BQD)]), dim=-1)
        return self.settings.logit_scale * masks_BQD @ texts.mT

    @torch.no_grad()
    def embed_names(self, names: Sequence[str]) -> Tensor:
        """Unit texts (T, D); of a name with synonyms the first is taken."""
        text = embed_names(self.clip, names, templates=self.settings.templates, wording="as-written")
        return text.rows_SD[text.starts]

    def normalize(self, pixels_B3HW: Tensor) -> Tensor:
        """Pixels in 0..255 -> CLIP's normalisation."""
        mean, std = (
            pixels_B3HW.new_tensor(values)[:, None, None] * 255
            for values in (self.clip.image_mean, self.clip.image_std)
        )
        return (pixels_B3HW - mean) / std

    def learning(self) -> list[nn.Parameter]:
        """What learns: the side network, the background and, as published, CLIP's position table."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def pool_bias(bias_BhQYX: Tensor, grid: tuple[int, int]) -> Tensor:
    """Biases at CLIP's grid, the largest of each cell: (B, h, Q, P)."""
    pooled = F.adaptive_max_pool2d(bias_BhQYX.flatten(1, 2), grid)
    return unfold_axis(pooled.flatten(2), 1, bias_BhQYX.shape[1:3])


def format_bias(bias_BhQP: Tensor) -> Tensor:
    """The one additive mask over copies, class token and patches: (B, h, N, N), N = Q + 1 + P.

    A copy sees itself and the patches; neither another copy nor the class token; nobody sees a copy.
    """
    batch, heads, count, patches = bias_BhQP.shape
    total = count + 1 + patches
    whole = bias_BhQP.new_zeros(batch, heads, total, total)
    whole[..., :count] = BLOCKED
    whole[..., range(count), range(count)] = 0.0
    whole[..., :count, count] = BLOCKED
    whole[..., :count, count + 1 :] = bias_BhQP
    return whole


def look(trunk: TransformerTrunk, block: nn.Module, copies_BQC: Tensor, tokens: Tokens, bias_BhQP: Tensor) -> Tensor:
    """One block for the copies alone: each attends to itself and, under its bias, to the patches."""
    normed, others = trunk.norm_attention(block, copies_BQC), trunk.norm_attention(block, tokens.tokens)
    query, key, value = (trunk.project(block, normed, part) for part in "qkv")
    keys = trunk.rotate(trunk.project(block, others, "k"), tokens)[:, :, 1:]
    values = trunk.project(block, others, "v")[:, :, 1:]
    scale = query.shape[-1] ** -0.5
    own = (query * key).sum(-1, keepdim=True) * scale
    attention = torch.cat([own, query @ keys.mT * scale + bias_BhQP], dim=-1).softmax(-1)
    mixed = attention[..., :1] * value + attention[..., 1:] @ values
    copies_BQC = copies_BQC + trunk.merge_heads(block, join_heads(mixed))
    return copies_BQC + trunk.feed_forward(block, copies_BQC)


def semantic_scores(predictions: MaskPredictions, *, size: tuple[int, int]) -> Tensor:
    """Class scores (B, T, H, W): the masks weighted by their class probabilities, background dropped after the softmax.

    Source: MaskFormer (arXiv:2107.06278), Sec. 3.4.
    """
    masks = F.interpolate(predictions.masks_BQYX, size=size, mode="bilinear", align_corners=False).sigmoid()
    classes = predictions.logits_BQK.softmax(-1)[..., :-1]
    return torch.einsum("bqt,bqhw->bthw", classes, masks)


def san_settings(clip: DenseCLIP) -> SanSettings:
    """The published settings carried to a CLIP: three quarters of its blocks extract, four taps evenly among them."""
    trunk = require_blocks(clip, "SAN")
    split = max(1, trunk.depth * 3 // 4)
    taps = [round(split * place / 3) for place in range(4)]
    return SanSettings(
        split=split,
        clip_scale=0.5 if clip.patch_size == 16 else 0.7,
        side=SideSettings(clip_heads=trunk.num_heads, fusion={tap: depth for depth, tap in enumerate(taps)}),
    )
