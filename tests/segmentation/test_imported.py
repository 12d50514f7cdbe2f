"""A released checkpoint becomes a folder that computes what the released model computes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.segmentation.catseg.test_catseg import published_state as published_catseg
from tests.support.segmentation import tiny_catseg
from tests.support.tiny import tiny_openai_clip

from clipself.cli.main import main
from clipself.segmentation.catseg.published import read_catseg
from clipself.segmentation.checkpoint import load_segmenter
from clipself.segmentation.imported import import_segmenter

NAMES = ("cat", "dog", "grass")


@torch.no_grad()
def test_catseg_comes_back_with_its_own_numbers(tmp_path: Path) -> None:
    state = published_catseg(tiny_catseg(tiny_openai_clip(layers=6), image_size=192, window=12))
    state = {name: tensor.clone() for name, tensor in state.items()}
    torch.save({"model": state, "iteration": 80000}, tmp_path / "model_final.pth")
    folder = import_segmenter(
        tmp_path / "model_final.pth", tmp_path / "out", method="catseg", names=NAMES, crop=192, heads=2
    )
    model: Any
    model, card = load_segmenter(folder)
    released = read_catseg(state, source="file", heads=2)
    images, texts = torch.randn(1, 3, 192, 192), released.embed_names(["cat", "a dog"])
    torch.testing.assert_close(model(images, model.embed_names(["cat", "a dog"])), released(images, texts))
    assert (card["names"], card["crop"]) == (list(NAMES), 192)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert load_segmenter(tmp_path / "moved")[0].clip.weights_hash() == released.clip.weights_hash()


def test_what_cannot_be_imported_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"backbone.weight": torch.zeros(1)}}, tmp_path / "x.pth")
    for method, said in (("catseg", "OpenAI's names"), ("san", "it is no SAN checkpoint")):
        words = ["segment", "import", "--weights", str(tmp_path / "x.pth"), "--out", str(tmp_path / "o")]
        assert main([*words, "--method", method]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        import_segmenter(tmp_path / "none.pth", tmp_path / "o", method="catseg")
    with pytest.raises(ValueError, match="unknown segmenter 'catsegs'"):
        import_segmenter(tmp_path / "x.pth", tmp_path / "o", method="catsegs")
