"""ResNets of CLIP: the attention pool as the one block, the stages as taps."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.support.tiny import tiny_resnet_clip
from torch import Tensor

from clipself.backbones.fast_init import unfilled
from clipself.backbones.loading import load_clip
from clipself.distillation.clipself import ClipSelf
from clipself.ops.grids import grid_boxes
from clipself.segmentation.catseg.model import catseg_settings
from clipself.segmentation.san.model import san_settings
from clipself.structures import DistillBatch


def images(side: int = 64, *, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_image_embeddings_are_the_stock_towers() -> None:
    clip = tiny_resnet_clip()
    expected = clip.clip.encode_image(images())  # type: ignore[operator]
    torch.testing.assert_close(clip.encode_image(images(), normalize=False), expected)


@torch.no_grad()
def test_the_dense_map_is_each_pixels_own_value_and_qk_is_the_pools_attention() -> None:
    clip = tiny_resnet_clip()
    visual = clip.clip.visual
    last = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(images())))))  # type: ignore
    pool: Any = visual.attnpool  # type: ignore[union-attr]
    dense = clip.dense_map(images(), normalize=False)
    assert dense.shape == (2, 32, 2, 2)
    for place, (y, x) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        token = last[:, :, y, x] + pool.positional_embedding[1 + place]
        torch.testing.assert_close(dense[:, :, y, x], pool.c_proj(pool.v_proj(token)))
    # Queries of all tokens give what the stock pool gives, token by token: it returns the first one alone.
    ordinary = clip.dense_map(images(), readout="qk", normalize=False)
    tokens = last.flatten(2).mT
    tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + pool.positional_embedding
    query, key, value = (part(tokens).unflatten(-1, (8, -1)).transpose(1, 2)
                         for part in (pool.q_proj, pool.k_proj, pool.v_proj))  # fmt: skip
    weights = (query @ key.mT * (512 // 8) ** -0.5).softmax(-1)
    everything = pool.c_proj((weights @ value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(everything[:, 0], clip.clip.encode_image(images()))  # type: ignore[operator]
    torch.testing.assert_close(ordinary.flatten(2).mT, everything[:, 1:])


@torch.no_grad()
def test_any_size_and_the_stages_as_taps() -> None:
    clip = tiny_resnet_clip()
    wide = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert clip.dense_map(wide).shape == (1, 32, 2, 3)
    assert clip.encode_image(wide).shape == (1, 32)
    assert [(stage.width, stage.stride) for stage in clip.trunk.stages] == [(64, 4), (128, 8), (256, 16), (512, 32)]
    assert clip.trunk.pools_by == "attention"
    assert clip.trunk.is_pyramid
    assert not clip.trunk.has_class_token
    taps = clip.taps(wide, (0, 1, 2, 3))
    assert [tuple(tap.shape[1:]) for tap in taps] == [(64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]
    torch.testing.assert_close(F.normalize(clip.trunk.read_tap(taps[-1]), dim=1), clip.dense_map(wide))
    with pytest.raises(ValueError, match="do not divide into patches of 32"):
        clip.dense_map(torch.zeros(1, 3, 60, 64))


def test_a_file_with_the_published_names_loads_strictly(tmp_path: Path) -> None:
    with unfilled():
        stock = load_clip("RN50", "random")
    assert sum(parameter.numel() for parameter in stock.parameters()) == 102_007_137  # as released
    state = {name: tensor.half() for name, tensor in stock.clip.state_dict().items()}
    save_file(state, tmp_path / "RN50.safetensors")
    loaded = load_clip("RN50", str(tmp_path / "RN50.safetensors"))
    name = "visual.attnpool.v_proj.weight"
    torch.testing.assert_close(loaded.clip.state_dict()[name].half(), state[name])
    del state[name]
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"visual\.attnpool\.v_proj\.weight"):
        load_clip("RN50", str(tmp_path / "short.safetensors"))


def test_what_needs_blocks_refuses_a_resnet() -> None:
    with pytest.raises(ValueError, match=r"CAT-Seg needs .* class token.*strides 4, 8, 16, 32 and pools by attention"):
        catseg_settings(tiny_resnet_clip())
    with pytest.raises(ValueError, match="SAN needs"):
        san_settings(tiny_resnet_clip())


def test_a_resnet_is_distilled_but_for_its_stem_and_batch_statistics() -> None:
    method = ClipSelf(tiny_resnet_clip())
    before = {name: tensor.clone() for name, tensor in method.student.clip.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    batch = DistillBatch(
        images_B3HW=torch.randn(1, 3, 64, 128, generator=generator),
        boxes_norm=(grid_boxes(1, 2),),
        crops_R3hw=torch.randn(2, 3, 64, 64, generator=generator),
        names=("a",),
    )
    optimizer = torch.optim.SGD(method.learning, lr=0.5)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = method.distance(method.model(batch.images_B3HW), batch, method.embed_crops(batch))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, value in method.student.clip.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[1] for name in changed} == {"layer1", "layer2", "layer3", "layer4", "attnpool"}
    assert not any("running" in name or ".q_proj" in name or ".k_proj" in name for name in changed)
