"""`odise_diffusion`: captioner, taps of a small latent diffusion model, projections and crops of ODISE."""

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor

from clipself.backbones.strict import check_fit
from clipself.conformance.check import Check, compare, compare_stored
from clipself.conformance.dense_models import Arrays
from clipself.conformance.filling import fill_manifest, small_clip
from clipself.panoptic.generators.diffusion import LatentDiffusion, Taps
from clipself.panoptic.generators.odise.backbone import DiffusionPyramid
from clipself.panoptic.generators.odise.captioner import embed_pixels

TRAINED: Final = "backbone."
EMPTY_TEXT: Final = "backbone.feature_extractor.ldm_extractor.ldm.uncond_inputs"


@torch.no_grad()
def run(manifest: Mapping[str, Any], arrays: Arrays) -> list[Check]:
    """Fills the model, reads the stored images and pictures, compares every other array."""
    pyramid, parts = build(manifest)
    given = {name for name in arrays if name == "image" or name.startswith("picture_")}
    ours = _read(pyramid, parts, torch.from_numpy(arrays["image"]))
    for name in given - {"image"}:
        place = name.removeprefix("picture_")
        levels = pyramid(torch.from_numpy(arrays[name]))
        ours |= {
            f"s{stride.bit_length() - 1}_{place}": one for stride, one in zip(pyramid.strides, levels, strict=True)
        }
    config = manifest["config"]
    widths, strides = config["feature_channels"], config["feature_strides"]
    checks = [
        compare("feature_channels", [tap.width for tap in parts.taps], widths, atol=0.0),
        compare("feature_strides", [tap.stride for tap in parts.taps], strides, atol=0.0),
    ]
    return checks + compare_stored(manifest, arrays, ours, default=1e-3, given=given)


def _read(pyramid: DiffusionPyramid, diffusion: LatentDiffusion, images: Tensor) -> dict[str, Tensor]:
    """What the manifest stores of images that have the size of a crop."""
    told = pyramid.caption(images)
    latent = diffusion.encode(images)
    clip: Any = pyramid._frozen[1]  # type: ignore[index]
    assert told.time_B1T is not None
    return {
        "clip_embed": embed_pixels(clip, images),
        "cond_inputs": told.prompt_BLC,
        "cond_emb": told.time_B1T,
        "latent": latent,
        "shared_noise": diffusion.noise(latent.shape[-1]),
        "noisy_latent": diffusion.noisy(latent),
        **{f"feature_{place}": one for place, one in enumerate(pyramid.read(images))},
    }


def build(manifest: Mapping[str, Any]) -> tuple[DiffusionPyramid, LatentDiffusion]:
    """The backbone of a manifest, all of it by rule, and the frozen model within.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: A tensor does not fit.
    """
    config, state = manifest["config"], fill_manifest(manifest)
    released = {row["name"]: row["diffusers"] for row in manifest["params"] if "diffusers" in row}
    frozen = {new: state.pop(old) for old, new in released.items()}
    vae, unet = small_diffusion(config, frozen)
    taps = Taps(**{name: tuple(places) for name, places in config["taps"].items()})
    diffusion = LatentDiffusion(vae, unet, empty_1LC=state.pop(EMPTY_TEXT), taps=taps)
    tower = {name.removeprefix("clip."): value for name, value in state.items() if name.startswith("clip.")}
    clip = small_clip(config["clip"], tower, image_size=config["clip"]["res"])
    least, most = int(config["min_stride"]), int(config["max_stride"])
    strides = [2**power for power in range(least.bit_length() - 1, most.bit_length())]
    pyramid = DiffusionPyramid(diffusion, clip, projection=config["projection"], crop=config["side"], strides=strides)
    learnt = {name.removeprefix(TRAINED): value for name, value in state.items() if name.startswith(TRAINED)}
    check_fit(learnt, pyramid.state_dict(), source="the manifest", advice="its names are not those of the release")
    pyramid.load_state_dict(learnt, strict=True)
    return pyramid.eval(), diffusion


def small_diffusion(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[Any, Any]:
    """Autoencoder and U-Net of diffusers whose sizes a manifest tells, loaded strictly.

    Args:
        config: Of the manifest.
        state: Tensors by diffusers' names under "vae." and "unet.".

    Raises:
        ImportError: diffusers is not installed.
        ValueError: A tensor does not fit.
    """
    try:
        from diffusers import AutoencoderKL, UNet2DConditionModel
    except ImportError as error:
        raise ImportError("this manifest needs the extra: pip install 'clipself[diffusion]'") from error
    levels, latent = len(config["mult"]), int(state["vae.post_quant_conv.weight"].shape[0])
    vae = AutoencoderKL(
        block_out_channels=tuple(config["vae_ch"] * factor for factor in config["mult"]),
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=_count(state, r"vae\.encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        latent_channels=latent,
        scaling_factor=config["scale_factor"],
    )
    attends = [
        any(name.startswith(f"unet.down_blocks.{level}.attentions.") for name in state) for level in range(levels)
    ]
    unet = UNet2DConditionModel(
        in_channels=latent,
        out_channels=latent,
        block_out_channels=tuple(config["unet_ch"] * factor for factor in config["mult"]),
        down_block_types=tuple("CrossAttnDownBlock2D" if one else "DownBlock2D" for one in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if one else "UpBlock2D" for one in reversed(attends)),
        layers_per_block=_count(state, r"unet\.down_blocks\.0\.resnets\.(\d+)\."),
        attention_head_dim=config["unet_heads"],
        cross_attention_dim=config["context_dim"],
    )
    for prefix, module in (("vae.", vae), ("unet.", unet)):
        own = module.state_dict()
        named = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        # The release's attention among latents are convolutions of one pixel, diffusers' are linear layers.
        fitted = {name: value.reshape(own[name].shape) if name in own else value for name, value in named.items()}
        check_fit(fitted, own, source="the manifest", advice="its sizes are not those of its tensors")
        module.load_state_dict(fitted, strict=True)
    return vae.eval(), unet.eval()


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers a pattern finds in the names."""
    found = (re.match(pattern, name) for name in state)
    return len({one.group(1) for one in found if one is not None})
