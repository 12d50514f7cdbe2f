"""Whole runs on toy towers: equal however they are cut, killed, resumed or spread over processes."""

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip
from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.backbones.weights import read_state_dict
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.config import DistillConfig
from clipself.distillation.train import distill
from clipself.engine.log import read_metrics
from clipself.ops.grids import grid_boxes
from clipself.structures import DistillBatch


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A run of twelve steps on eight pictures."""
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    return {
        "data": draw_pictures(tmp_path / "pictures", 8), "model": str(model), "image_size": 64, "max_steps": 12,
        "batch_size": 4, "lr": 1e-3, "workers": 0, "alpha": 0.5, "precision": "fp32", "save_every": 3,
        "max_regions": 6, "flip": 0.0,
    }  # fmt: skip


def student_of(run: Path) -> dict[str, Tensor]:
    return read_state_dict(run / "student" / "open_clip_model.safetensors")


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_loss_falls_and_the_run_leaves_its_files(settings: dict[str, Any], tmp_path: Path) -> None:
    result = distill(out=tmp_path / "run", **settings)
    assert result.last_loss < 0.6 * result.first_loss
    run = tmp_path / "run"
    for name in ("config.json", "result.json", "log.txt", "training_state.pt", "student", "blended"):
        assert (run / name).exists(), name
    records = read_metrics(run)
    assert [record["step"] for record in records] == list(range(1, 13))
    original, student, blended = (load_clip(where) for where in (settings["model"], run / "student", run / "blended"))
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    mean = 0.5 * (student.clip.state_dict()[name] + original.clip.state_dict()[name])
    torch.testing.assert_close(blended.clip.state_dict()[name], mean)
    assert student.weights_hash("text") == original.weights_hash("text")


def test_names_that_are_no_text_and_a_caller_without_gradients(settings: dict[str, Any], tmp_path: Path) -> None:
    named = {**settings, "max_steps": 2, "flip": 0.0, "views": 1}
    plain = distill(out=tmp_path / "plain", teacher_cache=tmp_path / "cache", **named)
    for picture in sorted(Path(settings["data"]).iterdir()):
        picture.rename(os.fsdecode(os.fsencode(picture.parent) + b"/caf\xe9_" + os.fsencode(picture.name)))
    with torch.no_grad():
        odd = distill(out=tmp_path / "odd", teacher_cache=tmp_path / "cache", **named)
    assert odd.last_loss == pytest.approx(plain.last_loss, rel=0.5)
    with torch.inference_mode():
        again = distill(out=tmp_path / "again", **named)
    assert again.last_loss == pytest.approx(odd.last_loss, rel=0.01)  # one of them by rows of the cache


def test_the_method_is_the_paper_spelled_out() -> None:
    original = tiny_openai_clip(1)
    method = ClipSelf(original)
    generator = torch.Generator().manual_seed(0)
    boxes = (grid_boxes(1, 2), grid_boxes(2, 1))
    batch = DistillBatch(
        images_B3HW=torch.randn(2, 3, 32, 32, generator=generator),
        boxes_norm=boxes,
        crops_R3hw=torch.randn(4, 3, 32, 32, generator=generator),
        names=("a", "b"),
    )
    total = 0.0
    with torch.no_grad():
        crops = original.clip.encode_image(batch.crops_R3hw)  # type: ignore[operator]
        dense = original.dense_map(batch.images_B3HW)  # student and teacher start equal
        # half an image of a 4 x 4 grid: RoIAlign samples the centres of its 8 cells
        halves = [dense[0, :, :, :2], dense[0, :, :, 2:], dense[1, :, :2], dense[1, :, 2:]]
        for half, crop in zip(halves, crops, strict=True):
            pooled = half.flatten(1).mean(1)
            total += 1 - float(pooled @ crop) / (math.sqrt(float(pooled @ pooled)) * math.sqrt(float(crop @ crop)))
    assert float(
        method.distance(method.model(batch.images_B3HW), batch, method.embed_crops(batch)).detach()
    ) == pytest.approx(total, abs=1e-5)


def test_a_student_goes_on_where_an_earlier_one_ended(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"lr": 1e-12}  # so small that nothing moves
    first = distill(out=tmp_path / "first", **{**settings, "lr": 1e-2})
    second = distill(out=tmp_path / "second", student=first.student, **settings)
    assert second.first_loss < 0.8 * first.first_loss
    assert largest_difference(student_of(first.out), student_of(second.out)) < 1e-9
    original, student, blended = (load_clip(at) for at in (settings["model"], first.student, second.blended))
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    mean = 0.5 * (student.clip.state_dict()[name] + original.clip.state_dict()[name])  # of what both began with
    torch.testing.assert_close(blended.clip.state_dict()[name], mean)
    with pytest.raises(ValueError, match="not one architecture"):
        ClipSelf(tiny_openai_clip(), student=tiny_eva_clip())


def test_teacher_cache_changes_nothing_but_the_work(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"max_split": 2, "max_steps": 8}
    distill(out=tmp_path / "plain", **settings)
    for run in ("filling", "filled"):
        distill(out=tmp_path / run, teacher_cache=tmp_path / "cache", **settings)
    losses = {run: [r["loss"] for r in read_metrics(tmp_path / run)] for run in ("plain", "filling", "filled")}
    assert losses["filling"] == losses["filled"]
    assert losses["plain"] == pytest.approx(losses["filled"], abs=1e-3)  # the store is float16


def test_a_teacher_of_another_activation_asks_anew(settings: dict[str, Any], tmp_path: Path) -> None:
    """No weight shows QuickGELU: who learns of it from the warning goes on with the same file and the same cache."""
    settings |= {"max_split": 2, "max_steps": 1}
    shutil.copytree(settings["model"], tmp_path / "exact")
    card = tmp_path / "exact" / "open_clip_config.json"
    held = json.loads(card.read_text())
    held["model_cfg"]["quick_gelu"] = False
    card.write_text(json.dumps(held))
    exact, quick = load_clip(tmp_path / "exact"), load_clip(settings["model"])
    assert exact.weights_hash() == quick.weights_hash()
    distill(out=tmp_path / "first", teacher_cache=tmp_path / "cache", **{**settings, "model": str(tmp_path / "exact")})
    stores = len(list((tmp_path / "cache").iterdir()))
    distill(out=tmp_path / "second", teacher_cache=tmp_path / "cache", **settings)
    assert len(list((tmp_path / "cache").iterdir())) == 2 * stores


def test_what_a_killed_run_has_embedded_is_kept(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings |= {"max_split": 1, "teacher_cache": tmp_path / "cache", "save_every": 100}  # a region a picture
    embedded, embed = list[int](), ClipSelf._embed

    def count(self: ClipSelf, crops_R3hw: Tensor) -> Tensor:
        if sum(embedded) == 4:
            raise SystemExit("killed")
        embedded.append(len(crops_R3hw))
        return embed(self, crops_R3hw)

    with monkeypatch.context() as patch:
        patch.setattr(ClipSelf, "_embed", count)
        with pytest.raises(SystemExit):
            distill(out=tmp_path / "killed", **settings)
        embedded[:] = [100]
        distill(out=tmp_path / "next", **settings)
    assert sum(embedded) == 104  # of eight pictures; those of the killed run are found


def test_proposals_train_too(settings: dict[str, Any], tmp_path: Path) -> None:
    names = {f"{index}.png": [[5, 5, 40, 30], [20, 10, 30, 40]] for index in range(8)}
    annotations = write_coco(tmp_path, names)
    result = distill(out=tmp_path / "run", regions="proposals", annotations=annotations, **settings)
    assert result.last_loss < result.first_loss


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"alpha": 1.2}, r"alpha=1.2 is not in \[0, 1\]", id="alpha"),
        pytest.param({"batch_size": 0}, "batch_size=0 must be at least 1", id="batch"),
        pytest.param({"lr": 0.0}, "lr=0.0 must be a number above 0", id="lr"),
        pytest.param({"regions": "proposals"}, "proposals need annotations=", id="proposals"),
        pytest.param({"evaluate_every": 5}, "evaluate_every needs evaluate_annotations", id="evaluation"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DistillConfig(data=Path("a"), out=Path("b")), **changes)


def test_sizes_and_batches_that_do_not_fit(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image_size=60 is no multiple of the patch of 8 pixels; try 64"):
        distill(out=tmp_path / "run", **{**settings, "image_size": 60})
    with pytest.raises(ValueError, match="8 images do not fill one batch of 9"):
        distill(out=tmp_path / "run", **{**settings, "batch_size": 9})


def test_epochs_take_a_few_views_in_turn_and_embed_each_once(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight pictures in batches of four: two steps an epoch, six epochs of three views, mirrored ones among them."""
    embedded, embed = list[int](), ClipSelf._embed

    def count(self: ClipSelf, crops_R3hw: Tensor) -> Tensor:
        embedded.append(len(crops_R3hw))
        return embed(self, crops_R3hw)

    monkeypatch.setattr(ClipSelf, "_embed", count)
    settings |= {"views": 3, "flip": 0.5, "max_steps": 12, "max_split": 2}
    distill(out=tmp_path / "plain", **settings)
    assert len(embedded) == 12
    embedded.clear()
    distill(out=tmp_path / "cached", teacher_cache=tmp_path / "cache", **settings)
    assert 0 < len(embedded) <= 6
    plain, cached = ([record["loss"] for record in read_metrics(tmp_path / run)] for run in ("plain", "cached"))
    assert plain == pytest.approx(cached, abs=1e-3)  # the store is float16
    regions = [record["regions"] for record in read_metrics(tmp_path / "plain")]
    assert [sum(regions[at : at + 2]) for at in range(0, 6, 2)] == [sum(regions[at : at + 2]) for at in range(6, 12, 2)]


def test_views_are_those_of_the_first_epochs(tmp_path: Path) -> None:
    from clipself.data.distill import DistillDataset
    from clipself.data.preprocess import Preprocess
    from clipself.data.sources import ImageFolder

    source = ImageFolder(draw_pictures(tmp_path / "pictures", 2))
    how: dict[str, Any] = {"preprocess": Preprocess(mean=(0.5,) * 3, std=(0.5,) * 3), "student_size": 64}
    how |= {"crop_size": 32, "flip": 0.5}
    anew, turns = DistillDataset(source, **how), DistillDataset(source, views=2, **how)
    for epoch in range(5):
        one, other = turns[epoch, 1], anew[epoch % 2, 1]
        assert torch.equal(one.boxes_norm, other.boxes_norm)
        assert torch.equal(one.image_3HW, other.image_3HW)
        assert one.mirrored == other.mirrored
