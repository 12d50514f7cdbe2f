"""Two-stage detectors as graphs: boxes, scores, labels and masks after the suppression, with other names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.support.detection import BASE, NAMES, tiny_detector, tiny_settings
from tests.support.graphs import Written, tensors
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.text import make_vocabulary
from clipself.detection.detectors.owl.settings import OwlSettings
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.workflows.exporting.deformable import deformable_graph
from clipself.workflows.exporting.graph import Graph
from clipself.workflows.exporting.owl import owl_graph
from clipself.workflows.exporting.targets import TARGETS
from clipself.workflows.exporting.two_stage import two_stage_graph

SLOW = pytest.mark.slow


def detector_of(kind: str) -> Any:
    if kind == "fvlm-resnet":
        settings = tiny_settings("fvlm")
        clip = tiny_resnet_clip()
        return build_detector(clip, settings, make_vocabulary(clip, NAMES, base=BASE, templates="simple"))
    method, _, masks = kind.partition("+")
    return tiny_detector(method=method, mask_convs=1 if masks else 0)


def check_whole_lists(written: Written, graph: Graph, detector: Any, clip: DenseCLIP, *, side: int) -> None:
    """A detector without suppression: the graph finds the same boxes in the same order, for other names and batches."""
    assert graph.embed is not None
    for batch, names in ((1, ("cat", "a red kite")), (3, (*NAMES, "owl"))):
        images = torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))
        sizes = [(side - 5 * place, side - 9 * place) for place in range(batch)]
        found = written(images=images, sizes=torch.tensor(sizes).float(), **tensors(graph.embed(names)))
        detector.use(make_vocabulary(clip, names, base=BASE, templates="simple"))
        for place, expected in enumerate(detector.detect(images, sizes)):
            there = found["labels"][place] >= 0
            assert int(there.sum()) == len(expected.scores) > 3
            torch.testing.assert_close(found["scores"][place][there], expected.scores, atol=1e-4, rtol=0)
            torch.testing.assert_close(found["boxes"][place][there], expected.boxes, atol=1e-2, rtol=0)
            assert torch.equal(found["labels"][place][there], expected.labels)


@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    ("kind", "to"),
    [
        pytest.param("fvit+masks", "onnx", id="fvit-onnx"),
        pytest.param("fvit", "torchscript", id="fvit-torchscript", marks=SLOW),
        pytest.param("fvit+masks", "torch-export", id="fvit-torch-export", marks=SLOW),
        pytest.param("fvlm", "onnx", id="fvlm-onnx", marks=SLOW),
        pytest.param("fvlm-resnet", "onnx", id="fvlm-resnet-onnx", marks=SLOW),
        pytest.param("vild", "onnx", id="vild-onnx", marks=SLOW),
        pytest.param("baron", "onnx", id="baron-onnx", marks=SLOW),
        pytest.param("detic", "onnx", id="detic-onnx", marks=SLOW),
    ],
)
def test_what_the_graph_finds_is_what_the_detector_finds(kind: str, to: str, tmp_path: Path) -> None:
    detector: Any = detector_of(kind)
    detector.eval()
    with torch.no_grad():  # offsets and objectness that a test can tell apart
        torch.nn.init.normal_(detector.box_head.deltas.weight, std=0.05, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(detector.proposer.head.score.weight, std=0.5, generator=torch.Generator().manual_seed(2))
        torch.nn.init.normal_(detector.proposer.head.deltas.weight, std=0.1, generator=torch.Generator().manual_seed(3))
    graph = two_stage_graph(detector, suppress=TARGETS[to].suppress)
    written, found_any = Written(graph, to, tmp_path), 0
    for batch, (height, width), names in ((1, (64, 64), ("cat", "a red kite")), (3, (128, 64), (*NAMES, "owl", "ox"))):
        images = torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))
        sizes = [(height - 5 * place, width - 9 * place) for place in range(batch)]
        assert graph.embed is not None
        found = written(images=images, sizes=torch.tensor(sizes).float(), **tensors(graph.embed(names)))
        held = detector.vocabulary
        detector.use(make_vocabulary(detector.clip, names, base=BASE, templates="simple"))
        for place, expected in enumerate(detector.detect(images, sizes)):
            there = found["labels"][place] >= 0
            assert int(there.sum()) == len(expected.scores)
            assert not found["scores"][place][~there].any()
            found_any += len(expected.scores)
            torch.testing.assert_close(found["scores"][place][there], expected.scores, atol=1e-4, rtol=0)
            torch.testing.assert_close(
                found["boxes"][place][there], expected.boxes, atol=1e-4 * max(height, width), rtol=0
            )
            assert torch.equal(found["labels"][place][there], expected.labels)
            if expected.masks is not None:
                torch.testing.assert_close(found["masks"][place][there], expected.masks, atol=1e-4, rtol=1e-4)
        detector.use(held)
    assert found_any > 20, "a test of empty lists tells nothing"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    ("to", "changes"),
    [("onnx", {}), ("onnx", {"nms": 0.5, "features": "dense"}), ("torch-export", {"score_threshold": 0.012})],
)
def test_owl_answers_as_before(to: str, changes: dict[str, Any], tmp_path: Path) -> None:
    settings = OwlSettings(
        image_size=64, templates="simple", layer_drop=0.0, text_tokens=12, towers="none", max_detections=20, **changes
    )
    clip = tiny_openai_clip()
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector: Any = build_detector(clip, settings, vocabulary)
    with torch.no_grad():  # a head that tells names apart, and boxes of several sizes
        torch.nn.init.normal_(detector.heads.embed.weight, std=0.3, generator=torch.Generator().manual_seed(1))
        torch.nn.init.normal_(detector.heads.box.dense2.weight, std=0.3, generator=torch.Generator().manual_seed(2))
    graph = owl_graph(detector.eval(), suppress=TARGETS[to].suppress)
    check_whole_lists(Written(graph, to, tmp_path), graph, detector, clip, side=64)


SMALL = {
    "trunk": "clip", "image_size": 64, "pixels": "clip", "channels": 32, "heads": 4, "encoder_layers": 1,
    "decoder_layers": 2, "hidden": 32, "queries": 6, "templates": "simple", "max_detections": 30,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    ("method", "to", "changes"),
    [
        pytest.param("ovdetr", "onnx", {}, id="ovdetr-onnx"),
        pytest.param("ovdetr", "torchscript", {}, id="ovdetr-torchscript"),
        pytest.param(
            "ovdetr",
            "onnx",
            {"trunk": "resnet50", "two_stage": False, "image_size": None, "short_side": 80, "longest_side": 120},
            id="ovdetr-resnet-onnx",
        ),
        pytest.param("promptovd", "onnx", {"rois": 4}, id="promptovd-onnx"),
        pytest.param("promptovd", "torch-export", {"rois": 4}, id="promptovd-torch-export"),
    ],
)
def test_deformable_queries_answer_as_before(method: str, to: str, changes: dict[str, Any], tmp_path: Path) -> None:
    clip = tiny_openai_clip(layers=4)
    vocabulary = make_vocabulary(clip, NAMES, base=BASE, templates="simple")
    detector: Any = build_detector(clip, make_settings(method, **{**SMALL, **changes}), vocabulary)
    detector.eval()
    with torch.no_grad():  # boxes, scores and places that a test can tell apart
        for seed, (name, weight) in enumerate(detector.network.named_parameters()):
            if weight.ndim > 1 and ("_embed" in name or "sampling_offsets" in name or "attention_weights" in name):
                torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(seed))
    graph = deformable_graph(detector, suppress=TARGETS[to].suppress)
    check_whole_lists(Written(graph, to, tmp_path), graph, detector, clip, side=graph.prepare["canvas"])


def test_a_region_prompt_is_refused_in_words() -> None:
    detector = tiny_detector()
    object.__setattr__(detector.settings, "prompt", "prompt.safetensors")
    with pytest.raises(ValueError, match="region prompt runs the last stage of its ResNet on every region"):
        two_stage_graph(detector, suppress=TARGETS["onnx"].suppress)


def test_detics_own_networks_are_refused_in_words() -> None:
    settings = make_settings("detic", heads="c4")
    with pytest.raises(ValueError, match="heads 'c4' runs a network of its own"):
        two_stage_graph(SimpleNamespace(settings=settings), suppress=TARGETS["onnx"].suppress)
