"""What mask decoders stand on: taps of the CLIP, or a frozen diffusion model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.choices import pick
from clipself.layers.pyramid import picture_pyramid_of
from clipself.panoptic.generators.diffusion import load_diffusion
from clipself.panoptic.generators.odise.backbone import DiffusionFeatures
from clipself.panoptic.settings import DiffusionSettings, MaskGeneratorSettings

STEP: Final = 2
"""Sides of the input are multiples of this many patches, so that the coarsest level is half a grid."""


class Features(Protocol):
    """What the decoders stand on: frozen, and outside of what is saved."""

    @property
    def step(self) -> int:
        """Sides of the input are multiples of this, in pixels."""

    @property
    def digest(self) -> str:
        """Tells what is frozen beside the CLIP from another one; "" where there is nothing."""

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """Normalised images -> what a pyramid is made of."""

    def new_pyramid(self, channels: int) -> nn.Module:
        """The part that learns to make one, with its `widths`; called with what was read and the images."""


class ClipFeatures:
    """Taps of the CLIP.

    Args:
        clip: Frozen.
        taps: Blocks or stages that are read.
    """

    digest: Final = ""

    def __init__(self, clip: DenseCLIP, taps: Sequence[int]) -> None:
        self.clip, self.taps, self.step = clip, tuple(taps), STEP * clip.patch_size

    def read(self, images_B3HW: Tensor) -> list[Tensor]:
        """Maps (B, C, Y, X) of the taps."""
        return list(self.clip.taps(images_B3HW, self.taps, readout="qk"))

    def new_pyramid(self, channels: int) -> nn.Module:
        """Stages as they are, or taps of one stride rescaled."""
        stages = [self.clip.trunk.stages[index] for index in self.taps]
        return picture_pyramid_of([(stage.width, stage.stride) for stage in stages], channels=channels)


def _open_diffusion(name: str, clip: DenseCLIP, settings: DiffusionSettings) -> DiffusionFeatures:
    return DiffusionFeatures(
        load_diffusion(name, device=clip.device), clip, captioner=settings.captioner, projection=settings.projection,
        crop=settings.crop,
    )  # fmt: skip


FEATURES: Final[Mapping[str, Callable[[str, DenseCLIP, DiffusionSettings], Features]]] = {"diffusion": _open_diffusion}
"""Kind of features beside "clip" -> how "KIND:NAME" is opened."""


def open_features(settings: MaskGeneratorSettings, clip: DenseCLIP) -> Features:
    """What the settings name.

    Raises:
        ValueError: There is no such kind, or the taps do not fit the CLIP.
        ImportError: An optional package is missing.
    """
    kind, _, name = settings.features.partition(":")
    if kind == "clip" and not name:
        return ClipFeatures(clip, taps_of(settings, clip))
    return pick(FEATURES, kind, what="kind of features")(name, clip, settings.diffusion)


def taps_of(config: MaskGeneratorSettings, clip: DenseCLIP) -> tuple[int, ...]:
    """The blocks that are read; of a pyramid all stages.

    Raises:
        ValueError: They do not ascend within the trunk.
    """
    depth = len(clip.trunk.stages)
    if clip.trunk.is_pyramid:
        return tuple(range(depth))
    taps = config.taps if config.taps is not None else tuple(sorted({depth // 2, max(0, depth - 2)}))
    if list(taps) != sorted(set(taps)) or not taps or not 0 <= taps[0] <= taps[-1] < depth:
        raise ValueError(f"taps={taps} must ascend within 0..{depth - 1}, the blocks of {clip.name}")
    return taps
