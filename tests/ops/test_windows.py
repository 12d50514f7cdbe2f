"""Windows over images against loops."""

import pytest
import torch
import torch.nn.functional as F

from clipself.ops.axes import pieces, unfold_axis
from clipself.ops.windows import cut_windows, merge_windows, place_windows, resize_matrix


@pytest.mark.parametrize(
    ("size", "window", "stride", "expected"),
    [
        pytest.param((4, 4), (4, 4), (2, 2), [(0, 0, 4, 4)], id="covers"),
        pytest.param((3, 4), (9, 9), (2, 2), [(0, 0, 3, 4)], id="larger-than-the-image"),
        pytest.param((4, 6), (4, 4), (4, 4), [(0, 0, 4, 4), (0, 2, 4, 6)], id="the-last-ends-with-the-image"),
        pytest.param((640, 640), (384, 384), (256, 256), [(0, 0, 384, 384), (0, 256, 384, 640), (256, 0, 640, 384),
                     (256, 256, 640, 640)], id="as-cat-seg"),
    ],
)  # fmt: skip
def test_place_windows(
    size: tuple[int, int], window: tuple[int, int], stride: tuple[int, int], expected: list[tuple[int, ...]]
) -> None:
    assert place_windows(size, window=window, stride=stride) == expected


def test_strides_that_leave_holes_are_refused() -> None:
    with pytest.raises(ValueError, match="not larger than the window"):
        place_windows((100, 100), window=(10, 10), stride=(10, 11))
    with pytest.raises(ValueError, match="must be positive"):
        place_windows((100, 100), window=(10, 10), stride=(0, 5))


def test_merging_averages_what_overlaps_pixel_by_pixel() -> None:
    windows = place_windows((5, 7), window=(3, 4), stride=(2, 2))
    maps = torch.randn(len(windows), 2, 3, 4, generator=torch.Generator().manual_seed(0))
    merged = merge_windows(maps, windows, (5, 7))
    for y in range(5):
        for x in range(7):
            over = [
                map_K[:, y - top, x - left]
                for map_K, (top, left, bottom, right) in zip(maps, windows, strict=True)
                if top <= y < bottom and left <= x < right
            ]
            torch.testing.assert_close(merged[:, y, x], torch.stack(over).mean(0))


def test_pieces_of_an_image_merge_to_the_image() -> None:
    image = torch.randn(3, 9, 11, generator=torch.Generator().manual_seed(0))
    windows = place_windows((9, 11), window=(4, 5), stride=(3, 2))
    torch.testing.assert_close(merge_windows(cut_windows(image, windows), windows, (9, 11)), image)


def test_axes() -> None:
    values = torch.arange(24).reshape(2, 12)
    assert torch.equal(unfold_axis(values, -1, (3, 4)), values.reshape(2, 3, 4))
    assert [len(part) for part in pieces(torch.zeros(7, 2), 3, axis=0)] == [3, 3, 1]
    assert len(pieces(torch.zeros(7, 2), None, axis=0)) == 1


def test_resizes_one_after_another_are_one_matrix() -> None:
    maps = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    padded = F.interpolate(maps[None], size=(20, 20), mode="bilinear", align_corners=False)[..., :13, :]
    expected = F.interpolate(padded, size=(31, 20), mode="bilinear", align_corners=False)[0]
    rows = resize_matrix(resize_matrix(torch.eye(5), 20)[:13], 31)
    cols = resize_matrix(resize_matrix(torch.eye(5), 20), 20)
    torch.testing.assert_close(rows @ maps @ cols.T, expected)
