"""The table of trunks: the view that fits a stock vision tower."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.fastvit import FastVit
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer

from clipself.backbones.eva import EvaTrunk
from clipself.backbones.resnet import ResNetTrunk
from clipself.backbones.timm_conv import ConvNeXtTrunk, FastVitTrunk
from clipself.backbones.timm_vit import TimmVitTrunk
from clipself.backbones.tips import TipsTrunk, TipsVision
from clipself.backbones.trunk import Trunk
from clipself.backbones.vit import OpenClipTrunk

TRUNKS: Final[Mapping[type, Callable[[Any], Trunk]]] = {
    VisionTransformer: OpenClipTrunk,
    Eva: EvaTrunk,
    TimmVisionTransformer: TimmVitTrunk,
    ModifiedResNet: ResNetTrunk,
    ConvNeXt: ConvNeXtTrunk,
    FastVit: FastVitTrunk,
    TipsVision: TipsTrunk,
}
"""Stock tower class -> the view of it; a new family is one line here and one file."""


def view_trunk(visual: Any) -> Trunk:
    """The view that fits a stock vision tower.

    Raises:
        ValueError: There is no view of this family.
    """
    tower = visual.trunk if isinstance(visual, TimmModel) else visual
    for stock, view in TRUNKS.items():
        if isinstance(tower, stock):
            return view(visual)
    families = ", ".join(f"{stock.__module__}.{stock.__name__}" for stock in TRUNKS)
    raise ValueError(f"{type(tower).__name__} has no dense readout; the families that have one: {families}")
