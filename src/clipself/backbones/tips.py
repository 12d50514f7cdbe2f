"""TIPSv2 (arXiv:2604.12012): a vision transformer with a register beside the class token, its own text tower.

transformers' own modules do the work; open_clip has no such model, so that `load_clip` alone reads an export of one.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.tokens import Tokens, split_heads
from clipself.backbones.transformer import TransformerTrunk
from clipself.backbones.trunk import Stage


def import_tips() -> Any:
    """Transformers' module of TIPSv2.

    Raises:
        ImportError: transformers is missing, or older than the model.
    """
    try:
        from transformers.models import tipsv2
    except ImportError as error:
        raise ImportError(
            "TIPSv2 is built of transformers' modules, and there is no transformers that has them; "
            "pip install -U transformers"
        ) from error
    return tipsv2


class TipsVision(nn.Module):
    """The image tower.

    Args:
        config: Fields of transformers' `Tipsv2VisionConfig`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        tips = import_tips()
        self.model = tips.Tipsv2VisionModel(tips.Tipsv2VisionConfig(**config))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Image embeddings (B, D)."""
        pooled: Tensor = self.model(pixel_values=images_B3HW).pooler_output
        return pooled


class TipsText(nn.Module):
    """The text tower: the mean of the tokens that are no padding.

    Args:
        config: Fields of transformers' `Tipsv2TextConfig`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        tips = import_tips()
        self.model = tips.Tipsv2TextModel(tips.Tipsv2TextConfig(**config))

    def forward(self, tokens_KL: Tensor) -> Tensor:
        """Text embeddings (K, D)."""
        mask_KL = (tokens_KL != self.model.config.pad_token_id).long()
        pooled: Tensor = self.model(input_ids=tokens_KL, attention_mask=mask_KL).pooler_output
        return pooled


class TipsClip(nn.Module):
    """Both towers, with the face of an open_clip model.

    Args:
        embed_dim: Width of the joint space, which is that of both towers.
        vision_cfg: Holds the image tower's fields as "tipsv2".
        text_cfg: Holds the text tower's likewise.

    Raises:
        ValueError: The towers are not as wide as the joint space.
    """

    def __init__(self, embed_dim: int, vision_cfg: Mapping[str, Any], text_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        widths = [side["tipsv2"]["hidden_size"] for side in (vision_cfg, text_cfg)]
        if set(widths) != {embed_dim}:
            raise ValueError(
                f"the towers are {widths} wide, and their joint space {embed_dim}; they are one in a TIPSv2"
            )
        self.visual = TipsVision(vision_cfg["tipsv2"])
        self.text = TipsText(text_cfg["tipsv2"])
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embeddings (B, D)."""
        embeddings: Tensor = self.visual(images_B3HW)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text(self, tokens_KL: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings (K, D)."""
        embeddings: Tensor = self.text(tokens_KL)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings


class TipsTrunk(TransformerTrunk):
    """transformers' `Tipsv2VisionModel`, block by block; there is no projection behind its final norm."""

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.tower, model = visual, visual.model
        config = model.config
        self.embeddings, self.blocks, self.norm = model.embeddings, model.encoder.layer, model.layernorm
        self.num_heads = int(config.num_attention_heads)
        self.head_dim = int(config.hidden_size) // self.num_heads
        self.patch_size, self.embed_dim = int(config.patch_size), int(config.hidden_size)
        self.registers = int(config.num_register_tokens)
        self.native_grid = (int(config.image_size) // self.patch_size,) * 2
        self.stages = (Stage(width=self.embed_dim, stride=self.patch_size),) * len(self.blocks)

    def embed(self, images_B3HW: Tensor, positions: Tensor | None = None) -> Tokens:
        """Class token, registers and patches; transformers resizes the positions as the release does.

        Raises:
            ValueError: There are positions of another kind.
        """
        if positions is not None:
            raise ValueError("this tower resizes its positions by itself; others cannot be given")
        tokens: Tensor = self.embeddings(images_B3HW)
        return Tokens(tokens=tokens, grid=self.grid_of(images_B3HW), prefix=1 + self.registers)

    def project(self, block: Any, normed_BNC: Tensor, part: str) -> Tensor:
        """One of the three projections."""
        return split_heads(getattr(block.attention, f"{part}_proj")(normed_BNC), self.num_heads)

    def merge_heads(self, block: Any, mixed_BNC: Tensor) -> Tensor:
        """Output projection, layer scale."""
        merged: Tensor = block.layer_scale1(block.attention.o_proj(mixed_BNC))
        return merged

    def feed_forward(self, block: Any, tokens_BNC: Tensor) -> Tensor:
        """`norm2`, MLP, layer scale."""
        out: Tensor = block.layer_scale2(block.mlp(block.norm2(tokens_BNC)))
        return out

    def final_norm(self, tokens_BNC: Tensor) -> Tensor:
        """`layernorm`."""
        normed: Tensor = self.norm(tokens_BNC)
        return normed

    def head(self, tokens_BNC: Tensor) -> Tensor:
        """The final norm alone."""
        return self.final_norm(tokens_BNC)

    @property
    def position_table(self) -> nn.Parameter:
        """Positions of class token and patches."""
        table: nn.Parameter = self.embeddings.position_embeddings
        return table
