import numpy as np
import pytest
from PIL import Image

from clipself.viz.colours import class_colour
from clipself.viz.panoptic_maps import paint_segments


def test_segments_are_coloured_named_and_outlined_and_void_is_dark() -> None:
    ids = np.zeros((60, 80), dtype=np.int32)
    ids[:, 40:] = 5
    drawn = np.asarray(
        paint_segments(Image.new("RGB", (80, 60), (100, 100, 100)), ids, {5: 2}, ["a", "b", "cat, kitty"])
    )
    mixed = 0.45 * 100 + 0.55 * np.array(class_colour(2))
    np.testing.assert_allclose(drawn[3, 77], mixed, atol=1)
    np.testing.assert_allclose(drawn[3, 3], 65, atol=1)
    assert (drawn[5, 38:42] == 255).all(-1).any()  # the outline
    assert (drawn[20:40, 45:75] == 20).all(-1).any()  # the plate behind the name


def test_neighbouring_labels_differ_in_colour_and_sizes_must_agree() -> None:
    assert len({class_colour(label) for label in range(133)}) > 120
    with pytest.raises(ValueError, match="resize the map first"):
        paint_segments(Image.new("RGB", (4, 4)), np.zeros((3, 4), dtype=np.int32), {}, [])
