"""A refined model is read as its card says by everything that reads a CLIP without training it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tiny import tiny_openai_clip

from clipself import evaluate_regions, open_segmenter
from clipself.backbones.export import save_clip
from clipself.data.images import read_image
from clipself.panoptic.judge import open_judge
from clipself.panoptic.settings import JudgeSettings
from clipself.workflows.show import dense_of, load_columns

CARD: Final = {"readout": "qq", "image_size": 72}


def _show(model: str, out: Path, image_size: int | None = None, **told: Any) -> Any:
    columns, side = load_columns("./other", None, model, device="cpu", **told)  # it is the refined one
    assert columns[0].readout == told.get("readout", "value")
    return dense_of(columns[1], read_image("photos/0.png"), image_size or side)


def _regions(model: str, out: Path, **told: Any) -> Any:
    (report,) = evaluate_regions(
        model=model, annotations="instances.json", images="photos", templates="simple", device="cpu", modes="boxes",
        out=out, **told,
    )  # fmt: skip
    return [report.settings["image_size"], len(report.settings["readout"]), report.scores["boxes"].top1]


def _judge(model: str, out: Path, **told: Any) -> Any:
    told["image_size"] = 64  # masks are pooled as finely as one pays for, whatever the model was refined at
    masks = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0))
    judge = open_judge(model, names=["cat", "dog"], settings=JudgeSettings(templates="simple", **told))
    return judge(read_image("photos/0.png"), masks)


def _segment(model: str, out: Path, **told: Any) -> Any:
    told.pop("image_size", None)  # windows of the published protocol
    segmenter = open_segmenter(model=model, names="cat, dog", templates="simple", device="cpu", **told)
    found = segmenter.segment("photos/0.png")
    assert found.scores_HW is not None
    return found.scores_HW


READERS: Final[Mapping[str, Callable[..., Any]]] = {
    "show": _show, "evaluate regions": _regions, "panoptic judge": _judge,
    "segment predict": _segment,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refined")
    write_coco(draw_pictures(folder / "photos", 2).parent, {"0.png": [[5, 5, 30, 30]], "1.png": [[10, 10, 30, 20]]})
    save_clip(tiny_openai_clip(), folder / "plain")
    save_clip(tiny_openai_clip(1), folder / "other")
    save_clip(tiny_openai_clip(), folder / "refined", card={"settings": CARD})
    return folder


def same(one: Any, two: Any) -> bool:
    one, two = np.asarray(one), np.asarray(two)
    return one.shape == two.shape and np.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("name", READERS)
def test_it_is_read_as_its_card_says(name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("CLIPSELF_CACHE", str(made / "cache"))
    read = READERS[name]
    by_card = read("./refined", tmp_path)
    assert same(by_card, read("./plain", tmp_path, **CARD))
    for setting, other in (("readout", "clearclip"), ("image_size", 48)):
        told = read("./refined", tmp_path, **{setting: other})
        assert same(told, read("./plain", tmp_path, **{**CARD, setting: other}))  # what is told counts
        if setting == "readout" or name not in ("segment predict", "panoptic judge"):
            assert not same(told, by_card)
    assert same(read("./plain", tmp_path), read("./plain", tmp_path, readout="value"))
