"""Whole patches: the nearest, the aspect kept, and the side that would do."""

import pytest

from clipself.ops.patches import fit_longest, fit_shortest, nearest_whole, require_whole


@pytest.mark.parametrize(("side", "expected"), [(3, 14), (20, 14), (22, 28), (28, 28), (0.4, 14)])
def test_nearest_whole(side: float, expected: int) -> None:
    assert nearest_whole(side, 14) == expected


@pytest.mark.parametrize("size", [(480, 640), (640, 480), (7, 900), (500, 500)])
def test_fit_longest_keeps_the_aspect_to_half_a_patch(size: tuple[int, int]) -> None:
    fitted = fit_longest(size, longest=320, patch=16)
    for side, whole in zip(size, fitted, strict=True):
        assert whole % 16 == 0
        assert abs(whole - max(16, side * 320 / max(size))) <= 8
    assert max(fitted) == 320


@pytest.mark.parametrize(
    ("size", "fitted"),
    [
        pytest.param((480, 640), (1024, 1344), id="the-shortest-as-asked"),
        pytest.param((640, 480), (1344, 1024), id="upright"),
        pytest.param((100, 1000), (256, 2560), id="the-longest-is-bounded"),
    ],
)
def test_fit_shortest(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit_shortest(size, shortest=1024, longest=2560, patch=64) == fitted


def test_require_whole_names_the_setting_and_the_side() -> None:
    require_whole(64, 16, what="crop")
    with pytest.raises(ValueError, match="crop=60 is no multiple of the patch of 16 pixels; try 64"):
        require_whole(60, 16, what="crop")
    with pytest.raises(ValueError, match="crop=0 is no multiple of the patch of 16 pixels; try 16"):
        require_whole(0, 16, what="crop")
    with pytest.raises(ValueError, match=r"of two patches \(32 pixels\); try 32"):
        require_whole(40, 32, what="crop", unit="two patches (32 pixels)")
