"""RO-ViT's detector: its geometry by hand, its windows, Flax' layouts by loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from clipself.detection.detectors.rovit.geometry import (
    centreness_of,
    decode_regions,
    decode_sides,
    encode_regions,
    shrink_boxes,
)
from clipself.detection.detectors.rovit.losses import centreness_loss, overlap_loss
from clipself.detection.detectors.rovit.published_names import to_torch
from clipself.detection.detectors.rovit.vit import PlainViT
from clipself.layers.pyramid import PlainPyramid
from clipself.ops.windows import join_windows, split_windows


def test_boxes_by_hand() -> None:
    anchor = torch.tensor([[10.0, 10.0, 30.0, 50.0]])  # centre 20, 30; 20 wide and 40 high
    sides = torch.tensor([[0.5, 0.25, 0.1, 0.2]])
    assert decode_sides(anchor, sides).tolist() == [[10.0, 26.0, 25.0, 38.0]]
    box = torch.tensor([[16.0, 20.0, 28.0, 60.0]])  # 4 and 8 to left and right, 10 and 30 to top and bottom
    assert float(centreness_of(box, anchor)) == pytest.approx(math.sqrt(4 / 8 * 10 / 30))
    outside = torch.tensor([[20.0, 20.0, 28.0, 60.0]])
    assert float(centreness_of(outside, anchor)) == 0.0
    assert shrink_boxes(torch.tensor([[0.0, 10.0, 100.0, 30.0]]), factor=0.5, size=(26, 60)).tolist() == [
        [25.0, 15.0, 59.0, 25.0]
    ]


def test_regions_count_both_end_pixels() -> None:
    boxes, targets = torch.tensor([[0.0, 0.0, 9.0, 19.0]]), torch.tensor([[2.0, 0.0, 21.0, 19.0]])
    deltas = encode_regions(boxes, targets)  # widths 10 and 20, centres 5 and 12
    torch.testing.assert_close(deltas, torch.tensor([[7.0, 0.0, 5 * math.log(2), 0.0]]))
    torch.testing.assert_close(decode_regions(boxes, deltas), targets)


def test_losses_leave_out_what_has_no_target() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    targets = torch.tensor([[2.0, 0.0, 6.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    assert float(overlap_loss(boxes, targets)) == pytest.approx(1 - 8 / 24)
    logits = torch.tensor([0.0, 0.0, 5.0])
    assert float(centreness_loss(logits, torch.tensor([0.2, 1.0, -1.0]))) == pytest.approx(0.3 + 0.5)


def test_windows_hold_what_lies_side_by_side() -> None:
    grid = torch.arange(24.0).reshape(1, 4, 6, 1)
    windows = split_windows(grid, 2)
    assert windows[0, :, 0].tolist() == [0, 1, 2, 6, 7, 8]
    assert windows[3, :, 0].tolist() == [15, 16, 17, 21, 22, 23]
    assert torch.equal(join_windows(windows, 2, (4, 6)), grid)
    with pytest.raises(ValueError, match="4 x 6 patches does not divide into 4 x 4 windows"):
        split_windows(grid, 4)


@torch.no_grad()
def test_a_window_sees_itself_alone() -> None:
    torch.manual_seed(0)
    vit = PlainViT(patch=4, width=16, layers=2, heads=2, table=4, windows=[2, 2]).eval()
    images = torch.rand(1, 3, 32, 32)
    other = images.clone()
    other[..., 16:, 16:] = 0.0
    change = (vit(images) - vit(other)).abs().amax(1)[0]
    assert float(change[:4].max()) == 0.0
    assert float(change[:, :4].max()) == 0.0
    assert float(change[4:, 4:].min()) > 0
    everywhere = (vit(images, windows=[0, 0]) - vit(other, windows=[0, 0])).abs().amax(1)
    assert float(everywhere.min()) > 0


def test_a_transposed_convolution_of_flax_does_not_flip() -> None:
    """Output pixel (2i + a, 2j + b) is input (i, j) through kernel [1 - a, 1 - b]."""
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((2, 2, 3, 5)).astype(np.float32)
    layer = nn.ConvTranspose2d(3, 5, 2, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(to_torch("feature_pyramid_fn.ConvTranspose_0.kernel", kernel))
        image = torch.randn(1, 3, 2, 2)
        out = layer(image)
    for a in (0, 1):
        for b in (0, 1):
            wanted = torch.einsum("cyx,ck->kyx", image[0], torch.from_numpy(kernel[1 - a, 1 - b]))
            torch.testing.assert_close(out[0, :, a::2, b::2], wanted)


def test_attention_of_flax_is_flattened_by_heads() -> None:
    generator = np.random.default_rng(0)
    into, out = (generator.standard_normal(shape).astype(np.float32) for shape in ((6, 2, 3), (2, 3, 6)))
    token = generator.standard_normal(6).astype(np.float32)
    heads = np.einsum("d,dhk->hk", token, into)
    ours = to_torch("attn.query.kernel", into) @ torch.from_numpy(token)
    np.testing.assert_allclose(ours, heads.ravel(), rtol=1e-5)
    merged = to_torch("attn.out.kernel", out) @ torch.from_numpy(heads.ravel())
    np.testing.assert_allclose(merged, np.einsum("hk,hkd->d", heads, out), rtol=1e-5)
    with pytest.raises(ValueError, match="has 1 axes"):
        to_torch("attn.out.kernel", token)


def test_a_pyramid_has_the_levels_that_are_asked_for() -> None:
    pyramid = PlainPyramid(width=8, channels=6, levels=(3, 5))
    assert [tuple(level.shape) for level in pyramid(torch.zeros(2, 8, 4, 6))] == [
        (2, 6, 8, 12), (2, 6, 4, 6), (2, 6, 2, 3),
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"levels=\(1, 4\) must ascend within 2 to 5"):
        PlainPyramid(width=8, channels=6, levels=(1, 4))
