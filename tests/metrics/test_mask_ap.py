import math

import numpy as np
import pytest

from clipself.metrics.mask_ap import MaskAP, encode_mask


def squares(*corners: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]:
    masks = np.zeros((len(corners), 32, 64), dtype=bool)
    for mask, corner in zip(masks, corners, strict=True):
        mask[4:24, corner : corner + 20] = True
    return masks


def test_truth_as_its_own_prediction_is_perfect_and_a_shift_is_found_at_50_only() -> None:
    meter = MaskAP(3)
    truth, labels = squares(0, 30), [0, 2]
    for shift in (0, 5):  # IoU of the shifted squares is 15 / 25 = 0.6
        meter.update(
            squares(shift, 30), labels, [0.9, 0.8], true_masks_MHW=truth, true_labels=labels, crowd=[False, False]
        )
    found = meter.compute()
    assert found.per_class[2] == pytest.approx(100)
    assert math.isnan(found.per_class[1])
    assert found.ap50 == pytest.approx(100)
    # class 0: at 0.50, 0.55 and 0.60 both are found, above it half of the recall at full precision: 51 of 101 steps
    assert found.per_class[0] == pytest.approx((3 * 100 + 7 * 51 / 101 * 100) / 10)


def test_nothing_found_and_nothing_to_find() -> None:
    meter = MaskAP(2)
    assert math.isnan(meter.compute().ap)
    meter.update(squares(), [], [], true_masks_MHW=squares(3), true_labels=[1], crowd=[False])
    assert meter.compute().ap == 0.0
    with pytest.raises(ValueError, match="resize them first"):
        meter.update(squares(), [], [], true_masks_MHW=squares(3)[:, :9], true_labels=[1], crowd=[False])
    assert encode_mask(squares(1)[0])["size"] == [32, 64]
