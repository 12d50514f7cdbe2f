"""What a picture is asked, by hand and by counting; the published examples are in tests/conformance."""

import torch

from clipself.detection.detectors.owl.queries import fill_negatives, make_queries, merge_instances


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_queries_are_cut_and_what_is_beyond_belongs_to_nobody() -> None:
    made = make_queries([["A cat"], ["dog", "pet"], ["bird"]], ["a cat", "cow"], most=4)
    assert made.queries == ("", "a cat", "dog", "pet")
    assert made.labels == ((0,), (1, 2), (-1,))
    assert made.multi_hot_MQ.int().tolist() == [[0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0]]


def test_negatives_are_filled_by_frequency_and_never_from_what_is_there() -> None:
    frequency_K = torch.tensor([5.0, 0.0, 30.0, 10.0, 7.0, 3.0])
    counted = torch.zeros(6)
    for seed in range(2000):
        drawn = fill_negatives([5], [1, 2, 3, 5], frequency_K, least=2, generator=chance(seed))
        assert drawn[0] == 5
        assert len(drawn) == 2
        counted[drawn[1]] += 1
    assert counted[[0, 1, 4, 5]].sum() == 0
    assert abs(float(counted[2]) / 2000 - 0.75) < 0.03
    assert fill_negatives([0, 4, 5], [2], frequency_K, least=2, generator=chance()) == [0, 4, 5]
    assert sorted(fill_negatives([], [1, 2], frequency_K, least=9, generator=chance())) == [2]


def test_boxes_in_one_place_become_one_with_all_labels() -> None:
    boxes_M4 = torch.tensor([[0.0, 0.0, 10.0, 10.0], [30.0, 0.0, 40.0, 10.0], [0.0, 0.0, 10.0, 9.5]])
    left, labels = merge_instances(boxes_M4, [["a"], ["b"], ["c", "a"]], generator=chance())
    assert labels == [["a", "c"], ["b"]]
    assert left[1].tolist() == boxes_M4[1].tolist()
    assert left[0].tolist() in (boxes_M4[0].tolist(), boxes_M4[2].tolist())
    apart, _ = merge_instances(boxes_M4, [["a"], ["b"], ["c"]], threshold=0.96, generator=chance())
    assert len(apart) == 3
    nothing, empty = merge_instances(torch.zeros(0, 4), [], generator=chance())
    assert len(nothing) == len(empty) == 0
