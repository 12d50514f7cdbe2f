"""The detector's parts and losses against loops, and the inputs that usually break detectors."""

import pytest
import torch
import torch.nn.functional as F
from tests.support.detection import BASE, NAMES, step_for, tiny_batch, tiny_detector
from tests.support.tiny import tiny_openai_clip
from torchvision.ops import nms, roi_align

from clipself.backbones.text import make_vocabulary
from clipself.detection.detector import change_settings
from clipself.detection.detectors.fvit import FViTSettings
from clipself.detection.detectors.table import make_settings
from clipself.detection.detectors.two_stage.fusion import fuse_scores
from clipself.detection.detectors.two_stage.model import TwoStage
from clipself.detection.detectors.two_stage.postprocess import select_detections
from clipself.detection.detectors.two_stage.regions import STDS, RegionTargets, mask_targets, sample_regions
from clipself.ops import decode_boxes, grid_anchors

BOXES = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]]
LABELS = [[0, 1], [2]]


def test_strides_and_anchors_follow_the_patch() -> None:
    detector = tiny_detector()
    assert detector.strides == (2.0, 4.0, 8.0, 16.0)
    features = detector.backbone(torch.zeros(1, 3, 64, 64))
    maps = detector.pyramid(detector.taps(features.taps))
    assert [tuple(level.shape[-2:]) for level in maps] == [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]
    expected = [
        grid_anchors((side, side), stride=stride, scale=4.0)
        for side, stride in ((32, 2.0), (16, 4.0), (8, 8.0), (4, 16.0), (2, 32.0))
    ]
    torch.testing.assert_close(detector.proposer.anchors(maps), torch.cat(expected))


def test_features_are_the_backbones_own_and_it_never_changes_mode() -> None:
    detector = tiny_detector()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = detector.train().backbone(images)
    clip = detector.backbone.clip
    assert not clip.training
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    torch.testing.assert_close(features.dense, clip.dense_map(images))
    for ours, theirs in zip(features.taps, clip.taps(images, (0, 1, 2, 3)), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [
        pytest.param(BOXES, LABELS, id="ordinary"),
        pytest.param([[], []], [[], []], id="no-boxes-at-all"),
        pytest.param([[[5, 5, 6, 6]], []], [[1], []], id="one-pixel"),
        pytest.param([[[0, 0, 64, 64]], [[3.0, 3.0, 3.01, 60.0]]], [[0], [1]], id="whole-image-and-sliver"),
        pytest.param([[[4, 6, 30, 40]] * 3], [[0, 1, 2]], id="boxes-on-one-another"),
    ],
)
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_losses_are_finite_and_reach_every_learning_parameter(
    boxes: list[list[list[float]]], labels: list[list[int]], norm: str
) -> None:
    detector = tiny_detector(norm=norm, mask_convs=1, background="learned").train()
    batch = tiny_batch(boxes, labels, masks=True)
    losses = detector(batch, step_for(batch))
    assert set(losses) == {"objectness", "anchor_boxes", "classes", "boxes", "masks"}
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_a_batch_is_the_sum_of_its_images() -> None:
    detector = tiny_detector(mask_convs=1).train()
    batch = tiny_batch(BOXES, LABELS, masks=True)
    step = step_for(batch)
    together = detector(batch, step)
    apart: dict[str, torch.Tensor] = {}
    for place in range(2):
        one = type(batch)(
            images_B3HW=batch.images_B3HW[place : place + 1], sizes=batch.sizes[place : place + 1],
            boxes=batch.boxes[place : place + 1], labels=batch.labels[place : place + 1],
            masks=batch.masks and batch.masks[place : place + 1],
            names=batch.names[place : place + 1],
        )  # fmt: skip
        for name, loss in detector(one, step).items():
            apart[name] = apart.get(name, torch.zeros(())) + loss
    for name, loss in together.items():
        torch.testing.assert_close(loss, apart[name], atol=1e-5, rtol=1e-5)


def test_proposal_losses_in_loops() -> None:
    detector = tiny_detector(rpn_samples=100_000).train()
    batch = tiny_batch(BOXES[:1], LABELS[:1])
    maps = detector.pyramid(detector.taps(detector.backbone(batch.images_B3HW).taps))
    scored = detector.proposer(maps)
    losses = detector.proposer.losses(scored, batch.boxes, [torch.Generator().manual_seed(0)])
    truths = batch.boxes[0].tolist()
    table = [[overlap(anchor, truth) for truth in truths] for anchor in scored.anchors_A4.tolist()]
    highest = [max(row[place] for row in table) for place in range(len(truths))]
    terms, offsets = [], []
    for row, anchor, logit, deltas in zip(
        table, scored.anchors_A4, scored.logits_BA[0], scored.deltas_BA4[0], strict=True
    ):
        rescued = [place for place, value in enumerate(row) if value == highest[place] >= 0.3]
        matched = rescued[-1] if rescued else (row.index(max(row)) if max(row) >= 0.7 else None)
        if matched is not None:
            terms.append(F.softplus(-logit))
            truth, sides = batch.boxes[0][matched], anchor[2:] - anchor[:2]
            centre = (truth[:2] + truth[2:] - anchor[:2] - anchor[2:]) / 2 / sides
            wanted = torch.cat([centre, ((truth[2:] - truth[:2]) / sides).log()])
            offsets.append((deltas - wanted).abs().sum())
        elif max(row) < 0.3:
            terms.append(F.softplus(logit))
    assert len(offsets) >= 2, "each box should have its anchor"
    torch.testing.assert_close(losses["objectness"], torch.stack(terms).mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(losses["anchor_boxes"], torch.stack(offsets).sum() / len(terms), atol=1e-5, rtol=1e-4)


def overlap(one: list[float], two: list[float]) -> float:
    wide = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    high = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return wide * high / (sum(areas) - wide * high)


def test_a_fixed_factor_takes_the_place_of_the_learned_one() -> None:
    """As in the published transfer to other data sets: a factor of 50, whatever training has made of it."""
    detector = tiny_detector()
    with torch.no_grad():
        detector.temperature.fill_(70.0)
    embeddings = torch.randn(3, detector.clip.embed_dim, generator=torch.Generator().manual_seed(0))
    cosines = F.cosine_similarity(embeddings[:, None], detector.texts()[None], dim=-1)
    torch.testing.assert_close(detector.classify(embeddings), 70 * cosines)
    detector.settings = change_settings(detector.settings, {"learn_temperature": "False", "temperature": 50})
    torch.testing.assert_close(detector.classify(embeddings), 50 * cosines)


def test_region_sampling_adds_the_truth_and_counts_background_last() -> None:
    truth = torch.tensor([[10.0, 10.0, 30.0, 30.0]])
    proposals = torch.tensor([[11.0, 10.0, 31.0, 30.0], [40.0, 40.0, 60.0, 60.0]])
    settings = FViTSettings()
    done = sample_regions(
        proposals, truth, torch.tensor([2]), background=4, settings=settings, generator=torch.Generator()
    )
    assert done.labels.tolist() == [2, 2, 4]
    torch.testing.assert_close(decode_boxes(done.boxes[:2], done.deltas, stds=STDS), truth.expand(2, -1))


def test_mask_targets_are_cut_from_the_canvas() -> None:
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[0, :, :10] = True
    cut = mask_targets(mask, torch.tensor([[5.0, 5.0, 15.0, 15.0]]), torch.tensor([0]), side=4)
    assert cut.tolist() == [[[1, 1, 0, 0]] * 4]


def test_novel_classes_leave_no_trace_in_training() -> None:
    """The same step with and without the novel name: equal losses."""
    batch = tiny_batch(BOXES, LABELS)
    with_novel, without = tiny_detector(), tiny_detector(names=BASE)
    for left, right in zip(
        with_novel(batch, step_for(batch)).values(), without(batch, step_for(batch)).values(), strict=True
    ):
        torch.testing.assert_close(left, right)
    with pytest.raises(ValueError, match="label 3 is a class held out of training"):
        with_novel(tiny_batch(BOXES, [[0, 3], [2]]), step_for(batch))


def test_detection_is_the_formula_spelled_out() -> None:
    """Regions, both opinions, fusion, boxes and class-wise suppression, one step at a time."""
    detector = tiny_detector(score_threshold=0.05, alpha=0.3, beta=0.6).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    size = (48, 64)
    (found,) = detector.detect(images, [size])
    assert found.masks is None
    with torch.no_grad():
        features = detector.backbone(images)
        maps = detector.pyramid(detector.taps(features.taps))
        (proposals,) = detector.proposer.propose(detector.proposer(maps), [size])
        embeddings, deltas = detector.box_head(detector.pool(maps[:4], [proposals.boxes], 7))
        texts = detector.vocabulary.texts_KD
        own = (50 * F.normalize(embeddings, dim=1) @ texts.mT).softmax(1)
        assert features.dense is not None
        regions = roi_align(features.dense, [proposals.boxes], 1, 1 / 8, -1, True)[..., 0, 0]
        clip = (75 * F.normalize(regions, dim=1) @ texts.mT).softmax(1)
    share = torch.tensor([0.3, 0.3, 0.3, 0.6])
    scores = own[:, :4] ** (1 - share) * clip[:, :4] ** share
    boxes = decode_boxes(proposals.boxes, deltas, stds=STDS, size=size)
    rows = []
    for label in range(4):
        good = (scores[:, label] > 0.05).nonzero().flatten()
        kept = good[nms(boxes[good], scores[good, label], 0.4)]
        rows += [(float(scores[row, label]), label, boxes[row]) for row in kept.tolist()]
    rows.sort(key=lambda row: -row[0])
    assert len(rows) > 3
    rows = rows[:100]
    torch.testing.assert_close(found.scores, torch.tensor([row[0] for row in rows]))
    assert found.labels.tolist() == [row[1] for row in rows]
    torch.testing.assert_close(found.boxes, torch.stack([row[2] for row in rows]))
    assert float(found.boxes[:, 3].max()) <= 48


def test_scores_follow_their_names_through_any_order() -> None:
    detector = tiny_detector(score_threshold=0.0).eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    (first,) = detector.detect(images, [(64, 64)])
    order = ["fish", "bird", "cat", "dog"]
    detector.use(make_vocabulary(detector.backbone.clip, order, base=BASE, templates="simple"))
    (second,) = detector.detect(images, [(64, 64)])
    torch.testing.assert_close(first.scores, second.scores)
    assert [NAMES[label] for label in first.labels] == [order[label] for label in second.labels]


def test_candidates_are_cut_to_the_best_before_suppression() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(50, 4, generator=generator)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(50, 6, generator=generator)
    few = select_detections(boxes, scores, settings=FViTSettings(max_candidates=20, max_detections=10))
    all_of_them = select_detections(boxes, scores, settings=FViTSettings(max_detections=10, score_threshold=0.0))
    assert few.scores[0] == all_of_them.scores[0]
    assert len(few.boxes) <= 20
    none = select_detections(boxes, torch.zeros(50, 6), settings=FViTSettings())
    assert len(none.boxes) == 0


def test_fused_scores_by_rule() -> None:
    own, clip = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[0.0, 3.0, 0.0]])
    base = torch.tensor([True, False, True])
    single = fuse_scores(own, clip, rule="single", base_K=base, alpha=0.3, beta=0.9)
    torch.testing.assert_close(single, own.softmax(1) ** 0.7 * clip.softmax(1) ** 0.3)
    none = fuse_scores(own, clip, rule="none", base_K=base, alpha=0.3, beta=0.9)
    torch.testing.assert_close(none, own.softmax(1))
    with pytest.raises(ValueError, match="unknown fusion rule 'mean'"):
        fuse_scores(own, clip, rule="mean", base_K=base, alpha=0.3, beta=0.9)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param([], "there are no names to look for", id="none"),
        pytest.param(["a", " "], "one of the names is empty", id="empty"),
        pytest.param(["Hot_dog", "hot dog"], "the name 'Hot_dog' is there more than once", id="twice"),
        pytest.param("cat", "got the single string 'cat'; wrap it in a list", id="string"),
    ],
)
def test_names_that_cannot_be_meant(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_vocabulary(tiny_openai_clip(), names, base=[])


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="image_size=60 is no multiple of the patch of 8 pixels; try 64"):
        tiny_detector(image_size=60)
    with pytest.raises(ValueError, match="must end with the last block 3"):
        tiny_detector(taps=(0, 1, 2, 2))
    with pytest.raises(ValueError, match=r"alpha=1.5 is not in \[0, 1\]"):
        tiny_detector(alpha=1.5)
    with pytest.raises(ValueError, match="channels=0 must be at least 1"):
        tiny_detector(channels=0)
    with pytest.raises(ValueError, match="unknown setting 'colour' of the detector FViTSettings"):
        make_settings(colour=1)
    with pytest.raises(ValueError, match="did you mean 'channels'"):
        make_settings("vild", chanels=1)
    held = {**FViTSettings().to_json(), "taps": [6, 10, 14, 23], "words": 6}  # words: every detector had it once
    assert make_settings(**held) == FViTSettings(taps=(6, 10, 14, 23))
    with pytest.raises(ValueError, match="these annotations hold none; use mask_convs=0"):
        tiny_detector(mask_convs=1)(tiny_batch(BOXES, LABELS), step_for(tiny_batch(BOXES, LABELS)))
    assert isinstance(tiny_detector(), TwoStage)


def test_federated_classes_are_those_of_the_image_and_never_novel_ones() -> None:
    detector = tiny_detector(federated_classes=2)
    batch = tiny_batch(BOXES, LABELS)
    with pytest.raises(ValueError, match="federated_classes needs class_weights_K"):
        detector(batch, step_for(batch))
    detector.class_weights_K = torch.tensor([5.0, 5.0, 5.0, 5.0, 0.0])
    targets = [
        RegionTargets(
            boxes=torch.zeros(2, 4), labels=torch.tensor(labels), deltas=torch.zeros(0, 4), truth=torch.zeros(0)
        )
        for labels in ([0, 1], [4, 4])
    ]
    seen = detector.compared_classes(targets, [torch.Generator().manual_seed(seed) for seed in (0, 1)])
    assert seen[0].tolist() == seen[1].tolist() == [True, True, False, False, True]
    assert seen[2].tolist() == seen[3].tolist()
    assert int(seen[2].sum()) == 3  # two base classes by chance, and the background
    assert not seen[:, 3].any()  # the fourth class is novel
    losses = detector(batch, step_for(batch))
    assert all(loss.isfinite() for loss in losses.values())
