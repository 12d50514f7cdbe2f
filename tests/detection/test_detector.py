"""Prediction, results in other tools' forms, evaluation, proposals: through the public interface."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tests.support.detection import BASE, NAMES, tiny_detector, write_blocks
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data import CocoDetection
from clipself.detection import (
    Detector,
    annotate,
    evaluate_detector,
    predict_images,
    to_coco,
    to_pipeline,
    to_supervision,
)
from clipself.detection.checkpoint import save_detector
from clipself.detection.detector import paste_masks
from clipself.detection.detectors.owlvit import OwlDetector
from clipself.detection.evaluate import score_detector
from clipself.detection.proposals import write_proposals
from clipself.detection.report import compare_reports
from clipself.distillation.train import distill
from clipself.structures import Detections
from clipself.viz import DrawnBox, draw_boxes
from clipself.viz.boxes import BASE as BLUE
from clipself.viz.boxes import NOVEL as RED


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved detector, its backbone, pictures with a COCO file."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path, 4, size=(48, 80))
    model = save_clip(tiny_openai_clip(layers=4), tmp_path / "model")
    save_detector(tiny_detector(score_threshold=0.02), tmp_path / "detector", model=str(model), card={})
    return tmp_path


def found(*, masks: bool = False) -> Detections:
    kept = ({"size": [50, 100], "counts": coco_mask.encode(np.asfortranarray(np.eye(50, 100, dtype=np.uint8)))["counts"]
             .decode()},) * 2  # fmt: skip
    return Detections(
        boxes=torch.tensor([[1.7, 2.0, 11.2, 22.9], [0.0, 0.0, 5.0, 5.0]]),
        scores=torch.tensor([0.75, 0.5]),
        labels=torch.tensor([1, 0]),
        names=("cat", "dog"),
        size=(50, 100),
        masks=kept if masks else None,
    )


def test_results_in_other_forms() -> None:
    rows = to_coco(found(), image_id=42, category_ids=[17, 18])
    assert rows[0] == {"image_id": 42, "category_id": 18, "bbox": [1.7, 2.0, 9.5, 20.9], "score": 0.75}
    assert to_pipeline(found())[0] == {
        "score": 0.75, "label": "dog", "box": {"xmin": 1, "ymin": 2, "xmax": 11, "ymax": 22}
    }  # fmt: skip
    assert len(found().above(0.6)) == 1
    best = found()[0]
    place: Any = np.argmax(found().scores.numpy())  # NumPy's own whole number
    assert found()[found().scores.argmax()] == found()[place] == best
    assert len(found()[[]]) == len(found()[torch.zeros(2, dtype=torch.bool)]) == 0
    with pytest.raises(ValueError, match="count \\[1, 2\\] detections"):
        Detections(boxes=torch.zeros(2, 4), scores=torch.zeros(1), labels=torch.zeros(2), names=(), size=(1, 1))


def test_supervision_detections() -> None:
    pytest.importorskip("supervision")
    held = to_supervision(found(masks=True))
    assert held.xyxy.shape == (2, 4)
    assert held.class_id.tolist() == [1, 0]
    assert held.data["class_name"].tolist() == ["dog", "cat"]
    assert held.mask.shape == (2, 50, 100)


def test_without_supervision_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'clipself\[supervision\]'"):
        to_supervision(found())


def test_boxes_lie_in_original_pixels_whatever_the_size(world: Path) -> None:
    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    small = Image.open(world / "pictures" / "1.png").convert("RGB")
    large = small.resize((small.width * 3, small.height * 3), Image.Resampling.NEAREST)
    one, two = detector.predict([small, large], names=["cat", "zebra"])
    assert one.size == (48, 80)
    assert two.size == (144, 240)
    for detections in (one, two):
        assert len(detections)
        assert float(detections.boxes[:, 2].max()) <= detections.size[1]
        assert float(detections.boxes[:, 3].max()) <= detections.size[0]
        assert (detections.scores.diff() <= 0).all()
    torch.testing.assert_close(one.boxes[:1] * 3, two.boxes[:1], atol=20.0, rtol=0.2)
    (by_path,) = detector.predict(world / "pictures" / "1.png", names=["cat", "zebra"])
    torch.testing.assert_close(by_path.boxes, one.boxes)
    both = detector.predict([small, small], batch_size=2)
    torch.testing.assert_close(both[1].scores, one.scores, atol=1e-5, rtol=1e-4)


def test_long_lists_and_none(world: Path) -> None:
    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    picture = Image.open(world / "pictures" / "0.png")
    many = [f"thing {place}" for place in range(1300)]
    (detections,) = detector.predict(picture, names=many)
    assert detections.names == tuple(many)
    assert detections.scores.isfinite().all()
    with pytest.raises(ValueError, match="there are no names to look for"):
        detector.predict(picture, names=[])
    assert detector.predict([], names=["cat"]) == []


def test_masks_are_pasted_into_the_box() -> None:
    logits = torch.full((1, 28, 28), -9.0)
    logits[:, :, :14] = 9.0
    (encoded,) = paste_masks(logits, torch.tensor([[10.0, 5.0, 30.0, 15.0]]), (20, 40))
    mask = coco_mask.decode(encoded)
    expected = np.zeros((20, 40), np.uint8)
    expected[5:15, 10:20] = 1
    assert np.array_equal(mask, expected)
    (outside,) = paste_masks(logits, torch.tensor([[5.0, 5.0, 5.0, 5.0]]), (20, 40))
    assert coco_mask.decode(outside).sum() == 0


def test_evaluation_writes_what_coco_tools_read(world: Path) -> None:
    (world / "synonyms.json").write_text(json.dumps({"cat": "kitten"}))
    (world / "more.txt").write_text("zebra\nyak\n")
    reports = evaluate_detector(
        checkpoint=str(world / "detector"), annotations=world / "instances.json", images=world / "pictures",
        out=world / "out", device="cpu", synonyms=world / "synonyms.json", more_names=world / "more.txt",
    )  # fmt: skip
    assert [report.title for report in reports][1:] == ["with synonyms", "with more names"]
    assert {row["name"]: row["group"] for row in reports[0].per_class} == {
        **dict.fromkeys(BASE, "base"), "fish": "novel"
    }  # fmt: skip
    rows = json.loads((world / "out" / "results.json").read_text())
    truth = COCO(str(world / "instances.json"))
    assert len(truth.loadRes(rows).dataset["annotations"]) == len(rows) > 0
    assert {row["category_id"] for row in json.loads((world / "out" / "results_2.json").read_text())} <= {1, 2, 3, 4}
    assert "AP50 novel" in compare_reports(reports)
    assert json.loads((world / "out" / "scores.json").read_text())[0]["images"] == 4
    assert "fish" in (world / "out" / "per_class.txt").read_text()
    (changed,) = evaluate_detector(
        checkpoint=str(world / "detector"), annotations=world / "instances.json", images=world / "pictures",
        device="cpu", fusion="none", limit=2,
    )  # fmt: skip
    assert changed.images == 2
    (world / "synonyms.json").write_text(json.dumps({"cow": "kitten"}))
    with pytest.raises(ValueError, match="has a synonym for 'cow', which is not a class"):
        evaluate_detector(
            checkpoint=str(world / "detector"), annotations=world / "instances.json", images=world / "pictures",
            device="cpu", synonyms=world / "synonyms.json",
        )  # fmt: skip


def test_an_evaluation_counts_what_it_read_and_groups_classes_as_they_are_spoken(world: Path) -> None:
    held = json.loads((world / "instances.json").read_text())
    for category, name in zip(held["categories"], ("Cat", "DOG", "bird", "fish"), strict=True):
        category["name"] = name
    held["categories"].append({"id": 9, "name": "hot_air_balloon"})
    first = {"id": 900, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 5], "area": 0, "iscrowd": 0}
    held["annotations"] = [first, *({k: v for k, v in row.items() if k != "area"} for row in held["annotations"])]
    (world / "other.json").write_text(json.dumps(held))
    given: dict[str, Any] = {"checkpoint": str(world / "detector"), "images": world / "pictures", "device": "cpu"}
    (report,) = evaluate_detector(annotations=world / "other.json", out=world / "out", limit=3, **given)
    groups = {str(row["name"]): row["group"] for row in report.per_class}
    assert groups == {
        "Cat": "base", "DOG": "base", "bird": "base", "fish": "novel", "hot_air_balloon": "novel"
    }  # fmt: skip
    labelled = {row["category_id"] for row in held["annotations"] if row["image_id"] <= 3 and row["id"] < 900}
    absent = [row["name"] for row in held["categories"] if row["id"] not in labelled]
    assert "hot_air_balloon" in absent
    assert report.without_truth == absent
    said = compare_reports([report])
    assert f"3 of 4 images, {5 - len(absent)} of 5 classes occur (none of {', '.join(absent)}); percent" in said
    (written,) = json.loads((world / "out" / "scores.json").read_text())
    assert (written["images"], written["listed"], written["classes_without_truth"]) == (3, 4, absent)
    assert written["annotations"]["listed"]["pictures"] == 4
    assert any("width or height" in remark["what"] for remark in written["annotations"]["remarks"])


def test_classes_that_training_never_saw_are_all_novel_and_nothing_labelled_is_refused(world: Path) -> None:
    held = json.loads((world / "instances.json").read_text())
    for category in held["categories"]:
        category["name"] += " toy"
    (world / "other.json").write_text(json.dumps(held))
    given: dict[str, Any] = {"checkpoint": str(world / "detector"), "images": world / "pictures", "device": "cpu"}
    (report,) = evaluate_detector(annotations=world / "other.json", **given)
    assert {row["group"] for row in report.per_class} == {"novel"}
    assert report.summary["AP50 base"] != report.summary["AP50 base"]
    last = max(row["id"] for row in held["images"])
    held["annotations"] = [row for row in held["annotations"] if row["image_id"] == last]
    (world / "other.json").write_text(json.dumps(held))
    with pytest.raises(ValueError, match=r"other\.json: nothing is labelled in the 1 images"):
        evaluate_detector(annotations=world / "other.json", limit=1, **given)
    with pytest.raises(ValueError, match="limit=0 must be at least 1"):
        evaluate_detector(annotations=world / "other.json", limit=0, **given)


def test_lvis_files_are_scored_by_federated_rules_with_masks(world: Path) -> None:
    held = json.loads((world / "instances.json").read_text())
    for image in held["images"]:
        image |= {"neg_category_ids": [1], "not_exhaustive_category_ids": []}
    for category, letter in zip(held["categories"], "fccr", strict=True):
        category["frequency"] = letter
    (world / "lvis.json").write_text(json.dumps(held))
    data = CocoDetection(world / "lvis.json", world / "pictures", novel=["fish"], train=False)
    masked = Detector(tiny_detector(mask_convs=1, score_threshold=0.02))
    report = score_detector(masked, data, progress=False)
    assert "mask AP" in report.title
    assert {"APr", "APc", "APf", "AR@300"} <= set(report.summary)
    assert "box AP" in score_detector(Detector(tiny_detector()), data, progress=False).title


class Oracle(OwlDetector):
    """Finds everything there is, from the annotations."""

    def __init__(self, path: Path) -> None:
        self.held = json.loads(path.read_text())
        self.trained_names = ()

    def stream(self, images: Any, names: Any = None, **options: Any) -> Any:
        for path in images:
            image = next(row for row in self.held["images"] if row["file_name"] == path.name)
            rows = [row for row in self.held["annotations"] if row["image_id"] == image["id"]]
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
            yield Detections(
                boxes=torch.tensor(boxes), scores=torch.ones(len(rows)),
                labels=torch.tensor([row["category_id"] - 1 for row in rows]), names=tuple(names), size=(48, 80),
            )  # fmt: skip


def test_a_perfect_detector_scores_a_hundred(world: Path) -> None:
    data = CocoDetection(world / "instances.json", world / "pictures", novel=["fish"], train=False)
    report = score_detector(Oracle(world / "instances.json"), data, progress=False)
    for name in ("AP50 base", "AP50 novel", "AP50 all", "AP"):
        assert report.summary[name] == pytest.approx(100.0)


def test_prediction_draws_and_writes(world: Path) -> None:
    result = predict_images(
        images=(world / "pictures",), checkpoint=str(world / "detector"), names=("cat", "unicorn"), out=world / "out",
        threshold=0.02, device="cpu",
    )  # fmt: skip
    assert len(result.pictures) == 4
    with Image.open(result.pictures[0]) as picture:
        assert picture.size == (80, 48)
    held = COCO(str(result.coco))
    assert [row["name"] for row in held.loadCats(held.getCatIds())] == ["cat", "unicorn"]
    assert len(held.dataset["annotations"]) == sum(map(len, result.found)) > 0


def test_prediction_passes_over_broken_pictures_and_keeps_pictures_of_one_name_apart(world: Path) -> None:
    photos = world / "photos"
    for folder in ("a", "b"):
        (photos / folder).mkdir(parents=True)
        Image.open(world / "pictures" / "0.png").save(photos / folder / "cat.png")
    Image.open(world / "pictures" / "1.png").convert("CMYK").save(photos / "cat.jpg")
    (photos / "a" / "broken.png").write_bytes((photos / "a" / "cat.png").read_bytes()[:60])
    (world / "names.txt").write_bytes("\ufeffcat\nkite\n".encode())
    given: dict[str, Any] = {"checkpoint": str(world / "detector"), "threshold": 0.0, "device": "cpu"}
    result = predict_images(
        images=str(photos), names=[str(world / "names.txt"), "dog, bird"], out=world / "out", **given
    )
    drawn = {str(path.relative_to(world / "out" / "pictures")) for path in result.pictures}
    assert drawn == {"a/cat.png", "b/cat.png", "cat.png"}
    held = json.loads(result.results.read_text())
    assert held["names"] == ["cat", "kite", "dog", "bird"]
    assert (held["listed"], held["read"]) == (4, 3)
    (left_out,) = held["left_out"]
    assert "broken.png" in left_out["image"]
    first = held["images"][0]
    assert [one["name"] for one in first["detections"]] == [one.name for one in result.found[0]]
    coco = json.loads(result.coco.read_text())
    assert {row["file_name"] for row in coco["images"]} == {"a/cat.png", "b/cat.png", "cat.jpg"}
    assert len({row["id"] for row in coco["annotations"]}) == len(coco["annotations"]) > 0
    assert set(coco["annotations"][0]) >= {"id", "image_id", "category_id", "bbox", "score", "area", "iscrowd"}
    with pytest.raises(ValueError, match="more than once"):
        predict_images(images=str(photos), names=("Hot_dog", "hot dog"), out=world / "other", **given)
    assert not (world / "other").exists()


def test_arrays_and_tensors_are_pictures_too(world: Path) -> None:
    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    path = world / "pictures" / "1.png"
    array = np.asarray(Image.open(path).convert("RGB"))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    by_path, by_array, by_tensor = detector.predict([path, array, tensor])
    assert torch.equal(by_path.boxes, by_array.boxes)
    assert torch.equal(by_path.scores, by_tensor.scores)
    (alone,) = detector.predict(array)
    assert torch.equal(alone.scores, by_path.scores)
    drawn = annotate(Image.fromarray(array), by_path.above(float(by_path.scores[0])), known=["cat"])
    assert drawn.size == (80, 48)


def test_boxes_are_drawn_in_their_colour_over_their_mask() -> None:
    mask = found(masks=True).masks
    assert mask is not None
    drawn = draw_boxes(
        Image.new("RGB", (100, 50)),
        [
            DrawnBox(box=(40, 20, 80, 40), text="a", colour=RED, mask=mask[0]),
            DrawnBox(box=(40, 20, 80, 40), text="b", colour=BLUE),
        ],
    )
    assert drawn.getpixel((60, 40)) == RED  # the best one lies on top
    assert drawn.getpixel((5, 5)) == tuple(int(0.45 * part) for part in RED)


def test_proposals_close_the_loop(world: Path) -> None:
    """Distil, detect, propose, distil."""
    boxes, images = write_proposals(
        checkpoint=world / "detector", images=world / "pictures", out=world / "out", most=20, device="cpu"
    )
    rows = json.loads(boxes.read_text())
    counts = np.bincount([row["image_id"] for row in rows])
    assert counts[1:].min() > 0
    assert counts.max() <= 20
    result = distill(
        data=world / "pictures", out=world / "refined", model=str(world / "model"), regions="proposals",
        annotations=images, proposals=boxes, image_size=64, max_steps=3, batch_size=2, workers=0, precision="fp32",
        device="cpu",
    )  # fmt: skip
    assert result.steps == 3
    listed, _ = write_proposals(
        checkpoint=world / "detector", images=world / "pictures", annotations=world / "instances.json",
        out=world / "listed", device="cpu",
    )  # fmt: skip
    assert {row["image_id"] for row in json.loads(listed.read_text())} == {1, 2, 3, 4}
    for changes, message in (({"most": 0}, "most=0 must be"), ({"threshold": float("nan")}, "threshold=nan is not in")):
        with pytest.raises(ValueError, match=message):
            write_proposals(checkpoint="d", images="i", out="o", **changes)
    with pytest.raises(ValueError, match="threshold=-inf is not in"):
        predict_images(checkpoint="d", images="i", threshold=float("-inf"))
    with pytest.raises(ValueError, match=r"no proposal scores 1\.0 or more; lower --threshold"):
        write_proposals(
            checkpoint=world / "detector", images=world / "pictures", out=world / "out", threshold=1.0, device="cpu"
        )


def test_names_of_training_are_the_default(world: Path) -> None:
    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    (detections,) = detector.predict(world / "pictures" / "0.png")
    assert detections.names == NAMES


def test_memory_does_not_grow_with_the_images(world: Path) -> None:
    """The stream holds one picture at a time and lets its tensors go."""
    import gc
    import weakref

    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    kept: list[weakref.ref[torch.Tensor]] = []
    frame = detector._frame

    def watch(pictures: Any) -> Any:
        canvases, sizes, scales = frame(pictures)
        kept.append(weakref.ref(canvases))
        return canvases, sizes, scales

    detector._frame = watch  # type: ignore[method-assign]
    for number, _ in enumerate(detector.stream([world / "pictures" / "0.png"] * 5), start=1):
        gc.collect()
        assert len(kept) == number, "pictures are read ahead"
        assert sum(reference() is not None for reference in kept) <= 1
