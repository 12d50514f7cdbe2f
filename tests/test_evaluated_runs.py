"""An evaluation inside a run says what the command says where the CLIP is read otherwise than by default.

`tests/test_families.py` holds it for all trainings as they are by default.
"""

from pathlib import Path
from typing import Any

import pytest
from tests.support.evaluated import assert_the_command_says_the_same, labels_of, write_few_classes
from tests.support.families import FAMILIES, write_place
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"readout": "qq", "alpha": 1.0}, id="another readout"),
        pytest.param({"text_from": "./donor", "image_size": 96}, id="another text tower and size"),
    ],
)
def test_the_command_says_the_same(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    save_clip(tiny_openai_clip(7, layers=4), tmp_path / "donor")
    write_few_classes(tmp_path)
    family = FAMILIES["distill-patches"]
    inside = {f"evaluate_{key}": value for key, value in labels_of(family).items()}
    family.train(tmp_path / "run", evaluate_every=4, evaluate_limit=2, **inside, **options)
    assert_the_command_says_the_same(family, tmp_path / "run", limit=2, detections=[])
