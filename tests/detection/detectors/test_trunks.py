"""Trunks of detectors that bring their own: against torchvision's own passes and the CLIP's own taps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from torch import Tensor
from torchvision.models import resnet50
from torchvision.models._utils import IntermediateLayerGetter

from clipself.detection.detectors.swin import SwinTrunk
from clipself.detection.detectors.trunks import ClipTrunk, ResNet50, build_trunk
from clipself.ops.padding import pad_to_multiple, padding_of


def images(height: int = 64, width: int = 96) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_a_resnet_is_torchvisions_and_takes_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock = resnet50(weights=None).eval()
    for name, buffer in stock.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    torch.save(stock.state_dict(), tmp_path / "resnet50.pth")
    trunk = ResNet50()
    trunk.start_from(str(tmp_path / "resnet50.pth"))
    maps = trunk.train()(images())
    theirs = IntermediateLayerGetter(stock, {"layer2": "8", "layer3": "16", "layer4": "32"})(images())
    for ours, stride in zip(maps, ("8", "16", "32"), strict=True):
        torch.testing.assert_close(ours, theirs[stride], rtol=1e-4, atol=1e-4)
    assert trunk.widths == tuple(one.shape[1] for one in maps) == (512, 1024, 2048)


def test_stem_and_first_stage_never_learn() -> None:
    trunk = ResNet50()
    frozen = {name.split(".")[0] for name, value in trunk.named_parameters() if not value.requires_grad}
    learning = {name.split(".")[0] for name, value in trunk.named_parameters() if value.requires_grad}
    assert frozen == {"conv1", "layer1"}
    assert learning == {"layer2", "layer3", "layer4"}
    assert all(value.requires_grad for value in ResNet50(frozen_stages=-1).parameters())


def test_the_halving_convolution_can_be_the_first() -> None:
    first, third = ResNet50(strides=(16,), stride_first=True), ResNet50(strides=(16,))
    assert first.layer3[0].conv1.stride == (2, 2)
    assert first.layer3[0].conv2.stride == (1, 1)
    assert third.layer3[0].conv2.stride == (2, 2)
    assert first(images())[0].shape == third(images())[0].shape == (2, 1024, 4, 6)


def test_weights_that_are_missing_or_of_another_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pass trunk_weights=resnet50\.pth"):
        ResNet50().start_from(None)
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="pass torchvision's resnet50 as trunk_weights"):
        ResNet50().start_from(str(tmp_path / "half.pth"))
    with pytest.raises(ValueError, match="the trunk 'clip' is the CLIP itself"):
        build_trunk("clip", tiny_openai_clip()).start_from("resnet50.pth")
    with pytest.raises(ValueError, match="unknown trunk 'resnet18'"):
        build_trunk("resnet18", tiny_openai_clip())
    with pytest.raises(ValueError, match="are some of 4, 8, 16 and 32"):
        ResNet50(strides=(8, 64))


def test_a_swin_transformer_starts_from_the_file_of_a_classifier(tmp_path: Path) -> None:
    """Its last norm, head and tables stay behind, and its output norms are new."""
    sizes: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1), "heads": (1, 2), "window": 3, "out_stages": (0, 1)}
    classifier, trunk = SwinTrunk(**sizes), SwinTrunk(**sizes)
    held = {name: value for name, value in classifier.state_dict().items() if not name.startswith("norm")}
    spare = {
        "norm.weight": torch.ones(16),
        "head.weight": torch.ones(2, 16),
        "layers.0.blocks.0.attn_mask": torch.ones(1),
    }
    torch.save({"model": {**held, **spare}}, tmp_path / "swin.pth")
    trunk.start_from(str(tmp_path / "swin.pth"))
    assert all(torch.equal(trunk.state_dict()[name], value) for name, value in held.items())
    with pytest.raises(ValueError, match="does not learn detection from nothing"):
        trunk.start_from(None)
    trunk.start_from("random")
    torch.save({"patch_embed.proj.bias": torch.zeros(8)}, tmp_path / "half.pth")
    with pytest.raises(ValueError, match="pass the file of a released Swin classifier of these sizes"):
        trunk.start_from(str(tmp_path / "half.pth"))
    with pytest.raises(ValueError, match="of a Swin transformer are some of"):
        build_trunk("swin_b", tiny_openai_clip(), strides=(8, 64))


def test_a_clip_transformer_gives_taps_at_three_strides() -> None:
    clip = tiny_openai_clip(layers=4)
    trunk = ClipTrunk(clip, strides=(8, 16, 32), taps=(0, 2, 3))
    maps = trunk(images())
    assert trunk.strides == (4, 8, 16)  # of a patch of 8
    assert [tuple(one.shape[1:]) for one in maps] == [(64, 16, 24), (64, 8, 12), (64, 4, 6)]
    torch.testing.assert_close(maps[1], clip.taps(images(), (2,))[0])
    maps[0].sum().backward()
    assert all(value.grad is None for value in clip.parameters())
    assert ClipTrunk(clip, strides=(8, 16, 32)).frozen.tapped == (1, 2, 3)
    with pytest.raises(ValueError, match=r"2 taps .* name one block a map"):
        ClipTrunk(clip, strides=(8, 16, 32), taps=(0, 3))


def test_a_clip_resnet_gives_its_stages() -> None:
    clip = tiny_resnet_clip()
    trunk = ClipTrunk(clip, strides=(8, 16, 32))
    for ours, theirs in zip(trunk(images()), clip.taps(images(), (1, 2, 3)), strict=True):
        torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="none of stride 64"):
        ClipTrunk(clip, strides=(16, 64))


def test_padding_lies_right_and_below() -> None:
    padded = pad_to_multiple(images(60, 96), 16)
    assert padded.shape == (2, 3, 64, 96)
    assert not padded[:, :, 60:].any()
    padding = padding_of(padded, [(60, 96), (10, 20)])
    assert int((~padding[0]).sum()) == 60 * 96
    assert int((~padding[1]).sum()) == 10 * 20
    assert not padding[1, :10, :20].any()
