"""`odise_checkpoint_names`: what the released label and caption models hold, loaded strictly at full size."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final

import torch

from clipself.backbones.strict import check_fit
from clipself.conformance.check import Check, compare
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_listed
from clipself.panoptic.generators.diffusion import LatentDiffusion
from clipself.panoptic.generators.odise.backbone import DiffusionPyramid, PixelPyramid
from clipself.panoptic.generators.own import MaskModel
from clipself.panoptic.imported import load_odise, odise_settings_of

MODELS: Final = ("label", "caption")


def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills each list by rule and loads it as an import does; every tensor must find its place."""
    del arrays
    checks: list[Check] = []
    for name in MODELS:
        if name in manifest:
            checks += _check(name, manifest[name])
    return checks


@torch.no_grad()
def _check(name: str, listed: Sequence[Mapping[str, Any]]) -> list[Check]:
    state = fill_listed(listed)
    settings = odise_settings_of(state, source=f"the {name} model", diffusion="by rule")
    text_dim = int(next(value for key, value in state.items() if key.endswith("head.text_proj.weight")).shape[1])
    clip: Any = SimpleNamespace(embed_dim=int(state["backbone.feature_extractor.clip_project.linear.weight"].shape[1]))
    empty = torch.zeros_like(state["backbone.feature_extractor.alpha_cond"])
    diffusion = LatentDiffusion(*stable_diffusion(context=int(empty.shape[-1])), empty_1LC=empty)
    pyramid = DiffusionPyramid(diffusion, clip, projection=settings.diffusion.projection)
    model = MaskModel(settings, pyramid=PixelPyramid(pyramid), text_dim=text_dim)
    load_odise(model, state, source=f"the {name} model")
    held = {key.removeprefix("pyramid.").removeprefix("heads."): value for key, value in model.state_dict().items()}
    check_fit(held, state, source="this version", advice="its names are not the released ones")
    wrong = sum(not torch.equal(held[key], value) for key, value in state.items())
    learnt = sum(value.numel() for value in model.parameters())
    return [
        compare(f"{name}: tensors", len(held), len(listed), atol=0.0),
        compare(f"{name}: parameters", learnt, sum(value.numel() for value in state.values()), atol=0.0),
        compare(f"{name}: tensors that differ", wrong, 0, atol=0.0),
    ]


def stable_diffusion(*, context: int) -> tuple[Any, Any]:
    """Autoencoder and U-Net of Stable Diffusion 1 without their weights: the shapes of their blocks.

    Args:
        context: Width of the text that the U-Net attends to.

    Raises:
        ImportError: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError as error:
        raise ImportError("this manifest needs the extra: pip install 'clipself[diffusion]'") from error
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=4,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280), layers_per_block=2, attention_head_dim=8,
            cross_attention_dim=context,
        )  # fmt: skip
    return vae, unet
