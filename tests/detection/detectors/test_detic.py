"""Detic's parts against loops, and its detectors on scenes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.support.detection import BASE, NAMES, step_for, tiny_batch, tiny_settings, write_blocks
from tests.support.tiny import tiny_openai_clip
from torch import Tensor, nn
from torchvision.models import resnet50

from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.detection.checkpoint import load_detector
from clipself.detection.detector import Detector
from clipself.detection.detectors.detic.c4 import C4Detector
from clipself.detection.detectors.detic.c4_published import RELEASED, TEXTS
from clipself.detection.detectors.detic.c4_trunk import C4Trunk, make_stage
from clipself.detection.detectors.detic.c4_weights import start_trunk
from clipself.detection.detectors.detic.classifier import ZeroShotClassifier, keep_best_class, with_background
from clipself.detection.detectors.detic.settings import C4Settings, DeticSettings
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.detectors.two_stage.image_labels import ImageLabelTerms
from clipself.detection.evaluate import score_detector
from clipself.detection.image_labels import with_labels
from clipself.detection.released import import_released
from clipself.detection.train import train_detector


def test_the_background_scores_nothing_and_rows_are_compared_by_direction() -> None:
    texts = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    model = ZeroShotClassifier(2, texts, temperature=10.0)
    model.linear.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    logits = model(torch.tensor([[4.0, 3.0]]))
    torch.testing.assert_close(logits, torch.tensor([[8.0, 6.0, 0.0]]))
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]]), texts[1:]), torch.tensor([[6.0]]))
    model.use(texts[[1]])
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]])), torch.tensor([[6.0, 0.0]]))


def test_a_bias_is_added_everywhere_and_plain_products_have_no_temperature() -> None:
    texts = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    model = ZeroShotClassifier(2, texts, temperature=10.0, bias=-4.6, normalise=False)
    model.linear.load_state_dict({"weight": torch.eye(2), "bias": torch.zeros(2)})
    torch.testing.assert_close(model(torch.tensor([[4.0, 3.0]])), torch.tensor([[7.4, 10.4, -4.6]]))


def test_one_class_a_proposal() -> None:
    scores = torch.tensor([[0.1, 0.7, 0.2], [0.4, 0.3, 0.4]])
    assert keep_best_class(scores).tolist() == torch.tensor([[0, 0.7, 0], [0.4, 0, 0.4]]).tolist()
    assert keep_best_class(torch.zeros(2, 0)).shape == (2, 0)


# --- the C4 detector

C4: dict[str, Any] = {
    "trunk_weights": "random", "stem_width": 16, "width": 32, "bottleneck": 16, "frozen_stages": 0,
    "anchor_sides": (16.0, 32.0, 48.0), "bins": 6, "short_side": 64, "longest": 64, "proposals_before": 300,
    "proposals_after": 60, "pixel_std": (60.0, 60.0, 60.0),
}  # fmt: skip
SMALL: dict[str, Any] = {"templates": "simple", "proposals_before": 300, "proposals_after": 60, "roi_samples": 32}


def c4_settings(**changes: Any) -> DeticSettings:
    settings = make_settings("detic", heads="c4", c4=C4, **{**SMALL, "rpn_samples": 64, **changes})
    assert isinstance(settings, DeticSettings)
    return settings


def test_the_trunk_is_torchvisions_by_its_own_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock: Any = resnet50(weights=None).eval()
    norms: list[Any] = [module for module in stock.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    save_file({name: value.contiguous() for name, value in stock.state_dict().items()}, tmp_path / "r50.safetensors")
    own = C4Settings(stride_first=False)
    trunk, last = C4Trunk(own), make_stage(3, own)
    start_trunk(trunk, last, str(tmp_path / "r50.safetensors"))
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted = stock.layer1(stock.maxpool(stock.relu(stock.bn1(stock.conv1(pixels)))))
        wanted = stock.layer3(stock.layer2(wanted))
        found = trunk(pixels)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(last(found), stock.layer4(wanted), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="does not learn from nothing; pass"):
        start_trunk(trunk, last, None)
    with pytest.raises(ValueError, match="pass a ResNet of the depth and widths"):
        start_trunk(C4Trunk(C4Settings(depth=101)), last, str(tmp_path / "r50.safetensors"))


def released(detector: C4Detector, texts_CD: Tensor) -> dict[str, Tensor]:
    """A detector's tensors by the names of Detic's checkpoints, with what these hold besides."""
    state: dict[str, Tensor] = {}
    for name, value in detector.state_dict().items():
        theirs = next((old for old, new in RELEASED if name.startswith(new)), None)
        assert theirs is not None, name
        plain = theirs.replace("\\", "").rstrip("$")
        state[plain + name[len(dict(RELEASED)[theirs]) :]] = value
    return {
        **state,
        TEXTS: with_background(texts_CD).T.contiguous(),
        "roi_heads.box_predictor.freq_weight": torch.ones(len(texts_CD)),
        "text_encoder.ln_final.weight": torch.ones(4),
    }


def test_a_released_checkpoint_becomes_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    clip = tiny_openai_clip(layers=4)
    model = str(save_clip(clip, tmp_path / "clip"))
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = C4Detector(clip, c4_settings(), vocabulary).eval()
    state = released(detector, vocabulary.texts_KD[:-1])
    torch.save({"model": state}, tmp_path / "model.pth")
    classes = ClassSplit(ids=(1, 2, 3, 4), names=NAMES, is_base=(True, True, True, False))
    given: dict[str, Any] = {"model": model, "pretrained": None, "settings": c4_settings(), "classes": classes}
    folder = import_released(tmp_path / "model.pth", tmp_path / "out", **given)
    write_blocks(tmp_path, 1)
    picture = tmp_path / "pictures" / "0.png"
    again = Detector.from_checkpoint(folder, device="cpu")
    assert tuple(again.trained_names) == BASE
    canvas = torch.randn(1, 3, 64, 64)
    loaded = load_detector(folder)
    mine, theirs = detector.detect(canvas, [(64, 64)])[0], loaded.detect(canvas, [(64, 64)])[0]
    torch.testing.assert_close(theirs.boxes, mine.boxes)
    torch.testing.assert_close(theirs.scores, mine.scores)
    assert again.predict(picture)
    state.pop("roi_heads.res5.0.conv1.weight")
    torch.save({"model": state}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"res5\.0\.conv1\.weight"):
        import_released(tmp_path / "short.pth", tmp_path / "no", **given)
    torch.save({"model": {**state, "roi_heads.other": torch.ones(1)}}, tmp_path / "strange.pth")
    with pytest.raises(ValueError, match=r"roi_heads\.other .* is not a name of Detic's released OV-COCO detectors"):
        import_released(tmp_path / "strange.pth", tmp_path / "no", **given)


@pytest.mark.slow
@pytest.mark.parametrize(
    "detector",
    [
        pytest.param(tiny_settings("detic", channels=32, box_width=64), id="clip"),
        pytest.param(c4_settings(bias=-4.6, temperature=30.0), id="c4"),
    ],
)
def test_four_images_are_learned_by_heart(detector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overfits to AP50 above 0.9."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations = write_blocks(tmp_path, 4, most=2)
    train_detector(
        out=tmp_path / "run", annotations=annotations, images=tmp_path / "pictures", detector=detector, batch_size=4,
        model=str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")), workers=0, precision="fp32", device="cpu",
        scales=(1.0, 1.0), flip=0.0, save_every=0, schedule="cosine", warmup_steps=20, max_steps=250, lr=2e-3,
    )  # fmt: skip
    data = CocoDetection(annotations, tmp_path / "pictures", train=False)
    report = score_detector(Detector.from_checkpoint(tmp_path / "run", device="cpu"), data, progress=False)
    assert report.summary["AP50 all"] > 90.0


# --- labels of images


def test_only_labels_and_base_classes_are_told_apart() -> None:
    clip = tiny_openai_clip(layers=4)
    training = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    joined = with_labels(clip, training, ["fish", "zebra"], spoken={"templates": "simple"})
    assert joined.names == (*NAMES, "zebra")
    assert joined.base_K.tolist() == [True] * 6
    alone = with_labels(clip, training, ["cat"], spoken={"templates": "simple"})
    assert alone.base_K.tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("method", ["detic", "fvit"])
def test_a_label_teaches_the_largest_proposal_and_no_box(method: str) -> None:
    torch.manual_seed(0)
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector: Any = build_detector(clip, tiny_settings(method), vocabulary)
    batch = replace(tiny_batch([[], []], [[], []]), image_labels=(torch.tensor([3]), torch.tensor([0, 3])))
    with pytest.raises(ValueError, match="has not been told what image labels stand for"):
        detector(batch, step_for(batch))
    detector.learn_image_labels(
        ImageLabelTerms(vocabulary=with_labels(clip, vocabulary, ["fish"], spoken={"templates": "simple"}), weight=2.0)
    )
    losses = detector(batch, step_for(batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    assert losses["rest"].item() == 0.0
    assert losses["image_labels"].item() > 0.0
    moved = {name for name, part in detector.named_parameters() if part.grad is not None and bool(part.grad.any())}
    assert "box_head.embed.weight" in moved
    assert not any(name.startswith(("proposer.", "box_head.deltas", "box_head.locate")) for name in moved)
    still = [name for name, part in detector.named_parameters() if part.requires_grad and part.grad is None]
    assert still == []  # processes would wait for these


@pytest.mark.slow
def test_labels_of_pictures_teach_a_class_without_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps on boxes, once alone and once in turns with pictures of which the names are known."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations, pictures = write_blocks(tmp_path, 16, most=2), tmp_path / "pictures"
    given: dict[str, Any] = {
        "annotations": annotations, "images": pictures, "novel": ("fish",), "batch_size": 4, "workers": 0,
        "model": str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")), "precision": "fp32", "device": "cpu",
        "scales": (1.0, 1.0), "flip": 0.0, "save_every": 0, "schedule": "cosine", "warmup_steps": 20, "lr": 4e-3,
        "detector": tiny_settings("detic", channels=32, box_width=64),
    }  # fmt: skip
    labels: dict[str, Any] = {
        "image_labels": annotations, "image_label_images": pictures, "image_label_scale": 1.0, "image_label_ratio": 1.0,
    }  # fmt: skip
    train_detector(out=tmp_path / "boxes", max_steps=100, **given)
    train_detector(out=tmp_path / "labels", max_steps=200, **given, **labels)
    data = CocoDetection(annotations, pictures, novel=("fish",), train=False)
    alone, both = (
        score_detector(Detector.from_checkpoint(tmp_path / run, device="cpu"), data, progress=False).summary
        for run in ("boxes", "labels")
    )
    assert alone["AP50 novel"] < 10.0
    assert both["AP50 novel"] > 40.0
    assert both["AP50 base"] > alone["AP50 base"] - 10.0


def test_a_caption_is_told_apart_from_the_others_of_the_step() -> None:
    torch.manual_seed(0)
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector: Any = build_detector(clip, tiny_settings("detic"), vocabulary)
    words = ("a red block", "two blocks")
    plain = replace(tiny_batch([[], []], [[], []]), image_labels=(torch.tensor([0]), torch.tensor([1])))
    detector.learn_image_labels(ImageLabelTerms(vocabulary=vocabulary, weight=1.0))
    without = detector(plain, step_for(plain))["image_labels"].item()
    terms = ImageLabelTerms(vocabulary=vocabulary, weight=1.0, captions=2.0, caption_negatives=0.5)
    detector.learn_image_labels(terms)
    batch = replace(plain, captions=words)
    found = detector(batch, step_for(batch))["image_labels"].item() - without
    with torch.no_grad():
        *maps, _ = detector.pyramid(detector.taps(detector.backbone(batch.images_B3HW).taps))
        whole = torch.tensor([[0.0, 0.0, 64.0, 64.0]])
        regions = F.normalize(detector.embed_regions(maps, [whole, whole]), dim=1)
        logits = 50.0 * regions @ F.normalize(clip.encode_text(words).float(), dim=1).T
    own, other = -F.logsigmoid(logits.diagonal()).sum(), -F.logsigmoid(-logits.flip(1).diagonal()).sum()
    assert found == pytest.approx(2.0 * (own + 0.5 * other).item() / 2, rel=1e-4)
    with pytest.raises(ValueError, match="captions are wanted, but these pictures have none"):
        detector(plain, step_for(plain))


def test_a_detector_without_such_losses_refuses_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    annotations = write_blocks(tmp_path, 4)
    given: dict[str, Any] = {
        "annotations": annotations, "images": tmp_path / "pictures", "out": tmp_path / "run", "max_steps": 1,
        "model": str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")), "workers": 0, "device": "cpu",
        "image_labels": annotations, "image_label_images": tmp_path / "pictures", "batch_size": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the detector owl has no loss for image labels; leave image_labels out"):
        train_detector(recipe="small-owl", **given)
    with pytest.raises(ValueError, match=r"image_label_captions needs captions, and .* holds none"):
        train_detector(
            image_label_captions=1.0, detector=tiny_settings("detic"), **{**given, "out": tmp_path / "other"}
        )
    with pytest.raises(ValueError, match="image_label_names says more of image_labels, which are not given"):
        train_detector(**{**given, "image_labels": None, "image_label_images": None, "image_label_names": ["cat"]})
