"""A new segmenter and a new loss are one file and one line: each goes through all that the others go through."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.toys.loss import toy_loss
from tests.support.toys.segmenter import TOY, ToySettings
from tests.support.training import act_at, kill

from clipself.cli.main import main
from clipself.engine.log import read_metrics
from clipself.losses.class_maps import CLASS_MAP_LOSSES
from clipself.segmentation.checkpoint import load_segmenter
from clipself.segmentation.segmenters import SEGMENTERS, segmenter_of
from clipself.segmentation.train import train_segmenter

CATSEG = {"image_size": 64, "hidden": 16, "classes_per_step": 20, "loss": "toy"}


@pytest.mark.parametrize("toy", ["segmenter", "loss"])
def test_a_toy_trains_resumes_evaluates_predicts_and_is_reloaded(
    toy: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if toy == "segmenter":
        monkeypatch.setitem(SEGMENTERS, "toy", TOY)  # the one line
    else:
        monkeypatch.setitem(CLASS_MAP_LOSSES, "toy", toy_loss)  # the one line
    settings: Any = ToySettings(factor=10.0) if toy == "segmenter" else CATSEG
    options: dict[str, Any] = {
        "annotations": "scenes/annotations/panoptic_train.json", "images": "scenes/train", "base": "scenes/base.txt",
        "model": f"{world}/openai", "crop": 64, "shortest": [64], "batch_size": 2, "max_steps": 4, "workers": 0,
        "lr": 1e-2, "warmup_steps": 0, "device": "cpu", "save_every": 2, "segmenter": settings,
        "evaluate_every": 4, "evaluate_annotations": "scenes/annotations/panoptic_val.json",
        "evaluate_images": "scenes/val",
    }  # fmt: skip
    result = train_segmenter(out=tmp_path / "through", **options)
    losses = [record["loss"] for record in read_metrics(result.out)]
    assert len(losses) == 4
    assert losses[-1] != losses[0]
    (evaluation,) = read_metrics(result.out, kind="evaluation")
    assert "mIoU novel" in evaluation

    with monkeypatch.context() as patch:
        act_at(patch, 3, kill)
        with pytest.raises(SystemExit):
            train_segmenter(out=tmp_path / "broken", **options)
    train_segmenter(out=tmp_path / "broken", resume=True)
    first, second = (load_file(tmp_path / run / "segmenter.safetensors") for run in ("through", "broken"))
    assert all(torch.equal(first[name], second[name]) for name in first)

    val = ["--annotations", "scenes/annotations/panoptic_val.json", "--images", "scenes/val", "--device", "cpu"]
    run = str(tmp_path / "through")
    assert main(["segment", "evaluate", "--checkpoint", run, *val, "--mode", "whole", "--out", f"{run}-eval"]) == 0
    (scores,) = Path(f"{run}-eval").rglob("scores.json")
    assert json.loads(scores.read_text())["scores"]["mIoU"] is not None
    assert main(["segment", "predict", "scenes/val", "--checkpoint", run, "--out", f"{run}-p", "--device", "cpu"]) == 0
    assert json.loads(Path(f"{run}-p/results.json").read_text())["read"] == 2

    monkeypatch.chdir(tmp_path)
    model, card = load_segmenter(run)
    found = segmenter_of(model, ["cat", "grass"], crop=card["crop"]).segment(world / "scenes/val/000000.jpg")
    assert found.names == ("cat", "grass")
    assert found.labels_HW.shape == (96, 96)


def test_an_unknown_loss_is_said(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown loss of class maps 'entropi', expected one of .*'entropy'"):
        train_segmenter(
            annotations="scenes/annotations/panoptic_train.json", images="scenes/train", model="./openai",
            out=tmp_path / "x", crop=64, shortest=64, max_steps=1, workers=0, device="cpu",
            segmenter={"image_size": 64, "hidden": 16, "loss": "entropi"},
        )  # fmt: skip
