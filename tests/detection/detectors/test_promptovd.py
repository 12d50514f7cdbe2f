"""PromptOVD in our reading, beyond its formulas: training, pruning, the CLIP's second opinion."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.detection import BASE, NAMES, tiny_batch
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.mask_tokens import embed_box_tokens, patches_of_boxes
from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.promptovd.loss import Shown
from clipself.detection.detectors.promptovd.model import PromptOvd
from clipself.detection.detectors.promptovd.network import PromptedSet
from clipself.detection.detectors.promptovd.regions import fuse
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.engine.distributed import World
from clipself.engine.step import Step, sum_counts
from clipself.structures import DetectionBatch

BOXES = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]]
LABELS = [[0, 1], [2]]


def settings_of(**changes: Any) -> Any:
    small: dict[str, Any] = {
        "trunk": "clip", "image_size": 64, "pixels": "clip", "channels": 32, "heads": 4, "encoder_layers": 1,
        "decoder_layers": 2, "hidden": 32, "queries": 6, "templates": "simple", "dropout": 0.0, "rois": 4,
    }  # fmt: skip
    return make_settings("promptovd", **{**small, **changes})


def build(**changes: Any) -> PromptOvd:
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, settings_of(**changes), vocabulary)
    assert isinstance(detector, PromptOvd)
    return detector


def step_of(detector: PromptOvd, batch: DetectionBatch) -> Step:
    world = World(rank=0, size=1, device=torch.device("cpu"))
    return Step(number=0, seed=0, totals=sum_counts([detector.counts(batch)], world), world=world)


@pytest.mark.parametrize("changes", [{}, {"two_stage": False}, {"prompts": 2}], ids=["whole", "learned", "few-prompts"])
@pytest.mark.parametrize("boxes", [BOXES, [[], []]], ids=["ordinary", "no-boxes"])
def test_every_parameter_learns(changes: dict[str, Any], boxes: Any) -> None:
    detector = build(**changes).train()
    batch = tiny_batch(boxes, LABELS if boxes is BOXES else [[], []])
    losses = detector(batch, step_of(detector, batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_only_the_likeliest_boxes_are_judged_and_scores_are_geometric_means() -> None:
    detector = build().eval()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (found,) = detector.detect(images, [(64, 64)])
    assert len(found.scores) == 4 * len(NAMES)
    layers = detector.network.decode(detector.encode(images, [(64, 64)]), detector.texts()[None])
    p_QK = layers[-1].logits_BQK[0].sigmoid()
    kept = p_QK.amax(1).topk(4).indices
    centre, half = layers[-1].boxes_BQ4[0, kept, :2] * 64, layers[-1].boxes_BQ4[0, kept, 2:] * 32
    boxes = torch.cat([centre - half, centre + half], dim=1)
    tokens = F.normalize(embed_box_tokens(detector.clip, images, boxes[None])[0], dim=-1)
    q_RK = (100 * tokens @ detector.texts().mT).softmax(-1)
    expected = (p_QK[kept] * q_RK).sqrt().flatten().sort(descending=True).values
    torch.testing.assert_close(found.scores, expected.detach(), atol=1e-5, rtol=1e-4)
    detector.settings = replace(detector.settings, clip_share=0.0)
    (alone,) = detector.detect(images, [(64, 64)])
    torch.testing.assert_close(alone.scores, p_QK[kept].flatten().sort(descending=True).values.detach())


def test_a_token_of_a_box_knows_nothing_beyond_it() -> None:
    clip = tiny_openai_clip()
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 16.0], [8.0, 0.0, 9.0, 1.0]]])
    inside = patches_of_boxes(boxes, grid=(4, 4), patch=8)[0]
    assert inside.nonzero().tolist() == [[0, 0], [0, 4], [1, 1]]
    alone = embed_box_tokens(clip, images, boxes[:, :1])
    torch.testing.assert_close(embed_box_tokens(clip, images, boxes)[:, :1], alone)  # nor of other boxes


def test_matches_look_at_the_column_of_each_box() -> None:
    loss = build().loss
    logits = torch.full((1, 3, 2), -4.0)
    logits[0, 0, 1], logits[0, 2, 0] = 4.0, 4.0
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 3])
    shown = Shown(columns_N=torch.tensor([0, 1]), boxes_N4=boxes[0, :2])
    layer = PromptedSet(logits_BQK=logits, boxes_BQ4=boxes)
    right = loss.terms([layer], None, [shown], num_boxes=torch.tensor(1.0))
    swapped = Shown(columns_N=torch.tensor([1, 0]), boxes_N4=boxes[0, :2])
    assert torch.equal(right["classes"], loss.terms([layer], None, [swapped], num_boxes=torch.tensor(1.0))["classes"])
    wrong = PromptedSet(logits_BQK=logits.flip(-1).roll(1, 1), boxes_BQ4=boxes)
    assert torch.equal(loss.terms([wrong], None, [shown], num_boxes=torch.tensor(1.0))["classes"], right["classes"])
    none = PromptedSet(logits_BQK=torch.full((1, 3, 2), -4.0), boxes_BQ4=boxes)
    assert loss.terms([none], None, [shown], num_boxes=torch.tensor(1.0))["classes"] > 10 * right["classes"]


def test_fusion_by_hand() -> None:
    fused = fuse(torch.tensor([[0.25]]), torch.tensor([[0.64]]), clip_share=0.5)
    assert float(fused) == pytest.approx(0.4)


def test_a_clip_without_class_token_is_refused() -> None:
    clip = tiny_resnet_clip()
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    with pytest.raises(
        ValueError, match="judging boxes by class tokens of their own needs a trunk of transformer blocks"
    ):
        build_detector(clip, settings_of(), vocabulary)
