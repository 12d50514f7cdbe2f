"""CORA's localiser learns four pictures by heart."""

import json
from pathlib import Path

import pytest
from tests.support.detection import write_blocks

from clipself.detection.evaluate import evaluate_detector
from clipself.detection.train import train_detector


@pytest.mark.slow
def test_four_pictures_are_learned_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under one name for all: an object under a name that no anchor carries is never learned, by design."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    labels = write_blocks(tmp_path, 4)
    held = json.loads(labels.read_text())
    rows = [{**row, "category_id": 1} for row in held["annotations"]]
    labels.write_text(json.dumps({**held, "annotations": rows, "categories": [{"id": 1, "name": "block"}]}))
    train_detector(
        recipe="small-cora", annotations=labels, images=tmp_path / "pictures", out=tmp_path / "run", device="cpu",
        workers=0, precision="fp32", flip=0.0, max_steps=300, lr=1e-3, clip_norm=1.0, save_every=0,
        detector={
            "short_side": 160, "longest_side": 160, "short_sides": (160,), "split_classes": 0.0, "width": 64,
            "hidden": 128, "queries": 100, "encoder_layers": 1, "decoder_layers": 2,
        },
    )  # fmt: skip
    (report,) = evaluate_detector(
        checkpoint=str(tmp_path / "run"), annotations=labels, images=tmp_path / "pictures", device="cpu"
    )
    assert report.summary["AP50"] > 90
