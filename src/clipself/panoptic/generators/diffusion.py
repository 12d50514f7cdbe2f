"""Features of a frozen text-to-image diffusion model as a pyramid for mask decoders: the adapter that ODISE needs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDES: Final = (4, 8, 16, 32)
GROUPS: Final = 32


class DiffusionPyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 from the encoder of the latents and one pass of the U-Net at time 0.

    Source: ODISE (arXiv:2303.04803), Sec. 3.2. Every block of encoder and U-Net whose output has one of the strides is
    read; those of one stride are joined and projected. The text that steers the U-Net is an argument, where ODISE
    learns one from the picture. Only the projections learn.

    Args:
        vae: `diffusers.AutoencoderKL`.
        unet: `diffusers.UNet2DConditionModel`.
        channels: Channels of every level; a multiple of 32.
        prompt_1LC: Text embedding that the U-Net is given; zeros if not given.
        timestep: Noise level that the U-Net is told; the picture itself stays clean.

    Raises:
        ValueError: A stride has no block, or the width is no multiple of 32.
    """

    def __init__(
        self, vae: Any, unet: Any, *, channels: int = 256, prompt_1LC: Tensor | None = None, timestep: int = 0
    ) -> None:
        super().__init__()
        if channels % GROUPS:
            raise ValueError(f"channels={channels} is no multiple of {GROUPS}, the groups of the norm")
        frozen = (vae.eval().requires_grad_(False), unet.eval().requires_grad_(False))
        object.__setattr__(self, "_frozen", frozen)  # not a child: neither trained, saved nor sent between processes
        self.timestep = timestep
        width = int(unet.config.cross_attention_dim)
        prompt = prompt_1LC if prompt_1LC is not None else torch.zeros(1, 1, width)
        self.register_buffer("prompt", prompt, persistent=False)
        side = 2 * max(STRIDES)
        found = self._read(torch.zeros(1, 3, side, side, device=next(unet.parameters()).device))
        missing = [stride for stride in STRIDES if stride not in found]
        if missing:
            raise ValueError(f"no block of this model has stride {missing[0]}; it has {sorted(found)}")
        self.project = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(sum(one.shape[1] for one in found[stride]), channels, 1), nn.GroupNorm(GROUPS, channels)
            )
            for stride in STRIDES
        )

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Images in [-1, 1], sides multiples of 32 -> four levels, finest first.

        Raises:
            ValueError: A side is no multiple of 32.
        """
        height, width = images_B3HW.shape[-2:]
        if height % max(STRIDES) or width % max(STRIDES):
            raise ValueError(f"images of {height} x {width} do not divide by {max(STRIDES)}; resize or pad them")
        found = self._read(images_B3HW)
        return [project(torch.cat(found[stride], dim=1)) for project, stride in zip(self.project, STRIDES, strict=True)]

    @torch.no_grad()
    def _read(self, images_B3HW: Tensor) -> dict[int, list[Tensor]]:
        """Stride -> outputs of the blocks at that stride, in the order in which they ran."""
        frozen: Any = self._frozen
        vae, unet = frozen
        blocks = [*vae.encoder.down_blocks, *unet.down_blocks, unet.mid_block, *unet.up_blocks]
        with outputs_of(blocks) as outputs:
            latents = vae.encode(images_B3HW).latent_dist.mean * vae.config.scaling_factor
            batch = len(images_B3HW)
            time = torch.full((batch,), self.timestep, device=latents.device)
            prompt: Any = self.prompt
            unet(latents, time, encoder_hidden_states=prompt.to(latents).expand(batch, -1, -1))
        by_stride: dict[int, list[Tensor]] = defaultdict(list)
        for one in outputs:
            by_stride[images_B3HW.shape[-2] // one.shape[-2]].append(F.silu(one.float()))
        return dict(by_stride)


@contextmanager
def outputs_of(blocks: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Collects what modules return while the context lasts; of a tuple, the first."""
    outputs: list[Tensor] = []

    def keep(module: nn.Module, given: Any, returned: Any) -> None:
        outputs.append(returned[0] if isinstance(returned, tuple) else returned)

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def load_diffusion(checkpoint: str, *, device: str | torch.device = "cpu") -> tuple[Any, Any]:
    """Encoder of latents and U-Net of a checkpoint in diffusers' layout, with the folders `vae` and `unet`.

    Args:
        checkpoint: Hub name or folder.
        device: Where they go.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: There is no such checkpoint.
    """
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError as error:
        raise ImportError("a diffusion backbone needs the extra: pip install 'clipself[diffusion]'") from error
    try:
        vae = AutoencoderKL.from_pretrained(checkpoint, subfolder="vae")
        unet = UNet2DConditionModel.from_pretrained(checkpoint, subfolder="unet")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"diffusers finds no model at {checkpoint!r} ({error}); pass a folder or a hub name"
        ) from error
    return vae.to(device), unet.to(device)


def load_diffusion_pyramid(
    checkpoint: str, *, channels: int = 256, device: str | torch.device = "cpu"
) -> DiffusionPyramid:
    """A new pyramid on a checkpoint in diffusers' layout.

    Args:
        checkpoint: Hub name or folder.
        channels: Channels of every level.
        device: Where it goes.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: There is no such checkpoint.
    """
    return DiffusionPyramid(*load_diffusion(checkpoint, device=device), channels=channels).to(device)


class DiffusionFeatures:
    """A frozen diffusion model as what mask decoders stand on; the CLIP gives the names alone.

    Args:
        vae: `diffusers.AutoencoderKL`.
        unet: `diffusers.UNet2DConditionModel`.
        mean: By which the images were normalised.
        std: Likewise.
    """

    step: Final = max(STRIDES)

    def __init__(self, vae: Any, unet: Any, *, mean: Sequence[float], std: Sequence[float]) -> None:
        self._models = (vae, unet)
        self.mean, self.std = torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """The images in [-1, 1]; blocks are read where the pyramid is made of them."""
        return [2 * (images_B3HW * self.std.to(images_B3HW) + self.mean.to(images_B3HW)) - 1]

    def new_pyramid(self, channels: int) -> "PixelPyramid":
        """The part that learns."""
        return PixelPyramid(DiffusionPyramid(*self._models, channels=channels))


class PixelPyramid(nn.Module):
    """A pyramid on pixels where decoders hand over what was read, which are the pixels.

    Args:
        diffusion: The pyramid.
    """

    def __init__(self, diffusion: DiffusionPyramid) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.widths = tuple(int(one[0].out_channels) for one in diffusion.project)  # type: ignore[index]

    def forward(self, read: Sequence[Tensor], images_B3HW: Tensor) -> list[Tensor]:
        """What `DiffusionFeatures.read` gave -> four levels, finest first."""
        del images_B3HW
        levels: list[Tensor] = self.diffusion(read[0])
        return levels
