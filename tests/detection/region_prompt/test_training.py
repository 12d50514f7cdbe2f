"""The region prompt's training and the labels that come of it, on little pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.support.detection import BASE, NAMES, write_blocks
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.data.detection import CocoDetection
from clipself.detection.region_prompt.classify import classify_boxes, framing_of
from clipself.detection.region_prompt.config import RegionSettings
from clipself.detection.region_prompt.file import PROMPT, read_prompt
from clipself.detection.region_prompt.regions import ResNetRegions
from clipself.detection.region_prompt.relabel import relabel
from clipself.detection.region_prompt.train import open_prompt, train_prompt

REGIONS: dict[str, Any] = {"templates": "simple", "short_side": 64, "longest_side": 96}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path / "data", 6)
    save_clip(tiny_resnet_clip(), tmp_path / "clip")
    return tmp_path


def options(place: Path, **changes: Any) -> dict[str, Any]:
    return {
        "annotations": place / "data/instances.json", "images": place / "data/pictures", "model": str(place / "clip"),
        "base": BASE, "novel": tuple(set(NAMES) - set(BASE)), "regions": REGIONS, "device": "cpu", "workers": 0,
        **changes,
    }  # fmt: skip


def learn(place: Path, out: str = "run", **changes: Any) -> Any:
    given = options(
        place, split=None, short_sides=(64,), crop=0.0, lr=1e-3, max_steps=30, drop_epochs=(), pretrained=None
    )
    return train_prompt(out=place / out, **{**given, **changes})


def test_it_learns_and_nothing_else_does(place: Path) -> None:
    result = learn(place)
    assert result.last_loss < 0.9 * result.first_loss
    held = load_file(place / "run/prompt.safetensors")
    clip = tiny_resnet_clip()
    assert set(held) == {PROMPT}
    regions = ResNetRegions(clip)
    assert regions.prompt is not None
    assert not torch.equal(read_prompt(place / "run/prompt.safetensors", like=regions.prompt), regions.prompt)
    card = json.loads((place / "run/prompt.json").read_text())
    assert card["clip_digest"] == clip.weights_hash("image")
    opened = open_prompt(place / "run").prompt
    assert opened is not None
    assert torch.equal(opened, held[PROMPT])
    assert sorted(card["names"]) == sorted(BASE)
    assert str(place) not in (place / "run/prompt.json").read_text()


def test_accuracy_within_the_run_is_that_of_true_boxes(place: Path) -> None:
    given = options(place)
    learn(
        place, max_steps=2, evaluate_every=2, evaluate_annotations=given["annotations"],
        evaluate_images=given["images"], evaluate_limit=4,
    )  # fmt: skip
    lines = [json.loads(line) for line in (place / "run/metrics.jsonl").read_text().splitlines()]
    (found,) = [line for line in lines if "accuracy" in line]
    assert 0 <= found["accuracy"] <= 100
    assert {"mAcc", "mAcc base", "mAcc novel"} <= set(found)


def test_a_transformer_has_nothing_to_tune(place: Path) -> None:
    save_clip(tiny_openai_clip(), place / "vit")
    with pytest.raises(ValueError, match="no positions of an attention pool to tune"):
        learn(place, model=str(place / "vit"))


def test_labels_are_what_the_clip_says_and_all_else_stays(place: Path) -> None:
    report = relabel(**options(place, out=place / "new.json", batch_size=1))
    old, new = (json.loads(path.read_text()) for path in (place / "data/instances.json", place / "new.json"))
    ids = {row["id"]: row["name"] for row in old["categories"]}
    assert {key: value for key, value in new.items() if key != "annotations"} == {
        key: value for key, value in old.items() if key != "annotations"
    }
    clip = tiny_resnet_clip()
    data = CocoDetection(place / "data/instances.json", place / "data/pictures", base=BASE, novel=None)
    texts = make_vocabulary(clip, BASE, base=BASE, templates="simple", wording="spaced", cache=False).texts_KD[:-1]
    settings = RegionSettings(**REGIONS)
    said: dict[int, str] = {}
    for index, logits in classify_boxes(
        ResNetRegions(clip), texts, data, framing_of(settings, clip), temperature=100, batch_size=1
    ):
        said |= dict(zip(data.rows(index).tolist(), [BASE[best] for best in logits.argmax(1).tolist()], strict=True))
    agreed = 0
    for row, (was, now) in enumerate(zip(old["annotations"], new["annotations"], strict=True)):
        assert {**was, "category_id": None} == {**now, "category_id": None}
        name = ids[was["category_id"]]
        assert ids[now["category_id"]] == (said[row] if name in BASE else name)
        agreed += name in BASE and ids[now["category_id"]] == name
    base = sum(ids[row["category_id"]] in BASE for row in old["annotations"])
    assert (report.boxes, report.agreed, report.untouched) == (base, agreed, len(old["annotations"]) - base)
    assert f"{agreed} of {base} boxes keep their name" in report.to_table()
    assert sum(report.changes.values()) == base - agreed


def test_a_prompt_changes_the_labels(place: Path) -> None:
    learn(place, max_steps=60, lr=5e-3)
    before = relabel(**options(place, out=place / "before.json"))
    after = relabel(**options(place, out=place / "after.json", prompt=place / "run/prompt.safetensors"))
    assert after.agreement > before.agreement
