"""ODISE's backbone on a toy diffusion model; published numbers are in tests/conformance."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.support.diffusion import tiny_diffusion, write_tiny_diffusion
from tests.support.panoptic import draw_world, write_world
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.panoptic.generators.diffusion import LatentDiffusion, Taps
from clipself.panoptic.generators.features import open_features
from clipself.panoptic.generators.odise.backbone import DiffusionFeatures, DiffusionPyramid, corners_of
from clipself.panoptic.generators.odise.captioner import ImplicitCaptioner, embed_pixels
from clipself.panoptic.generators.own import load_own_masks
from clipself.panoptic.settings import OwnMasksSettings
from clipself.panoptic.train import train_panoptic

EMPTY = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def diffusion() -> LatentDiffusion:
    return LatentDiffusion(*tiny_diffusion(), empty_1LC=EMPTY)


def make(diffusion: LatentDiffusion, *, captioner: bool = True, crop: int = 128) -> DiffusionPyramid:
    torch.manual_seed(0)
    return DiffusionPyramid(diffusion, tiny_openai_clip() if captioner else None, projection=128, crop=crop)


@pytest.mark.parametrize(
    ("size", "side", "corners"),
    [
        pytest.param((64, 64), 64, [(0, 0)], id="one"),
        pytest.param((64, 160), 64, [(0, 0), (0, 64), (0, 96)], id="the-last-is-pushed-back"),
        pytest.param((128, 192), 128, [(0, 0), (0, 64)], id="overlap"),
        pytest.param((128, 128), 64, [(0, 0), (0, 64), (64, 0), (64, 64)], id="row-by-row"),
    ],
)
def test_corners(size: tuple[int, int], side: int, corners: list[tuple[int, int]]) -> None:
    assert list(corners_of(size, side)) == corners


def test_captions_start_at_the_empty_text_and_follow_the_clip() -> None:
    clip = tiny_openai_clip()
    captioner = ImplicitCaptioner(clip_dim=32, length=5, width=16, time_width=7)
    pixels = torch.rand(2, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    seen = embed_pixels(clip, pixels)
    told = captioner(seen, empty_1LC=EMPTY)
    assert torch.equal(told.prompt_BLC, EMPTY.expand(2, -1, -1))
    assert torch.equal(told.time_B1T, torch.zeros(2, 1, 7))
    captioner.alpha_cond.data.fill_(0.5)
    captioner.alpha_cond_time_embed.data.fill_(-1.0)
    told = captioner(seen, empty_1LC=EMPTY)
    project, shift = captioner.clip_project, captioner.time_embed_project
    for image in range(2):
        for token in range(5):
            said = project.linear(seen[image]) + project.positional_embedding[0, token]
            torch.testing.assert_close(told.prompt_BLC[image, token], EMPTY[0, token] + 0.46211716 * said)
        expected = -0.76159416 * (shift.linear(seen[image]) + shift.positional_embedding[0, 0])
        torch.testing.assert_close(told.time_B1T[image, 0], expected)


def test_the_clip_is_not_normalised_and_sees_a_square() -> None:
    clip = tiny_openai_clip()
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    mean, std = (torch.tensor(one)[:, None, None] for one in (clip.image_mean, clip.image_std))
    torch.testing.assert_close(embed_pixels(clip, pixels), clip.encode_image((pixels - mean) / std, normalize=False))
    assert embed_pixels(clip, torch.rand(1, 3, 48, 80)).shape == (1, 32)


def test_crops_are_projected_by_stride_and_their_overlap_is_averaged(diffusion: LatentDiffusion) -> None:
    pyramid = make(diffusion)
    images = torch.rand(1, 3, 128, 192, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        levels = pyramid(images)
        maps = [pyramid.read(images[..., left : left + 128]) for left in (0, 64)]
        project = pyramid.feature_projections
        for place, (stride, taps) in enumerate([(4, (0, 7)), (8, (1, 5, 6)), (16, (4,)), (32, (2, 3))]):
            side, shift = 128 // stride, 64 // stride
            parts = [
                sum(project[tap](F.interpolate(read[tap], size=(side, side), mode="nearest")) for tap in taps)
                for read in maps
            ]
            expected = torch.cat(
                [parts[0][..., :shift], (parts[0][..., shift:] + parts[1][..., :-shift]) / 2, parts[1][..., -shift:]],
                -1,
            )
            torch.testing.assert_close(levels[place], expected, atol=1e-5, rtol=1e-5)


def test_small_pictures_are_enlarged_to_a_crop(diffusion: LatentDiffusion) -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    pyramid = make(diffusion)
    assert [level.shape[-1] for level in pyramid(images)] == [8, 4, 2, 1]
    with pytest.raises(ValueError, match="images of 64 x 40 do not divide by 32"):
        pyramid(torch.zeros(1, 3, 64, 40))


def test_captioner_and_projections_learn_and_nothing_else(diffusion: LatentDiffusion) -> None:
    pyramid = make(diffusion)
    sum(level.sum() for level in pyramid(torch.rand(2, 3, 64, 64))).backward()
    grown = {name.split(".")[0] for name, parameter in pyramid.named_parameters() if parameter.grad is not None}
    assert grown == {"feature_extractor", "feature_projections"}
    assert pyramid.feature_extractor is not None
    assert pyramid.feature_extractor.alpha_cond.grad is not None
    assert float(pyramid.feature_extractor.alpha_cond.grad.abs().sum()) > 0
    assert make(diffusion, captioner=False).feature_extractor is None
    assert not any(parameter.requires_grad for parameter in diffusion.vae.parameters())


def test_what_does_not_fit_is_refused(diffusion: LatentDiffusion) -> None:
    with pytest.raises(ValueError, match="projection=64 must be a multiple of 128, the groups"):
        DiffusionPyramid(diffusion, None, projection=64)
    few = LatentDiffusion(*tiny_diffusion(), empty_1LC=EMPTY, taps=Taps(unet=(8,)))
    with pytest.raises(ValueError, match=r"no block that is read has stride 32; they have \[4, 8, 16\]"):
        DiffusionPyramid(few, None, projection=128)


def test_a_generator_is_trained_on_diffusion_features_and_read_again(tmp_path: Path) -> None:
    model = str(write_tiny_diffusion(tmp_path / "sd"))
    annotations, images = write_world(tmp_path / "world", count=4)
    save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    out = train_panoptic(
        annotations=annotations, images=images, out=tmp_path / "run", model=str(tmp_path / "clip"), max_steps=1,
        batch_size=2, workers=0, device="cpu", precision="fp32", loss={"num_points": 16},
        generator={
            "features": f"diffusion:{model}", "image_size": 64, "channels": 32, "pixel_layers": 1, "layers": 1,
            "hidden": 16, "pixel_hidden": 16, "queries": 4, "heads": 2, "templates": "simple",
        },
    ).out  # fmt: skip
    saved = load_file(out / "mask_model.safetensors")
    assert {".".join(name.split(".")[1:3]) for name in saved if name.startswith("pyramid")} == {
        "backbone.feature_extractor", "backbone.feature_projections",
    }  # fmt: skip
    generator = load_own_masks(out)
    found = generator(draw_world(0)[0], file="", names=["red box", "sky"])
    assert found.masks_QYX.shape == (4, 16, 16)
    assert isinstance(generator.features, DiffusionFeatures)
    white = generator.clip.preprocess(torch.ones(3, 64, 64), size=64)[None]
    torch.testing.assert_close(generator.features.read(white)[0], torch.ones(1, 3, 64, 64))
    unet = tmp_path / "sd/unet/diffusion_pytorch_model.safetensors"
    weights = load_file(unet)
    weights["conv_in.bias"] += 1
    save_file(weights, unet, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"sd has other weights than in the training .* put that model back"):
        load_own_masks(out)
    with pytest.raises(ValueError, match="unknown kind of features 'difusion'"):
        open_features(OwnMasksSettings(features="difusion:x"), generator.clip)
