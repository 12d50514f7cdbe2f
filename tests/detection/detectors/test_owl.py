"""OWL-ViT: weights of transformers, what learns, what a picture is asked, and four pictures learned by heart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.support.detection import BASE, NAMES, step_for, tiny_batch, write_blocks
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip, tiny_timm_clip
from torch import Tensor
from torchvision.ops import box_iou

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.detection.detector import Detector
from clipself.detection.detectors.owl.heads import RARELY, cell_bias
from clipself.detection.detectors.owl.model import Owl
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.detectors.table import build_detector
from clipself.detection.evaluate import score_detector
from clipself.detection.recipes import detect_recipe
from clipself.detection.released import import_released
from clipself.detection.train import train_detector
from clipself.engine.step import Step
from clipself.structures import DetectionBatch
from clipself.text.canonical import prompted, training_templates

BOXES = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]]
LABELS = [[0, 1], [2]]


def owl(clip: DenseCLIP | None = None, **changes: Any) -> Owl:
    given: dict[str, Any] = {"image_size": 64, "templates": "simple", "layer_drop": 0.0, "text_tokens": 12, **changes}
    clip = clip or tiny_openai_clip()
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple", cache=False)
    detector = build_detector(clip, OwlSettings(**given), vocabulary)
    assert isinstance(detector, Owl)
    return detector


def step_of(batch: DetectionBatch, *, number: int = 0) -> Step:
    return replace(step_for(batch, number=number), totals={"pictures": torch.tensor(float(len(batch)))})


# --- weights of transformers


@pytest.mark.parametrize("family", ["OwlViT", "Owlv2"])
def test_weights_of_transformers_are_read_strictly_and_agree(family: str, tmp_path: Path) -> None:
    import transformers

    library: Any = transformers
    sizes = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = getattr(library, f"{family}Config")(
        text_config={**sizes, "max_position_embeddings": 12}, projection_dim=32,
        vision_config={**sizes, "image_size": 64, "patch_size": 16},
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = getattr(library, f"{family}ForObjectDetection")(config).eval()
    for name, parameter in theirs.named_parameters():  # fresh layers are near 0, where anything agrees
        torch.nn.init.normal_(parameter, std=0.2 if parameter.ndim < 2 else 0.1)
        parameter.data += 1.0 if "norm" in name and name.endswith("weight") else 0.0
    theirs.save_pretrained(tmp_path / "theirs")
    classes = ClassSplit(ids=(1, 2), names=("cat", "dog"), is_base=(True, True))
    settings = OwlSettings(templates="simple", gelu="exact", norm_eps=1e-5)
    import_released(
        tmp_path / "theirs", tmp_path / "ours", model="", pretrained=None, settings=settings, classes=classes
    )
    ours: Any = Detector.from_checkpoint(tmp_path / "ours", device="cpu").model
    assert ours.settings.objectness is (family == "Owlv2")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ids = ours.clip.tokenizer(["a cat", "the dog", "a photo of a bird"])
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels, input_ids=ids.repeat(2, 1), attention_mask=None)
        reading = ours.read(pixels)
        logits = ours.heads.logits(reading, ours.embed_ids(ids)[None])
    torch.testing.assert_close(reading.boxes_BP4, wanted.pred_boxes, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits, wanted.logits, atol=1e-4, rtol=1e-4)
    assert wanted.logits.std() > 0.05
    if family == "Owlv2":
        torch.testing.assert_close(reading.objectness_BP, wanted.objectness_logits, atol=1e-4, rtol=1e-4)


def test_other_checkpoints_are_refused_by_their_names(tmp_path: Path) -> None:
    torch.save({"backbone.weight": torch.zeros(2)}, tmp_path / "other.pt")
    classes = ClassSplit(ids=(1,), names=("cat",), is_base=(True,))
    with pytest.raises(ValueError, match=r"backbone\.weight are no OwlViTForObjectDetection"):
        import_released(
            tmp_path / "other.pt", tmp_path, model="", pretrained=None, settings=OwlSettings(), classes=classes
        )  # fmt: skip


# --- what it is


def test_every_token_starts_as_its_own_cell_and_every_name_as_rare() -> None:
    detector = owl()
    reading = detector.read(torch.randn(1, 3, 64, 64))
    torch.testing.assert_close(reading.boxes_BP4[0], cell_bias((8, 8)).sigmoid())
    assert reading.boxes_BP4[0, 9, :2].tolist() == pytest.approx([2 / 8, 2 / 8], abs=1e-3)  # lower right corner
    assert reading.shift_BP1.mean().item() == pytest.approx(RARELY, abs=1.5)


@pytest.mark.parametrize("towers", ["none", "image", "both"])
def test_what_learns_is_what_was_chosen_and_all_of_it_is_reached(towers: str) -> None:
    clip = tiny_openai_clip()
    before = clip.weights_hash()
    detector = owl(clip, towers=towers, objectness=True).train()
    batch = tiny_batch(BOXES, LABELS)
    losses = detector(batch, step_of(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    learning = {name for name, parameter in detector.named_parameters() if parameter.requires_grad}
    assert {name for name, one in detector.named_parameters() if one.grad is not None} == learning
    assert any(name.startswith("clip.clip.visual.") for name in learning) == (towers != "none")
    assert any(name.startswith("clip.clip.transformer.") for name in learning) == (towers == "both")
    assert "clip.clip.visual.proj" not in learning  # no box depends on it
    groups = detector.parameter_groups(weight_decay=0.0)
    assert sum(len(group["params"]) for group in groups) == len(learning)
    scales = [group["lr_scale"] for group in groups]
    assert scales == {"none": [1.0], "image": [1.0, 1.0], "both": [1.0, 1.0, 0.04]}[towers]
    assert clip.weights_hash() == before
    if towers != "none":
        assert detector.clip is not clip
        visual: Any = detector.clip.clip.visual
        assert visual.positional_embedding.shape[0] == 65


def test_pictures_without_a_box_pay_for_their_negatives() -> None:
    detector = owl(objectness=True).train()
    batch = tiny_batch([[], []], [[], []])
    losses = detector(batch, step_of(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    assert losses["boxes"].item() == losses["overlap"].item() == 0.0
    assert losses["classes"].item() > 0.0
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name  # or other processes would wait


def test_the_objectness_head_teaches_nothing_below_it() -> None:
    detector = owl(objectness=True, towers="image").train()
    reading = detector.read(torch.randn(1, 3, 64, 64))
    assert reading.objectness_BP is not None
    torch.autograd.backward(reading.objectness_BP.sum())
    reached = {name.split(".")[0:2][-1] for name, one in detector.named_parameters() if one.grad is not None}
    assert reached == {"objectness"}


@pytest.mark.parametrize("make", [tiny_eva_clip, tiny_timm_clip])
def test_it_stands_on_other_transformers(make: Any) -> None:
    detector = owl(make(), towers="image").train()
    batch = tiny_batch(BOXES, LABELS)
    losses = detector(batch, step_of(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_a_resnet_is_read_by_its_dense_map_or_without_a_class_token_refused() -> None:
    with pytest.raises(ValueError, match="merge='mul-ln' needs a trunk of transformer blocks"):
        owl(tiny_resnet_clip())
    detector = owl(tiny_resnet_clip(), features="dense", towers="none")
    (found,) = detector.eval().detect(torch.randn(1, 3, 64, 64), [(64, 64)])
    assert len(found.scores) > 0


@torch.no_grad()
def test_on_the_dense_map_it_starts_with_what_the_map_says() -> None:
    clip = tiny_openai_clip()
    detector = owl(clip, features="dense", towers="none").eval()
    images = torch.randn(1, 3, 64, 64)
    reading, dense_BDYX = detector.read(images), clip.dense_map(images)
    cosine = torch.nn.functional.cosine_similarity(reading.classes_BPD, dense_BDYX.flatten(2).mT, dim=-1)
    assert float(cosine.min()) > 0.9  # but for the mean that the norm takes off


# --- what a picture is asked


def test_a_picture_is_asked_its_labels_and_base_names_in_sentences() -> None:
    detector = owl(queries=10, negatives=4)
    batch = tiny_batch(BOXES, LABELS)
    asked = detector._ask(batch, 0, step_of(batch))
    known = {prompted(name, template): name for name in NAMES for template in training_templates()}
    names = [known[sentence] for sentence in asked.sentences]
    assert names[:2] == ["cat", "dog"]
    assert sorted(names) == sorted(BASE)  # "fish" is novel and never asked for
    assert asked.targets.labels_MQ.tolist() == [[True, False, False], [False, True, False]]
    torch.testing.assert_close(
        asked.targets.boxes_M4[0], torch.tensor([17 / 64, 23 / 64, 26 / 64, 34 / 64]), atol=1e-6, rtol=0
    )
    again, later = detector._ask(batch, 0, step_of(batch)), detector._ask(batch, 0, step_of(batch, number=1))
    assert again.sentences == asked.sentences
    assert later.sentences != asked.sentences


def test_what_the_data_says_is_absent_is_asked_first() -> None:
    detector = owl(negatives=1)
    batch = replace(tiny_batch(BOXES, LABELS), negatives=(torch.tensor([2, 3, 0]), torch.tensor([], dtype=torch.long)))
    asked = detector._ask(batch, 0, step_of(batch))
    assert len(asked.sentences) == 3
    assert "bird" in asked.sentences[2]  # not the novel "fish", nor the "cat" that is there


def test_labels_that_name_rare_things_are_left_out_on_request() -> None:
    clip = tiny_openai_clip()
    vocabulary = make_vocabulary(clip, ("seaplane", "dog", "cat"), base=("seaplane", "dog", "cat"), cache=False)
    for leave_out in (True, False):
        settings = OwlSettings(image_size=64, layer_drop=0.0, text_tokens=12, leave_out_rare=leave_out)
        detector: Any = build_detector(clip, settings, vocabulary)
        batch = tiny_batch(BOXES, LABELS)
        asked = detector._ask(batch, 0, step_of(batch))
        assert any("seaplane" in sentence for sentence in asked.sentences) is not leave_out
        assert len(asked.targets.boxes_M4) == (1 if leave_out else 2)


def test_a_block_is_gone_past_by_the_picture_and_only_in_training() -> None:
    detector = owl(layer_drop=1.0).train()  # the last of two blocks is always gone past, the first never
    batch = tiny_batch(BOXES, LABELS)
    dropped = detector._dropped(batch, step_of(batch))
    assert dropped is not None
    assert dropped.tolist() == [[False, True]] * 2
    trunk: Any = detector.clip.trunk
    kept = trunk.forward_blocks(trunk.embed(batch.images_B3HW), [trunk.blocks[0]])
    reading = detector.read(batch.images_B3HW, dropped_BL=dropped)
    normed: Tensor = trunk.final_norm(kept.tokens)
    features = detector.heads.norm(normed[:, 1:] * normed[:, :1])
    torch.testing.assert_close(reading.features_BPC, features)
    assert detector.eval()._dropped(batch, step_of(batch)) is None


def test_there_are_no_proposals_without_objectness() -> None:
    with pytest.raises(ValueError, match="no class-free proposals; train it with its objectness head"):
        owl().propose(torch.zeros(1, 3, 64, 64), [(64, 64)])
    (found,) = owl(objectness=True).propose(torch.randn(1, 3, 64, 64), [(64, 48)])
    assert len(found.boxes) == 64
    assert float(found.boxes[:, 2].max()) <= 48
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_suppression_is_an_option() -> None:
    images, sizes = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), [(64, 64)]
    detector = owl(towers="none").eval()
    torch.nn.init.normal_(detector.heads.box.dense2.weight, std=1.0)  # fresh boxes are cells and do not overlap
    (whole,) = detector.detect(images, sizes)
    detector.settings = replace(detector.settings, nms=0.3)
    (few,) = detector.detect(images, sizes)
    assert len(whole.scores) == 64 * len(NAMES)
    assert 0 < len(few.scores) < len(whole.scores)
    for label in set(few.labels.tolist()):
        boxes = few.boxes[few.labels == label]
        assert float(box_iou(boxes, boxes).fill_diagonal_(0).max()) <= 0.3


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image_size": 60}, "no multiple of 8, the patch"),
        ({"queries": 1}, "at least 2 and 3"),
        ({"features": "dense", "layer_drop": 0.1}, "layer_drop belongs to features='tokens'"),
        ({"crop_area": (0.9, 0.3)}, "must ascend"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        owl(**changes)


# --- whole runs


def test_the_recipes_hold_the_published_constants() -> None:
    b16, l14 = detect_recipe("lvis-owl-b16"), detect_recipe("lvis-owl-l14")
    settings: Any = b16.detector
    assert (b16.lr, b16.max_steps, b16.warmup_steps, b16.clip_each, b16.weight_decay) == (5e-5, 140_000, 1000, 1.0, 0.0)
    assert b16.lr * settings.text_lr_scale == pytest.approx(2e-6)
    assert b16.batch_size * b16.accumulate * 8 == 256
    assert (settings.image_size, settings.queries, settings.negatives) == (768, 100, 50)
    other: Any = l14.detector
    assert (l14.lr, l14.max_steps, other.image_size) == (2e-5, 70_000, 840)
    assert l14.lr * other.text_lr_scale == pytest.approx(2e-6)


@pytest.mark.slow
def test_four_pictures_are_learned_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations = write_blocks(tmp_path, 4, most=2)
    settings = OwlSettings(
        image_size=64, templates="simple", layer_drop=0.0, crop_area=(1.0, 1.0), text_tokens=12,
        text_lr_scale=1.0,  # a text tower of random weights says nothing of names until it learns
    )  # fmt: skip
    result = train_detector(
        recipe="small-owl", out=tmp_path / "run", annotations=annotations, images=tmp_path / "pictures",
        model=str(save_clip(tiny_openai_clip(), tmp_path / "model")), detector=settings, max_steps=300, batch_size=4,
        lr=2e-3, workers=0, precision="fp32", device="cpu", mosaics=(), flip=0.0, save_every=0, warmup_steps=20,
    )  # fmt: skip
    assert result.last_loss < 0.3 * result.first_loss
    detector = Detector.from_checkpoint(tmp_path / "run", device="cpu")
    report = score_detector(detector, CocoDetection(annotations, tmp_path / "pictures", train=False), progress=False)
    assert report.summary["AP50 all"] > 90.0
    (found,) = detector.predict([Image.fromarray(np.zeros((40, 60, 3), np.uint8))], threshold=0.0)
    assert found.boxes[:, 2].max() <= 60


def test_a_training_begins_with_another_ones_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    given: dict[str, Any] = {
        "recipe": "small-owl", "annotations": write_blocks(tmp_path, 4), "images": tmp_path / "pictures",
        "model": str(save_clip(tiny_openai_clip(), tmp_path / "model")), "batch_size": 2, "workers": 0,
        "precision": "fp32", "device": "cpu", "mosaics": (), "warmup_steps": 0,
        "detector": OwlSettings(image_size=64, templates="simple", layer_drop=0.0, text_tokens=12),
    }  # fmt: skip
    train_detector(out=tmp_path / "first", max_steps=3, **given)
    train_detector(out=tmp_path / "second", max_steps=1, start_from=tmp_path / "first", **{**given, "lr": 1e-12})
    first, second = (load_file(tmp_path / run / "detector.safetensors") for run in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.allclose(first[name], second[name], atol=1e-9) for name in first)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        train_detector(out=tmp_path / "third", max_steps=1, start_from=tmp_path / "nowhere", **given)
