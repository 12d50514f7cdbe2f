"""Overlays and legends of label maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipself.viz.colours import class_colour, text_on
from clipself.viz.panels import shrink
from clipself.viz.segments import draw_legend, draw_panels, draw_segments


def test_classes_have_their_colours_and_a_line_between_them() -> None:
    image = Image.new("RGB", (6, 4), (100, 100, 100))
    labels = torch.tensor([[0, 0, 0, 1, 1, 9]] * 4)
    drawn = np.asarray(draw_segments(image, labels, classes=2, opacity=0.5))
    for x, index in ((1, 0), (4, 1)):
        expected = [round(50 + 0.5 * channel) for channel in class_colour(index)]
        assert np.abs(drawn[2, x].astype(int) - expected).max() <= 1
    assert drawn[2, 3].tolist() == [255, 255, 255]
    assert drawn[2, 5].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match="does not lie on a picture"):
        draw_segments(image, labels[:2], classes=2)


def test_neighbouring_classes_look_different() -> None:
    colours = np.array([class_colour(index) for index in range(12)])
    apart = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(12)
    assert apart.min() > 60


def test_panels_name_what_is_in_them() -> None:
    image = Image.new("RGB", (60, 40))
    labels = torch.zeros(40, 60, dtype=torch.long)
    labels[:, 30:] = 2
    truth = labels.clone()
    truth[:10] = 255
    names = ["cat", "dog", "a very long name that does not fit the legend"]
    panel = draw_panels(image, {"prediction": labels, "truth": truth}, names, truth, height=80)
    legend = draw_legend([0, 2], names, width=panel.width)
    lower = panel.crop((0, panel.height - legend.height, panel.width, panel.height))
    assert np.array_equal(np.asarray(lower), np.asarray(legend))


def test_giants_are_drawn_at_the_size_they_are_shown() -> None:
    labels = np.zeros((400, 900), dtype=np.int64)
    labels[:, 450:] = 1
    picture, small = shrink(Image.new("RGB", (900, 400)), labels, height=40)
    assert picture.size == (90, 40)
    assert small.tolist() == [[0] * 45 + [1] * 45] * 40
    same, values = shrink(Image.new("RGB", (900, 400)), labels, height=400)
    assert (same.size, values.shape) == ((900, 400), (400, 900))
    image = Image.new("RGB", (900, 400), (100, 100, 100))
    panel = np.asarray(draw_panels(image, {"a": torch.from_numpy(labels)}, ["cat", "dog"], height=40))
    left = 8 + 90 + 8
    for x, index in ((20, 0), (70, 1)):
        expected = [0.4 * 100 + 0.6 * channel for channel in class_colour(index)]
        np.testing.assert_allclose(panel[26 + 20, left + x], expected, atol=1.5)


def test_text_stands_out_on_every_colour() -> None:
    for index in range(24):
        colour, text = class_colour(index), text_on(class_colour(index))
        assert sum(abs(a - b) for a, b in zip(colour, text, strict=True)) > 240
