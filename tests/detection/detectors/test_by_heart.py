"""Detectors on a deformable transformer learn four scenes by heart."""

from pathlib import Path
from typing import Any

import pytest

from clipself.data.detection import CocoDetection
from clipself.data.scenes.export import write_scenes
from clipself.detection.detector import Detector
from clipself.detection.evaluate import score_detector
from clipself.detection.train import train_detector


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        pytest.param("ovdetr", {"text_share": 1.0}, id="ovdetr"),
        pytest.param("promptovd", {"clip_share": 0.0}, id="promptovd"),
    ],
)
def test_four_scenes_are_learned_by_heart(method: str, settings: dict[str, Any], tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", train=4, val=1, size=(160, 160))
    labels, pictures = tmp_path / "scenes/annotations/instances_train.json", tmp_path / "scenes/train"
    sizes = {
        "image_size": 160, "queries": 20, "channels": 64, "heads": 4, "hidden": 128, "encoder_layers": 1,
        "decoder_layers": 2, "max_detections": 300,
    }  # fmt: skip
    result = train_detector(
        out=tmp_path / "run", recipe=f"small-{method}", annotations=labels, images=pictures, max_steps=300,
        batch_size=4, lr=2e-3, workers=0, scales=(1.0, 1.0), flip=0.0, save_every=0, warmup_steps=20, device="cpu",
        precision="fp32", detector={**sizes, **settings},
    )  # fmt: skip
    assert result.last_loss < 0.1 * result.first_loss
    data = CocoDetection(labels, pictures, train=False)
    report = score_detector(Detector.from_checkpoint(tmp_path / "run", device="cpu"), data, progress=False)
    assert report.summary["AP50 all"] > 90.0
