"""A detector of another kind than ours goes through everything by its protocol; choices and tables agree."""

import json
import time
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import tests.support.families  # noqa: F401 - it registers the toy
import torch
from tests.support.detection import NAMES, PACKAGED, tiny_detector, write_blocks
from tests.support.tiny import tiny_openai_clip
from tests.support.toys.detr import ToyDetr, ToyDetrSettings

from clipself.backbones.export import save_clip
from clipself.backbones.text import make_vocabulary
from clipself.detection import evaluate_detector, predict_images, train_detector, write_proposals
from clipself.detection.config import DetectionTrainConfig
from clipself.detection.detector import Detector, open_detector
from clipself.detection.detectors.settings import MethodSettings
from clipself.detection.detectors.table import DETECTORS, make_settings
from clipself.detection.detectors.two_stage.settings import TwoStageSettings
from clipself.detection.protocol import learned_state, running_statistics


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path, 4)
    save_clip(tiny_openai_clip(layers=4), tmp_path / "model")
    return tmp_path


def test_a_detector_with_queries_is_trained_evaluated_drawn_and_refuses_proposals(world: Path) -> None:
    given: dict[str, Any] = {"annotations": str(world / "instances.json"), "images": str(world / "pictures")}
    run = str(world / "run")
    train_detector(
        out=run, model=str(world / "model"), detector=ToyDetrSettings(queries=6), max_steps=2, batch_size=2, workers=0,
        device="cpu", **given,
    )  # fmt: skip
    (report,) = evaluate_detector(checkpoint=run, device="cpu", scoring={"score_threshold": 0.001}, **given)
    assert report.images == 4
    result = predict_images(images=given["images"], checkpoint=run, names="cat, kite", out=world / "out", device="cpu")
    assert [found.names for found in result.found] == [("cat", "kite")] * 4
    loaded = Detector.from_checkpoint(run, device="cpu")
    assert isinstance(loaded.model, ToyDetr)
    assert loaded.model.settings.queries == 6
    with pytest.raises(ValueError, match="the toy detector has no class-free proposals"):
        write_proposals(checkpoint=run, images=given["images"], out=world / "boxes", device="cpu")
    with pytest.raises(ValueError, match="toy-detr has no setting 'alpha'"):
        evaluate_detector(checkpoint=run, device="cpu", alpha=0.3, **given)
    with pytest.raises(ValueError, match="toy-detr has no frozen features"):
        train_detector(
            out=world / "other", model=str(world / "model"), detector={"method": "toy-detr"}, max_steps=1, views=1,
            feature_cache=world / "cache", device="cpu", **given,
        )  # fmt: skip


def test_what_is_saved_is_what_is_not_frozen_by_object_and_not_by_name() -> None:
    detector = tiny_detector(norm="batch")
    clip = detector.clip
    names = set(learned_state(detector, clip))
    assert names == {name for name in detector.state_dict() if not name.startswith("backbone.")}
    tuned = next(iter(clip.parameters())).requires_grad_(True)  # a detector may teach a part of its CLIP
    assert sum(tensor.shape == tuned.shape for tensor in learned_state(detector, clip).values()) >= 1
    assert len(set(learned_state(detector, clip)) - names) == 1
    kept = running_statistics(detector, clip)
    heads = [buffer for name, buffer in detector.named_buffers() if not name.startswith("backbone.")]
    assert list(map(id, kept)) == list(map(id, heads))
    assert len(kept) > 10


@pytest.mark.parametrize("name", PACKAGED)
def test_settings_belong_to_their_row_and_come_back_from_json(name: str) -> None:
    settings = make_settings(name)
    assert settings.method == name
    assert type(settings) is DETECTORS[name].settings
    assert MethodSettings.from_table(json.loads(json.dumps(settings.to_json()))) == settings


def test_another_method_takes_over_what_both_know() -> None:
    small = make_settings("fvit", channels=8, alpha=0.3)
    vild: Any = small.changed({"method": "vild"})
    assert (vild.method, vild.channels, vild.alpha, vild.distill_regions) == ("vild", 8, 0.3, 8)
    assert small.changed({"method": "vild", "distill_regions": 2}) == vild.changed({"distill_regions": 2})
    with pytest.raises(ValueError, match=r"unknown detection method 'vilt'.*did you mean 'vild'"):
        small.changed({"method": "vilt"})


def test_every_detector_states_its_choices_as_the_shared_settings_do() -> None:
    for row in DETECTORS.values():
        if issubclass(row.settings, TwoStageSettings):
            for name, kind in get_type_hints(row.settings).items():
                assert kind == get_type_hints(TwoStageSettings).get(name, kind), name
    assert "detector" in {field.name for field in fields(DetectionTrainConfig)}


def test_somebody_elses_detector_is_opened_by_its_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    from clipself.detection import detector

    opened: list[tuple[str, str]] = []
    monkeypatch.setitem(detector.OPENERS, "zoo", lambda name, device: opened.append((name, device)))
    open_detector("zoo:somebody/thing", device="cpu")
    assert opened == [("somebody/thing", "cpu")]
    with pytest.raises(FileNotFoundError, match=r"no detector\.json with detector\.safetensors in nowhere"):
        open_detector("nowhere", device="cpu")


def test_found_things_one_by_one_some_and_by_name(world: Path) -> None:
    found, = Detector(tiny_detector(score_threshold=0.0)).predict(world / "pictures" / "0.png")  # fmt: skip
    first, last = found[0], found[-1]
    assert first.name == NAMES[int(found.labels[0])]
    assert first.box == tuple(found.boxes[0].tolist())
    assert first.score == float(found.scores[0]) >= last.score
    assert [one.score for one in found] == found.scores.tolist()
    assert torch.equal(found[2:5].boxes, found.boxes[2:5])
    assert torch.equal(found[[0, 3]].scores, found.scores[[0, 3]])
    assert torch.equal(found[found.scores > 0.1].labels, found.labels[found.scores > 0.1])
    both = found.only("fish", "cat")
    assert {one.name for one in both} <= {"fish", "cat"}
    assert len(both) == int(((found.labels == 0) | (found.labels == 3)).sum()) > 0
    with pytest.raises(ValueError, match="'cow' was not asked for; the names are cat, dog, bird, fish"):
        found.only("cow")
    with pytest.raises(IndexError):
        found[len(found)]


def test_a_long_list_of_names_costs_time_as_its_length() -> None:
    clip, names = tiny_openai_clip(), [f"thing {place}" for place in range(60_000)]
    begun = time.process_time()
    made = make_vocabulary(clip, names, base=names[:10], texts_KD=torch.zeros(len(names) + 1, 2))
    assert time.process_time() - begun < 10  # comparing each with each takes minutes
    assert int(made.base_K.sum()) == 11
    with pytest.raises(ValueError, match="the name 'thing 7' is there more than once"):
        make_vocabulary(clip, [*names, "thing 7"], base=[])
