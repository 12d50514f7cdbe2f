"""The draw of classes against what it promises, and its odds against the formula."""

import pytest
import torch

from clipself.losses import federated_columns


def draw(labels: list[int], weights: list[float], number: int, seed: int = 0) -> list[int]:
    chosen = federated_columns(
        torch.tensor(labels, dtype=torch.long), weights_K=torch.tensor(weights), number=number,
        generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return torch.nonzero(chosen)[:, 0].tolist()


@pytest.mark.parametrize(
    ("labels", "number", "columns"),
    [
        pytest.param([1, 1, 5], 1, [1, 5], id="enough"),
        pytest.param([1, 2, 3], 2, [1, 2, 3, 5], id="more labels than wanted"),
        pytest.param([], 9, [0, 1, 3, 4, 5], id="no more than the weights allow"),
        pytest.param([2], 9, [0, 1, 2, 3, 4, 5], id="a label without weight"),
    ],
)
def test_what_is_there_takes_part_and_the_background(labels: list[int], number: int, columns: list[int]) -> None:
    assert draw(labels, [1.0, 2.0, 0.0, 1.0, 4.0, 7.0], number) == columns


def test_one_more_class_is_drawn_in_proportion_to_its_weight() -> None:
    draws = [draw([0, 4], [9.0, 1.0, 0.0, 3.0, 9.0], 2, seed) for seed in range(2000)]
    assert all(len(one) == 3 and {0, 4} < set(one) for one in draws)
    share = sum(3 in one for one in draws) / len(draws)
    assert share == pytest.approx(3 / 4, abs=0.04)  # four standard deviations


def test_a_background_that_counts_takes_the_place_of_a_class() -> None:
    labels, weights = torch.tensor([1, 4, 4]), torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0])
    kept = [
        federated_columns(
            labels, weights_K=weights, number=3, generator=torch.Generator().manual_seed(3), background_counts=counts
        )
        for counts in (False, True)
    ]
    assert [int(columns.sum()) for columns in kept] == [4, 3]
