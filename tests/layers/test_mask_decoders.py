import itertools
import math

import pytest
import torch

from clipself.layers.deformable_attention import DeformableAttention, sample_levels
from clipself.layers.masked_decoder import MaskedDecoder, blocked_cells
from clipself.layers.pixel_decoder import PixelDecoder, cell_centres
from clipself.layers.sine_positions import sine_positions


def test_positions_are_detrs_sines() -> None:
    positions = sine_positions((3, 5), 8, like=torch.zeros(1))
    assert positions.shape == (8, 3, 5)
    for channel, row, col in itertools.product(range(8), range(3), range(5)):
        place, length = (row, 3) if channel < 4 else (col, 5)
        wave = 10000 ** (2 * (channel % 4 // 2) / 4)
        angle = (place + 1) / length * 2 * math.pi / wave
        expected = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
        assert float(positions[channel, row, col]) == pytest.approx(expected, abs=1e-4)
    with pytest.raises(ValueError, match="use a multiple of 4"):
        sine_positions((2, 2), 6, like=positions)


def test_places_are_read_bilinearly_on_every_level() -> None:
    draw = torch.Generator().manual_seed(0)
    grids = [(2, 3), (4, 2)]
    values = torch.randn(1, 14, 2, 3, generator=draw)
    places = torch.rand(1, 2, 2, 2, 1, 2, generator=draw) * 1.2 - 0.1
    weights = torch.rand(1, 2, 2, 2, generator=draw)
    ours = sample_levels(values, places, weights, grids)
    for query, head in itertools.product(range(2), range(2)):
        total = torch.zeros(3)
        for level, (rows, cols) in enumerate(grids):
            x, y = places[0, query, head, level, 0].tolist()
            column, row = x * cols - 0.5, y * rows - 0.5
            start = 0 if level == 0 else 6
            for i, j in itertools.product(range(rows), range(cols)):
                near = max(0.0, 1 - abs(row - i)) * max(0.0, 1 - abs(column - j))
                total += weights[0, query, head, level] * near * values[0, start + i * cols + j, head]
        torch.testing.assert_close(ours[0, query, head * 3 : head * 3 + 3], total)


def test_attention_to_a_constant_map_returns_it_and_heads_start_in_different_ways() -> None:
    layer = DeformableAttention(channels=8, heads=4, levels=1, points=2)
    star = layer.sampling_offsets.bias.view(4, 1, 2, 2)
    torch.testing.assert_close(star[:, 0, 1], 2 * star[:, 0, 0])
    assert len({tuple(way.round(decimals=3).tolist()) for way in star[:, 0, 0]}) == 4
    constant = torch.ones(1, 25, 8)
    centre = torch.tensor([[0.5, 0.5]])
    out = layer(torch.zeros(1, 1, 8), centre, constant, [(5, 5)])
    torch.testing.assert_close(out, layer.output_proj(layer.value_proj(constant[:, :1])))
    with pytest.raises(ValueError, match="3 heads do not divide 8"):
        DeformableAttention(channels=8, heads=3, levels=1)


def test_centres_lie_in_the_middle_of_cells() -> None:
    assert cell_centres((1, 2), like=torch.zeros(1)).tolist() == [[0.25, 0.5], [0.75, 0.5]]


def test_a_query_without_a_mask_may_look_everywhere() -> None:
    masks = torch.full((1, 3, 4, 4), -5.0)
    masks[0, 0, :2, :2] = 5.0
    masks[0, 2] = 5.0
    blocked = blocked_cells(masks, (2, 2))
    assert blocked[0].tolist() == [[False, True, True, True], [False] * 4, [False] * 4]


def test_shapes_of_the_two_decoders_and_the_chain_of_gradients() -> None:
    torch.manual_seed(0)
    pixel = PixelDecoder(in_channels=(8, 12, 16, 20), channels=32, mask_channels=32, layers=1, heads=2, hidden=16)
    masked = MaskedDecoder(channels=32, mask_channels=32, queries=5, layers=4, heads=2, hidden=16)
    sizes = ((8, 12, 10), (12, 6, 5), (16, 3, 3), (20, 2, 2))
    pyramid = [torch.randn(2, *size) for size in sizes]
    features = pixel(pyramid)
    assert [tuple(level.shape[-2:]) for level in features.levels] == [(2, 2), (3, 3), (6, 5)]
    states = masked.decode(features)
    assert len(states) == 5
    assert states[-1].masks_BQYX.shape == (2, 5, 12, 10)
    sum(state.masks_BQYX.square().mean() for state in states).backward()  # type: ignore[union-attr]
    idle = [name for name, one in (*pixel.named_parameters(), *masked.named_parameters()) if one.grad is None]
    assert idle == []
    with pytest.raises(ValueError, match=r"expected four levels .* and a multiple of 32"):
        PixelDecoder(in_channels=(8, 8), channels=32)
