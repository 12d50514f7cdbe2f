"""A frozen text-to-image diffusion model as ODISE reads it: what enters eight of its blocks, in one pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipself.backbones.strict import digest_tensors
from clipself.backbones.weights import first_line

FIRST_BETA: Final = 0.00085
"""Share of noise in the first step of Stable Diffusion's schedule."""
NOISE_SEED: Final = 42
"""Of the one noise that every picture gets, as published."""
PROMPT_LENGTH: Final = 77
"""Tokens of the text that steers Stable Diffusion."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Taps:
    """Residual blocks whose inputs are read, counted as in the published code.

    Attributes:
        encoder: Of the latents' encoder, over all levels, finest first.
        unet: Of the U-Net's way up, coarsest first; what comes over the skip is joined by then.
        decoder: Of the latents' decoder, coarsest first.
    """

    encoder: tuple[int, ...] = (5, 7)
    unet: tuple[int, ...] = (2, 5, 8, 11)
    decoder: tuple[int, ...] = (2, 5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tap:
    """One of them.

    Attributes:
        block: The residual block.
        width: Channels that enter it.
        stride: Of what enters it, in pixels.
    """

    block: nn.Module
    width: int
    stride: int


class LatentDiffusion:
    """Encoder of latents, U-Net and decoder of a latent diffusion model in diffusers' layout, frozen.

    Source: ODISE (arXiv:2303.04803), Sec. 3.2, and its released code: the U-Net sees the latent at step 0 of the
    schedule with one fixed noise, the decoder the clean latent.

    Args:
        vae: `diffusers.AutoencoderKL`.
        unet: `diffusers.UNet2DConditionModel`.
        empty_1LC: The empty text as the model's own text tower embeds it.
        taps: Blocks that are read.

    Raises:
        ValueError: There is no such block, or the text has not the width that the U-Net attends to.
    """

    def __init__(self, vae: Any, unet: Any, *, empty_1LC: Tensor, taps: Taps | None = None) -> None:
        if empty_1LC.ndim != 3 or empty_1LC.shape[-1] != int(unet.config.cross_attention_dim):
            raise ValueError(
                f"a text of shape {tuple(empty_1LC.shape)} for a U-Net that attends to "
                f"{unet.config.cross_attention_dim} channels; pass (1, L, C)"
            )
        self.vae, self.unet = vae.eval().requires_grad_(False), unet.eval().requires_grad_(False)
        self.empty_1LC = empty_1LC.detach()
        taps = taps or Taps()
        down, up, out = list(vae.encoder.down_blocks), list(unet.up_blocks), list(vae.decoder.up_blocks)
        halvings = [2**level for level in range(len(down))]
        self.stride = halvings[-1]  # of the latent
        latents = [self.stride * 2**level for level in range(len(up))]
        self._groups = [
            _taps_of(down, taps.encoder, strides=halvings, what="encoder"),
            _taps_of(up, taps.unet, strides=latents[::-1], what="U-Net"),
            _taps_of(out, taps.decoder, strides=halvings[::-1], what="decoder"),
        ]
        self._decoded = 1 + max(taps.decoder, default=-1) // len(out[0].resnets)

    @property
    def taps(self) -> list[Tap]:
        """What is read, in the order of the published projections."""
        return [tap for group in self._groups for tap in group]

    @property
    def time_width(self) -> int:
        """Width of the U-Net's embedding of time."""
        return int(self.unet.time_embedding.linear_2.out_features)

    @property
    def device(self) -> torch.device:
        """Where the frozen weights are."""
        device: torch.device = next(self.unet.parameters()).device
        return device

    @cached_property
    def digest(self) -> str:
        """Tells these weights from others'."""
        parts = {"vae": self.vae, "unet": self.unet}
        state = {f"{part}.{name}": one for part, module in parts.items() for name, one in module.state_dict().items()}
        return digest_tensors({**state, "empty text": self.empty_1LC})

    @torch.no_grad()
    def encode(self, images_B3SS: Tensor) -> Tensor:
        """Images in [0, 1] -> their latents (B, C, S / 8, S / 8), posterior mean times the model's factor."""
        latent: Tensor = self.vae.encode(2 * images_B3SS - 1).latent_dist.mean * self.vae.config.scaling_factor
        return latent

    def noisy(self, latent_BCyx: Tensor) -> Tensor:
        """The latents at step 0 of the schedule, all with the same noise."""
        noise = self.noise(latent_BCyx.shape[-1]).to(latent_BCyx)
        noisy: Tensor = (1 - FIRST_BETA) ** 0.5 * latent_BCyx + FIRST_BETA**0.5 * noise
        return noisy

    def noise(self, side: int) -> Tensor:
        """The one noise (1, C, side, side); drawn on the CPU, so that it is the same wherever the model is."""
        generator = torch.Generator().manual_seed(NOISE_SEED)
        return torch.randn(1, int(self.unet.config.in_channels), side, side, generator=generator)

    def read(self, images_B3SS: Tensor, *, prompt_BLC: Tensor, time_B1T: Tensor | None = None) -> list[Tensor]:
        """What enters the tapped blocks.

        Gradients reach the prompt and what is added to the time, through the frozen U-Net.

        Args:
            images_B3SS: Squares in [0, 1].
            prompt_BLC: Text that the U-Net attends to.
            time_B1T: Added to its embedding of time 0.

        Returns:
            A map for each of `taps`.
        """
        encoder, unet, decoder = ([tap.block for tap in group] for group in self._groups)
        with inputs_of(encoder) as from_encoder:
            latent = self.encode(images_B3SS)
        with inputs_of(unet) as from_unet, _added_to_time(self.unet, time_B1T):
            time = torch.zeros(len(latent), device=latent.device, dtype=torch.long)
            self.unet(self.noisy(latent), time, encoder_hidden_states=prompt_BLC)
        with inputs_of(decoder) as from_decoder:
            self._decode(latent)
        return [*from_encoder, *from_unet, *from_decoder]

    @torch.no_grad()
    def _decode(self, latent_BCyx: Tensor) -> None:
        """The decoder up to the last tapped block: its finest levels, most of the work, are not run."""
        decoder = self.vae.decoder
        hidden = decoder.conv_in(self.vae.post_quant_conv(latent_BCyx / self.vae.config.scaling_factor))
        hidden = decoder.mid_block(hidden)
        for block in decoder.up_blocks[: self._decoded]:
            hidden = block(hidden)


def _taps_of(blocks: Sequence[Any], places: Sequence[int], *, strides: Sequence[int], what: str) -> list[Tap]:
    """Residual blocks by their number over all levels."""
    found = [
        Tap(block=resnet, width=int(resnet.in_channels), stride=stride)
        for block, stride in zip(blocks, strides, strict=True)
        for resnet in block.resnets
    ]
    if any(not 0 <= place < len(found) for place in places):
        raise ValueError(f"taps {tuple(places)} of the {what} must be within 0..{len(found) - 1}, its residual blocks")
    return [found[place] for place in places]


@contextmanager
def inputs_of(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects what enters modules while the context lasts, in the order of the modules."""
    inputs: dict[int, Tensor] = {}

    def keep(place: int) -> Any:
        def hook(module: nn.Module, given: Any) -> None:
            inputs[place] = given[0]

        return hook

    found: list[Tensor] = []
    hooks = [block.register_forward_pre_hook(keep(place)) for place, block in enumerate(blocks)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
    found += [inputs[place] for place in range(len(blocks))]


@contextmanager
def _added_to_time(unet: Any, time_B1T: Tensor | None) -> Iterator[None]:
    if time_B1T is None:
        yield
        return
    hook = unet.time_embedding.register_forward_hook(lambda module, given, made: made + time_B1T[:, 0].to(made))
    try:
        yield
    finally:
        hook.remove()


def load_diffusion(checkpoint: str, *, device: str | torch.device = "cpu") -> LatentDiffusion:
    """A model in diffusers' layout: folders `vae`, `unet`, `text_encoder` and `tokenizer`.

    Args:
        checkpoint: Hub name, such as "CompVis/stable-diffusion-v1-3" for ODISE's, or a folder.
        device: Where it goes.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: There is no such checkpoint.
    """
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import AutoTokenizer, CLIPTextModel
    except ImportError as error:
        raise ImportError(
            "a diffusion backbone needs the extras: pip install 'clipself[diffusion,transformers]'"
        ) from error
    try:
        vae = AutoencoderKL.from_pretrained(checkpoint, subfolder="vae", low_cpu_mem_usage=False)
        unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet", low_cpu_mem_usage=False)
        tokenizer = AutoTokenizer.from_pretrained(checkpoint, subfolder="tokenizer")
        tower = CLIPTextModel.from_pretrained(checkpoint, subfolder="text_encoder")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"diffusers finds no model at {checkpoint!r} ({first_line(error)}); pass a folder or a hub name with "
            "vae, unet, text_encoder and tokenizer"
        ) from error
    empty = embed_empty_text(tower.eval(), tokenizer)
    return LatentDiffusion(vae.to(device), unet.to(device), empty_1LC=empty.to(device))


@torch.no_grad()
def embed_empty_text(tower: Any, tokenizer: Any) -> Tensor:
    """The empty text (1, L, C) by a CLIP text tower of transformers: all tokens after its final norm.

    Args:
        tower: `transformers.CLIPTextModel`.
        tokenizer: Its tokenizer, which pads.
    """
    length = min(PROMPT_LENGTH, int(tower.config.max_position_embeddings))
    ids = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    tokens: Tensor = tower(input_ids=ids).last_hidden_state
    return tokens


def squares(images_B3HW: Tensor, side: int) -> Tensor:
    """Resized to a square by bicubic interpolation without antialiasing, as the release did.

    Args:
        images_B3HW: Images.
        side: In pixels.
    """
    if images_B3HW.shape[-2:] == (side, side):
        return images_B3HW
    return F.interpolate(images_B3HW, size=(side, side), mode="bicubic", align_corners=False)
