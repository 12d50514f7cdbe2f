"""Segmenters as graphs: class maps of other names, numbers and sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.graphs import Written, tensors
from tests.support.segmentation import tiny_catseg, tiny_san
from tests.support.tiny import tiny_openai_clip

from clipself.segmentation.catseg.inference import CatSegInference, score_picture
from clipself.segmentation.catseg.segmenter import CatSegSegmenter
from clipself.segmentation.san.model import semantic_scores
from clipself.segmentation.san.segmenter import SanSegmenter
from clipself.segmentation.training_free.segmenter import TrainingFree
from clipself.segmentation.training_free.settings import TrainingFreeSettings
from clipself.workflows.exporting.catseg import catseg_graph
from clipself.workflows.exporting.san import san_graph
from clipself.workflows.exporting.segmenters import training_free_graph

SLOW = pytest.mark.slow
NAMES = ("cat, kitten", "dog", "grass", "sky", "sea")


@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    "to", ["onnx", pytest.param("torchscript", marks=SLOW), pytest.param("torch-export", marks=SLOW)]
)
def test_a_clip_segments_without_training_as_before(to: str, tmp_path: Path) -> None:
    clip = tiny_openai_clip()
    graph = training_free_graph(clip, readout="value", templates="simple")
    written = Written(graph, to, tmp_path)
    assert graph.embed is not None
    settings = TrainingFreeSettings(shortest=24, window=512, stride=512, templates="simple")
    for batch, size, names in ((1, (24, 40), NAMES), (3, (32, 24), ("cat", "dog"))):
        pictures = [
            Image.fromarray(
                torch.randint(256, (*size, 3), generator=torch.Generator().manual_seed(seed)).byte().numpy()
            )
            for seed in range(batch)
        ]
        found = written(images=torch.stack([clip.preprocess(one) for one in pictures]), **tensors(graph.embed(names)))
        segmenter = TrainingFree(clip, names, settings)
        for place, picture in enumerate(pictures):
            expected = segmenter.segment(picture)
            assert expected.scores_HW is not None
            score = expected.scores_HW / settings.logit_scale
            torch.testing.assert_close(found["scores"][place], score, atol=1e-4, rtol=0)
            assert (found["labels"][place] == expected.labels_HW).float().mean() > 0.999  # but for equal scores


@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize(
    ("mode", "to"),
    [
        pytest.param("sliding", "onnx", id="sliding-onnx", marks=SLOW),
        pytest.param("whole", "onnx", id="whole-onnx", marks=SLOW),
        pytest.param("sliding", "torchscript", id="sliding-torchscript", marks=SLOW),
        pytest.param("sliding", "torch-export", id="sliding-torch-export", marks=SLOW),
    ],
)
def test_cat_seg_names_pixels_as_before(mode: Any, to: str, tmp_path: Path) -> None:
    model = tiny_catseg(tiny_openai_clip(layers=6), image_size=32)
    how = CatSegInference(mode=mode, canvas=56, window=40)
    graph = catseg_graph(CatSegSegmenter(model, ["cat"], how=how))
    written = Written(graph, to, tmp_path)
    assert graph.embed is not None
    for batch, size, names in ((1, (48, 70), NAMES), (2, (61, 33), ("cat", "dog")), (1, (20, 20), ("cat",))):
        pixels = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(batch)) * 255
        texts = tensors(graph.embed(names))
        found = written(images=model.normalize(pixels), **texts)
        for place, picture in enumerate(pixels):
            scores = torch.cat(list(score_picture(model, picture, texts["texts"], size=size, how=how)))
            torch.testing.assert_close(found["scores"][place], scores.amax(0), atol=1e-4, rtol=0)
            assert (found["labels"][place] == scores.argmax(0)).float().mean() > 0.999  # but for equal scores


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
@pytest.mark.parametrize("to", ["onnx", "torchscript"])
def test_san_names_pixels_as_before(to: str, tmp_path: Path) -> None:
    model = tiny_san(tiny_openai_clip(layers=4))
    graph = san_graph(SanSegmenter(model, ["cat"], shortest=64))
    written = Written(graph, to, tmp_path)
    assert graph.embed is not None
    for batch, size, names in ((1, (96, 32), NAMES), (2, (64, 128), ("cat", "dog"))):
        pixels = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(batch)) * 255
        texts = tensors(graph.embed(names))
        found = written(images=model.normalize(pixels), **texts)
        with torch.no_grad():
            (expected,) = model(model.normalize(pixels), texts["texts"])
            scores, labels = semantic_scores(expected, size=size).max(1)
        torch.testing.assert_close(found["scores"], scores, atol=1e-4, rtol=0)
        assert (found["labels"] == labels).float().mean() > 0.999  # but for equal scores


def test_a_san_on_other_patches_is_refused_in_words() -> None:
    model = tiny_san(tiny_openai_clip(layers=4))
    model.clip_scale = 0.7
    with pytest.raises(ValueError, match=r"looks at 0\.7 of the picture in patches of 8.*cells of unlike sizes"):
        san_graph(SanSegmenter(model, ["cat"], shortest=64))


def test_two_hundred_and_seventy_names_need_no_padding() -> None:
    """The published padding to 256 classes ends where there are more; the graph's count of padding ends there too."""
    model = tiny_catseg(tiny_openai_clip(layers=6), image_size=32)
    step: Any = model.aggregator.layers[0].attention
    padding = [step._padding(count) for count in (1, 255, 256, 300)]
    assert [one and one.count for one in padding] == [255, 1, None, None]
