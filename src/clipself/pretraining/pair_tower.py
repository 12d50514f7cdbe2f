"""Both towers of a CLIP under one contrast, and what RO-ViT and CFM-ViT do to its positions and patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.tokens import Tokens
from clipself.backbones.transformer import TransformerTrunk, require_blocks
from clipself.layers.sine_positions import sine_positions
from clipself.losses.masked_features import Counted, masked_features
from clipself.ops.positions import crop_position_table, drop_positions


@dataclass(frozen=True, kw_only=True, slots=True)
class Disturbance:
    """What is done to the pictures of a batch.

    Attributes:
        crops_B4: The crop of a larger grid that each one's positions are of, in its cells; None for its own.
        keep_B: Which ones have positions; None for all.
        visible_BV: Patches that the reconstruction starts from; None for no reconstruction.
    """

    crops_B4: Tensor | None = None
    keep_B: Tensor | None = None
    visible_BV: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """What a pass gives.

    Attributes:
        images_BD: Embeddings of the pictures.
        texts_BD: Embeddings of the texts.
        temperature: Factor of their cosine.
        reconstruction: Sum over the pictures; None without one.
    """

    images_BD: Tensor
    texts_BD: Tensor
    temperature: Tensor
    reconstruction: Tensor | None


class FeatureDecoder(nn.Module):
    """Tokens of what was visible -> embeddings of all patches in the joint space (CFM-ViT, arXiv:2309.00775).

    Args:
        width: Of the tower's tokens.
        inner: Of the decoder.
        layers: Its blocks.
        embed_dim: Of the joint space.
    """

    def __init__(self, *, width: int, inner: int, layers: int, embed_dim: int) -> None:
        super().__init__()
        heads = max(1, inner // 64)
        self.inward = nn.Linear(width, inner)
        self.hidden = nn.Parameter(0.02 * torch.randn(inner))
        blocks = [
            nn.TransformerEncoderLayer(
                inner, heads, 4 * inner, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        ]
        self.blocks = nn.Sequential(*blocks)
        self.outward = nn.Sequential(nn.LayerNorm(inner), nn.Linear(inner, embed_dim))

    def forward(self, visible_BVC: Tensor, places_BV: Tensor, grid: tuple[int, int]) -> Tensor:
        """Visible tokens and where they stand -> (B, P, D)."""
        seen = self.inward(visible_BVC)
        width, patches = seen.shape[-1], grid[0] * grid[1]
        everywhere = self.hidden.to(seen).expand(len(seen), patches, width)
        whole = everywhere.scatter(1, places_BV[..., None].expand(-1, -1, width), seen)
        where = sine_positions(grid, width, like=seen).flatten(1).mT
        out: Tensor = self.outward(self.blocks(whole + where))
        return out


class PairTower(nn.Module):
    """A CLIP and, where patches are reconstructed, the decoder; one forward pass for wrappers of many processes.

    Args:
        clip: All of it that requires gradients learns.
        decoder: None without reconstruction.
        counted: See `masked_features`.
        crop_grid: Side of the larger grid of cropped positions, in patches.
        most_temperature: What the factor of the cosine may grow to.

    Raises:
        ValueError: The image tower is no transformer with a class token.
    """

    def __init__(
        self, clip: DenseCLIP, *, decoder: FeatureDecoder | None, counted: Counted, crop_grid: int,
        most_temperature: float,
    ) -> None:  # fmt: skip
        super().__init__()
        require_blocks(clip, "pre-training")
        self.clip, self.decoder, self.counted = clip, decoder, counted
        self.crop_grid, self.most_temperature = crop_grid, most_temperature

    @property
    def trunk(self) -> TransformerTrunk:
        """The image tower."""
        return require_blocks(self.clip, "pre-training")

    def forward(self, images_B3HW: Tensor, tokens_BL: Tensor, disturbance: Disturbance) -> Pairs:
        """Embeds both sides."""
        trunk, scale = self.trunk, self.clip.clip.logit_scale
        positions = self._positions(trunk.grid_of(images_B3HW), disturbance)
        entered = trunk.embed(images_B3HW, positions)
        if self.decoder is None or disturbance.visible_BV is None:
            images_BD, reconstruction = trunk.pool(trunk.forward_blocks(entered, trunk.blocks[:-1])), None  # type: ignore[arg-type]
        else:
            embedded_BND = trunk.head(trunk.forward_blocks(entered, list(trunk.blocks)).tokens)
            images_BD = embedded_BND[:, 0]
            target_BPD = embedded_BND[:, entered.prefix :].detach()
            reconstruction = self._reconstruct(self.decoder, entered, target_BPD, disturbance.visible_BV)
        texts_BD = self.clip.clip.encode_text(tokens_BL)  # type: ignore[operator]
        temperature = scale.clamp(max=log(self.most_temperature)).exp()  # type: ignore[operator]
        return Pairs(images_BD=images_BD, texts_BD=texts_BD, temperature=temperature, reconstruction=reconstruction)

    def _positions(self, grid: tuple[int, int], disturbance: Disturbance) -> Tensor | None:
        """Tables of each picture; None where all have the tower's own."""
        if disturbance.crops_B4 is None and disturbance.keep_B is None:
            return None
        trunk = self.trunk
        held = trunk.position_table
        table_NC = held[0] if held.ndim == 3 else held
        if disturbance.crops_B4 is None:
            tables = trunk.positions(table_NC, grid)
        else:
            if grid != trunk.native_grid:
                raise ValueError("cropped positions are of the tower's own grid; leave image_size at the model's own")
            ahead = len(table_NC) - grid[0] * grid[1]
            cropped_BPC = crop_position_table(
                table_NC[ahead:], disturbance.crops_B4, grid=grid, enlarged=self.crop_grid
            )
            tables = torch.cat([table_NC[:ahead].expand(len(cropped_BPC), -1, -1), cropped_BPC], dim=1)
        return tables if disturbance.keep_B is None else drop_positions(tables, disturbance.keep_B)

    def _reconstruct(self, decoder: FeatureDecoder, entered: Tokens, target_BPD: Tensor, visible_BV: Tensor) -> Tensor:
        """Visible patches through the tower, all patches out of the decoder."""
        trunk, prefix = self.trunk, entered.prefix
        places = visible_BV[..., None]
        patches = entered.tokens[:, prefix:]
        seen = patches.gather(1, places.expand(-1, -1, patches.shape[-1]))
        rope = entered.rope
        if rope is not None:
            rope = rope.expand(len(seen), -1, -1).gather(1, places.expand(-1, -1, rope.shape[-1]))[:, None]
        some = Tokens(
            tokens=torch.cat([entered.tokens[:, :prefix], seen], dim=1), grid=(1, seen.shape[1]), rope=rope,
            prefix=prefix,
        )  # fmt: skip
        read = trunk.forward_blocks(some, list(trunk.blocks)).tokens[:, prefix:]
        read = F.layer_norm(read, read.shape[-1:])  # residual streams of several towers differ in scale
        predicted_BPD = decoder(read, visible_BV, entered.grid)
        hidden_BP = torch.ones(target_BPD.shape[:2], dtype=torch.bool, device=target_BPD.device)
        hidden_BP = hidden_BP.scatter(1, visible_BV, False)
        return masked_features(
            predicted_BPD.float(), target_BPD.float(), hidden_BP, counted=self.counted, reduction="sum"
        )


def draw_visible(generators: Sequence[torch.Generator], *, patches: int, hidden: float) -> Tensor:
    """Random patches of each picture that stay visible (B, V), one at least, in their order."""
    kept = max(1, round(patches * (1 - hidden)))
    return torch.stack([torch.randperm(patches, generator=each)[:kept].sort().values for each in generators])
