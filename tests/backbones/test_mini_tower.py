"""The stem of the packaged model: folded norms give the stages' own numbers, whatever happens to the weights."""

from copy import deepcopy

import pytest
import timm
import torch
from torch import Tensor

from clipself.backbones.mini_tower import EfficientStem


def plainly(stem: EfficientStem, images: Tensor) -> Tensor:
    out: Tensor = stem.blocks(stem.bn1(stem.conv_stem(images)))
    return out


@pytest.fixture
def stem() -> EfficientStem:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = EfficientStem()
        for name, buffer in made.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return made


@torch.no_grad()
def test_folded_norms_change_no_number_and_no_name(stem: EfficientStem) -> None:
    images = torch.randn(20, 3, 160, 96, generator=torch.Generator().manual_seed(1))
    names = list(stem.state_dict())
    expected = plainly(stem, images)
    assert stem(images).shape == (20, 112, 10, 6)  # more than are taken at once
    torch.testing.assert_close(stem(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert list(stem.state_dict()) == names


@torch.no_grad()
def test_a_changed_weight_or_a_copy_is_folded_anew(stem: EfficientStem) -> None:
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before, twin = stem(images), deepcopy(stem)
    twin.bn1.weight.mul_(2)
    other = EfficientStem()
    other.load_state_dict(twin.state_dict())
    assert not torch.allclose(twin(images), before)
    torch.testing.assert_close(twin(images), plainly(twin, images), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(other(images), twin(images))
    torch.testing.assert_close(stem(images), before)


@torch.no_grad()
@pytest.mark.parametrize("size", [(160, 160), (96, 224), (16, 48)])
def test_the_stem_pads_as_timms_does(stem: EfficientStem, size: tuple[int, int]) -> None:
    """Ours pads by constants; timm computes the padding of TensorFlow's "same" from the size of each map."""
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(3,)).eval()
    theirs, ours = network.state_dict(), stem.state_dict()
    network.load_state_dict({name: ours.get(name, theirs[name]) for name in theirs}, strict=True)
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))
    assert torch.equal(plainly(stem, images), network(images)[0])
