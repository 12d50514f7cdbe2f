"""Average precision on hand-made cases; the golden ones are in the parity test."""

import math
from typing import Any

import pytest

from clipself.metrics import coco_ap, lvis_ap


def truth(**more: Any) -> dict[str, Any]:
    box = [10.0, 10.0, 20.0, 20.0]
    images = [{"id": image, "width": 100, "height": 100, **more} for image in (1, 2)]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": box, "area": 400.0},
        {"id": 2, "image_id": 2, "category_id": 9, "bbox": box, "area": 400.0},
    ]
    categories = [{"id": identity, "name": str(identity), "frequency": letter} for identity, letter in
                  ((7, "f"), (9, "r"), (11, "c"))]  # fmt: skip
    return {"images": images, "annotations": annotations, "categories": categories}


def hit(image: int, category: int, score: float, shift: float = 0.0) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": [10.0 + shift, 10.0, 20.0, 20.0], "score": score}


def test_groups_are_plain_means_over_classes_with_truth() -> None:
    groups = {"base": [7, 11], "novel": [9]}
    scores = coco_ap(truth(), [hit(1, 7, 0.9), hit(2, 9, 0.5, shift=50.0), hit(2, 9, 0.4)], groups=groups)
    assert scores.summary["AP50 base"] == pytest.approx(1.0)
    assert scores.summary["AP50 novel"] == pytest.approx(0.5)  # the miss ranks first
    assert math.isnan(scores.ap50_per_class[11])
    assert math.isnan(scores.summary["APl"])


def test_no_detections_at_all_score_nothing() -> None:
    assert coco_ap(truth(), []).summary["AP50"] == 0.0
    assert lvis_ap(truth(), []).summary["APr"] == 0.0


def test_results_for_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="a result is for image 5, which the annotations do not list"):
        coco_ap(truth(), [hit(5, 7, 0.5)])


def test_federated_rules() -> None:
    miss = hit(2, 7, 0.95, shift=50.0)
    assert lvis_ap(truth(), [hit(1, 7, 0.9), miss]).summary["APf"] == pytest.approx(1.0)  # not verified: not counted
    negative = lvis_ap(truth(neg_category_ids=[7]), [hit(1, 7, 0.9), miss])
    assert negative.summary["APf"] == pytest.approx(0.5, abs=0.01)
    partial = truth(neg_category_ids=[7], not_exhaustive_category_ids=[7])
    assert lvis_ap(partial, [hit(1, 7, 0.9), miss]).summary["APf"] == pytest.approx(1.0)


def test_the_limit_is_per_image_over_all_classes() -> None:
    flood = [hit(1, 11, 0.95 - 0.001 * place, shift=30.0) for place in range(3)]
    assert lvis_ap(truth(), [*flood, hit(1, 7, 0.5)], most=3).summary["APf"] == 0.0
    assert lvis_ap(truth(), [*flood, hit(1, 7, 0.5)], most=4).summary["APf"] == pytest.approx(1.0)
