"""Two-block CLIPs with fixed random weights: the real stock classes at toy sizes, milliseconds each."""

from collections.abc import Callable
from typing import Any

import torch

from clipself.backbones.dense_clip import DenseCLIP, TowerIdentity
from clipself.backbones.loading import build_clip, load_clip

TEXT_CFG: dict[str, Any] = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}


def tiny_openai_clip(seed: int = 0, *, layers: int = 2) -> DenseCLIP:
    """ViT: width 64, patch 8, native 32 px, joint dimension 32, QuickGELU."""
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": layers, "head_width": 32}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT_CFG}
    return _build("tiny-openai", config, seed)


def tiny_resnet_clip(seed: int = 0) -> DenseCLIP:
    """ResNet with one bottleneck a stage: stages of 64 to 512 channels, native 64 px (2 x 2), 8 heads."""
    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT_CFG}
    clip = _build("tiny-resnet", config, seed)
    for name, parameter in clip.clip.visual.named_parameters():  # type: ignore[union-attr]
        if name.endswith("bn3.weight"):  # new ones are 0, which would switch the bottlenecks off
            torch.nn.init.ones_(parameter)
    return clip


def tiny_eva_clip(seed: int = 0, *, layers: int = 3) -> DenseCLIP:
    """EVA-02 tower shrunk to width 64: rotary positions, inner norms, SwiGLU; patch 16, native 224 px."""
    from timm.models import register_model
    from timm.models._registry import is_model
    from timm.models.eva import Eva, eva02_base_patch16_clip_224

    name = f"clipself_test_tiny_eva_{layers}"
    if not is_model(name):

        def clipself_test_tiny_eva(pretrained: bool = False, **kwargs: Any) -> Eva:
            kwargs.pop("cache_dir", None)
            small = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": layers, "num_heads": 2}
            return eva02_base_patch16_clip_224(pretrained=False, **{**kwargs, **small})

        clipself_test_tiny_eva.__module__ = "timm.models.eva"
        clipself_test_tiny_eva.__name__ = name
        register_model(clipself_test_tiny_eva)
    vision = {
        "image_size": 64,
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    }
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT_CFG, "custom_text": True}
    return _build("tiny-eva", config, seed)


def tiny_timm_clip(seed: int = 0) -> DenseCLIP:
    """timm's ViT shrunk to width 64: fused projections, layer scale, patch 16, native 64 px."""
    from timm.models import register_model
    from timm.models._registry import is_model
    from timm.models.vision_transformer import VisionTransformer

    name = "clipself_test_tiny_timm"
    if not is_model(name):

        def clipself_test_tiny_timm(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
            for unused in ("cache_dir", "pretrained_cfg", "pretrained_cfg_overlay"):
                kwargs.pop(unused, None)
            small = {"patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2, "init_values": 1.0}
            return VisionTransformer(**{**kwargs, **small, "img_size": 64, "global_pool": "token"})

        clipself_test_tiny_timm.__module__ = "timm.models.vision_transformer"
        register_model(clipself_test_tiny_timm)
    vision = {
        "image_size": 64,
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": "token",
        "timm_proj": None,
    }
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": TEXT_CFG, "custom_text": True}
    return _build("tiny-timm", config, seed)


def _build(name: str, config: dict[str, Any], seed: int) -> DenseCLIP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = build_clip(
            name, config, identity=TowerIdentity(image=f"{name}@{seed}", text=f"{name}@{seed}"), random=True
        )
        # The stock towers start almost linear (deviations of 0.02); give them weights that a test can tell apart.
        for parameter in clip.clip.visual.parameters():  # type: ignore[union-attr]
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return clip.eval()


TINY: dict[str, Callable[[], DenseCLIP]] = {
    "openai": tiny_openai_clip,
    "eva": tiny_eva_clip,
    "timm": tiny_timm_clip,
    "resnet": tiny_resnet_clip,
    "mini": lambda: load_clip("clipself-mini"),
}
"""One of every family of towers."""
