"""Guides: maps of stock models against their own forward pass, weights strict, sizes and refusals."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from timm.models import save_for_hf
from torch import Tensor

from clipself.backbones.guides import PatchGuide, check_pixels, clip_guide, find_guide, guide_kind

SMALL: dict[str, dict[str, Any]] = {
    "vit_small_patch14_dinov2": {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 56},
    "vit_small_patch16_dinov3": {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32},
    "samvit_base_patch16": {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 64, "global_attn_indexes": [1]},
    "vit_base_patch16_radio_v3": {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 64},
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [4, 8, 8, 16]},
}
"""DINOv2, DINOv3, SAM's encoder, C-RADIO and a convolutional one, at toy sizes."""


def pixels(height: int, width: int, *, count: int = 2) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


def folder_of(name: str, folder: Path) -> tuple[Path, Any]:
    """A small model of timm's, saved as timm saves it."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = timm.create_model(name, num_classes=0, **SMALL[name]).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    save_for_hf(model, folder, model_args=SMALL[name])
    return folder, model


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_saved_model_of_timm_gives_its_own_last_map(name: str, tmp_path: Path) -> None:
    folder, model = folder_of(name, tmp_path / "guide")
    guide = find_guide(str(folder))
    stride = guide.stride
    assert stride == {"vit_small_patch14_dinov2": 14, "convnext_atto": 32}.get(name, 16)
    images = pixels(4 * stride, 4 * stride)  # dinov2 and radio: the size that the table of positions was made for
    mean, std = (torch.tensor(model.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    stock = model.forward_features((images - mean) / std)
    if stock.ndim == 3:
        patches = stock[:, model.num_prefix_tokens :]
        stock = torch.stack([row.T.reshape(-1, 4, 4) for row in patches])
    torch.testing.assert_close(guide(images), F.normalize(stock, dim=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_any_size_and_a_grid_that_is_given(name: str, tmp_path: Path) -> None:
    folder, _ = folder_of(name, tmp_path / "guide")
    guide = find_guide(str(folder))
    found = guide(pixels(3 * guide.stride + 3, 5 * guide.stride - 2))
    assert found.shape[-2:] == (3, 5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2, 3, 5))
    assert guide(pixels(50, 70), grid=(4, 7)).shape[-2:] == (4, 7)
    assert not found.requires_grad
    assert find_guide(str(folder)) is guide


def test_weights_of_a_file_are_converted_and_strict(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    model = timm.create_model(name, pretrained=False).eval()  # with a classifier, which a guide has no use for
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, tmp_path / "a.pth"
    )
    guide = find_guide(f"timm:{name}@{tmp_path / 'a.pth'}")
    images = pixels(224, 224, count=1)
    with torch.no_grad():
        patches = model.forward_features((images - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(guide(images).flatten(2).mT, F.normalize(patches, dim=-1), atol=1e-5, rtol=1e-5)
    state = {key: value for key, value in model.state_dict().items() if key != "blocks.3.mlp.fc1.bias"}
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.3\.mlp\.fc1\.bias"):
        find_guide(f"timm:{name}@{tmp_path / 'short.safetensors'}")


def test_a_model_of_transformers(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path)
    guide = find_guide(str(tmp_path))
    images = pixels(42, 70)
    mean, std = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        stock = model((images - mean) / std).last_hidden_state[:, 1:]
    torch.testing.assert_close(guide(images).flatten(2).mT, F.normalize(stock, dim=-1), atol=1e-5, rtol=1e-5)
    assert guide(images).shape == (2, 16, 3, 5)


def test_a_clip_guides_itself() -> None:
    clip = tiny_openai_clip()
    guide = find_guide("clip", clip=clip)
    images = pixels(24, 40)
    mean, std = (torch.tensor(each)[:, None, None] for each in (clip.image_mean, clip.image_std))
    entered = clip.taps((images - mean) / std, [0])[0]  # of two blocks: what enters the last
    torch.testing.assert_close(guide(images), F.normalize(entered, dim=1))
    resnet = tiny_resnet_clip()
    assert clip_guide(resnet)(pixels(96, 64)).shape[-2:] == (3, 2)


def test_pixels_are_told_from_normalised_images() -> None:
    check_pixels(pixels(4, 4))
    with pytest.raises(ValueError, match="ahead of their normalisation"):
        check_pixels(pixels(4, 4) - 0.5)
    with pytest.raises(ValueError, match=r"images \(N, 3, H, W\), got \(3, 4, 4\)"):
        check_pixels(pixels(4, 4)[0])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dino", "unknown guide 'dino'; expected 'clip', 'timm:NAME'"),
        ("timm:", "unknown guide"),
        ("timm:vit_none", "has no model 'vit_none'"),
        ("clip", "none was passed"),
        ("clip:ViT-B-16", "takes no name"),
        ("timm:resmlp_12_224@random", "not of its own size"),
    ],
)
def test_what_is_no_guide(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_guide(name)


def test_a_folder_of_transformers_without_all_weights(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    held = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**held, "num_hidden_layers": 2}))
    with pytest.raises(ValueError, match="lacks weights of its own model"):
        find_guide(str(tmp_path))
    assert guide_kind(str(tmp_path))[0] == "hf"


def test_a_guide_of_ones_own() -> None:
    """A cell's map is the mean colour of its pixels; anything callable will do."""
    pool = torch.nn.AvgPool2d(4)
    guide = find_guide(PatchGuide(name="colour", read=pool, net=pool, stride=4, mean=(0, 0, 0), std=(1, 1, 1)))
    images = pixels(8, 12, count=1)
    cell = images[0, :, 4:8, 8:12].mean((1, 2))
    length = math.sqrt(sum(float(one) ** 2 for one in cell))
    torch.testing.assert_close(guide(images)[0, :, 1, 2], cell / length)
