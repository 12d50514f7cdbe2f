"""What a pre-training pass gives, against the stock model and by hand."""

from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip, tiny_timm_clip
from torch import Tensor, nn

from clipself.backbones.dense_clip import DenseCLIP
from clipself.losses.masked_features import masked_features
from clipself.pretraining.pair_tower import Disturbance, FeatureDecoder, PairTower, draw_visible

MAKERS = [tiny_openai_clip, tiny_eva_clip, tiny_timm_clip]


def tower_of(clip: DenseCLIP, *, decoder: nn.Module | None = None) -> PairTower:
    made: Any = decoder
    return PairTower(clip, decoder=made, counted="all", crop_grid=16, most_temperature=100.0).eval()


def pictures(clip: DenseCLIP, count: int = 3) -> Tensor:
    return torch.randn(count, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
@pytest.mark.parametrize("make", MAKERS)
def test_without_a_disturbance_it_is_the_clip(make: Any) -> None:
    clip = make()
    images, tokens = pictures(clip), clip.tokenizer(["a cat", "a dog", "a kite"])
    plain = tower_of(clip)(images, tokens, Disturbance())
    torch.testing.assert_close(plain.images_BD, clip.encode_image(images, normalize=False))
    torch.testing.assert_close(plain.texts_BD, clip.encode_text(["a cat", "a dog", "a kite"], normalize=False))
    torch.testing.assert_close(plain.temperature, clip.clip.logit_scale.exp())
    decoder = FeatureDecoder(width=clip.trunk.width, inner=32, layers=1, embed_dim=clip.embed_dim).eval()
    patches = clip.trunk.native_grid[0] * clip.trunk.native_grid[1]
    visible = draw_visible([torch.Generator().manual_seed(one) for one in range(3)], patches=patches, hidden=0.75)
    whole = tower_of(clip, decoder=decoder)(images, tokens, Disturbance(visible_BV=visible))
    torch.testing.assert_close(whole.images_BD, plain.images_BD)
    assert whole.reconstruction is not None
    assert 0 < float(whole.reconstruction) < 6


class Reader(nn.Module):
    """Gives back what it was given, as if the tokens were embeddings."""

    def forward(self, visible_BVC: Tensor, places_BV: Tensor, grid: tuple[int, int]) -> Tensor:
        self.seen = visible_BVC
        del places_BV, grid
        return visible_BVC


@torch.no_grad()
@pytest.mark.parametrize("make", MAKERS)
def test_all_patches_visible_are_the_whole_pass(make: Any) -> None:
    """Rotary positions included."""
    clip, reader = make(), Reader()
    images = pictures(clip)
    trunk = clip.trunk
    patches = trunk.native_grid[0] * trunk.native_grid[1]
    entered = trunk.embed(images)
    tower = tower_of(clip, decoder=reader)
    target = torch.zeros(3, patches, trunk.width)
    tower._reconstruct(reader, entered, target, torch.arange(patches).expand(3, -1))  # type: ignore[arg-type]
    read = trunk.forward_blocks(entered, list(trunk.blocks)).tokens[:, 1:]
    wanted = torch.nn.functional.layer_norm(read, read.shape[-1:])
    torch.testing.assert_close(reader.seen, wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_positions_are_cropped_or_dropped_for_each_picture() -> None:
    clip = tiny_openai_clip()
    images, tokens = pictures(clip, 1).expand(3, -1, -1, -1), clip.tokenizer(["a", "b", "c"])
    keep = torch.tensor([True, False, True])
    dropped = tower_of(clip)(images, tokens, Disturbance(keep_B=keep)).images_BD
    torch.testing.assert_close(dropped[0], dropped[2])
    assert not torch.allclose(dropped[0], dropped[1])
    crops = torch.tensor([[0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 8.0, 8.0]])
    cropped = tower_of(clip)(images, tokens, Disturbance(crops_B4=crops, keep_B=keep)).images_BD
    assert not torch.allclose(cropped[0], cropped[2])
    torch.testing.assert_close(cropped[1], dropped[1])
    trunk: Any = clip.trunk
    table = trunk.position_table
    table.data.zero_()
    without = clip.encode_image(images, normalize=False)
    torch.testing.assert_close(dropped[1], without[1])
    table.data[1:] = 0.3  # equal everywhere: any crop is the table
    flat = clip.encode_image(images, normalize=False)
    torch.testing.assert_close(tower_of(clip)(images, tokens, Disturbance(crops_B4=crops)).images_BD, flat)
    with pytest.raises(ValueError, match="cropped positions are of the tower's own grid"):
        tower_of(clip)(torch.zeros(1, 3, 64, 64), tokens[:1], Disturbance(crops_B4=crops[:1]))


def test_the_decoder_learns_hidden_patches_from_visible_ones() -> None:
    torch.manual_seed(0)
    decoder = FeatureDecoder(width=8, inner=32, layers=1, embed_dim=6)
    visible, places = torch.randn(2, 3, 8), torch.tensor([[0, 2, 5], [1, 3, 4]])
    target = torch.randn(2, 6, 6)
    hidden = torch.ones(2, 6, dtype=torch.bool).scatter(1, places, False)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(120):
        loss: Any = masked_features(decoder(visible, places, (2, 3)), target, hidden, counted="masked")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


def test_visible_patches_are_drawn_for_each_picture() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(64)]
    visible = draw_visible(generators, patches=16, hidden=0.75)
    assert visible.shape == (64, 4)
    assert bool((visible[:, 1:] > visible[:, :-1]).all())
    assert set(visible.flatten().tolist()) == set(range(16))
    assert draw_visible(generators[:1], patches=4, hidden=0.99).shape == (1, 1)


def test_other_towers_are_refused() -> None:
    with pytest.raises(ValueError, match="pre-training needs a trunk of transformer blocks"):
        tower_of(tiny_resnet_clip())
