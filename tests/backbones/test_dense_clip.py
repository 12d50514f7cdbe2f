"""The dense side of stock towers: against the stock forward pass, loops, and invariants."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.tiny import TINY, tiny_eva_clip, tiny_openai_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.readouts import READOUTS, Readout, gaussian_window
from clipself.backbones.transformer import TransformerTrunk, require_blocks

BLOCKS = pytest.mark.parametrize("make", [tiny_openai_clip, tiny_eva_clip])
ALL = pytest.mark.parametrize("make", TINY.values(), ids=TINY)
Make = Callable[[], DenseCLIP]


def trunk_of(clip: DenseCLIP) -> TransformerTrunk:
    return require_blocks(clip, "this test")


def images_of(clip: DenseCLIP, rows: int, cols: int, *, count: int = 2) -> torch.Tensor:
    size = (count, 3, rows * clip.patch_size, cols * clip.patch_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(1))


@BLOCKS
@torch.no_grad()
def test_global_embedding_is_the_stock_one(make: Make) -> None:
    clip = make()
    images = torch.randn(2, 3, *clip.image_size, generator=torch.Generator().manual_seed(1))
    stock = clip.clip.encode_image(images)  # type: ignore[operator]
    torch.testing.assert_close(clip.encode_image(images, normalize=False), stock, atol=1e-6, rtol=1e-5)


@BLOCKS
@torch.no_grad()
def test_qk_readout_is_what_the_stock_tower_gives_its_patches(make: Make) -> None:
    clip = make()
    images = torch.randn(1, 3, *clip.image_size, generator=torch.Generator().manual_seed(1))
    trunk = trunk_of(clip)
    tokens = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)).tokens
    expected = F.normalize(trunk.head(tokens[:, 1:]), dim=-1)
    dense = clip.dense_map(images, readout="qk")
    torch.testing.assert_close(dense.flatten(2).mT, expected, atol=1e-6, rtol=1e-5)


@BLOCKS
@torch.no_grad()
def test_dense_map_takes_any_size_and_gives_unit_vectors(make: Make) -> None:
    clip = make()
    dense = clip.dense_map(images_of(clip, 3, 5))
    assert dense.shape == (2, 32, 3, 5)
    torch.testing.assert_close(dense.norm(dim=1), torch.ones(2, 3, 5))
    longer = clip.dense_map(images_of(clip, 3, 5), normalize=False)
    torch.testing.assert_close(F.normalize(longer, dim=1), dense)


@ALL
@torch.no_grad()
def test_one_reading_gives_what_many_give(make: Make) -> None:
    clip, images = make(), torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    last = len(clip.trunk.stages) - 1
    read = clip.read(images, taps=(0, last), dense=True, pooled=True, readout="qq")
    assert read.dense is not None
    assert read.pooled is not None
    assert torch.equal(read.pooled, clip.encode_image(images))
    assert torch.equal(read.dense, clip.dense_map(images, readout="qq"))
    for ours, stage, alone in zip(read.taps, (0, last), clip.taps(images, (0, last), readout="qq"), strict=True):
        assert torch.equal(ours, alone)
        told = clip.trunk.stages[stage]
        assert ours.shape == (2, told.width, 64 // told.stride, 96 // told.stride)
    with pytest.warns(FutureWarning, match=r"read\(images, pooled=True, dense=True\)"):
        old = clip.image_and_map(images, readout="qq")
    assert torch.equal(old[0], read.pooled)
    with pytest.raises(ValueError, match="nothing was asked for"):
        clip.read(images)


@ALL
def test_results_carry_no_gradient_until_something_learns(make: Make) -> None:
    clip = make()
    images = images_of(clip, 2, 2)
    for result in (clip.dense_map(images), clip.encode_image(images), clip.encode_text(["a cat"])):
        assert result.numpy().shape[0] in (1, 2)
    next(clip.trunk.parts[0].parameters()).requires_grad_(True)
    assert clip.dense_map(images).requires_grad
    assert make().dense_map(images.requires_grad_()).requires_grad  # asked for by the images


@ALL
@torch.no_grad()
def test_embedded_boxes_are_means_of_whole_cells(make: Make) -> None:
    clip = make()
    patch, images = clip.patch_size, images_of(clip, 2, 3)
    boxes = [torch.tensor([[0, 0, patch, 2 * patch], [patch, 0, 3 * patch, patch]]), torch.zeros(0, 4)]
    dense = clip.dense_map(images)
    expected = torch.stack([dense[0, :, :, 0].mean(1), dense[0, :, 0, 1:].mean(1)])
    torch.testing.assert_close(clip.embed_boxes(images, boxes), F.normalize(expected, dim=-1))
    plain: Any = [boxes[0].tolist(), boxes[1].numpy()]
    torch.testing.assert_close(clip.embed_boxes(images, plain), F.normalize(expected, dim=-1))
    with pytest.raises(ValueError, match="1 sets of boxes for 2 images"):
        clip.embed_boxes(images, boxes[:1])
    for box, said in (
        ([0.1, 0.1, 0.5, 0.9], "boxes of image 0 lie within its first pixel; are they shares"),
        ([patch, 0, 0, patch], "boxes of image 0: box 0 .* has swapped corners"),
        ([0, 0, float("nan"), patch], "boxes of image 0: box 0 .* is not finite"),
    ):
        with pytest.raises(ValueError, match=said):
            clip.embed_boxes(images, [torch.tensor([box]), boxes[1]])


@torch.no_grad()
def test_value_readout_spelled_out() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 4, 4, count=1)
    trunk = trunk_of(clip)
    tokens = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-1]).tokens[0]
    visual: Any = clip.clip.visual
    block = visual.transformer.resblocks[-1]
    expected = []
    for token in tokens[1:]:
        normed = block.ln_1(token)
        value = block.attn.in_proj_weight[128:] @ normed + block.attn.in_proj_bias[128:]
        mixed = token + block.attn.out_proj.weight @ value + block.attn.out_proj.bias
        out = mixed + block.mlp(block.ln_2(mixed))
        embedded = visual.ln_post(out) @ visual.proj
        expected.append(embedded / math.sqrt(float(embedded @ embedded)))
    torch.testing.assert_close(clip.dense_map(images)[0].flatten(1).mT, torch.stack(expected), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_qq_readout_spelled_out() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 2, 3, count=1)
    trunk = trunk_of(clip)
    block = trunk.blocks[-1]
    tokens = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-1]).tokens
    query, value = (trunk.project(block, trunk.norm_attention(block, tokens), part)[0] for part in "qv")
    rows = []
    for head in range(2):
        weights = (query[head] @ query[head].mT / math.sqrt(32)).softmax(-1)
        rows.append(weights @ value[head])
    mixed = trunk.merge_heads(block, torch.cat(rows, dim=-1)[None])
    expected = F.normalize(trunk.head(mixed), dim=-1)[0, 1:]
    torch.testing.assert_close(clip.dense_map(images, readout="clearclip")[0].flatten(1).mT, expected)


@BLOCKS
@pytest.mark.parametrize("readout", sorted(READOUTS))
@torch.no_grad()
def test_every_readout_runs_and_none_is_the_ordinary_attention(make: Make, readout: str) -> None:
    clip = make()
    images = images_of(clip, 3, 3)
    dense = clip.dense_map(images, readout=readout)
    assert dense.isfinite().all()
    if not readout.startswith("qk"):
        assert (dense - clip.dense_map(images, readout="qk")).abs().max() > 1e-4


@torch.no_grad()
def test_value_readout_keeps_patches_apart_in_the_last_block() -> None:
    clip = tiny_openai_clip(layers=1)  # one block, and it does not mix
    images = images_of(clip, 2, 2, count=1)
    changed = images.clone()
    changed[..., :8, :8] += 1.0  # the first patch alone
    difference = (clip.dense_map(changed) - clip.dense_map(images)).abs().amax(1)[0]
    assert difference[0, 0] > 1e-4
    assert difference.flatten()[1:].max() == 0


@torch.no_grad()
def test_rotary_positions_follow_each_axis() -> None:
    trunk = trunk_of(tiny_eva_clip())
    square, wide = (trunk.embed(torch.zeros(1, 3, *size)).rope for size in ((64, 64), (64, 128)))
    assert square is not None
    assert wide is not None
    per_axis = trunk.head_dim // 2
    sine_wide, sine_square = wide.reshape(4, 8, 2, -1)[:, :, 0], square.reshape(4, 4, 2, -1)[:, :, 0]
    torch.testing.assert_close(sine_wide[:, 0, :per_axis], sine_square[:, 0, :per_axis])  # rows as on the square
    torch.testing.assert_close(sine_wide[0, ::2, per_axis:], sine_square[0, :, per_axis:])  # columns twice as dense
    frequency = 10000.0 ** (-2 * 1 / per_axis)
    assert float(sine_wide[3, 0, 2]) == pytest.approx(math.sin(3 / 4 * 16 * frequency), abs=1e-5)


@BLOCKS
@torch.no_grad()
def test_taps_end_with_the_value_path(make: Make) -> None:
    clip = make()
    images = images_of(clip, 3, 4)
    trunk = trunk_of(clip)
    entering, *taps = clip.taps(images, range(-1, trunk.depth))
    assert torch.equal(entering, trunk.embed(images).to_map())
    assert [tuple(tap.shape) for tap in taps] == [(2, 64, 3, 4)] * trunk.depth
    from_tap = trunk.head(taps[-1].flatten(2).mT)
    torch.testing.assert_close(F.normalize(from_tap, dim=-1).mT.reshape(2, -1, 3, 4), clip.dense_map(images))
    with pytest.raises(ValueError, match=r"must ascend within 0\.\."):
        clip.taps(images, [1, 0])
    with pytest.raises(ValueError, match="must ascend within"):
        clip.taps(images, [99])


@BLOCKS
def test_checkpointing_gives_the_same_gradients(make: Make) -> None:
    gradients = []
    for checkpointing in (False, True):
        clip = make()
        clip.clip.requires_grad_(True)
        clip.set_grad_checkpointing(checkpointing)
        clip.dense_map(images_of(clip, 3, 3)).pow(3).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in trunk_of(clip).blocks.parameters()])
    assert any(grad is not None and grad.abs().max() > 0 for grad in gradients[0])
    for plain, recomputed in zip(*gradients, strict=True):
        if plain is None:
            assert recomputed is None
        else:
            torch.testing.assert_close(plain, recomputed)


def test_gaussian_window_is_the_formula() -> None:
    window = gaussian_window((2, 3), std=5.0)
    assert window.shape == (7, 7)
    assert window[0].abs().sum() == window[:, 0].abs().sum() == 0
    # patch 0 is (0, 0), patch 5 is (1, 2)
    assert float(window[1, 6]) == pytest.approx(math.exp(-(1**2 + 2**2) / (2 * 25)))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        pytest.param(
            (1, 3, 30, 32), "30 x 32 pixels do not divide into patches of 8; resize or pad them to 32 x 32", id="odd"
        ),
        pytest.param((3, 32, 32), r"images must be \(B, 3, H, W\)", id="no-batch"),
        pytest.param((1, 1, 32, 32), r"images must be \(B, 3, H, W\)", id="grey"),
    ],
)
def test_images_that_do_not_fit(size: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_openai_clip().dense_map(torch.zeros(size))


def test_bytes_are_no_images_and_no_images_have_no_maps() -> None:
    clip = tiny_openai_clip()
    with pytest.raises(ValueError, match=r"images are torch\.uint8, expected normalised floats"):
        clip.dense_map(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert clip.dense_map(torch.zeros(0, 3, 32, 40)).shape == (0, clip.embed_dim, 4, 5)


def test_unknown_readout_names_the_nearest() -> None:
    clip = tiny_openai_clip()
    with pytest.raises(ValueError, match=r"unknown readout 'maskclop'.*did you mean 'maskclip'"):
        clip.dense_map(torch.zeros(1, 3, 32, 32), readout="maskclop")


def test_a_readout_of_ones_own() -> None:
    clip = tiny_openai_clip()
    own = clip.dense_map(images_of(clip, 2, 2), readout=Readout(mix="value"))
    torch.testing.assert_close(own, clip.dense_map(images_of(clip, 2, 2)))


def test_texts_must_be_a_list() -> None:
    with pytest.raises(ValueError, match="wrap it in a list"):
        tiny_openai_clip().encode_text("a cat")


def test_weights_hash_tells_towers_apart() -> None:
    one, two = tiny_openai_clip(0), tiny_openai_clip(0)
    assert one.weights_hash() == two.weights_hash()
    with torch.no_grad():
        next(iter(two.trunk.tower.parameters())).add_(1)
    assert one.weights_hash("text") == two.weights_hash("text")
    assert one.weights_hash("image") != two.weights_hash("image")
