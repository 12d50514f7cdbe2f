from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.panoptic import draw_world, write_world
from tests.support.tiny import tiny_openai_clip
from torch import Tensor, nn

from clipself.backbones.export import save_clip
from clipself.panoptic.generators.diffusion import DiffusionPyramid, load_diffusion_pyramid
from clipself.panoptic.generators.fcclip import FcClipHeads
from clipself.panoptic.generators.own import load_own_masks, open_features
from clipself.panoptic.settings import OwnMasksSettings
from clipself.panoptic.train import train_panoptic
from clipself.structures import TextRows


class FakeEncoder(nn.Module):
    """Halves the picture three times, as the encoder of latents does."""

    def __init__(self) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(nn.Conv2d(w, 8, 2, stride=2) for w in (3, 8, 8))
        self.config = SimpleNamespace(scaling_factor=0.5)

    @property
    def encoder(self) -> nn.Module:
        return self

    def encode(self, images: Tensor) -> Any:
        for block in self.down_blocks:
            images = block(images)
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=images[:, :4]))


class FakeUNet(nn.Module):
    """Down to stride 32 and up again; blocks return tuples as diffusers' do."""

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        self.down_blocks = nn.ModuleList(nn.Conv2d(4 if i == 0 else 8, 8, 2, stride=2) for i in range(levels))
        self.mid_block = nn.Conv2d(8, 8, 1)
        self.up_blocks = nn.ModuleList(nn.ConvTranspose2d(8, 8, 2, stride=2) for _ in range(levels))
        self.config = SimpleNamespace(cross_attention_dim=6)

    def forward(self, latents: Tensor, time: Tensor, *, encoder_hidden_states: Tensor) -> Tensor:
        assert encoder_hidden_states.shape == (len(latents), 1, 6)
        assert time.tolist() == [0] * len(latents)
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            latents = block(latents)
        return latents


def check_pyramid(pyramid: DiffusionPyramid) -> None:
    """Shapes, what learns, and the way through the decoders."""
    levels = pyramid(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(2, 32, 16, 24), (2, 32, 8, 12), (2, 32, 4, 6), (2, 32, 2, 3)]
    assert {name.split(".")[0] for name, _ in pyramid.named_parameters()} == {"project"}
    heads = FcClipHeads(
        in_channels=(32,) * 4, embed_dim=8, channels=32, pixel_layers=1, pixel_hidden=16, layers=3, hidden=16,
        queries=5, heads=2,
    )  # fmt: skip
    (found,) = heads(levels, TextRows(rows_SD=torch.randn(3, 8), counts=(1, 2)))
    assert (found.masks_BQYX.shape, found.logits_BQK.shape) == ((2, 5, 16, 24), (2, 5, 3))
    found.masks_BQYX.mean().backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


def test_blocks_are_joined_by_stride() -> None:
    vae, unet = FakeEncoder(), FakeUNet()
    pyramid = DiffusionPyramid(vae, unet, channels=32)
    # stride 8: the encoder's last block and the U-Net's last; 16: one down, one up; 32: the lowest and the middle
    projections: Any = pyramid.project
    assert [project[0].in_channels for project in projections] == [8, 16, 16, 16]
    check_pyramid(pyramid)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no block of this model has stride 32; it has \[2, 4, 8, 16\]"):
        DiffusionPyramid(FakeEncoder(), FakeUNet(levels=1), channels=32)
    with pytest.raises(ValueError, match="no multiple of 32, the groups"):
        DiffusionPyramid(FakeEncoder(), FakeUNet(), channels=24)
    with pytest.raises(ValueError, match="do not divide by 32"):
        DiffusionPyramid(FakeEncoder(), FakeUNet(), channels=32)(torch.zeros(1, 3, 64, 40))


def test_a_tiny_model_of_diffusers(tmp_path: Any) -> None:
    diffusers = pytest.importorskip("diffusers")
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, layers_per_block=1,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 32, 32),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=16,
        attention_head_dim=8, layers_per_block=1,
    )  # fmt: skip
    vae.save_pretrained(tmp_path / "vae")
    unet.save_pretrained(tmp_path / "unet")
    check_pyramid(load_diffusion_pyramid(str(tmp_path), channels=32))


def test_a_generator_is_trained_on_diffusion_features_and_read_again(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fakes stand for a checkpoint of diffusers, whose loading alone is left out."""
    torch.manual_seed(0)
    fakes = (FakeEncoder(), FakeUNet())
    monkeypatch.setattr("clipself.panoptic.generators.own.load_diffusion", lambda name, device: fakes)
    annotations, images = write_world(tmp_path / "world", count=4)
    save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    before = [parameter.clone() for fake in fakes for parameter in fake.parameters()]
    out = train_panoptic(
        annotations=annotations, images=images, out=tmp_path / "run", model=str(tmp_path / "clip"), max_steps=2,
        batch_size=2, workers=0, device="cpu", precision="fp32", loss={"num_points": 16},
        generator={
            "features": "diffusion:some/model", "image_size": 64, "channels": 32, "pixel_layers": 1, "layers": 1,
            "hidden": 16, "pixel_hidden": 16, "queries": 4, "heads": 2, "templates": "simple",
        },
    ).out  # fmt: skip
    assert all(map(torch.equal, before, [parameter for fake in fakes for parameter in fake.parameters()]))
    saved = load_file(out / "mask_model.safetensors")
    assert {name.split(".")[1] for name in saved if name.startswith("pyramid")} == {"diffusion"}
    assert not any("down_blocks" in name for name in saved)
    generator = load_own_masks(out)
    found = generator(draw_world(0)[0], file="", names=["red box", "sky"])
    assert found.masks_QYX.shape == (4, 16, 16)
    assert generator.features.step == 32
    pixels = generator.features.read(generator.clip.preprocess(Image.new("RGB", (32, 32), "white"), size=32)[None])[0]
    torch.testing.assert_close(pixels, torch.ones(1, 3, 32, 32))
    with pytest.raises(ValueError, match="unknown kind of features 'difusion'"):
        open_features(OwnMasksSettings(features="difusion:x"), generator.clip)
