"""Leaving classes out that cannot win gives what an argmax over all of them does."""

import pytest
import torch

from clipself.ops import contenders
from clipself.ops.contenders import best_by_maps, best_by_masks
from clipself.ops.masks import class_scores
from clipself.ops.windows import resize_map, resize_matrix


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_class_that_another_beats_everywhere_is_left_out() -> None:
    low = torch.tensor([[0.5, 0.1], [0.2, 0.0], [0.1, 0.2]])
    high = torch.tensor([[0.6, 0.2], [0.4, 0.1], [0.3, 0.3]])  # the second is below the first, and below the third
    assert contenders.contenders(low, high).tolist() == [0, 2]
    assert contenders.contenders(low, low).tolist() == [0, 2]
    assert contenders.contenders(low * torch.nan, high).tolist() == [0, 1, 2]


@pytest.mark.parametrize("sharp", [0.1, 5.0])
@pytest.mark.parametrize("size", [(40, 50), (1, 33), (17, 16)])
def test_masks_decide_as_all_classes_do(size: tuple[int, int], sharp: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "IN_CACHE", 16 * 7 * 20)  # 20 columns at a time
    classes = (sharp * torch.randn(7, 90, generator=chance())).softmax(1)
    masks = resize_map(3 * torch.randn(7, 3, 3, generator=chance()), size).sigmoid()
    looked: list[int] = []

    def held(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        alive = found(low, high)
        looked.append(len(alive))
        return alive

    found = contenders.contenders
    monkeypatch.setattr(contenders, "contenders", held)
    labels, scores = best_by_masks(classes, lambda rows, cols: masks[:, rows, cols], size)
    best, expected = class_scores(classes, masks).max(0)
    assert torch.equal(labels, expected)
    torch.testing.assert_close(scores, best)
    assert sharp < 1 or min(looked) < 60  # those that are all alike cannot be told apart by bounds


@pytest.mark.parametrize("size", [(40, 50), (1, 70), (90, 3)])
def test_maps_decide_as_all_classes_do(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "IN_CACHE", 60 * 3 * 11)
    monkeypatch.setattr(contenders, "IN_MEMORY", 60 * 4 * 32)
    maps = torch.randn(60, 4, 5, generator=chance())
    rows, cols = (resize_matrix(torch.eye(cells), out) for cells, out in zip((4, 5), size, strict=True))
    labels, scores = best_by_maps(maps, rows, cols)
    best, expected = (rows @ maps @ cols.T).max(0)
    assert torch.equal(labels, expected)
    torch.testing.assert_close(scores, best)


def test_the_first_of_equals_wins() -> None:
    masks, maps = torch.ones(2, 3, 4), torch.ones(5, 2, 2)
    labels, _ = best_by_masks(torch.full((2, 6), 0.25), lambda rows, cols: masks[:, rows, cols], (3, 4))
    assert not labels.any()
    assert not best_by_maps(maps, torch.eye(2), torch.eye(2))[0].any()
