"""Boxes as a frozen CLIP sees them, against its own pooling, a loop, and the dense map."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.detection.detectors.two_stage.features import FrozenClip
from clipself.detection.region_prompt.file import PROMPT, read_prompt
from clipself.detection.region_prompt.regions import (
    DenseRegions,
    ResNetRegions,
    clip_regions,
    whole_map,
)
from clipself.ops.padding import padding_of

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_box_around_a_picture_of_the_native_size_is_the_picture() -> None:
    clip = tiny_resnet_clip()
    regions, batch = ResNetRegions(clip), images(2, 3, *clip.image_size)
    maps = regions.read(batch, [clip.image_size] * 2)
    torch.testing.assert_close(regions.embed(maps, [WHOLE, WHOLE]), clip.encode_image(batch), atol=1e-5, rtol=1e-4)


def test_the_fast_pooling_asks_with_the_mean_and_does_not_look_at_it() -> None:
    clip = tiny_resnet_clip()
    regions, batch = ResNetRegions(clip), images(1, 3, *clip.image_size)
    maps = regions.read(batch, [clip.image_size])
    pool: Any = regions.trunk.pooling_modules[0]
    table = regions.prompt
    assert table is not None
    cells = maps.last.values[0].flatten(1).T  # a box around the native grid reads the cells themselves
    heads = []
    asked = pool.q_proj(cells).mean(0) + table[0] @ pool.q_proj.weight.T
    keys = pool.k_proj(cells) + table[1:] @ pool.k_proj.weight.T
    values = pool.v_proj(cells) + table[1:] @ pool.v_proj.weight.T
    width = cells.shape[1] // pool.num_heads
    for start in range(0, cells.shape[1], width):
        head = slice(start, start + width)
        weights = (keys[:, head] @ asked[head] / width**0.5).softmax(0)
        heads.append(weights @ values[:, head])
    by_hand = F.normalize(pool.c_proj(torch.cat(heads)), dim=0)
    torch.testing.assert_close(regions.embed_fast(maps, [WHOLE])[0], by_hand, atol=1e-5, rtol=1e-4)


def test_cells_are_counted_without_padding() -> None:
    clip = tiny_resnet_clip()
    maps = ResNetRegions(clip).read(images(2, 3, 96, 128), [(96, 128), (64, 80)])
    assert maps.inner.covered_B2.tolist() == [[8, 6], [5, 4]]
    assert maps.last.covered_B2.tolist() == [[4, 3], [3, 2]]
    assert maps.last.padding_BYX[1].int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]]


def test_sides_need_not_be_whole_strides() -> None:
    regions = ResNetRegions(tiny_resnet_clip())
    maps = regions.read(images(1, 3, 100, 70), [(100, 70)])
    assert maps.last.values.shape[2:] == (3, 2)
    assert regions.embed(maps, [torch.zeros(0, 4)]).shape == (0, regions.clip.embed_dim)


def test_a_transformer_is_read_from_its_dense_map() -> None:
    clip = tiny_openai_clip()
    regions, batch = clip_regions(clip), images(1, 3, 64, 64)
    assert isinstance(regions, DenseRegions)
    assert regions.prompt is None
    boxes = torch.tensor([[0.1, 0.2, 0.8, 0.9], [0.0, 0.0, 0.5, 0.5]])
    maps = regions.read(batch, [(64, 64)])
    torch.testing.assert_close(regions.embed(maps, [boxes]), clip.embed_boxes(batch, [64 * boxes]))


def test_a_transformers_pictures_are_padded_to_patches_and_measured_exactly() -> None:
    maps = clip_regions(tiny_openai_clip()).read(images(1, 3, 60, 50), [(60, 50)])
    assert maps.last.values.shape[2:] == (8, 7)
    assert maps.last.covered_B2.tolist() == [[50 / 8, 60 / 8]]
    assert not maps.last.padding_BYX[0, 7, 6]


def test_padding_is_right_and_below() -> None:
    assert padding_of(torch.zeros(1, 3, 2, 3), [(1, 2)]).tolist() == [[[False, False, True], [True, True, True]]]


def test_another_prompt_changes_both_poolings_and_nothing_of_the_clip(tmp_path: Path) -> None:
    clip = tiny_resnet_clip()
    regions, digest = ResNetRegions(clip), clip.weights_hash()
    assert regions.prompt is not None
    maps = regions.read(images(1, 3, 96, 96), [(96, 96)])
    before = regions.embed(maps, [WHOLE]), regions.embed_fast(maps, [WHOLE])
    save_file({PROMPT: regions.prompt + 1}, tmp_path / "prompt.safetensors")
    regions.take_prompt(tmp_path / "prompt.safetensors")
    after = regions.embed(maps, [WHOLE]), regions.embed_fast(maps, [WHOLE])
    assert all(not torch.allclose(one, two) for one, two in zip(before, after, strict=True))
    assert clip.weights_hash() == digest


def test_a_prompt_is_one_tensor_of_the_size_of_the_clips_own(tmp_path: Path) -> None:
    like = torch.zeros(5, 8)
    path = tmp_path / "prompt.safetensors"
    save_file({PROMPT: torch.ones(5, 8)}, path)
    assert torch.equal(read_prompt(path, like=like), torch.ones(5, 8))
    torch.save({PROMPT: torch.ones(5, 8)}, tmp_path / "released.pth")
    assert torch.equal(read_prompt(tmp_path / "released.pth", like=like), torch.ones(5, 8))
    with pytest.raises(ValueError, match="of the size of the CLIP's own"):
        read_prompt(path, like=torch.zeros(6, 8))
    with pytest.raises(ValueError, match="no attention pool that a region prompt could be for"):
        clip_regions(tiny_openai_clip()).take_prompt(path)


def test_the_second_opinion_of_a_two_stage_detector_takes_a_prompt() -> None:
    clip = tiny_resnet_clip()
    plain, prompted = (FrozenClip(clip, taps=(0, 1, 2, 3), prompted=one) for one in (False, True))
    batch, boxes = images(1, 3, 96, 96), torch.tensor([[8.0, 0.0, 80.0, 64.0]])
    own = ResNetRegions(clip)
    maps = own.read(batch, [(96, 96)])
    expected = own.embed(maps, [boxes / 96])
    torch.testing.assert_close(prompted.embed_regions(prompted(batch), [boxes]), expected)
    assert not torch.allclose(F.normalize(plain.embed_regions(plain(batch), [boxes]), dim=1), expected)
    torch.testing.assert_close(whole_map(maps.inner.values).covered_B2, maps.inner.covered_B2)
    with pytest.raises(ValueError, match="a region prompt is of a CLIP ResNet"):
        FrozenClip(tiny_openai_clip(), taps=(0, 1), prompted=True)
