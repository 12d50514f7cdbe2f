"""Pyramids, heads and the batch norm over processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.processes import in_two_processes
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from clipself.engine.distributed import join_world
from clipself.layers import AnchorHead, BatchNorm, FeaturePyramid, MaskHead, RegionHead, TapPyramid, make_norm


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_feature_pyramid_agrees_with_torchvision() -> None:
    ours = FeaturePyramid(inputs=[6, 5], channels=4, norm="batch").eval()
    theirs = FeaturePyramidNetwork([6, 5], 4, extra_blocks=LastLevelMaxPool(), norm_layer=nn.BatchNorm2d).eval()
    pairs: list[tuple[Any, Any]] = [(ours.lateral[i], theirs.inner_blocks[i]) for i in (0, 1)]
    pairs += [(ours.output[i], theirs.layer_blocks[i]) for i in (0, 1)]
    for own, other in pairs:
        other[0].load_state_dict(own.conv.state_dict())
        other[1].load_state_dict(own.norm.state_dict())
    maps = [random(2, 6, 8, 6), random(2, 5, 4, 3)]
    expected = list(theirs(dict(zip("ab", maps, strict=True))).values())
    for left, right in zip(ours(maps), expected, strict=True):
        torch.testing.assert_close(left, right)


def test_taps_become_four_strides() -> None:
    maps = TapPyramid(width=8, norm="batch").eval()([random(1, 8, 6, 4, seed=i) for i in range(4)])
    assert [tuple(level.shape[-2:]) for level in maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    torch.testing.assert_close(maps[2], random(1, 8, 6, 4, seed=2))
    top = random(1, 8, 6, 4, seed=3).unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    torch.testing.assert_close(maps[3], top)
    with pytest.raises(ValueError, match="3 taps for a pyramid of 4 levels"):
        TapPyramid(width=8)([random(1, 8, 6, 4)] * 3)


@pytest.mark.parametrize(
    ("width", "dim", "rpn_norm", "masks"),
    [
        pytest.param(768, 512, False, False, id="ov-coco-b16"),
        pytest.param(1024, 768, True, True, id="ov-lvis-l14"),
    ],
)
def test_parameter_counts_of_the_published_heads(width: int, dim: int, rpn_norm: bool, masks: bool) -> None:
    """Counted from the released layer list: kernels, biases where no norm follows, two numbers a channel for a norm."""
    conv = 256 * 256 * 9
    deconv = width * width * 4 + width
    taps = 2 * deconv + 2 * width + deconv
    pyramid = 4 * (width * 256 + 2 * 256) + 4 * (conv + 2 * 256)
    rpn = 2 * (conv + (2 * 256 if rpn_norm else 256)) + 256 * 3 + 3 + 256 * 12 + 12
    box = 4 * (conv + 2 * 256) + (256 * 49 * dim + dim) + 3 * (dim * dim + dim) + dim * 4 + 4
    mask = 4 * (conv + 2 * 256) + 256 * 256 * 4 + 256 + 256 + 1
    with torch.device("meta"):
        modules: list[nn.Module] = [
            TapPyramid(width=width),
            FeaturePyramid(inputs=[width] * 4),
            AnchorHead(channels=256, convs=2, anchors=3, norm="batch" if rpn_norm else "none"),
            RegionHead(channels=256, bins=7, convs=4, layers=2, width=dim, embed_dim=dim, norm="batch"),
        ]
        modules += [MaskHead(channels=256, convs=4, norm="batch")] if masks else []
    counted = [sum(parameter.numel() for parameter in module.parameters()) for module in modules]
    assert counted == [taps, pyramid, rpn, box, mask][: len(modules)]


def test_anchor_head_hands_out_row_by_row_anchor_by_anchor() -> None:
    head = AnchorHead(channels=2, convs=0, anchors=3, norm="none")
    maps = random(1, 2, 2, 3)
    (logits,), (deltas,) = head([maps])
    raw, raw_deltas = head.score(maps), head.deltas(maps)
    for row in range(2):
        for col in range(3):
            for anchor in range(3):
                place = (row * 3 + col) * 3 + anchor
                assert logits[0, place] == raw[0, anchor, row, col]
                assert torch.equal(deltas[0, place], raw_deltas[0, 4 * anchor : 4 * anchor + 4, row, col])


def test_region_heads_take_no_regions() -> None:
    head = RegionHead(channels=4, bins=7, convs=1, layers=1, width=8, embed_dim=6, norm="batch")
    embeddings, deltas = head(torch.zeros(0, 4, 7, 7))
    assert embeddings.shape == (0, 6)
    assert deltas.shape == (0, 4)
    assert MaskHead(channels=4, convs=1, norm="group")(torch.zeros(0, 4, 14, 14)).shape == (0, 28, 28)
    embeddings, _ = head(random(3, 4, 7, 7))
    assert (embeddings >= 0).all()


def test_unknown_norm() -> None:
    with pytest.raises(ValueError, match=r"unknown norm 'bach', expected one of .*did you mean 'batch'"):
        make_norm("bach", 4)


def _normalise(path: Path, pieces: list[Tensor]) -> None:
    with join_world(torch.device("cpu")) as world:
        torch.save(_forward_backward(pieces[world.rank]), path / f"{world.rank}.pt")


def _forward_backward(piece: Tensor) -> dict[str, Any]:
    norm = BatchNorm(3).train()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    leaf = piece.clone().requires_grad_(True)
    out = norm(leaf)
    (out.square() * torch.arange(out.numel()).reshape(out.shape)[:1].sin()).sum().backward()
    return {"out": out.detach(), "grad": leaf.grad, "mean": norm.running_mean, "var": norm.running_var}


def test_batch_norm_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    whole = random(4, 3, 5, 2)
    in_two_processes(_normalise, tmp_path, [whole[:2], whole[2:]])
    pieces = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    norm = nn.BatchNorm2d(3).train()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    leaf = whole.clone().requires_grad_(True)
    out = norm(leaf)
    weight = torch.arange(out[:2].numel()).reshape(out[:2].shape)[:1].sin()
    (out.square() * weight).sum().backward()
    torch.testing.assert_close(torch.cat([piece["out"] for piece in pieces]), out.detach())
    torch.testing.assert_close(torch.cat([piece["grad"] for piece in pieces]), leaf.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pieces[0]["mean"], norm.running_mean)
    torch.testing.assert_close(pieces[1]["var"], norm.running_var)
