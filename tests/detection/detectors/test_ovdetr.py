"""OV-DETR beyond its published numbers: conditions, crops, names some at a time, released files."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.detection import BASE, NAMES, tiny_batch, write_blocks
from tests.support.tiny import tiny_openai_clip
from torch import Tensor

from clipself.backbones.examples import embed_pictures
from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import ClassSplit, CocoDetection
from clipself.detection.detector import Detector
from clipself.detection.detectors.deformable.classes import present_classes
from clipself.detection.detectors.ovdetr.conditions import draw_conditions
from clipself.detection.detectors.ovdetr.crops import CropRows, embed_crops
from clipself.detection.detectors.ovdetr.loss import Asked
from clipself.detection.detectors.ovdetr.model import OvDetrDetector
from clipself.detection.detectors.ovdetr.published import TRUNK
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.detection.released import import_released
from clipself.detection.train import train_detector
from clipself.engine.distributed import World
from clipself.engine.step import Step, sum_counts
from clipself.structures import DetectionBatch

SMALL: Mapping[str, Any] = {
    "trunk": "clip", "image_size": 64, "pixels": "clip", "channels": 32, "heads": 4, "encoder_layers": 1,
    "decoder_layers": 2, "hidden": 32, "queries": 6, "templates": "simple", "dropout": 0.0, "most_conditions": 3,
    "least_conditions": 2,
}  # fmt: skip
BOXES = [[[4, 6, 30, 40], [30, 10, 60, 30]], [[10, 10, 50, 50]]]
LABELS = [[0, 1], [2]]


def build(**changes: Any) -> OvDetrDetector:
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector = build_detector(clip, make_settings("ovdetr", **{**SMALL, **changes}), vocabulary)
    assert isinstance(detector, OvDetrDetector)
    return detector


def step_of(detector: OvDetrDetector, *batches: DetectionBatch, number: int = 0) -> Step:
    world = World(rank=0, size=1, device=torch.device("cpu"))
    return Step(number=number, seed=0, totals=sum_counts(map(detector.counts, batches), world), world=world)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="published"),
        pytest.param({"conditions": "step"}, id="step"),
        pytest.param({"two_stage": False}, id="learned-queries"),
        pytest.param({"two_stage": False, "refine": False}, id="one-set-of-heads"),
        pytest.param({"levels": 3}, id="no-level-beyond-the-trunk"),
    ],
)
@pytest.mark.parametrize("boxes", [BOXES, [[], []]], ids=["ordinary", "no-boxes"])
def test_every_parameter_learns_and_boxes_are_found(changes: dict[str, Any], boxes: Any) -> None:
    detector = build(**changes).train()
    batch = tiny_batch(boxes, LABELS if boxes is BOXES else [[], []])
    losses = detector(batch, step_of(detector, batch))
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    for name, parameter in detector.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    (found,) = detector.eval().detect(torch.zeros(1, 3, 64, 64), [(64, 48)])
    assert len(found.scores) == 6 * len(NAMES)
    assert bool((found.scores.diff() <= 0).all())
    assert float(found.boxes[:, 2].max()) <= 72  # boxes are shares of the picture's own 48 columns, of at most 1.5


def test_queries_that_are_learned_propose_nothing() -> None:
    boxes = build().propose(torch.zeros(1, 3, 64, 64), [(64, 64)])[0]
    assert len(boxes.scores) == 6
    with pytest.raises(ValueError, match="train with two_stage=True"):
        build(two_stage=False).propose(torch.zeros(1, 3, 64, 64), [(64, 64)])
    with pytest.raises(ValueError, match="two_stage needs refine"):
        make_settings("ovdetr", refine=False)
    with pytest.raises(ValueError, match="channels=40 must be a multiple of 32"):
        make_settings("ovdetr", channels=40)


def test_names_some_at_a_time_are_all_at_once() -> None:
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    sizes = [(64, 64), (40, 64)]
    together = build(classes_at_once=None).eval().detect(images, sizes)
    apart = build(classes_at_once=1).eval().detect(images, sizes)
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one.scores, two.scores)
        torch.testing.assert_close(one.boxes, two.boxes, atol=1e-3, rtol=1e-3)


def test_conditions_that_fill_a_batch_up_count_nowhere() -> None:
    detector = build(text_share=1.0).train()
    batch = tiny_batch(BOXES, LABELS)
    step = step_of(detector, batch)
    conditions = detector._conditions(batch, step)
    encoded = detector.encode(batch.images_B3HW, batch.sizes)

    def total(count: int) -> float:
        filled = [one.filled_to(count) for one in conditions]
        rows = torch.stack([detector.network.condition(one.rows_RD, one.of_text_R) for one in filled])
        layers = detector.network.decode(encoded, rows)
        asked = [
            Asked(classes_R=one.classes_R, rows_RD=one.rows_RD, labels_N=torch.tensor([0]), boxes_N4=torch.rand(1, 4))
            for one in filled
        ]
        terms = detector.loss.terms(layers, None, asked, num_boxes=1.0)
        return float(terms["classes"].detach())

    torch.manual_seed(0)
    short = total(2)
    torch.manual_seed(0)
    assert total(5) == pytest.approx(short, rel=1e-5)


def test_classes_that_do_not_fit_wait_and_their_boxes_do_not_count() -> None:
    detector = build(most_conditions=2)
    boxes = torch.tensor([[4.0, 6, 30, 40], [30, 10, 60, 30], [1, 1, 9, 9], [2, 2, 20, 20]])
    labels = torch.tensor([0, 1, 2, 0])
    kept = present_classes(boxes, labels, name="a.png", most=2)
    assert len(kept) == 2
    assert kept == present_classes(boxes, labels, name="a.png", most=2)
    drawn = {tuple(sorted(present_classes(boxes + move, labels, name="a.png", most=2))) for move in range(20)}
    assert len(drawn) == 3  # another view, other classes
    batch = tiny_batch([boxes.tolist()], [labels.tolist()])
    counts = detector.counts(tiny_batch([boxes.tolist()], [labels.tolist()]))["boxes_of_class"]
    assert isinstance(counts, Tensor)
    kept = present_classes(batch.boxes[0], batch.labels[0], name="0.png", most=2)
    assert counts.tolist() == [float(int((labels == label).sum())) if label in kept else 0.0 for label in range(4)]


def test_all_batches_of_a_step_are_asked_alike_where_the_step_draws() -> None:
    detector = build(conditions="step", most_conditions=2)
    batches = tiny_batch(BOXES, LABELS), tiny_batch([[[2, 2, 30, 30]]], [[1]])
    step = step_of(detector, *batches)
    one, two = (detector._conditions(batch, step) for batch in batches)
    assert torch.equal(one[0].classes_R, two[0].classes_R)
    assert torch.equal(one[1].rows_RD, two[0].rows_RD)
    assert set(one[0].classes_R.tolist()) <= {0, 1, 2}
    assert len(one[0].classes_R) == 2
    assert step.totals["boxes_of_class"].tolist() == [1.0, 2.0, 1.0, 0.0]  # of all of them, asked for or not


def test_conditions_are_filled_with_base_classes_and_asked_for_by_text_or_crop() -> None:
    texts_KD = torch.eye(6)[:5]
    crops = CropRows(rows_MD=-torch.eye(6), of_class={0: [0, 1], 1: [2]})
    told: dict[str, Any] = {"texts_KD": texts_KD, "crops": crops, "least": 4}
    generator = torch.Generator().manual_seed(0)
    drawn = draw_conditions([0, 4], [0, 1, 2, 4], text_share=0.0, generator=generator, **told)
    assert sorted(drawn.classes_R.tolist()) == [0, 1, 2, 4]
    assert sorted(drawn.classes_R[:2].tolist()) == [0, 4]  # what is there comes first
    for label, row, of_text in zip(drawn.classes_R.tolist(), drawn.rows_RD, drawn.of_text_R.tolist(), strict=True):
        assert of_text is (label not in crops.of_class)  # a class without crops is asked for by its text
        place = int(row.abs().argmax())
        assert place in crops.of_class.get(label, [label])
    texts = draw_conditions([0, 4], [0, 1, 2, 4], text_share=1.0, generator=generator, **told)
    assert texts.of_text_R.all()
    torch.testing.assert_close(texts.rows_RD, texts_KD[texts.classes_R])


def test_crops_are_the_annotated_boxes_as_clip_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CocoDetection(write_blocks(tmp_path, 4), tmp_path / "pictures", base=BASE)
    clip = tiny_openai_clip()
    rows = embed_crops(clip, data, least=15, most_of_class=2, cache=tmp_path / "cache")
    expected: dict[int, list[Tensor]] = {}
    for image in range(len(data)):
        picture = Image.open(data.paths[image]).convert("RGB")
        for box, label in zip(data.boxes(image).tolist(), data.labels(image).tolist(), strict=True):
            if min(box[2] - box[0], box[3] - box[1]) >= 15 and len(expected.setdefault(label, [])) < 2:
                left, top, right, bottom = map(round, box)
                expected[label].append(embed_pictures(clip, [picture.crop((left, top, right, bottom))])[0])
    assert {label: len(places) for label, places in rows.of_class.items()} == {
        label: len(held) for label, held in expected.items() if held
    }
    for label, places in rows.of_class.items():
        torch.testing.assert_close(rows.rows_MD[list(places)], torch.stack(expected[label]), atol=1e-5, rtol=1e-5)
    monkeypatch.setattr("clipself.detection.detectors.ovdetr.crops.embed_pictures", None)  # never asked again
    again = embed_crops(clip, data, least=15, most_of_class=2, cache=tmp_path / "cache")
    assert torch.equal(again.rows_MD, rows.rows_MD)


def test_pictures_of_a_thing_go_through_their_own_projection() -> None:
    detector = build().eval()
    asked: list[Any] = []
    condition = detector.network.condition

    def note(rows_RD: Tensor, of_text_R: Any) -> Tensor:
        asked.append(of_text_R)
        return condition(rows_RD, of_text_R)

    detector.network.condition = note  # type: ignore[method-assign]
    Detector(detector).use(["cat"], examples={"mug": Image.new("RGB", (40, 30), (200, 30, 40))})
    detector.detect(torch.zeros(1, 3, 64, 64), [(64, 64)])
    assert asked[0].tolist() == [True, False]


def released(detector: OvDetrDetector) -> dict[str, Tensor]:
    """A checkpoint as the released code writes it, of a ResNet-50."""
    state = {f"{TRUNK}{name}": value for name, value in detector.trunk.state_dict().items()}
    for name, value in detector.network.state_dict().items():
        state[name] = value
        if name.startswith(("bbox_embed.", "class_embed.")):
            state[f"transformer.decoder.{name}"] = value.clone()
    return state


def test_a_released_file_is_read_whole_and_predicts_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    detector = build(trunk="resnet50", image_size=None, short_side=64, longest_side=96).eval()
    state = released(detector)
    file = tmp_path / "ovdetr.pth"
    torch.save({"model": state, "epoch": 49, "args": Namespace(lr=2e-4)}, file)
    model = save_clip(detector.clip, tmp_path / "model")
    classes = ClassSplit(ids=(1, 2, 3, 4), names=NAMES, is_base=(True, True, True, False))
    told: dict[str, Any] = {"model": str(model), "pretrained": None, "settings": detector.settings, "classes": classes}
    import_released(file, tmp_path / "out", **told)
    picture = Image.new("RGB", (90, 60), (30, 90, 160))
    (ours,) = Detector(detector).predict(picture)
    (theirs,) = Detector.from_checkpoint(tmp_path / "out", device="cpu").predict(picture)
    torch.testing.assert_close(theirs.boxes, ours.boxes)
    torch.testing.assert_close(theirs.scores, ours.scores)
    state["transformer.decoder.class_embed.0.bias"] += 1
    torch.save({"model": state}, file)
    with pytest.raises(ValueError, match=r"transformer\.decoder\.class_embed\.0\.bias should be class_embed\.0\.bias"):
        import_released(file, tmp_path / "other", **told)
    del state["transformer.decoder.class_embed.0.bias"], state["patch2query.bias"]
    torch.save({"model": state}, file)
    with pytest.raises(ValueError, match=r"patch2query\.bias"):
        import_released(file, tmp_path / "other", **told)
    with pytest.raises(ValueError, match="holds a ResNet-50; the detector's trunk is 'clip'"):
        import_released(file, tmp_path / "other", **{**told, "settings": build().settings})


def test_pictures_of_any_shape_are_learned_from_on_a_resnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    given: dict[str, Any] = {
        "annotations": write_blocks(tmp_path, 4, size=(48, 80)), "images": tmp_path / "pictures",
        "model": str(save_clip(tiny_openai_clip(layers=4), tmp_path / "model")), "max_steps": 2, "batch_size": 2,
        "workers": 0, "device": "cpu", "recipe": "ov-coco-ovdetr", "pretrained": None, "split": None,
    }  # fmt: skip
    sizes = {name: value for name, value in SMALL.items() if name not in ("trunk", "image_size", "pixels")}
    sizes |= {"short_side": 64, "longest_side": 100, "train_sides": (48, 64), "least_crop": 4}
    with pytest.raises(ValueError, match=r"pass trunk_weights=resnet50\.pth"):
        train_detector(out=tmp_path / "none", detector=sizes, **given)
    result = train_detector(out=tmp_path / "run", detector={**sizes, "trunk_weights": "random"}, **given)
    assert 0 < result.last_loss < 1000
    detector = Detector.from_checkpoint(tmp_path / "run", device="cpu")
    found = detector.predict([Image.new("RGB", (90, 60)), Image.new("RGB", (40, 70))], batch_size=2)
    for one in found:
        assert len(one.scores) == 6 * len(NAMES)
        assert bool((one.boxes <= torch.tensor([one.size[1], one.size[0]] * 2)).all())
