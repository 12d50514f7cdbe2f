"""Position tables on other grids."""

import pytest
import torch
import torch.nn.functional as F

from clipself.ops.positions import resize_position_table


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
