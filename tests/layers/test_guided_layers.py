"""Windowed and linear attention against loops."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.layers.guided_window import GuidedWindowBlock, cut_windows, join_windows
from clipself.layers.linear_attention import LinearAttention, Padding
from clipself.layers.upsampling import DoubleConv, GuidedUpsample


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_windows_are_cut_row_by_row_and_joined_again() -> None:
    maps = torch.arange(2 * 4 * 6, dtype=torch.float32).reshape(2, 4, 6, 1)
    windows = cut_windows(maps, 2)
    assert windows[:, :, 0].tolist()[:2] == [[0, 1, 6, 7], [2, 3, 8, 9]]
    assert torch.equal(join_windows(windows, 2, (4, 6)), maps)


@torch.no_grad()
def test_a_window_block_equals_attention_computed_cell_by_cell() -> None:
    torch.manual_seed(0)
    block = GuidedWindowBlock(channels=8, guidance_channels=4, heads=2, window=2, shift=1)
    maps, guidance = noise(1, 4, 4, 8), noise(1, 4, 4, 4, seed=1)
    # With windows of 2 moved by 1 on a grid of 4, rows 1-2 go together, and so do 3 and 0, which the mask tears apart.
    groups = {0: 0, 1: 1, 2: 1, 3: 2}
    normed = block.norm1(maps)
    guided = torch.cat([normed, guidance], dim=-1)
    query, key, value = block.attn.q(guided), block.attn.k(guided), block.attn.v(normed)
    mixed = torch.zeros(4, 4, 8)
    for y in range(4):
        for x in range(4):
            near = [(a, b) for a in range(4) for b in range(4) if (groups[a], groups[b]) == (groups[y], groups[x])]
            for head in (slice(0, 4), slice(4, 8)):
                logits = torch.stack([query[0, y, x, head] @ key[0, a, b, head] / 2 for a, b in near])
                weights = logits.softmax(0)
                mixed[y, x, head] = sum(
                    (weight * value[0, a, b, head] for weight, (a, b) in zip(weights, near, strict=True)),
                    torch.zeros(4),
                )
    expected = maps + block.attn.proj(mixed)[None]
    expected = expected + block.mlp(block.norm2(expected))
    torch.testing.assert_close(block(maps, guidance), expected)


def test_windows_that_do_not_tile_are_refused() -> None:
    block = GuidedWindowBlock(channels=8, guidance_channels=4, heads=2, window=3, shift=1)
    with pytest.raises(ValueError, match="windows of 3 do not tile a map of 4 x 6 cells"):
        block(noise(1, 4, 6, 8), noise(1, 4, 6, 4))


@torch.no_grad()
def test_linear_attention_is_its_formula_in_loops() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(channels=4, guidance_channels=2, heads=2)
    tokens, guidance = noise(1, 5, 4), noise(1, 5, 2, seed=1)
    guided = torch.cat([tokens, guidance], dim=-1)[0]
    query, key, value = F.elu(layer.q(guided)) + 1, F.elu(layer.k(guided)) + 1, layer.v(tokens[0])
    expected = torch.zeros(5, 4)
    for head in (slice(0, 2), slice(2, 4)):
        for i in range(5):
            weights = torch.stack([query[i, head] @ key[j, head] for j in range(5)])
            expected[i, head] = (weights[:, None] * value[:, head]).sum(0) / (weights.sum() + 1e-6)
    torch.testing.assert_close(layer(tokens, guidance)[0], expected)


@torch.no_grad()
def test_padding_equals_tokens_that_really_stand_there() -> None:
    torch.manual_seed(0)
    layer = LinearAttention(channels=8, guidance_channels=4, heads=2)
    tokens, guidance = noise(3, 5, 8), noise(3, 5, 4, seed=1)
    token, guide = noise(1, 1, 8, seed=2), noise(1, 1, 4, seed=3)
    whole = layer(
        torch.cat([tokens, token.expand(3, 7, -1)], dim=1), torch.cat([guidance, guide.expand(3, 7, -1)], dim=1)
    )
    padded = layer(tokens, guidance, padding=Padding(token_11C=token, guidance_11G=guide, count=7))
    torch.testing.assert_close(padded, whole[:, :5])


def test_the_decoder_doubles_the_map_and_groups_by_sixteen() -> None:
    block = GuidedUpsample(channels=32, guidance_channels=8, out_channels=32)
    assert block(noise(2, 32, 3, 5), noise(2, 8, 6, 10)).shape == (2, 32, 6, 10)
    assert block.up.out_channels == 24
    assert [module.num_groups for module in DoubleConv(channels=4, out_channels=64).double_conv if isinstance(
        module, torch.nn.GroupNorm)] == [4, 4]  # fmt: skip
