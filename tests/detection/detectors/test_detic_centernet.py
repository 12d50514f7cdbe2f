"""Detic's OV-LVIS detector whole: what it learns, how it is framed, saved and read, what a released file becomes."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.detection import BASE, NAMES, tiny_batch, write_blocks
from tests.support.tiny import tiny_openai_clip
from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.conformance.detic_models import released_settings
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.detection.checkpoint import load_detector, save_detector
from clipself.detection.detector import Detector
from clipself.detection.detectors.detic.cascade_detector import CenterNetDetector
from clipself.detection.detectors.detic.published import load_published, stored_texts
from clipself.detection.detectors.detic.settings import DeticSettings
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.detectors.two_stage.image_labels import ImageLabelTerms
from clipself.detection.evaluate import score_detector
from clipself.detection.recipes import detect_recipe
from clipself.detection.released import import_released
from clipself.detection.train import train_detector
from clipself.engine.distributed import World
from clipself.engine.step import Step, sum_counts
from clipself.structures import DetectionBatch

TINY: dict[str, Any] = {
    "heads": "centernet", "image_size": 64, "pixels": "clip", "channels": 48, "mask_convs": 1, "roi_samples": 64,
    "templates": "simple", "nms": 0.5, "score_threshold": 0.02,
    "centernet": {"convs": 1, "before": 200, "after": 60, "before_in_training": 200, "after_in_training": 60},
    "cascade": {"trunk": "clip", "width": 64, "mask_width": 16, "short_side": 64, "longest": 64},
}  # fmt: skip
BOXES, LABELS = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]], [[0, 1], [2]]
WORLD = World(rank=0, size=1, device=torch.device("cpu"))


def tiny(**changes: Any) -> CenterNetDetector:
    settings = make_settings("detic", **{**TINY, **changes})
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, settings, vocabulary)
    assert isinstance(detector, CenterNetDetector)
    return detector


def learn(detector: CenterNetDetector, *batches: DetectionBatch) -> list[dict[str, Tensor]]:
    """Losses of the micro-batches of one step."""
    totals = sum_counts([detector.counts(batch) for batch in batches], WORLD)
    return [detector(batch, Step(number=0, seed=0, totals=totals, world=WORLD)) for batch in batches]


def halves(batch: DetectionBatch) -> list[DetectionBatch]:
    assert batch.masks is not None
    return [
        DetectionBatch(
            images_B3HW=batch.images_B3HW[[place]], sizes=batch.sizes[place : place + 1],
            boxes=batch.boxes[place : place + 1], labels=batch.labels[place : place + 1],
            masks=batch.masks[place : place + 1], names=batch.names[place : place + 1],
        )
        for place in range(len(batch))
    ]  # fmt: skip


@pytest.mark.parametrize("federated", [0, 2])
def test_a_batch_is_the_sum_of_its_images(federated: int) -> None:
    detector = tiny(federated_classes=federated).train()
    batch = tiny_batch(BOXES, LABELS, masks=True)
    (together,) = learn(detector, batch)
    apart = learn(detector, *halves(batch))
    assert set(together) == {"centres", "rest", "distances", "classes", "boxes", "masks"}
    for name, loss in together.items():
        torch.testing.assert_close(sum(one[name] for one in apart), loss, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("boxes", "labels"),
    [
        pytest.param(BOXES, LABELS, id="ordinary"),
        pytest.param([[], []], [[], []], id="no-boxes-at-all"),
        pytest.param([[[5, 5, 6, 6]], []], [[1], []], id="one-pixel"),
        pytest.param([[[0, 0, 64, 64]], [[3.0, 3.0, 3.01, 60.0]]], [[0], [1]], id="whole-image-and-sliver"),
    ],
)
def test_losses_are_finite_and_reach_every_learning_parameter(boxes: list[Any], labels: list[Any]) -> None:
    detector = tiny().train()
    (losses,) = learn(detector, tiny_batch(boxes, labels, masks=True))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_novel_classes_take_no_part_in_the_loss() -> None:
    """The texts of the held-out name may be anything."""
    batch = tiny_batch(BOXES, LABELS, masks=True)
    losses = []
    for text in (1.0, -1.0):
        detector = tiny().train()
        for classifier in detector.cascade.classifiers:
            classifier.classes_KD[NAMES.index("fish")] = text
        (one,) = learn(detector, batch)
        losses.append(one["classes"].detach())
    assert torch.equal(*losses)


def test_labels_of_images_teach_every_stage_and_nothing_else() -> None:
    """The largest proposal of each stage's own boxes should be the label; boxes and heat learn nothing."""
    detector = tiny().train()
    more = make_vocabulary(detector.clip, [*NAMES, "kite"], base=[*BASE, "fish", "kite"], templates="simple")
    batch = replace(tiny_batch([[], []], [[], []]), image_labels=(torch.tensor([3]), torch.tensor([4, 0])))
    with pytest.raises(ValueError, match="has not been told of image labels"):
        learn(detector, batch)
    detector.learn_image_labels(ImageLabelTerms(vocabulary=more, weight=0.5, proposals=20))
    (losses,) = learn(detector, batch)
    assert set(losses) == {"image_labels", "rest"}
    assert float(losses["rest"].detach()) == 0.0
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    reached = {
        name
        for name, parameter in detector.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.any())
    }
    for stage in range(3):
        assert f"cascade.stages.{stage}.cls_score.linear.weight" in reached
        assert f"cascade.stages.{stage}.bbox_pred.2.weight" not in reached
    assert "proposer.agn_hm.weight" not in reached
    assert all(parameter.grad is not None for parameter in detector.parameters() if parameter.requires_grad)


def test_pictures_with_labels_are_framed_smaller() -> None:
    detector = tiny(cascade={**TINY["cascade"], "short_side": 40, "longest": 90})
    framing = detector.framing(scales=(1.0, 1.0))
    still = detector.label_framing(share=0.5, scales=(1.0, 1.0), flip=0.0)
    assert (still.side, still.scales) == (32, (1.0, 1.0))
    published = detector.label_framing(share=0.5, scales=(0.1, 2.0), flip=0.0)
    assert published.scales == (0.5, 1.5), "boxes are cut at 0.1 to 2, labelled pictures are not made as small"
    assert detector.label_framing(share=0.5, scales=(1.8, 2.0), flip=0.0).scales == (1.8, 2.0)
    picture = Image.new("RGB", (200, 100))
    assert framing.train(picture, random.Random(0)).image.size == (64, 32)
    assert framing.test(picture).image.size == (80, 40)


def test_the_recipes_are_the_released_detectors() -> None:
    """Whose constants `clipself parity` holds to the published numbers."""
    boxes, wide = (detect_recipe(f"ov-lvis-detic-{name}") for name in ("r50", "swin-b"))
    assert (boxes.max_steps, boxes.batch_size, boxes.lr, boxes.warmup_steps) == (90_000, 8, 2e-4, 10_000)
    assert (wide.max_steps, wide.batch_size, wide.lr, wide.clip_value) == (180_000, 4, 1e-4, 1.0)
    for config, side in ((boxes, 640), (wide, 896)):
        settings = config.detector
        assert isinstance(settings, DeticSettings)
        assert (settings.image_size, settings.federated_classes) == (side, 50)
        released = released_settings({})
        for name in ("heads", "centernet", "nms", "score_threshold", "max_detections", "mask_convs", "temperature"):
            assert getattr(settings, name) == getattr(released, name), name
        assert replace(settings.cascade, trunk="resnet50") == released.cascade


def test_the_grids_are_those_of_the_pyramid() -> None:
    detector = tiny()
    images = torch.randn(1, 3, 50, 90)
    maps = detector.read_images(images)
    assert detector.grids(images) == [tuple(level.shape[-2:]) for level in maps]
    assert detector.strides == (4, 8, 16, 32, 64)  # a patch of 8 pixels halves them all


def test_masks_are_asked_for() -> None:
    with pytest.raises(ValueError, match=r"use mask_convs=0"):
        learn(tiny().train(), tiny_batch(BOXES, LABELS))
    (losses,) = learn(tiny(mask_convs=0).train(), tiny_batch(BOXES, LABELS))
    assert "masks" not in losses


def test_trunks_of_their_own_start_from_a_file_or_from_what_is_meant(tmp_path: Path) -> None:
    path = write_blocks(tmp_path, 2)
    data = CocoDetection(path, tmp_path / "pictures", base=BASE, novel=["fish"], masks=True)
    for trunk in ("resnet50", "swin_b"):
        settings = make_settings("detic", **{**TINY, "cascade": {"trunk": trunk, "width": 8}})
        assert settings.clip_part == "text"
    detector = tiny(cascade={"trunk": "resnet50", "width": 8})
    assert detector.trunk.conv1.weight.requires_grad  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="does not learn from nothing; pass trunk_weights="):
        detector.prepare(data)
    with pytest.raises(ValueError, match="belong to another trunk"):
        tiny(cascade={"trunk": "clip", "trunk_weights": "random", "width": 8}).prepare(data)
    detector = tiny()
    detector.prepare(data)
    counts = torch.tensor([float(one) for one in data.images_of_classes()])
    torch.testing.assert_close(detector.draw_weights_K[:-1], counts.sqrt())
    assert float(detector.draw_weights_K[3]) == 0.0


def test_names_of_training_keep_their_texts_and_others_get_new_ones(tmp_path: Path) -> None:
    """As a released checkpoint stores them: of any length, another row for the background, each stage its own."""
    detector = tiny().eval()
    clip = detector.clip
    save_clip(clip, tmp_path / "clip")
    stored = torch.randn_like(detector.trained_SKD)
    detector.load_state_dict({**detector.state_dict(), "trained_SKD": stored})
    save_detector(detector, tmp_path / "run", model=str(tmp_path / "clip"), card={})
    again = load_detector(tmp_path / "run")
    assert isinstance(again, CenterNetDetector)
    for classifier, texts_KD in zip(again.cascade.classifiers, stored, strict=True):
        assert torch.equal(classifier.classes_KD, texts_KD)
    again.use(make_vocabulary(clip, ["a car", "dog"], base=BASE, templates="simple"))
    for classifier, texts_KD in zip(again.cascade.classifiers, stored, strict=True):
        assert torch.equal(classifier.classes_KD[1:], texts_KD[[NAMES.index("dog"), -1]])
        assert float(classifier.classes_KD[0].norm()) == pytest.approx(1.0, abs=1e-5)


def test_constants_that_need_no_training_are_replaced_in_all_parts() -> None:
    model = tiny().eval()
    detector, images = Detector(model), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert len(model.propose(images, [(64, 64)])[0].boxes) > 3
    (before,) = model.detect(images, [(64, 64)])
    detector.change_scoring(
        centernet=replace(model.settings.centernet, after=3), one_class="True", score_threshold=0.0,
        cascade=replace(model.settings.cascade, multiply_objectness=False),
    )  # fmt: skip
    assert model.settings.one_class
    (after,) = model.detect(images, [(64, 64)])
    assert 0 < len(after.boxes) <= 3
    assert len(before.boxes) > 3


@pytest.mark.slow
def test_four_images_are_learned_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overfits boxes to AP50 above 0.9."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations = write_blocks(tmp_path, 4)
    train_detector(
        annotations=annotations, images=tmp_path / "pictures", out=tmp_path / "run",
        detector={"method": "detic", **TINY}, model=str(save_clip(tiny_openai_clip(layers=4), tmp_path / "clip")),
        max_steps=60, batch_size=4, lr=3e-3, scales=(1.0, 1.0), flip=0.0, workers=0, device="cpu", precision="fp32",
        weight_decay=0.0, warmup_steps=5, schedule="cosine", save_every=0,
    )  # fmt: skip
    detector = Detector.from_checkpoint(tmp_path / "run", device="cpu")
    data = CocoDetection(annotations, tmp_path / "pictures", train=False)
    assert score_detector(detector, data, progress=False).summary["AP50 all"] > 90.0
    (found,) = detector.predict(tmp_path / "pictures" / "0.png")
    assert found.masks is not None


def released(detector: CenterNetDetector) -> dict[str, Tensor]:
    """A detector's tensors by the names of a released ResNet-50 checkpoint, of which this is the way back."""
    names = {
        "pyramid.p": "backbone.top_block.p",
        "trunk.": "backbone.bottom_up.base.",
        "proposer.": "proposal_generator.centernet_head.",
        "cascade.mask_head.convs.0.conv.": "roi_heads.mask_head.mask_fcn1.",
        "cascade.mask_head.upsample.": "roi_heads.mask_head.deconv.",
        "cascade.mask_head.logits.": "roi_heads.mask_head.predictor.",
    }
    for place in range(3):
        names |= {
            f"pyramid.levels.lateral.{place}.conv.": f"backbone.fpn_lateral{place + 3}.",
            f"pyramid.levels.output.{place}.conv.": f"backbone.fpn_output{place + 3}.",
            f"cascade.stages.{place}.fc": f"roi_heads.box_head.{place}.fc",
            f"cascade.stages.{place}.cls_score.": f"roi_heads.box_predictor.{place}.cls_score.",
            f"cascade.stages.{place}.bbox_pred.": f"roi_heads.box_predictor.{place}.bbox_pred.",
        }
    state = {}
    for name, value in detector.state_dict().items():
        prefix = next((one for one in names if name.startswith(one)), None)
        if prefix is not None:
            state[names[prefix] + name.removeprefix(prefix)] = value
    for stage, texts_KD in enumerate(detector.trained_SKD):
        state[f"roi_heads.box_predictor.{stage}.cls_score.zs_weight"] = texts_KD.mT
        state[f"roi_heads.box_predictor.{stage}.freq_weight"] = torch.ones(len(texts_KD) - 1)
    return {**state, "backbone.bottom_up.base.fc.bias": torch.zeros(7)}


def test_a_released_file_becomes_a_folder_that_finds_the_same(tmp_path: Path) -> None:
    detector = tiny(cascade={**TINY["cascade"], "trunk": "resnet50"}).eval()
    stored = torch.randn_like(detector.trained_SKD)
    detector.load_state_dict({**detector.state_dict(), "trained_SKD": stored})
    save_clip(detector.clip, tmp_path / "clip")
    torch.save({"model": released(detector)}, tmp_path / "detic.pth")
    classes = ClassSplit(ids=(1, 2, 3, 4), names=NAMES, is_base=(True, True, True, False))
    settings = detector.settings
    assert isinstance(settings, DeticSettings)
    told: dict[str, Any] = {"settings": settings, "classes": classes}
    import_released(tmp_path / "detic.pth", tmp_path / "run", model=str(tmp_path / "clip"), pretrained=None, **told)
    again = load_detector(tmp_path / "run")
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (ours,), (theirs,) = (one.detect(images, [(64, 64)]) for one in (again, detector))
    assert len(ours.boxes) > 0
    assert torch.equal(ours.boxes, theirs.boxes)
    assert torch.equal(ours.scores, theirs.scores)
    assert torch.equal(ours.labels, theirs.labels)
    state = released(detector)
    with pytest.raises(ValueError, match=r"knows 4 classes by texts of width \d+; the recipe names 3"):
        load_published(state, detector.clip, settings, ClassSplit(ids=(1, 2, 3), names=NAMES[:3], is_base=(True,) * 3))
    del state["backbone.top_block.p6.bias"]
    with pytest.raises(ValueError, match=r"pyramid\.p6\.bias"):
        load_published(state, detector.clip, settings, classes)
    with pytest.raises(ValueError, match="holds no texts of classes"):
        stored_texts({}, source="it")
