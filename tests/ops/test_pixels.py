"""Pictures in units of the standard deviation, against the formula written out."""

import numpy as np
import torch
from PIL import Image

from clipself.ops.pixels import standardised_planes


def test_each_number_is_the_formula_to_the_bit() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    found = standardised_planes(Image.fromarray(pixels), mean=mean, std=std)
    assert found.shape == (3, 5, 7)
    assert found.is_contiguous()
    for channel in range(3):
        for y in range(5):
            for x in range(7):
                share = np.float32(pixels[y, x, channel]) / np.float32(255)
                wanted = (share - np.float32(mean[channel])) / np.float32(std[channel])
                assert found[channel, y, x].item() == float(wanted)


def test_a_default_of_the_caller_changes_nothing() -> None:
    picture = Image.new("RGB", (2, 2), (10, 20, 30))
    torch.set_default_dtype(torch.float64)
    try:
        assert standardised_planes(picture, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).dtype is torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
