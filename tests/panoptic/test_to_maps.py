import pytest
import torch
from torch import Tensor

from clipself.panoptic import to_maps
from clipself.panoptic.settings import Rules
from clipself.panoptic.to_maps import (
    enlarge,
    finish,
    instances,
    labels_of_all,
    panoptic_map,
    resize_masks,
    resize_to_original,
    semantic_labels,
    semantic_map,
    to_picture_size,
    winners,
    working_size,
)

IS_THING = (True, False, True)


def case(rows: list[tuple[int, float, list[str]]]) -> tuple[Tensor, Tensor]:
    """(label, probability, picture) of each query; "#" is a sure pixel, "+" a likely one, "." none; label 3 is void."""
    scores, masks = [], []
    for label, probability, picture in rows:
        rest = (1 - probability) / 3
        scores.append([probability if place == label else rest for place in range(4)])
        masks.append([[{"#": 6.0, "+": 1.0, ".": -6.0}[c] for c in line] for line in picture])
    return torch.tensor(scores).log(), torch.tensor(masks)


def test_each_pixel_goes_to_the_strongest_claim() -> None:
    scores, masks = case([(0, 0.9, ["###.", "###."]), (2, 0.8, ["..##", "..##"])])
    found = panoptic_map(scores, masks, is_thing=IS_THING, overlap_threshold=0.4)
    assert found.ids_HW.tolist() == [[1, 1, 1, 2], [1, 1, 1, 2]]
    assert [(one.id, one.label, one.is_thing) for one in found.segments] == [(1, 0, True), (2, 2, True)]
    assert found.segments[0].score == pytest.approx(0.9)


def test_a_mask_that_loses_most_of_itself_is_dropped_and_leaves_void() -> None:
    scores, masks = case([(0, 0.9, ["###.", "###."]), (2, 0.8, ["..##", "..##"])])
    found = panoptic_map(scores, masks, is_thing=IS_THING, overlap_threshold=0.8)
    assert found.ids_HW.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    assert len(found.segments) == 1


def test_stuff_of_one_class_is_one_segment_and_things_stay_apart() -> None:
    rows = [["#...", "#..."], [".#..", ".#.."], ["..#.", "..#."], ["...#", "...#"]]
    scores, masks = case([(1, 0.9, rows[0]), (0, 0.9, rows[1]), (1, 0.8, rows[2]), (0, 0.8, rows[3])])
    found = panoptic_map(scores, masks, is_thing=IS_THING)
    assert found.ids_HW[0].tolist() == [1, 2, 1, 3]
    assert [one.label for one in found.segments] == [1, 0, 0]


def test_void_masks_and_weak_masks_leave_an_empty_map() -> None:
    scores, masks = case([(3, 0.9, ["##"]), (0, 0.5, [".."])])
    found = panoptic_map(scores, masks, is_thing=IS_THING)
    assert found.segments == ()
    assert not found.ids_HW.any()
    scores, masks = case([(0, 0.5, ["##"])])
    assert panoptic_map(scores, masks, is_thing=IS_THING, object_threshold=0.6).segments == ()
    assert panoptic_map(scores[:0], masks[:0], is_thing=IS_THING).ids_HW.tolist() == [[0, 0]]


def test_instances_are_things_scored_by_class_and_mask() -> None:
    scores, masks = case([(1, 0.97, ["####"]), (0, 0.7, ["#+.."]), (2, 0.85, ["..##"])])
    found = instances(scores, masks, is_thing=IS_THING, top=3)  # the stuff takes one of the three places
    assert found.labels_N.tolist() == [2, 0]
    assert found.masks_NHW.tolist() == [[[False, False, True, True]], [[True, True, False, False]]]
    sure, likely = torch.tensor(6.0).sigmoid().item(), torch.tensor(1.0).sigmoid().item()
    torch.testing.assert_close(found.scores_N, torch.tensor([0.85 * sure, 0.7 * (sure + likely) / 2]))
    assert found.boxes.tolist() == [[2, 0, 4, 1], [0, 0, 2, 1]]
    assert len(instances(scores[:0], masks[:0], is_thing=IS_THING).scores_N) == 0


def test_semantic_scores_add_up_over_masks() -> None:
    scores, masks = case([(0, 0.7, ["#."]), (0, 0.4, ["##"])])
    total = semantic_map(scores, masks)
    soft = masks.sigmoid()
    torch.testing.assert_close(total[0], 0.7 * soft[0] + 0.4 * soft[1])
    torch.testing.assert_close(total[1], 0.1 * soft[0] + 0.2 * soft[1])


def test_padding_is_cut_off_before_the_last_resize() -> None:
    masks = torch.zeros(1, 2, 2)
    masks[0, :, 1] = 9.0  # the right half of the padded input
    out = resize_to_original(masks, padded=(8, 8), kept=(8, 4), original=(16, 8))
    assert out.shape == (1, 16, 8)
    assert float(out[0, :, :3].max()) == 0.0
    assert float(out[0, :, 7].min()) > 1.0  # the picture ends where the half begins


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
def test_pieces_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = torch.Generator().manual_seed(0)
    scores, masks = torch.randn(5, 4, generator=chance), torch.randn(5, 7, 6, generator=chance)
    whole = torch.nn.functional.interpolate(masks[None], size=(9, 11), mode="bilinear", align_corners=False)[0]
    monkeypatch.setattr(to_maps, "SCORES_AT_ONCE", at_once)
    assert torch.equal(labels_of_all(scores, masks), semantic_map(scores, masks).argmax(0))
    torch.testing.assert_close(resize_masks(masks, (9, 11)), whole)
    assert resize_masks(masks[:0], (9, 11)).shape == (0, 9, 11)


def test_what_cannot_win_is_left_out_without_a_trace() -> None:
    chance = torch.Generator().manual_seed(0)
    scores, coarse = 4 * torch.randn(30, 12, generator=chance), 5 * torch.randn(30, 6, 5, generator=chance)
    masks = resize_masks(coarse, (50, 70))
    assert torch.equal(semantic_labels(scores, masks), semantic_map(scores, masks).argmax(0))
    best = scores.softmax(-1).amax(-1)
    assert torch.equal(winners(best, masks), (best[:, None, None] * masks.sigmoid()).argmax(0))


def test_a_giant_is_answered_at_less_and_enlarged() -> None:
    assert working_size((480, 640), longest=2048) == (480, 640)
    assert working_size((9000, 12000), longest=2048) == (1536, 2048)
    assert working_size((3, 100_000), longest=2048) == (1, 2048)
    assert enlarge(torch.tensor([[1, 2], [3, 4]]), (4, 2)).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert enlarge(torch.tensor([[1, 2, 3]]), (1, 2)).tolist() == [[1, 3]]  # the middles lie in the outer ones
    scores, masks = case([(0, 0.9, ["##..", "##.."]), (1, 0.8, ["..##", "..##"])])
    found = finish(scores, masks, names=("dog", "sky", "cat"), is_thing=IS_THING, rules=Rules())
    large = to_picture_size(found, (4, 12))
    assert large.panoptic.ids_HW.tolist() == [[1] * 6 + [2] * 6] * 4
    assert large.semantic_HW.tolist() == [[0] * 6 + [1] * 6] * 4
    assert large.instances.size == (4, 12)
    assert large.instances.boxes[0].tolist() == [0.0, 0.0, 6.0, 4.0]
    assert next(large.instances.masks()).tolist() == [[True] * 6 + [False] * 6] * 4
    assert to_picture_size(found, (2, 4)) is found
