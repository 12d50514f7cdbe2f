"""ODISE's implicit captioner: what the CLIP sees of a picture takes the place of its caption."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP


@dataclass(frozen=True, kw_only=True, slots=True)
class ImplicitCaption:
    """What a diffusion model is told about pictures.

    Attributes:
        prompt_BLC: In place of an embedded text.
        time_B1T: What is added to the embedding of time; None where nothing is.
    """

    prompt_BLC: Tensor
    time_B1T: Tensor | None


class PositionalLinear(nn.Module):
    """One vector becomes a row of tokens: projected, then told apart by learnt positions.

    Args:
        inside: Width of the vector.
        outside: Width of a token.
        length: Number of tokens.
    """

    def __init__(self, inside: int, outside: int, *, length: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        self.positional_embedding = nn.Parameter(torch.randn(1, length, outside) * 0.02)

    def forward(self, vectors_BC: Tensor) -> Tensor:
        """(B, C) -> (B, L, C')."""
        tokens: Tensor = self.linear(vectors_BC)[:, None] + self.positional_embedding
        return tokens


class ImplicitCaptioner(nn.Module):
    """Learns to put an image embedding into the place of a caption; its gates start closed, at the empty text.

    Source: ODISE (arXiv:2303.04803), Sec. 3.2, and its released code with its parameter names. The release adds to the
    embedding of time too, which the paper does not mention.

    Args:
        clip_dim: Width of the joint space of the CLIP.
        length: Tokens of the text that the diffusion model attends to.
        width: Their width.
        time_width: Width of its embedding of time.
    """

    def __init__(self, *, clip_dim: int, length: int, width: int, time_width: int) -> None:
        super().__init__()
        self.clip_project = PositionalLinear(clip_dim, width, length=length)
        self.alpha_cond = nn.Parameter(torch.zeros(1, length, width))
        self.time_embed_project = PositionalLinear(clip_dim, time_width, length=1)
        self.alpha_cond_time_embed = nn.Parameter(torch.zeros(time_width))

    def forward(self, embeddings_BD: Tensor, *, empty_1LC: Tensor) -> ImplicitCaption:
        """Image embeddings of the CLIP, any length, and the empty text -> what the diffusion model is told."""
        prompt = empty_1LC + torch.tanh(self.alpha_cond) * self.clip_project(embeddings_BD)
        time = torch.tanh(self.alpha_cond_time_embed) * self.time_embed_project(embeddings_BD)
        return ImplicitCaption(prompt_BLC=prompt, time_B1T=time)


@torch.no_grad()
def embed_pixels(clip: DenseCLIP, images_B3HW: Tensor) -> Tensor:
    """Embeddings (B, D), any length, of images in [0, 1], squashed to the size at which the CLIP was trained.

    Resized by bicubic interpolation without antialiasing, as the release did.
    """
    size: Sequence[int] = clip.image_size
    resized = F.interpolate(images_B3HW, size=tuple(size), mode="bicubic", align_corners=False)
    mean, std = (torch.tensor(each, device=resized.device)[:, None, None] for each in (clip.image_mean, clip.image_std))
    return clip.encode_image((resized - mean) / std, normalize=False)
