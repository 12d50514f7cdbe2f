"""Readouts beyond the last block's own attention: each against a loop that spells its formula out."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.tiny import TINY, tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.guided_mixes import NO_REGION, grow_regions, merge_regions
from clipself.backbones.guides import PatchGuide
from clipself.backbones.readouts import Readout, find_readout
from clipself.backbones.transformer import TransformerTrunk, require_blocks

BLOCKS = pytest.mark.parametrize("make", [tiny_openai_clip, tiny_eva_clip])
Make = Callable[[], DenseCLIP]


def images_of(clip: DenseCLIP, rows: int, cols: int, *, count: int = 1) -> Tensor:
    size = (count, 3, rows * clip.patch_size, cols * clip.patch_size)
    pixels = torch.rand(size, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(each)[:, None, None] for each in (clip.image_mean, clip.image_std))
    return (pixels - mean) / std


def trunk_of(clip: DenseCLIP) -> TransformerTrunk:
    return require_blocks(clip, "this test")


def heads_of(trunk: TransformerTrunk, block: Any, tokens: Any, part: str) -> Tensor:
    heads = trunk.project(block, trunk.norm_attention(block, tokens.tokens), part)
    return heads if part == "v" else trunk.rotate(heads, tokens)


def finish(trunk: TransformerTrunk, mixed_hPD: Tensor) -> Tensor:
    """Values of patches alone, through output projection and head: unit vectors (P, D)."""
    joined = mixed_hPD.transpose(0, 1).flatten(1)[None]
    return F.normalize(trunk.head(trunk.merge_heads(trunk.blocks[-1], joined))[0], dim=-1)


# --- GEM and CLIP Surgery: along several blocks


def self_self_by_loops(rows_ND: list[Tensor], values_ND: Tensor, *, sharpness: float) -> list[Tensor]:
    """One round of clustering, then values by likeness; rows are queries, keys or values of one head."""

    def soften(rows: list[Tensor], carried: list[Tensor]) -> list[Tensor]:
        out = []
        for one in rows:
            weights = [math.exp(sharpness * float(one @ other)) for other in rows]
            out.append(sum((w / sum(weights) * c for w, c in zip(weights, carried, strict=True)), torch.zeros(1)))
        return out

    unit = [row / row.norm() for row in rows_ND]
    unit = [row / row.norm() for row in soften(unit, unit)]
    return soften(unit, list(values_ND))


@BLOCKS
@torch.no_grad()
def test_gem_spelled_out(make: Make) -> None:
    clip = make()
    trunk, images = trunk_of(clip), images_of(clip, 2, 3)
    tokens = trunk.embed(images)
    path = tokens.tokens[0]
    for block in trunk.blocks:  # fewer than the seven that GEM walks along: all of them
        normed = trunk.norm_attention(block, tokens.tokens)[0]
        sharpness = sum(float(row.norm()) for row in normed) / len(normed)
        value = heads_of(trunk, block, tokens, "v")[0]
        mixed = torch.zeros_like(value)
        for part in "qkv":
            for head, rows in enumerate(heads_of(trunk, block, tokens, part)[0]):
                # the head's width divides the logits by its root
                found = self_self_by_loops(list(rows), value[head], sharpness=sharpness * rows.shape[-1] ** -0.5)
                mixed[head] += torch.stack(found) / 3
        path = path + trunk.merge_heads(block, mixed.transpose(0, 1).flatten(1)[None])[0]
        tokens = tokens.with_tokens(trunk.run_block(block, tokens))
    expected = F.normalize(trunk.head(path[None, 1:])[0], dim=-1)
    dense = clip.dense_map(images, readout="gem")
    torch.testing.assert_close(dense[0].flatten(1).mT, expected, atol=2e-5, rtol=1e-4)


@BLOCKS
@torch.no_grad()
def test_surgery_adds_value_attention_of_the_last_blocks(make: Make) -> None:
    clip = make()
    trunk, images = trunk_of(clip), images_of(clip, 3, 2)
    ahead = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-2])
    path, tokens = ahead.tokens, ahead
    for block in list(trunk.blocks)[-2:]:
        value = heads_of(trunk, block, tokens, "v")
        attention = (value @ value.mT * value.shape[-1] ** -0.5).softmax(-1)
        path = path + trunk.merge_heads(block, (attention @ value).transpose(1, 2).flatten(2))
        tokens = tokens.with_tokens(trunk.run_block(block, tokens))
    expected = F.normalize(trunk.head(path[:, 1:]), dim=-1)
    dense = clip.dense_map(images, readout="surgery:looks_back=2")
    torch.testing.assert_close(dense.flatten(2).mT, expected, atol=1e-5, rtol=1e-4)


# --- guided


def colour_guide(stride: int) -> PatchGuide:
    """A cell's map is its mean colour less the middle grey: likeness that a test can follow."""

    def read(images: Tensor) -> Tensor:
        return F.avg_pool2d(images, stride) - 0.5

    zero = torch.nn.Identity()
    return PatchGuide(name="colour", read=read, net=zero, stride=stride, mean=(0, 0, 0), std=(1, 1, 1))


def moved_values(clip: DenseCLIP, images: Tensor, grid: tuple[int, int], part: str = "v") -> Tensor:
    """Values of the last block's patches, resized to a grid (h, P, d)."""
    trunk = trunk_of(clip)
    entered = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-1])
    heads = heads_of(trunk, trunk.blocks[-1], entered, part)[0, :, 1:]
    maps = heads.mT.reshape(heads.shape[0], heads.shape[-1], *entered.grid)
    return F.interpolate(maps, size=grid, mode="bilinear", align_corners=False).flatten(2).mT


@BLOCKS
@torch.no_grad()
def test_proxyclip_by_a_guide_that_is_passed(make: Make) -> None:
    clip = make()
    images = images_of(clip, 2, 3)
    stride = clip.patch_size // 2  # twice as fine as the tower
    guide = colour_guide(stride)
    pixels = images * torch.tensor(clip.image_std)[:, None, None] + torch.tensor(clip.image_mean)[:, None, None]
    unit = [cell / cell.norm() for cell in (F.avg_pool2d(pixels, stride) - 0.5)[0].flatten(1).T]
    cosine = [[float(one @ other) for other in unit] for one in unit]
    mean = sum(map(sum, cosine)) / len(unit) ** 2
    value = moved_values(clip, images, (4, 6))
    mixed = torch.zeros_like(value)
    for place, row in enumerate(cosine):
        logits = [3 * (each - 1.2 * mean) for each in row]
        weights = [math.exp(one) if one >= 0 or other == place else 0.0 for other, one in enumerate(logits)]
        for other, weight in enumerate(weights):
            mixed[:, place] += weight / sum(weights) * value[:, other]
    dense = clip.dense_map(images, readout="proxyclip", guide=guide)
    assert dense.shape[-2:] == (4, 6)
    torch.testing.assert_close(dense[0].flatten(1).mT, finish(trunk_of(clip), mixed), atol=2e-5, rtol=1e-4)


@BLOCKS
@pytest.mark.parametrize("semantic", [0.0, 0.5])
@torch.no_grad()
def test_corrclip_sees_its_region_alone(make: Make, semantic: float) -> None:
    clip = make()
    images = images_of(clip, 2, 3)
    stride = clip.patch_size
    regions = torch.full((1, 2 * stride, 3 * stride), NO_REGION)
    regions[:, :stride, : 2 * stride] = 7  # the first two patches; the third is another; the rest are of none
    regions[:, :stride, 2 * stride :] = 4
    members = [[0, 1], [0, 1], [2], [3, 4, 5], [3, 4, 5], [3, 4, 5]]
    pixels = images * torch.tensor(clip.image_std)[:, None, None] + torch.tensor(clip.image_mean)[:, None, None]
    unit = [cell / cell.norm() for cell in (F.avg_pool2d(pixels, stride) - 0.5)[0].flatten(1).T]
    trunk = trunk_of(clip)
    entered = trunk.forward_blocks(trunk.embed(images), list(trunk.blocks)[:-1])
    value = heads_of(trunk, trunk.blocks[-1], entered, "v")[0, :, 1:]
    key, query = (heads_of(trunk, trunk.blocks[-1], entered, part)[0] for part in "kq")
    mixed = torch.zeros_like(value)
    for place, seen in enumerate(members):
        weights = [math.exp(float(unit[place] @ unit[other]) / 0.25) for other in seen]
        for weight, other in zip(weights, seen, strict=True):
            mixed[:, place] += weight / sum(weights) * value[:, other]
        for head in range(len(value)):
            by_class = [float(query[head, 0] @ key[head, 1 + other]) * key.shape[-1] ** -0.5 for other in seen]
            for one, other in zip(by_class, seen, strict=True):
                share = math.exp(one) / sum(map(math.exp, by_class))
                mixed[head, place] += semantic * share * value[head, other]
    found = clip.dense_map(
        images, readout=f"corrclip:merge=1.1,semantic={semantic}", guide=colour_guide(stride), regions=regions
    )
    torch.testing.assert_close(found[0].flatten(1).mT, finish(trunk, mixed), atol=2e-5, rtol=1e-4)


def test_regions_whose_features_are_alike_become_one() -> None:
    features = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.05], [0.1, 1.0]]), dim=-1)
    regions = torch.tensor([3, 3, 5, 9, NO_REGION])
    merged = merge_regions(features, regions, least=0.9)
    assert merged[0] == merged[1] == merged[3]  # 3 and 9
    assert len({int(merged[0]), int(merged[2]), int(merged[4])}) == 3  # what has no region joins none, however alike


def test_neighbours_that_agree_make_a_region() -> None:
    colours = torch.tensor([0, 0, 1, 1, 0, 1, 1, 1, 0])  # in a grid of three: the last 0 touches none of the others
    cosine = (colours[:, None] == colours[None]).float()
    found = grow_regions(cosine, (3, 3), join=0.5)
    assert found[0] == found[1]
    assert found[2] == found[5]
    assert len(set(found.tolist())) == 4


def test_a_guide_by_name_and_the_clip_itself() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 3, 3)
    own = clip.dense_map(images, readout="proxyclip")
    entered = clip.taps(images, [0])[0]  # of two blocks: what enters the last
    torch.testing.assert_close(own, clip.dense_map(images, readout="proxyclip", guide=entered))
    torch.testing.assert_close(own, clip.dense_map(images, readout="proxyclip@clip"))
    other = clip.dense_map(images, readout="proxyclip:gamma=2@timm:vit_tiny_patch16_224@random")
    assert other.shape[-2:] == (2, 2)  # 24 pixels are brought to whole patches of 16
    assert find_readout("proxyclip@timm:vit_tiny_patch16_224@random").guide == "timm:vit_tiny_patch16_224@random"


# --- windows


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
@torch.no_grad()
def test_windows_are_read_alone_and_averaged(make: Make) -> None:
    """A picture of 3 x 4 patches in windows of 2 x 2 patches, a patch apart."""
    clip = make()
    patch = clip.patch_size
    images = images_of(clip, 3, 4, count=2)
    total, times = torch.zeros(2, clip.embed_dim, 3, 4), torch.zeros(3, 4)
    for row in range(2):
        for col in range(3):
            part = images[:, :, row * patch : (row + 2) * patch, col * patch : (col + 2) * patch]
            total[:, :, row : row + 2, col : col + 2] += clip.dense_map(part)
            times[row : row + 2, col : col + 2] += 1
    found = clip.dense_map(images, readout=f"value:window={2 * patch},stride={patch}")
    torch.testing.assert_close(found, F.normalize(total / times, dim=1), atol=1e-5, rtol=1e-4)
    read = clip.read(images, dense=True, pooled=True, readout=f"value:window={2 * patch},stride={patch}")
    torch.testing.assert_close(read.pooled, clip.encode_image(images))
    covered = clip.dense_map(images, readout=f"value:window={4 * patch}")
    torch.testing.assert_close(covered, clip.dense_map(images))


@torch.no_grad()
def test_windows_of_a_guided_readout() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 3, 4)
    fine = clip.dense_map(images, readout="proxyclip:window=16,stride=8", guide=colour_guide(4))
    assert fine.shape[-2:] == (6, 8)  # on the guide's grid, since every window begins on one of its cells
    corner = clip.dense_map(images[:, :, :16, :16], readout="proxyclip", guide=colour_guide(4))
    torch.testing.assert_close(fine[..., :2, :2], corner[..., :2, :2], atol=1e-5, rtol=1e-4)
    coarse = clip.dense_map(images, readout="proxyclip:window=16,stride=8", guide=colour_guide(16))
    assert coarse.shape[-2:] == (3, 4)  # a window begins inside a cell: on the tower's grid
    regions = torch.zeros(1, 24, 32, dtype=torch.long)
    regions[..., 16:] = 1
    kept = clip.dense_map(images, readout="corrclip:window=16,stride=16", regions=regions)
    alone = clip.dense_map(images[..., :16, 16:], readout="corrclip", regions=regions[:, :16, 16:])
    torch.testing.assert_close(kept[..., :1, 2:], alone[..., :1, :])  # the row that no other window overlaps


@BLOCKS
@torch.no_grad()
def test_stitched_windows_meet_in_the_last_block(make: Make) -> None:
    """Two windows of 2 x 2 patches over 2 x 3 patches; queries, keys and values averaged where both look."""
    clip = make()
    patch, trunk, images = clip.patch_size, trunk_of(clip), images_of(clip, 2, 3)
    last, whole = trunk.blocks[-1], trunk.embed(images)
    parts = [
        trunk.forward_blocks(
            trunk.embed(images[..., left * patch : (left + 2) * patch]), list(trunk.blocks)[:-1]
        ).tokens
        for left in (0, 1)
    ]
    where = [[1, 2, 4, 5], [2, 3, 5, 6]]  # tokens of the picture, the class token ahead of them

    def met(parts: list[Tensor]) -> Tensor:
        total, times = torch.zeros(7, parts[0].shape[-1]), torch.zeros(7, 1)
        for part, places in zip(parts, where, strict=True):
            for token, place in zip(part[0], [0, *places], strict=True):
                total[place] += token
                times[place] += 1
        return (total / times)[None]

    def heads(name: str) -> Tensor:
        inside = [trunk.project(last, trunk.norm_attention(last, part), name) for part in parts]
        joined = met([one.transpose(1, 2).flatten(2) for one in inside])
        split = joined.reshape(1, 7, trunk.num_heads, -1).transpose(1, 2)
        return split if name == "v" else trunk.rotate(split, whole)

    key, value = heads("k"), heads("v")
    attention = (key @ key.mT * key.shape[-1] ** -0.5).softmax(-1)
    out = met(parts) + trunk.merge_heads(last, (attention @ value).transpose(1, 2).flatten(2))
    out = out + trunk.feed_forward(last, out)
    expected = F.normalize(trunk.head(out[:, 1:]), dim=-1)
    named = f"kk:window={2 * patch},stride={patch},stitch=1"
    read = clip.read(images, dense=True, taps=[0, len(trunk.blocks) - 1], readout=named)
    assert read.dense is not None
    torch.testing.assert_close(read.dense.flatten(2).mT, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(read.taps[1].flatten(2).mT, out[:, 1:], atol=1e-5, rtol=1e-4)
    assert read.taps[0].shape[-2:] == (2, 3)


@torch.no_grad()
def test_ov_stitcher_is_proxyclip_over_stitched_tokens() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 2, 4)
    small = "window=16,stride=8"
    found = clip.dense_map(images, readout=f"ov-stitcher:{small}", guide=colour_guide(4))
    assert found.shape[-2:] == (4, 8)
    alone = clip.dense_map(images, readout=f"proxyclip:{small}", guide=colour_guide(4))
    assert (found - alone).abs().max() > 1e-3
    covered = clip.dense_map(images, readout="ov-stitcher", guide=colour_guide(4))
    torch.testing.assert_close(covered, clip.dense_map(images, readout="proxyclip", guide=colour_guide(4)))


# --- refusals


@pytest.mark.parametrize(
    ("make", "readout", "message"),
    [
        (tiny_openai_clip, "naclip@timm:vit_tiny_patch16_224", "no use for the guide 'timm:vit_tiny_patch16_224'"),
        (tiny_openai_clip, "value:window=12", "window"),
        (tiny_openai_clip, "value:window=16,stride=24", "step by at most their own side"),
        (tiny_openai_clip, "value:stitch=1", "stitch=1 needs window="),
        (tiny_openai_clip, "gem:window=16,stitch=1", "a readout of the last block alone"),
        (tiny_openai_clip, "gem:looks_back=0", "at least one block"),
        (tiny_openai_clip, "proxyclip:regions_BHW=1", "option 'regions_BHW' is unknown"),
        (tiny_openai_clip, "proxyclip@nothing", "unknown guide 'nothing'"),
        (tiny_resnet_clip, "kk:window=64,stride=32,stitch=1", "ModifiedResNet has no blocks of tokens"),
    ],
)
def test_what_cannot_be_read(make: Make, readout: str, message: str) -> None:
    clip = make()
    with pytest.raises(ValueError, match=message):
        clip.dense_map(images_of(clip, 4, 4), readout=readout)


def test_regions_and_features_where_they_mean_nothing() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 4, 4)
    with pytest.raises(ValueError, match="no use for regions; 'corrclip' has"):
        clip.dense_map(images, readout="naclip", regions=torch.zeros(1, 32, 32))
    with pytest.raises(ValueError, match="pass the guide itself"):
        clip.dense_map(images, readout="proxyclip:window=16", guide=torch.zeros(1, 3, 4, 4))
    with pytest.raises(ValueError, match="no residual can be added"):
        Readout(mix="value", guided=True)


# --- a guide after all


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
@torch.no_grad()
def test_a_finished_map_mixed_by_a_guide(make: Make) -> None:
    """On every family: the value map's unit vectors, on the guide's grid, by ProxyCLIP's weights."""
    clip = make()
    images = images_of(clip, 2, 3)
    guide = colour_guide(clip.patch_size // 2)
    pixels = images * torch.tensor(clip.image_std)[:, None, None] + torch.tensor(clip.image_mean)[:, None, None]
    unit = [cell / cell.norm() for cell in (F.avg_pool2d(pixels, clip.patch_size // 2) - 0.5)[0].flatten(1).T]
    cosine = [[float(one @ other) for other in unit] for one in unit]
    mean = sum(map(sum, cosine)) / len(unit) ** 2
    value = F.interpolate(clip.dense_map(images), size=(4, 6), mode="bilinear")[0].flatten(1).T
    mixed = []
    for place, row in enumerate(cosine):
        logits = [2 * (each - 1.2 * mean) for each in row]
        weights = [math.exp(one) if one >= 0 or other == place else 0.0 for other, one in enumerate(logits)]
        mixed.append(sum((w * v for w, v in zip(weights, value, strict=True)), torch.zeros(1)) / sum(weights))
    read = clip.read(images, dense=True, pooled=True, readout="proxyclip-after:gamma=2", guide=guide)
    assert read.dense is not None
    expected = F.normalize(torch.stack(mixed), dim=-1)
    torch.testing.assert_close(read.dense[0].flatten(1).T, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(read.pooled, clip.encode_image(images))


@torch.no_grad()
def test_a_finished_map_within_regions() -> None:
    clip = tiny_openai_clip()
    images = images_of(clip, 2, 2)
    regions = torch.zeros(1, 16, 16, dtype=torch.long)
    regions[..., 8:] = 1  # the right column
    flat = PatchGuide(  # all patches alike: the mean over the region
        name="flat", read=lambda shown: F.avg_pool2d(torch.ones_like(shown), 8), net=torch.nn.Identity(), stride=8
    )
    found = clip.dense_map(images, readout="corrclip-after:merge=1.1", guide=flat, regions=regions)
    value = clip.dense_map(images)
    torch.testing.assert_close(found, F.normalize(value.mean(2, keepdim=True).expand_as(value), dim=1))
    own = clip.dense_map(images, readout="corrclip-after:merge=1.1,temperature=0.001", regions=regions)
    torch.testing.assert_close(own, value, atol=1e-4, rtol=1e-3)  # so sharp that each patch sees itself
    taps = clip.read(images, taps=[1], dense=True, readout="corrclip-after").taps
    torch.testing.assert_close(taps[0], clip.taps(images, [1])[0])
