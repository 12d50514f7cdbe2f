"""What an image tower has read of a picture, kept while other names are asked for."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from clipself.backbones.trunk import ClipReading


class ReadMemory:
    """Inside of it, a CLIP that is asked for the same images again answers from what it read before.

    The tower runs once::

        memory = ReadMemory(clip)
        with memory:
            first = model(images)  # the image tower runs
        with memory:
            again = model(images)  # with other names: it does not

    One set of images is kept: others take its place. What depends on more than the images and the readout, such as a
    guide, is read each time.

    Args:
        clip: The `DenseCLIP`, whose image tower must not learn meanwhile.
    """

    def __init__(self, clip: nn.Module) -> None:
        self.clip = clip
        self._read_anew: Callable[..., ClipReading] = cast(Any, type(clip)).read
        self._images: Tensor | None = None
        self._held: dict[str, ClipReading] = {}

    def __enter__(self) -> Self:
        self.clip.__dict__["read"] = self._read  # ahead of the method, for whoever holds this CLIP
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        del self.clip.__dict__["read"]

    def _read(self, images_B3HW: Tensor, **asked: Any) -> ClipReading:
        if asked.get("guide") is not None or asked.get("regions") is not None or torch.is_grad_enabled():
            return self._read_anew(self.clip, images_B3HW, **asked)
        if (
            self._images is None
            or self._images.shape != images_B3HW.shape
            or not torch.equal(self._images, images_B3HW)
        ):
            self._images, self._held = images_B3HW, {}
        key = repr(sorted({**asked, "taps": tuple(asked.get("taps", ()))}.items()))
        if key not in self._held:
            self._held[key] = self._read_anew(self.clip, images_B3HW, **asked)
        return self._held[key]
