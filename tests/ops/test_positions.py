"""Position tables on other grids."""

import pytest
import torch
import torch.nn.functional as F

from clipself.ops.positions import crop_position_table, draw_crop, drop_positions, resize_position_table


def test_native_grid_is_left_alone() -> None:
    table = torch.randn(1 + 6, 4)
    assert resize_position_table(table, native_grid=(2, 3), grid=(2, 3)) is table


def test_class_row_is_copied_and_patches_are_bicubic_without_antialias() -> None:
    table = torch.randn(1 + 16, 5, generator=torch.Generator().manual_seed(0))
    resized = resize_position_table(table, native_grid=(4, 4), grid=(3, 7))
    assert torch.equal(resized[0], table[0])
    channels = [
        F.interpolate(table[1:, c].reshape(1, 1, 4, 4), size=(3, 7), mode="bicubic", align_corners=False).flatten()
        for c in range(5)
    ]
    torch.testing.assert_close(resized[1:], torch.stack(channels, dim=1))


def test_a_constant_table_stays_constant() -> None:
    resized = resize_position_table(torch.ones(1 + 9, 2), native_grid=(3, 3), grid=(8, 5))
    torch.testing.assert_close(resized, torch.ones(1 + 40, 2))


def test_scale_factor_shifts_the_sample_points_a_little() -> None:
    table = torch.randn(1 + 16, 3, generator=torch.Generator().manual_seed(0))
    by_size, by_factor = (
        resize_position_table(table, native_grid=(4, 4), grid=(6, 6), by=by) for by in ("size", "scale_factor")
    )
    assert by_size.shape == by_factor.shape
    assert 0 < float((by_size - by_factor).abs().max()) < 0.5


def test_a_table_of_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not hold a class token and a 4 x 4 grid \(17 rows\)"):
        resize_position_table(torch.zeros(16, 2), native_grid=(4, 4), grid=(2, 2))


def test_the_offset_of_the_scale_factor() -> None:
    table = torch.randn(1 + 16, 3, generator=torch.Generator().manual_seed(0))
    by_size = resize_position_table(table, native_grid=(4, 4), grid=(8, 8))
    exact, shifted = (
        resize_position_table(table, native_grid=(4, 4), grid=(8, 8), by="scale_factor", offset=offset)
        for offset in (0.0, 0.1)
    )
    torch.testing.assert_close(exact, by_size)
    assert (shifted - by_size).abs().max() > 1e-3


def test_a_crop_of_positions_is_the_enlarged_table_between_its_cells() -> None:
    """On a table that grows by one from column to column, the enlarged one grows by 3 / 12."""
    table = torch.arange(3.0).repeat(3)[:, None]
    box = torch.tensor([[3.0, 2.0, 9.0, 10.0]])
    cropped = crop_position_table(table, box, grid=(3, 3), enlarged=12).reshape(3, 3)
    columns = torch.tensor([4.0, 6.0, 8.0])  # 3 + (i + 0.5) * 2, each an index of the enlarged columns
    torch.testing.assert_close(cropped, ((columns + 0.5) / 4 - 0.5).expand(3, 3))
    with pytest.raises(ValueError, match="no square grid of 3 x 2"):
        crop_position_table(table[:6], box, grid=(3, 2))


def test_crops_keep_within_area_and_aspect() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.stack([draw_crop(generator, side=64.0) for _ in range(300)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    shares, aspects = width * height / 64**2, width / height
    assert float(boxes.min()) >= 0
    assert float(boxes.max()) <= 64
    assert 0.1 - 1e-6 <= float(shares.min()) < 0.15
    assert 0.9 < float(shares.max()) <= 1
    assert 0.5 - 1e-6 <= float(aspects.min()) < 0.55
    assert 1.8 < float(aspects.max()) <= 2 + 1e-6
    assert abs(float(aspects.log().mean())) < 0.06
    impossible = draw_crop(generator, side=2.0, area=(1.0, 1.0), aspect=(0.5, 0.6))
    assert impossible.tolist() == [0.0, 0.0, 2.0, 2.0]


def test_a_picture_has_its_whole_table_or_none() -> None:
    table = torch.arange(6.0).reshape(3, 2)
    dropped = drop_positions(table, torch.tensor([True, False]))
    assert torch.equal(dropped[0], table)
    assert not dropped[1].any()
