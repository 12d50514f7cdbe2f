"""The frozen diffusion model on diffusers' own classes at toy size; published numbers are in tests/conformance."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.diffusion import tiny_diffusion, write_tiny_diffusion

from clipself.panoptic.generators.diffusion import LatentDiffusion, Taps, inputs_of, load_diffusion

EMPTY = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def diffusion() -> LatentDiffusion:
    return LatentDiffusion(*tiny_diffusion(), empty_1LC=EMPTY)


def images(side: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))


def test_eight_blocks_are_read_at_the_published_places(diffusion: LatentDiffusion) -> None:
    vae, unet = diffusion.vae, diffusion.unet
    expected = [
        *(vae.encoder.down_blocks[level].resnets[1] for level in (2, 3)),
        *(unet.up_blocks[level].resnets[2] for level in (0, 1, 2, 3)),
        *(vae.decoder.up_blocks[level].resnets[2] for level in (0, 1)),
    ]
    assert [tap.block for tap in diffusion.taps] == expected
    assert [tap.stride for tap in diffusion.taps] == [4, 8, 64, 32, 16, 8, 8, 4]
    found = diffusion.read(images(), prompt_BLC=EMPTY.expand(2, -1, -1))
    assert [tuple(one.shape) for one in found] == [
        (2, tap.width, 64 // tap.stride, 64 // tap.stride) for tap in diffusion.taps
    ]


def test_what_is_read_is_what_diffusers_own_pass_hands_to_these_blocks(diffusion: LatentDiffusion) -> None:
    """Encoder and decoder run whole by diffusers' own functions; the U-Net on a latent made by hand."""
    vae, unet = diffusion.vae, diffusion.unet
    blocks = [tap.block for tap in diffusion.taps]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(42))
    with torch.no_grad(), inputs_of(blocks) as expected:  # diffusers' own passes, the whole of each
        clean = vae.encode(images() * 2 - 1).latent_dist.mean
        noisy = (1 - 0.00085) ** 0.5 * clean * vae.config.scaling_factor + 0.00085**0.5 * noise
        unet(noisy, 0, encoder_hidden_states=EMPTY.expand(2, -1, -1))
        vae.decode(clean)
    found = diffusion.read(images(), prompt_BLC=EMPTY.expand(2, -1, -1))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_what_is_added_to_the_time_is_added_behind_its_embedding(diffusion: LatentDiffusion) -> None:
    shift = torch.randn(1, 1, diffusion.time_width, generator=torch.Generator().manual_seed(3))
    unet = diffusion.unet
    with inputs_of([unet.mid_block.resnets[0].time_emb_proj]) as seen:
        diffusion.read(images(128)[:1], prompt_BLC=EMPTY, time_B1T=shift)
    with inputs_of([unet.mid_block.resnets[0].time_emb_proj]) as plain:
        diffusion.read(images(128)[:1], prompt_BLC=EMPTY)
    time = unet.time_embedding(unet.time_proj(torch.zeros(1)))
    torch.testing.assert_close(seen[0], torch.nn.functional.silu(time + shift[0]))
    torch.testing.assert_close(plain[0], torch.nn.functional.silu(time))


def test_gradients_reach_the_prompt_and_nothing_that_is_frozen(diffusion: LatentDiffusion) -> None:
    prompt = EMPTY.expand(2, -1, -1).clone().requires_grad_()
    found = diffusion.read(images(), prompt_BLC=prompt)
    assert [one.requires_grad for one in found] == [False, False, True, True, True, True, False, False]
    found[3].sum().backward()  # type: ignore[no-untyped-call]
    assert prompt.grad is not None
    assert float(prompt.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in diffusion.unet.parameters())


def test_what_does_not_fit_is_refused() -> None:
    vae, unet = tiny_diffusion()
    with pytest.raises(ValueError, match=r"taps \(12,\) of the U-Net must be within 0\.\.11, its residual blocks"):
        LatentDiffusion(vae, unet, empty_1LC=EMPTY, taps=Taps(unet=(12,)))
    with pytest.raises(ValueError, match=r"a text of shape \(1, 5, 8\) for a U-Net that attends to 16 channels"):
        LatentDiffusion(vae, unet, empty_1LC=EMPTY[..., :8])


def test_a_checkpoint_of_diffusers_is_read(tmp_path: Path) -> None:
    """The empty text is the start, then ends up to the tower's length."""
    folder = write_tiny_diffusion(tmp_path / "sd")
    from transformers import CLIPTextModel

    read = load_diffusion(str(folder))
    tower = CLIPTextModel.from_pretrained(folder / "text_encoder")
    with torch.no_grad():
        expected = tower(input_ids=torch.tensor([[2, 3, 3, 3, 3]])).last_hidden_state
    torch.testing.assert_close(read.empty_1LC, expected)
    assert not any(parameter.requires_grad for parameter in read.unet.parameters())
    with pytest.raises(ValueError, match=r"diffusers finds no model at .*nowhere'.*pass a folder or a hub name"):
        load_diffusion(str(tmp_path / "nowhere"))


def test_a_missing_library_is_said_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'clipself\[diffusion,transformers\]'"):
        load_diffusion("some/model")


def test_inputs_are_kept_in_the_order_of_the_modules() -> None:
    first, second = torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)
    given: Any = torch.ones(1, 2)
    with inputs_of([second, first]) as found:
        second(first(given))
    assert [one.shape[-1] for one in found] == [3, 2]
    second(first(given))
    assert len(found) == 2
