"""Detic's cascade: what its stages hand on, what they learn from, and which boxes take part."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clipself.detection.detectors.detic.cascade import CascadeHeads
from clipself.detection.detectors.detic.cascade_settings import CascadeSettings, CenterNetSettings
from clipself.detection.detectors.detic.cascade_training import (
    Truth,
    keep_areas,
    label_boxes,
    region_losses,
    sample_boxes,
    train_stages,
)
from clipself.detection.detectors.detic.centernet import CenterNetHead, CentreMaps
from clipself.detection.detectors.detic.published import to_our_names
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.swin import SwinTrunk
from clipself.detection.protocol import Proposals

OWN = CascadeSettings(width=16, mask_width=8)
SMALL = DeticSettings(heads="centernet", mask_convs=2, score_threshold=0.0, cascade=OWN)
SIZES = [(64, 96), (60, 80)]


def heads(settings: DeticSettings = SMALL) -> CascadeHeads:
    torch.manual_seed(0)
    made = CascadeHeads(channels=8, texts_CD=torch.randn(5, 12), settings=settings, strides=(8, 16, 32)).eval()
    for stage in made.stages:
        torch.nn.init.normal_(stage.get_submodule("bbox_pred.2").weight, std=0.5)  # type: ignore[arg-type]
    return made


def pyramid() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 8, 64 // side, 96 // side, generator=generator) for side in (8, 16, 32)]


def proposals() -> list[Proposals]:
    low = torch.tensor([[2.0, 3.0], [20.0, 10.0], [-4.0, 30.0]])
    boxes = torch.cat([low, low + torch.tensor([[30.0, 20.0], [25.0, 40.0], [60.0, 20.0]])], dim=1)
    return [Proposals(boxes=boxes, scores=torch.tensor([0.9, 0.5, 0.2])) for _ in SIZES]


def test_scores_are_the_root_of_the_stages_mean_times_objectness() -> None:
    made = heads()
    with torch.no_grad():
        passes = made.run(pyramid(), proposals(), SIZES)
    scores = made.scores(passes, proposals())
    for image in range(2):
        for row in range(3):
            for column in range(5):
                stages = [float(one.logits_RK[3 * image + row, column].sigmoid()) for one in passes]
                expected = (sum(stages) / 3 * float(proposals()[image].scores[row])) ** 0.5
                assert float(scores[image][row, column]) == pytest.approx(expected, rel=1e-5)
    assert all(float(one.logits_RK[:, -1].abs().max()) == 0.0 for one in passes)  # the background says nothing


def test_one_class_a_proposal() -> None:
    settings = replace(SMALL, mask_convs=0, one_class=True, nms=1.0)
    found = heads(settings).detect(pyramid(), proposals(), SIZES, settings)
    assert [len(one.boxes) for one in found] == [3, 3]
    assert found[0].masks is None


def test_stages_work_on_clipped_boxes_of_the_one_before() -> None:
    made = heads()
    with torch.no_grad():
        passes = made.run(pyramid(), proposals(), SIZES)
    assert float(passes[0].boxes[0].min()) == -4.0  # proposals are taken as they come
    for one in passes[1:]:
        for boxes, (height, width) in zip(one.boxes, SIZES, strict=True):
            assert float(boxes.min()) >= 0
            assert float(boxes[:, 2].max()) <= width
            assert float(boxes[:, 3].max()) <= height
    moved = made.refined(passes[0], 0, SIZES)
    x = float(passes[0].boxes[0][0, [0, 2]].mean()) + 30.0 * float(passes[0].offsets_R4[0, 0]) / 10
    half = 15.0 * float((passes[0].offsets_R4[0, 2] / 5).exp())
    assert moved[0][0, [0, 2]].tolist() == pytest.approx([max(0.0, x - half), min(96.0, x + half)], abs=1e-3)


def test_the_pyramid_learns_a_third_from_each_stage() -> None:
    made, maps = heads(), [level.requires_grad_() for level in pyramid()]
    seen = made.run_stage(0, maps, [one.boxes for one in proposals()])
    (third,) = torch.autograd.grad(seen.logits_RK.sum(), maps[0])
    pooled = made.pool(maps, [one.boxes for one in proposals()], 7)
    logits_RK, _ = made.stages[0](pooled)
    torch.testing.assert_close(seen.logits_RK, logits_RK)
    (whole,) = torch.autograd.grad(logits_RK.sum(), maps[0])
    torch.testing.assert_close(3 * third, whole)


def test_labels_are_those_of_the_best_overlap_from_the_stages_own_on() -> None:
    truth = Truth(boxes=torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]]), labels=torch.tensor([3, 1]))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 7.5], [20.0, 0.0, 30.0, 6.5], [50.0, 0.0, 60.0, 10.0]])
    assert label_boxes(boxes, truth, background=5, iou=0.6).labels.tolist() == [3, 1, 5]
    assert label_boxes(boxes, truth, background=5, iou=0.7).labels.tolist() == [3, 5, 5]
    none = Truth(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert label_boxes(boxes, none, background=5, iou=0.7).labels.tolist() == [5, 5, 5]
    generator = torch.Generator().manual_seed(0)
    sampled = sample_boxes(boxes, truth, background=5, iou=0.6, count=4, generator=generator)
    assert len(sampled.boxes) == 2  # a quarter of four matched, and the only box that is none
    assert sampled.labels[-1] == 5


@torch.no_grad()
def test_region_losses_by_loops() -> None:
    made = heads()
    truths = [Truth(boxes=one.boxes[:1] + 1, labels=torch.tensor([2])) for one in proposals()]
    seen = made.run_stage(0, pyramid(), [one.boxes for one in proposals()])
    targets = [
        label_boxes(boxes, truth, background=5, iou=0.6) for boxes, truth in zip(seen.boxes, truths, strict=True)
    ]
    weights = torch.tensor([1.0, 0, 1, 1, 0]).expand(6, -1)
    classes_R, offsets_R = region_losses(seen, targets, stds=OWN.stds(0), weights_RC=weights)
    assert [int(one.is_match.sum()) for one in targets] == [1, 1]
    for row in range(6):
        matched = row % 3 == 0
        wanted = torch.tensor([0.0, 0, float(matched), 0, 0])
        terms = F.binary_cross_entropy_with_logits(seen.logits_RK[row, :-1], wanted, reduction="none")
        assert float(classes_R[row]) == pytest.approx(float(terms[[0, 2, 3]].sum()), rel=1e-5)
        shift = torch.tensor([1 / 30 * 10, 1 / 20 * 10, 0, 0])
        expected = float((seen.offsets_R4[row] - shift).abs().sum()) if matched else 0.0
        assert float(offsets_R[row]) == pytest.approx(expected, rel=1e-4)


def test_boxes_that_lose_their_area_are_dropped_in_training_alone() -> None:
    outside = torch.tensor([[100.0, 0.0, 120.0, 20.0], [10.0, 10.0, 30.0, 30.0]])
    made = heads()
    torch.nn.init.zeros_(made.stages[0].get_submodule("bbox_pred.2").weight)  # type: ignore[arg-type]
    passes = train_stages(made, pyramid(), [outside, outside], SIZES)
    assert [one.counts for one in passes][:2] == [[2, 2], [1, 1]]
    assert len(keep_areas(outside)) == 2
    kept = made.run(pyramid(), [Proposals(boxes=outside, scores=torch.ones(2))] * 2, SIZES)
    assert [one.counts for one in kept] == [[2, 2]] * 3


def test_proposals_are_read_off_the_maps() -> None:
    """One hot place of a level of stride 16 in its second row and third column; distances 1, 0.5, 2 and 0."""
    settings = CenterNetSettings(ranges=((0, 80), (64, 1e7)), score_threshold=0.3)
    head = CenterNetHead(channels=8, strides=(8, 16), settings=settings).eval()
    logits, distances = [torch.full((1, 4, 6), -5.0), torch.full((1, 2, 3), -5.0)], []
    logits[1][0, 1, 2] = 1.0
    for level in logits:
        distances.append(torch.tensor([1.0, 0.5, 2.0, 0.0]).expand(*level.shape, 4))
    (found,) = head.propose(CentreMaps(logits=tuple(logits), distances=tuple(distances)))
    torch.testing.assert_close(found.boxes, torch.tensor([[24.0, 16.0, 72.0, 24.0]]))
    assert found.scores.tolist() == pytest.approx([torch.tensor(1.0).sigmoid().sqrt().item()])


def test_swin_reads_any_size() -> None:
    trunk = SwinTrunk(embed_dim=8, depths=(1, 2), heads=(1, 2), window=3, out_stages=(0, 1)).eval()
    maps = trunk(torch.randn(1, 3, 37, 50))
    assert [tuple(level.shape) for level in maps] == [(1, 8, 10, 13), (1, 16, 5, 7)]
    assert (trunk.widths, trunk.strides) == ((8, 16), (4, 8))


def test_each_level_has_its_range() -> None:
    with pytest.raises(ValueError, match="5 ranges of box sizes for 2 levels; name one a level"):
        CenterNetHead(channels=8, strides=(8, 16), settings=CenterNetSettings())


def test_a_strange_name_is_told() -> None:
    with pytest.raises(ValueError, match=r"roi_heads.keypoint.weight \(2,\) is not a name of Detic's"):
        to_our_names({"roi_heads.keypoint.weight": torch.zeros(2)})


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        pytest.param(CascadeSettings, {"box_weights": ((1, 1, 0, 1),) * 3}, "must be above 0", id="weights"),
        pytest.param(CascadeSettings, {"ious": (0.5, 0.6)}, "2 stages need as many box_weights, got 3", id="stages"),
    ],
)
def test_settings_that_do_not_fit(kind: type, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**changes)
