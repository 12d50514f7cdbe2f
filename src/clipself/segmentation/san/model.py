"""SAN: masks from a side network, their classes from copies of CLIP's class token that look where they are told.

Source: SAN (arXiv:2302.12242).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import embed_names
from clipself.backbones.tokens import Tokens, join_heads
from clipself.backbones.transformer import TransformerTrunk, require_blocks
from clipself.backbones.trunk import ClipReading
from clipself.losses.mask_classification import MaskPredictions
from clipself.ops.axes import unfold_axis
from clipself.ops.masks import class_scores
from clipself.segmentation.learning import decay_apart, norms_of
from clipself.segmentation.san.settings import SanSettings, SideSettings
from clipself.segmentation.san.side_adapter import Proposals, SideAdapter
from clipself.segmentation.segmenter import SIZE_DIVISOR, SegmenterModel

BLOCKED: Final = -100.0
"""Added to the attention of what must not be seen (the published value)."""
HEAD_WIDTH: Final = 40
"""Width of an attention head in the side network."""

Head = Literal["queries", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundMasks:
    """Masks without a class.

    Attributes:
        masks_BQYX: Mask logits.
        masks_BQD: Unit embeddings.
    """

    masks_BQYX: Tensor
    masks_BQD: Tensor


class San(SegmenterModel):
    """The whole model.

    Args:
        clip: Any dense CLIP; the model has a copy of its own, frozen but for its position table.
        settings: How it is built; what is None follows from the CLIP.

    Raises:
        ValueError: The sizes do not fit the CLIP.
    """

    settings: SanSettings

    def __init__(self, clip: DenseCLIP, settings: SanSettings | None = None) -> None:
        super().__init__()
        settings, clip = complete(settings or SanSettings(), clip), clip.copy()
        trunk = require_blocks(clip, "SAN")
        side, split, scale = settings.side, settings.split, settings.clip_scale
        assert side is not None
        assert split is not None
        assert scale is not None
        if not max(side.fusion) <= split < trunk.depth:
            raise ValueError(
                f"split={split} must leave a block of {trunk.depth} to recognise and lie behind all taps "
                f"{sorted(side.fusion)}"
            )
        if side.clip_heads != trunk.num_heads:
            raise ValueError(f"the side network biases {side.clip_heads} heads, {clip.name} has {trunk.num_heads}")
        self.clip, self.settings = clip, settings
        self.split, self.clip_scale, self.supervised = split, scale, side.supervised
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
        return [
            MaskPredictions(logits_BQK=self.classify(one.masks_BQD, texts_TD), masks_BQYX=one.masks_BQYX)
            for one in self.find_masks(images_B3HW)
        ]

    def find_masks(self, images_B3HW: Tensor) -> list[FoundMasks]:
        """Masks and their embeddings, whatever the names are: of every supervised depth in training, else of the last.

        Args:
            images_B3HW: Normalised images, sides multiples of 32.
        """
        read = self.extract(images_B3HW)
        depths = self.supervised if self.training else self.supervised[-1:]
        proposals = self.side(images_B3HW, read.taps, depths=depths)
        return [FoundMasks(masks_BQYX=one.masks_BQYX, masks_BQD=self.recognise(read, one)) for one in proposals]

    def extract(self, images_B3HW: Tensor) -> ClipReading:
        """The first blocks of CLIP on the smaller picture; tap 0 is what enters the first of them."""
        return self.clip.read(self.shrink(images_B3HW), taps=range(-1, self.split))

    def shrink(self, images_B3HW: Tensor) -> Tensor:
        """CLIP's input: the picture scaled bilinearly, its sides brought to whole patches."""
        patch, scale = self.clip.patch_size, self.clip_scale
        if torch.compiler.is_exporting():  # sides are multiples of two patches
            half = [side // 2 for side in images_B3HW.shape[-2:]]
            return F.interpolate(images_B3HW, size=half, mode="bilinear", align_corners=False)
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
        blocks = list(trunk.blocks)[self.split :]
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
    def embed_names(self, names: Sequence[str], *, shown: Mapping[str, Tensor] | None = None) -> Tensor:
        """Unit texts (T, D); of a name with synonyms the first is taken; rows (D,) of names that are shown."""
        text = embed_names(self.clip, names, templates=self.settings.templates, wording="as-written", shown=shown)
        return text.rows_SD[text.starts]

    def learning(self) -> list[nn.Parameter]:
        """What learns: the side network, the background and, as published, CLIP's position table."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def pool_bias(bias_BhQYX: Tensor, grid: tuple[int, int]) -> Tensor:
    """Biases at CLIP's grid, the largest of each cell: (B, h, Q, P)."""
    maps = bias_BhQYX.flatten(1, 2)
    if torch.compiler.is_exporting():  # where a cell is two by two of the other grid, at any size
        return unfold_axis(F.max_pool2d(maps, 2).flatten(2), 1, bias_BhQYX.shape[1:3])
    pooled = F.adaptive_max_pool2d(maps, grid)
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
    """Class scores (B, T, H, W) of `class_scores`, background dropped after the softmax."""
    masks = F.interpolate(predictions.masks_BQYX, size=size, mode="bilinear", align_corners=False).sigmoid()
    classes = predictions.logits_BQK.softmax(-1)[..., :-1]
    return class_scores(classes, masks)


def complete(settings: SanSettings, clip: DenseCLIP) -> SanSettings:
    """Fills in what follows from the CLIP: three quarters of its blocks extract, four taps evenly among them.

    Args:
        settings: What is None is filled in.
        clip: The CLIP.
    """
    trunk = require_blocks(clip, "SAN")
    split = settings.split or max(1, trunk.depth * 3 // 4)
    side = settings.side
    if side is None:
        taps = [round(split * place / 3) for place in range(4)]
        fusion = {tap: depth for depth, tap in enumerate(taps)}
        side = SideSettings(clip_heads=trunk.num_heads, fusion=fusion)
        if settings.side_width is not None:
            heads = max(1, settings.side_width // HEAD_WIDTH)
            side = replace(side, width=settings.side_width, heads=heads, channels=settings.side_width)
        side = replace(side, queries=settings.queries or side.queries)
    scale = settings.clip_scale or (0.5 if clip.patch_size == 16 else 0.7)
    return replace(settings, split=split, clip_scale=scale, side=side, side_width=side.width, queries=side.queries)


def san_settings(clip: DenseCLIP) -> SanSettings:
    """The published settings on a CLIP."""
    return complete(SanSettings(), clip)


def build_san(clip: DenseCLIP, settings: SanSettings, *, crop: int) -> San:
    """A new model whose side network has a position for each patch of a training crop.

    Its patches are CLIP's where these fill the padded pictures, whose sides are multiples of 32. Beside patches of 14
    it has the published 16: patches that leave a rest at the border would shift its masks.

    Args:
        clip: The CLIP.
        settings: How it is built and what learns.
        crop: Side of the training crops, in pixels.
    """
    whole = complete(settings, clip)
    if settings.side is None and whole.side is not None:
        patch = whole.side.patch if SIZE_DIVISOR % clip.patch_size else clip.patch_size
        whole = replace(whole, side=replace(whole.side, patch=patch, table_size=crop // patch * patch))
    return San(clip, whole)


def san_groups(model: San, *, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: norms and tables (positions, queries) do not decay."""
    side, positions = model.side, require_blocks(model.clip, "SAN").position_table
    tables = (side.query_embed, side.query_pos_embed, side.vit_model.pos_embed, positions)
    return decay_apart(model.learning(), norms_of(model) | set(map(id, tables)), weight_decay=weight_decay)
