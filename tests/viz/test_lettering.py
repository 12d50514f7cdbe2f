"""Names in every script stay apart on pictures."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from clipself.viz.boxes import DrawnBox, draw_boxes
from clipself.viz.lettering import drawable, font, shorten
from clipself.viz.panels import lay_out
from clipself.viz.panoptic_maps import paint_segments
from clipself.viz.segments import draw_legend


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("été ß кошка γάτα", "été ß кошка γάτα", id="letters-that-are-there"),
        pytest.param("e\u0301", "é", id="composed"),
        pytest.param("猫", "U+732B", id="chinese"),
        pytest.param("고양이 cat", "U+ACE0·C591·C774 cat", id="korean"),
        pytest.param("a\x1b[2J\u202e", "aU+001B[2JU+202E", id="control-characters"),
    ],
)
def test_what_the_font_lacks_becomes_its_code_point(text: str, expected: str) -> None:
    assert drawable(text) == expected


def test_long_names_are_cut_to_their_place() -> None:
    cut = shorten("a very long name of a class", width=80, size=14)
    assert cut.endswith("…")
    assert font(14).getlength(cut) <= 80
    assert shorten("cat", width=80, size=14) == "cat"


@pytest.mark.parametrize(("one", "other"), [("été", "ütü"), ("猫", "狗"), ("고양이", "강아지")])
def test_names_differ_in_every_drawing(one: str, other: str) -> None:
    plain = Image.new("RGB", (160, 90), (30, 30, 30))
    ids = np.ones((90, 160), dtype=np.int32)
    drawings: list[Callable[[str], Image.Image]] = [
        lambda name: draw_boxes(plain, [DrawnBox(box=(20, 40, 150, 80), text=name, colour=(200, 0, 0))]),
        lambda name: paint_segments(plain, ids, {1: 0}, [name]),
        lambda name: draw_legend([0], [name], width=200),
        lambda name: lay_out([[(name, plain)]]),
    ]
    for draw in drawings:
        assert (np.asarray(draw(one)) != np.asarray(draw(other))).any()


def test_strips_are_laid_out_small() -> None:
    for size in ((2000, 1), (1, 2000)):
        sheet = lay_out([[("a", Image.new("RGB", size)), ("b", Image.new("RGB", size))]])
        assert sheet.width * sheet.height < 1_000_000
