"""The tower of `clipself-mini`: a plain timm ViT on the first stages of an EfficientNet-Lite, registered with timm.

Importing this module is enough for stock open_clip to read an export from any working directory::

    import open_clip
    import clipself.backbones.mini_tower

    model = open_clip.create_model("local-dir:runs/mine/blended")
    tokenizer = open_clip.get_tokenizer("local-dir:runs/mine/blended")
"""

from copy import deepcopy
from functools import wraps
from itertools import pairwise
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import HybridEmbed
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clipself.files import read_json

STEM_STAGES, STEM_CHANNELS = 5, 112
"""Stages of the EfficientNet kept: up to stride 16, 112 channels."""

PIXELS_AT_ONCE = 2 * 320 * 320
"""On a CPU: maps of more leave the caches and are fresh memory each time, which doubles the stem's time."""


class EfficientStem(nn.Module):
    """Images (B, 3, H, W) -> features (B, 112, H / 16, W / 16); frozen and always in evaluation mode.

    It is pre-trained and small data would only spoil its batch statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        self.num_features = STEM_CHANNELS
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = network.blocks[:STEM_STAGES]
        for conv in self.modules():
            if isinstance(conv, Conv2dSame):
                conv.__class__ = EvenConv
        self.requires_grad_(False)
        self.eval()
        self._folded: list[tuple[Any, nn.Module]] = []

    def train(self, mode: bool = True) -> "EfficientStem":
        """Stays in evaluation mode whatever is asked."""
        return super().train(False)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Stem features at stride 16; on CPUs channels go last inside, which they convolve up to twice as fast.

        On CUDA they stay first: cuDNN plans such convolutions for every new number of images, which took 1.3 s instead
        of 0.03 on an H200, for a pass of 5 ms.
        """
        if torch.compiler.is_exporting():
            exported: Tensor = self._layers()(images_B3HW)
            return exported
        images, layers = images_B3HW.contiguous(memory_format=_order(images_B3HW)), self._layers()
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            parts = torch.split(images, max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3])))
            return torch.cat([layers(part) for part in parts]).contiguous()
        features: Tensor = layers(images)
        return features.contiguous()

    def _layers(self) -> nn.Module:
        """The stages with their norms folded into the convolutions, which takes a third less time.

        The folded copy is made anew whenever a weight has changed; it is no part of the module's state.
        """
        plain = nn.Sequential(self.conv_stem, self.bn1, self.blocks)
        if torch.compiler.is_compiling() or any(parameter.requires_grad for parameter in plain.parameters()):
            return plain
        key = tuple((tensor.data_ptr(), tensor._version) for tensor in plain.state_dict(keep_vars=True).values())
        if not self._folded or self._folded[0][0] != key:
            folded = fold_norms(deepcopy(plain)).to(memory_format=_order(self.conv_stem.weight))
            self._folded = [(key, folded)]
        return self._folded[0][1]


def _order(tensor: Tensor) -> torch.memory_format:
    return torch.channels_last if tensor.device.type == "cpu" else torch.contiguous_format


def fold_norms(module: nn.Module) -> nn.Module:
    """Every batch norm that follows a convolution becomes part of it, in place; its activation stays."""
    for (first, conv), (second, norm) in pairwise(list(module.named_children())):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(module, first, fuse_conv_bn_eval(conv, norm))
            setattr(module, second, getattr(norm, "act", nn.Identity()))
    for child in module.children():
        fold_norms(child)
    return module


class EvenConv(nn.Conv2d):
    """A convolution of stride 2 that pads as TensorFlow does, on maps of even sides: by constants.

    timm's computes its padding from the size of the map, so that an exported graph of any size would be a maze.
    """

    def forward(self, maps_BCYX: Tensor) -> Tensor:
        """(B, C, 2 Y, 2 X) -> (B, C', Y, X)."""
        pads = [end for kernel in reversed(self.kernel_size) for end in ((kernel - 2) // 2, (kernel - 1) // 2)]
        return F.conv2d(F.pad(maps_BCYX, pads), self.weight, self.bias, self.stride, groups=self.groups)


@register_model  # type: ignore[untyped-decorator]
def clipself_mini_hybrid(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """Six blocks of width 256 with a class token over stride-16 features; 160 px, grid 10 x 10."""
    del pretrained
    for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(unused, None)
    options = {"img_size": 160, "patch_size": 1, "embed_dim": 256, "depth": 6, "num_heads": 4, "global_pool": "token"}

    def embed_layer(**given: Any) -> HybridEmbed:
        given.pop("in_chans", None)
        return HybridEmbed(EfficientStem(), feature_size=(given["img_size"] // 16,) * 2, **given)

    return VisionTransformer(**{**options, **kwargs}, embed_layer=embed_layer)


def _find_merges_beside_config() -> None:
    """open_clip opens `bpe_path` from the working directory; what a folder's configuration names lies in the folder."""
    stock = open_clip.factory.get_tokenizer

    @wraps(stock)
    def get_tokenizer(model_name: str = "", *arguments: Any, **options: Any) -> Any:
        folder = Path(model_name.removeprefix("local-dir:"))
        if model_name.startswith("local-dir:") and (folder / "open_clip_config.json").is_file():
            config = read_json(folder / "open_clip_config.json")
            named = config["model_cfg"].get("text_cfg", {}).get("tokenizer_kwargs", {}).get("bpe_path")
            if named is not None and (folder / Path(named).name).is_file():
                options.setdefault("bpe_path", str(folder / Path(named).name))
        return stock(model_name, *arguments, **options)

    open_clip.factory.get_tokenizer = open_clip.get_tokenizer = get_tokenizer


_find_merges_beside_config()
