"""The dense map of every family of towers as a graph, at sizes that it was not exported with."""

from pathlib import Path

import pytest
import torch
from tests.support.graphs import Written
from tests.support.tiny import TINY
from tests.support.towers import twin_clip

from clipself.workflows.exporting.dense_map import check_readout, dense_map_graph

SLOW = pytest.mark.slow


@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    ("family", "to", "readout"),
    [
        pytest.param("openai", "onnx", "value", id="openai-onnx"),
        pytest.param("openai", "torchscript", "value", id="openai-torchscript"),
        pytest.param("openai", "torch-export", "value", id="openai-torch-export", marks=SLOW),
        pytest.param("eva", "onnx", "value", id="eva-onnx", marks=SLOW),
        pytest.param("eva", "torchscript", "value", id="eva-torchscript", marks=SLOW),
        pytest.param("timm", "onnx", "qk", id="timm-onnx-qk", marks=SLOW),
        pytest.param("resnet", "onnx", "value", id="resnet-onnx", marks=SLOW),
        pytest.param("resnet", "torchscript", "value", id="resnet-torchscript", marks=SLOW),
        pytest.param("openai", "onnx", "naclip", id="openai-onnx-naclip", marks=SLOW),
        pytest.param("openai", "onnx", "gem:looks_back=2", id="openai-onnx-gem", marks=SLOW),
        pytest.param("convnext_base", "onnx", "value", id="convnext-onnx", marks=SLOW),
        pytest.param("convnext_base", "torchscript", "value", id="convnext-torchscript", marks=SLOW),
        pytest.param("MobileCLIP2-S0", "onnx", "value", id="fastvit-onnx", marks=SLOW),
        pytest.param("ViTamin-B", "onnx", "value", id="vitamin-onnx", marks=SLOW),
        pytest.param("mini", "onnx", "value", id="mini-onnx", marks=SLOW),
        pytest.param("mini", "torch-export", "value", id="mini-torch-export", marks=SLOW),
    ],
)
def test_the_map_is_the_models_at_any_number_and_size(family: str, to: str, readout: str, tmp_path: Path) -> None:
    clip = (TINY[family]() if family in TINY else twin_clip(family, tmp_path)).eval()
    graph = dense_map_graph(clip, readout=readout, templates="simple", size=64)
    written, patch, own = Written(graph, to, tmp_path), clip.patch_size, clip.image_size[0] // clip.patch_size
    for batch, rows, cols in ((1, 3, 2), (3, own, own), (2, 9, 4)):
        images = torch.randn(batch, 3, rows * patch, cols * patch, generator=torch.Generator().manual_seed(batch))
        expected = clip.dense_map(images, readout=readout)
        torch.testing.assert_close(written(images=images)["dense_map"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("readout", "why"),
    [("proxyclip", "guided by a second model"), ("corrclip-after", "guided"), ("value:window=64", "in windows whose")],
)
def test_readouts_that_one_graph_cannot_hold_are_refused_in_words(readout: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_readout(readout)
