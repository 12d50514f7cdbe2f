"""What the contract of all trainings leaves open, of masks: what is counted, evaluated and named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.panoptic import write_world
from tests.support.tiny import tiny_openai_clip
from torch import Tensor

from clipself.backbones.export import save_clip
from clipself.data.panoptic import PanopticFile
from clipself.engine.log import read_metrics
from clipself.engine.resolve import resolve
from clipself.losses.mask_classification import MaskClassificationLoss
from clipself.panoptic.config import PanopticTrainConfig
from clipself.panoptic.evaluate import score_panoptic
from clipself.panoptic.generators.own import load_own_masks
from clipself.panoptic.recipes import PANOPTIC_RECIPES
from clipself.panoptic.train import train_panoptic

SMALL: dict[str, Any] = {
    "generator": {
        "image_size": 64, "channels": 32, "pixel_layers": 1, "pixel_hidden": 32, "layers": 2, "hidden": 32,
        "queries": 6, "heads": 2, "templates": "simple",
    },
    "loss": {"num_points": 64}, "batch_size": 4, "workers": 0, "save_every": 1, "warmup_steps": 0, "max_steps": 3,
    "precision": "fp32", "device": "cpu", "eps": 1e-3, "lr": 1e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures with uneven numbers of segments, and a CLIP."""
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, count=8, void=True)
    save_clip(tiny_openai_clip(layers=3), folder / "clip")
    thin_out(folder / "panoptic.json")
    return folder


def thin_out(path: Path) -> None:
    """Pictures 1, 3, ... keep one segment, so that counts differ between batches and processes."""
    import json

    held = json.loads(path.read_text())
    for row in held["annotations"][1::2]:
        row["segments_info"] = row["segments_info"][:1]
    path.write_text(json.dumps(held))


def run(world: Path, out: str, **options: Any) -> Path:
    given = {"annotations": world / "panoptic.json", "images": world / "images", "model": str(world / "clip")}
    return train_panoptic(out=world / out, **{**given, **SMALL, **options}).out


def weights(folder: Path) -> dict[str, Tensor]:
    held: dict[str, Tensor] = load_own_masks(folder).model.state_dict()
    return held


def losses(folder: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(folder)]


def same(one: Path, two: Path) -> bool:
    first, second = weights(one), weights(two)
    return all(torch.equal(first[name], second[name]) for name in first) and losses(one) == losses(two)


@pytest.fixture(scope="module")
def whole(world: Path) -> Path:
    return run(world, "whole")


def test_masks_are_averaged_over_the_whole_step(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step's terms against the loss of all four pictures at once, which divides by its own masks."""
    seen: list[Any] = []
    shares = MaskClassificationLoss.shares

    def keep(self: MaskClassificationLoss, predictions: Any, targets: Any, *, totals: Any, generators: Any) -> Any:
        seen.append((totals, len(targets), sum(map(len, targets))))
        return shares(self, predictions, targets, totals=totals, generators=generators)

    monkeypatch.setattr(MaskClassificationLoss, "shares", keep)
    run(world, "counted", batch_size=1, accumulate=4, max_steps=1)
    assert [count for _, count, _ in seen] == [1] * 4
    masks = sum(held for *_, held in seen)
    assert len({held for *_, held in seen}) > 1
    for totals, *_ in seen:
        assert float(totals["masks"]) == masks
        assert float(totals["class_weight"]) == pytest.approx(masks + 0.1 * (4 * 6 - masks))


def test_the_run_is_evaluated_on_the_way(world: Path, whole: Path) -> None:
    out = run(
        world, "watched", evaluate_every=2, evaluate_annotations=str(world / "panoptic.json"),
        evaluate_images=str(world / "images"), evaluate_limit=3,
    )  # fmt: skip
    assert same(whole, out)  # looking changes nothing
    (record,) = read_metrics(out, kind="evaluation")
    shorter = run(world, "shorter", schedule="constant", max_steps=2, evaluate_every=2,
                  evaluate_annotations=world / "panoptic.json", evaluate_images=world / "images")  # fmt: skip
    (last,) = read_metrics(shorter, kind="evaluation")
    data = PanopticFile(world / "panoptic.json", world / "images")
    (row,) = score_panoptic(load_own_masks(shorter), {}, data, scores=("generator",), progress=False).rows
    assert record["step"] == 2
    assert last["pq"] == pytest.approx(row.quality.overall.pq)
    assert last["covered"] == pytest.approx(row.covered)
    with pytest.raises(ValueError, match="evaluate_every needs evaluate_annotations and evaluate_images"):
        run(world, "blind", evaluate_every=1, evaluate_annotations=world / "panoptic.json")


def test_the_first_recipe_gives_the_defaults_and_old_names_work(world: Path) -> None:
    given = {"annotations": "a.json", "images": "i", "out": "o"}
    config = resolve(PanopticTrainConfig, PANOPTIC_RECIPES, **given)
    assert config == resolve(PanopticTrainConfig, PANOPTIC_RECIPES, recipe="small", **given)
    with pytest.warns(FutureWarning, match=r"num_points of PanopticTrainConfig is now loss\.num_points"):
        old = resolve(PanopticTrainConfig, PANOPTIC_RECIPES, num_points=7, **given)
    assert (old.loss.num_points, old.generator) == (7, config.generator)
    with pytest.raises(ValueError, match=r"there is no setting generator\.chanels; did you mean generator\.channels"):
        resolve(PanopticTrainConfig, PANOPTIC_RECIPES, generator={"chanels": 32}, **given)
