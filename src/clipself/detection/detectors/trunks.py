"""Trunks of detectors that bring their own backbone: maps of several strides, of the CLIP, a ResNet-50 or a Swin-B."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch.nn.functional as F
from torch import Tensor
from torchvision.models import resnet50
from torchvision.ops import FrozenBatchNorm2d

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.strict import check_fit
from clipself.backbones.swin import SWIN_B
from clipself.backbones.weights import read_state_dict
from clipself.choices import pick
from clipself.detection.detectors.swin import SwinTrunk
from clipself.detection.detectors.trunk import RANDOM, DetectorTrunk
from clipself.detection.detectors.two_stage.features import FrozenClip
from clipself.layers.pyramid import TapPyramid


class ClipTrunk(DetectorTrunk):
    """The frozen CLIP: a ResNet's own stages, or taps of a transformer, resized by layers that learn.

    Source of the resizing: F-ViT (CLIPSelf, detection), see `TapPyramid`.

    Args:
        clip: The CLIP; it stops learning.
        strides: Of the maps, finest first, as if a patch had 16 pixels: a patch of 14 makes 8 a 7.
        taps: A transformer's blocks, ascending, one a map; the last must be the trunk's last. Evenly spread if empty.

    Raises:
        ValueError: There is not one tap a map, or a ResNet has no stage of a stride.
    """

    def __init__(self, clip: DenseCLIP, *, strides: Sequence[int], taps: Sequence[int] = ()) -> None:
        super().__init__()
        stages = clip.trunk.stages
        self.taken: tuple[int, ...] = tuple(range(len(strides)))
        self.pyramid: TapPyramid | None = None
        if clip.trunk.is_pyramid:
            own = [stage.stride for stage in stages]
            missing = sorted(set(strides) - set(own))
            if missing:
                raise ValueError(f"{clip.name} has stages of strides {own}, none of stride {missing[0]}")
            self.taken = tuple(own.index(stride) for stride in strides)
            self.strides, self.widths = tuple(strides), tuple(stages[place].width for place in self.taken)
        else:
            stride, last = stages[-1].stride, len(stages) - 1
            taps = tuple(taps) or tuple(round(last * (place + 1) / len(strides)) for place in range(len(strides)))
            if len(taps) != len(strides):
                raise ValueError(f"{len(taps)} taps {taps} for maps of strides {tuple(strides)}; name one block a map")
            factors = [16 / wanted for wanted in strides]
            self.pyramid = TapPyramid(width=stages[-1].width, stride=stride, norm="group", factors=factors)
            self.strides, self.widths = tuple(map(round, self.pyramid.strides)), self.pyramid.widths
        self.multiple = max(clip.trunk.patch_size, *self.strides)
        self.frozen = FrozenClip(clip, taps=tuple(taps))

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps; no gradient reaches the CLIP."""
        taps = self.frozen(images_B3HW, dense=False).taps
        if self.pyramid is not None:
            return self.pyramid(taps)  # type: ignore[no-any-return]
        return [taps[place] for place in self.taken]

    def start_from(self, weights: str | None) -> None:
        """The CLIP has its weights already."""
        if weights is not None:
            raise ValueError(f"trunk_weights={weights!r} belong to another trunk; the trunk 'clip' is the CLIP itself")


class ResNet50(DetectorTrunk):
    """torchvision's ResNet-50 with batch norms that neither learn nor count, by its own names.

    Source: DETR (arXiv:2005.12872): stem and first stage never learn.

    Args:
        strides: Of the maps, finest first: 4, 8, 16 and 32 are the outputs of its four stages.
        frozen_stages: First stages that do not learn, the stem with them; -1 lets all of it learn.
        stride_first: Whether the 1x1 convolution of a stage's first block halves the map, and not the 3x3.

    Raises:
        ValueError: It has no stage of a stride.
    """

    def __init__(
        self, *, strides: Sequence[int] = (8, 16, 32), frozen_stages: int = 1, stride_first: bool = False
    ) -> None:
        super().__init__()
        if not set(strides) <= {4, 8, 16, 32}:
            raise ValueError(f"strides {tuple(strides)} of a ResNet-50 are some of 4, 8, 16 and 32")
        stock: Any = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        self.conv1, self.bn1 = stock.conv1, stock.bn1
        self.layer1, self.layer2, self.layer3, self.layer4 = stock.layer1, stock.layer2, stock.layer3, stock.layer4
        self.strides = tuple(strides)
        self.widths = tuple(64 * stride for stride in strides)
        stages = [self.layer1, self.layer2, self.layer3, self.layer4]
        if stride_first:
            for stage in stages[1:]:
                stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
        for part in [self.conv1, *stages[:frozen_stages]] if frozen_stages >= 0 else []:
            part.requires_grad_(False)

    def stem(self, images_B3HW: Tensor) -> Tensor:
        """Normalised images -> the map ahead of the first stage, stride 4."""
        stem = F.relu(self.bn1(self.conv1(images_B3HW)))
        return F.max_pool2d(stem, kernel_size=3, stride=2, padding=1)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """The maps; stages behind the last one that is wanted do not run."""
        features, maps = self.stem(images_B3HW), {}
        for stride, stage in zip((4, 8, 16, 32), (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            if stride > max(self.strides):
                break
            features = maps[stride] = stage(features)
        return [maps[stride] for stride in self.strides]

    def start_from(self, weights: str | None) -> None:
        """Takes a file of torchvision's, whose classifier is left out."""
        if weights is None:
            raise ValueError(
                "a ResNet-50 whose batch norms are frozen does not learn from nothing; pass trunk_weights=resnet50.pth "
                f"(torchvision's file of ImageNet weights), or {RANDOM!r} if that is meant"
            )
        if weights != RANDOM:
            held = read_state_dict(Path(weights))
            self.take(held, source=weights)

    def take(self, held: Mapping[str, Tensor], *, source: str) -> None:
        """Loads tensors of torchvision's names; its classifier and counters are left out.

        Raises:
            ValueError: Tensors are missing, left over or of another shape.
        """
        spare = ("fc.", "num_batches_tracked")
        state = {
            name: value for name, value in held.items() if not name.startswith(spare[0]) and not name.endswith(spare[1])
        }
        check_fit(state, self.state_dict(), source=source, advice="pass torchvision's resnet50 as trunk_weights")
        self.load_state_dict(state, strict=True)


def _swin_b(strides: Sequence[int]) -> DetectorTrunk:
    places = {4: 0, 8: 1, 16: 2, 32: 3}
    if not set(strides) <= set(places):
        raise ValueError(f"strides {tuple(strides)} of a Swin transformer are some of {sorted(places)}")
    return SwinTrunk(**SWIN_B, out_stages=[places[stride] for stride in strides])


Builder = Callable[[DenseCLIP, Sequence[int], Sequence[int]], DetectorTrunk]

TRUNKS: Final[Mapping[str, Builder]] = {
    "clip": lambda clip, strides, taps: ClipTrunk(clip, strides=strides, taps=taps),
    "resnet50": lambda clip, strides, taps: ResNet50(strides=strides),
    "swin_b": lambda clip, strides, taps: _swin_b(strides),
}
"""Setting `trunk` -> (clip, strides, taps) -> the trunk."""


def build_trunk(
    name: str, clip: DenseCLIP, *, strides: Sequence[int] = (8, 16, 32), taps: Sequence[int] = ()
) -> DetectorTrunk:
    """The trunk that a setting names, with fresh weights where it has none; see `DetectorTrunk.start_from`.

    Args:
        name: Row of `TRUNKS`.
        clip: The detector's CLIP.
        strides: Of the maps, finest first.
        taps: Blocks of a CLIP that is a transformer; see `ClipTrunk`.

    Raises:
        ValueError: There is no such trunk, or it has no such maps.
    """
    return pick(TRUNKS, name, what="trunk")(clip, strides, taps)
