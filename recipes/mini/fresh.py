"""Crops cut anew for every step and read by the frozen parts there and then: for a GPU with many cores beside it."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from crops import MEAN, SIDE, STD, CropMaker, rows_of_step
from pool import Crop
from teachers import ImageNetNetworks, imagenet_network, resize
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clipself.backbones.mini_tower import STEM_STAGES, fold_norms
from clipself.engine.precision import make_precision

CUT: Final = 224
"""Side of the crops as they are cut: the networks look at more than the tower does."""
JITTER: Final = (0.75, 1.25)
"""Range of the factors of brightness, contrast and colour."""


class Seen(NamedTuple):
    """What a step learns from: stem features (B, 112, 10, 10), classes (B, 1000) and rows of the plan (B,)."""

    features: Tensor
    classes: Tensor
    index: Tensor


class Keys:
    """Endless batches of (epoch, row), beginning with a step."""

    def __init__(self, *, total: int, batch_size: int, start: int) -> None:
        self.total, self.batch_size, self.start = total, batch_size, start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in count(self.start):
            epoch, rows = rows_of_step(step, batch_size=self.batch_size, total=self.total)
            yield [(epoch, int(row)) for row in rows]


class FreshCrops:
    """The plan's crops, another cut of each in every epoch, as the frozen stem and networks see them.

    Args:
        data: Folder of the pictures' plan.
        rows: The plan.
        device: Where the frozen parts run.
        workers: Processes that cut.
        held_out: Crops at the end of the plan that are only measured.
    """

    def __init__(self, data: Path, rows: Sequence[Crop], *, device: torch.device, workers: int, held_out: int) -> None:
        self.rows, self.device, self.workers, self.held = rows, device, workers, held_out
        self.maker = CropMaker(data, rows, side=CUT, jitter=False)
        network = imagenet_network()
        stem = nn.Sequential(network.conv_stem, network.bn1, network.blocks[:STEM_STAGES])
        self.stem = fold_norms(stem).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks = ImageNetNetworks().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def total(self) -> int:
        """Crops that are learned from in an epoch."""
        return len(self.rows) - self.held

    def steps(self, start: int, *, batch_size: int) -> Iterator[Seen]:
        """Endless batches, beginning with a step."""
        keys: Any = Keys(total=self.total, batch_size=batch_size, start=start)
        generator = torch.Generator(self.device)
        for step, (pixels, index) in enumerate(self._loader(batch_sampler=keys), start=start):
            generator.manual_seed(step)
            yield self._see(jitter(pixels.to(self.device, non_blocking=True).float(), generator), index)

    def held_out(self) -> Seen:
        """The crops that are only measured, as the first epoch would cut them."""
        keys = [(0, self.total + place) for place in range(self.held)]
        chunks = [keys[start : start + 128] for start in range(0, len(keys), 128)]
        seen = [
            self._see(pixels.to(self.device).float(), index) for pixels, index in self._loader(batch_sampler=chunks)
        ]
        return Seen(*(torch.cat(parts) for parts in zip(*seen, strict=True)))

    def _loader(self, *, batch_sampler: Any) -> DataLoader[Any]:
        more: dict[str, Any] = {"prefetch_factor": 4} if self.workers else {}
        pin = self.device.type == "cuda"
        return DataLoader(self.maker, batch_sampler=batch_sampler, num_workers=self.workers, pin_memory=pin, **more)

    @torch.no_grad()
    def _see(self, pixels: Tensor, index: Tensor) -> Seen:
        images = ((pixels - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with make_precision("auto", self.device).autocast():
            features, classes = self.stem(resize(images, SIDE)), self.networks(images)
        return Seen(features.float().contiguous(), classes.float(), index.to(self.device))


def jitter(pixels_B3HW: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, contrast and colour of each picture times a random factor, as Pillow's enhancers do it; 0..255."""
    low, high = JITTER
    factors = torch.rand(3, len(pixels_B3HW), 1, 1, 1, device=pixels_B3HW.device, generator=generator)
    bright, contrast, colour = low + (high - low) * factors
    pixels = (pixels_B3HW * bright).clamp(0, 255)
    mean = _grey(pixels).mean((1, 2, 3), keepdim=True)
    pixels = (mean + contrast * (pixels - mean)).clamp(0, 255)
    grey = _grey(pixels)
    return (grey + colour * (pixels - grey)).clamp(0, 255)


def _grey(pixels_B3HW: Tensor) -> Tensor:
    """ITU-R 601's luma (B, 1, H, W)."""
    weights = pixels_B3HW.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("bchw,c->bhw", pixels_B3HW, weights)[:, None]
