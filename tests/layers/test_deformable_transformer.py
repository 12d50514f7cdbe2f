"""Queries of different copies and pictures of different sizes do not see one another; positions by their formula."""

import math

import pytest
import torch
from torch import Tensor, nn

from clipself.layers.deformable_transformer import DeformableTransformer, Queries, attend, move_boxes
from clipself.layers.sine_positions import padded_sine_positions


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transformer(*, two_stage: bool = True) -> DeformableTransformer:
    torch.manual_seed(0)
    made = DeformableTransformer(
        channels=32, heads=4, encoder_layers=2, decoder_layers=2, hidden=48, levels=2, two_stage=two_stage
    )
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.eval()


def head(index: int, hidden_BQC: Tensor, references: Tensor) -> Tensor:
    return move_boxes(hidden_BQC[..., :4], references)


def queries(batch: int, count: int, *, seed: int = 0) -> Queries:
    return Queries(
        contents_BQC=random(batch, count, 32, seed=seed), positions_BQC=random(batch, count, 32, seed=seed + 1),
        references=random(batch, count, 4, seed=seed + 2).sigmoid(),
    )  # fmt: skip


def test_a_picture_means_the_same_alone_and_beside_a_larger_one() -> None:
    model = transformer()
    maps = [random(2, 32, 6, 8), random(2, 32, 3, 4, seed=1)]
    padding = [torch.zeros(2, 6, 8, dtype=torch.bool), torch.zeros(2, 3, 4, dtype=torch.bool)]
    padding[0][1, 4:], padding[0][1, :, 6:] = True, True
    padding[1][1, 2:], padding[1][1, :, 3:] = True, True
    both = model.encode(maps, padding)
    alone = model.encode(
        [maps[0][1:, :, :4, :6], maps[1][1:, :, :2, :3]],
        [torch.zeros(1, 4, 6, dtype=torch.bool), torch.zeros(1, 2, 3, dtype=torch.bool)],
    )
    torch.testing.assert_close(both.tokens_BSC[1][~both.padding_BS[1]], alone.tokens_BSC[0], rtol=1e-4, atol=1e-4)
    features, logits = model.candidates(both)
    single, defaults = model.candidates(alone)
    torch.testing.assert_close(features[1][~both.padding_BS[1]], single[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logits[1][~both.padding_BS[1]], defaults[0], rtol=1e-4, atol=1e-4)
    assert logits[1][both.padding_BS[1]].isinf().all()


def test_default_boxes_double_from_level_to_level() -> None:
    model = transformer()
    padding = [torch.zeros(1, 20, 20, dtype=torch.bool), torch.zeros(1, 10, 10, dtype=torch.bool)]
    memory = model.encode([random(1, 32, 20, 20), random(1, 32, 10, 10)], padding)
    boxes = model.candidates(memory)[1].sigmoid()[0]
    torch.testing.assert_close(boxes[21], torch.tensor([1.5 / 20, 1.5 / 20, 0.05, 0.05]))
    torch.testing.assert_close(boxes[400 + 11], torch.tensor([0.15, 0.15, 0.1, 0.1]))


def test_copies_do_not_see_one_another() -> None:
    model = transformer()
    memory = model.encode([random(1, 32, 6, 8), random(1, 32, 3, 4)], [
        torch.zeros(1, 6, 8, dtype=torch.bool), torch.zeros(1, 3, 4, dtype=torch.bool),
    ])  # fmt: skip
    one, two = queries(1, 5), queries(1, 5, seed=7)
    joined = Queries(
        contents_BQC=torch.cat([one.contents_BQC, two.contents_BQC], dim=1),
        positions_BQC=torch.cat([one.positions_BQC, two.positions_BQC], dim=1),
        references=torch.cat([one.references, two.references], dim=1),
    )
    together = model.decode(joined, memory, head=head, copies=2)[-1]
    for index, apart in enumerate((one, two)):
        alone = model.decode(apart, memory, head=head)[-1]
        torch.testing.assert_close(together.boxes_BQ4[:, 5 * index : 5 * index + 5], alone.boxes_BQ4)
    seen = model.decode(joined, memory, head=head)[-1]
    assert not torch.allclose(seen.boxes_BQ4, together.boxes_BQ4, atol=1e-4)


def test_without_refinement_every_layer_looks_from_where_the_first_did() -> None:
    model = transformer()
    memory = model.encode([random(1, 32, 6, 8), random(1, 32, 3, 4)], [
        torch.zeros(1, 6, 8, dtype=torch.bool), torch.zeros(1, 3, 4, dtype=torch.bool),
    ])  # fmt: skip
    seen: list[Tensor] = []

    def note(index: int, hidden_BQC: Tensor, references: Tensor) -> Tensor:
        seen.append(references)
        return head(index, hidden_BQC, references)

    model.decode(queries(1, 5), memory, head=note, refine=False)
    assert torch.equal(seen[0], seen[1])
    model.decode(queries(1, 5), memory, head=note)
    assert not torch.equal(seen[2], seen[3])


def test_learned_queries_start_from_centres() -> None:
    model = transformer(two_stage=False)
    made = model.learned_queries(random(5, 64), batch=2)
    assert made.references.shape == (2, 5, 2)
    torch.testing.assert_close(made.positions_BQC[1], random(5, 64)[:, :32])
    torch.testing.assert_close(made.contents_BQC[1], random(5, 64)[:, 32:])


def test_prompts_are_more_keys_of_every_copy() -> None:
    attention = nn.MultiheadAttention(32, 4, batch_first=True)
    asked, prompts = random(2, 6, 32), random(2, 3, 32, seed=1)
    ours = attend(attention, asked, copies=2, prompts_BPC=prompts)
    for copy in (slice(0, 3), slice(3, 6)):
        keys = torch.cat([prompts, asked[:, copy]], dim=1)
        torch.testing.assert_close(ours[:, copy], attention(asked[:, copy], keys, keys)[0])


@pytest.mark.parametrize("channels", [8, 12])
def test_positions_by_their_formula(channels: int) -> None:
    padding = torch.zeros(1, 3, 5, dtype=torch.bool)
    padding[0, :, 4:] = True
    ours = padded_sine_positions(padding, channels)
    half = channels // 2
    for row, col, lengths in ((0, 0, (3, 4)), (2, 3, (3, 4))):
        for axis, (place, length) in enumerate(zip((row, col), lengths, strict=True)):
            for channel in range(half):
                angle = (place + 0.5) / length * 2 * math.pi / 10000 ** (2 * (channel // 2) / half)
                expected = math.cos(angle) if channel % 2 else math.sin(angle)
                assert float(ours[0, axis * half + channel, row, col]) == pytest.approx(expected, abs=1e-5)


def test_boxes_move_in_log_odds() -> None:
    references = torch.tensor([[[0.2, 0.4]]])
    moved = move_boxes(torch.zeros(1, 1, 4), references)
    torch.testing.assert_close(moved, torch.tensor([[[0.2, 0.4, 0.5, 0.5]]]))
    boxes = torch.tensor([[[0.2, 0.4, 0.1, 1.0]]])
    torch.testing.assert_close(move_boxes(torch.zeros(1, 1, 4), boxes), boxes, rtol=0, atol=2e-5)
