"""A short real run on generated scenes: the dense map gains by a margin, and does not where the loss is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clipself.backbones.loading import load_clip
from clipself.data.scenes import SceneImages, SceneMaker
from clipself.distillation import clipself as method
from clipself.distillation.run import distill
from clipself.losses.cosine import cosine_loss
from clipself.regions.evaluate import score_regions

SIZE, STEPS, MARGIN = 160, 30, 15.0


def ground_accuracy(model: str | Path) -> float:
    """Top-1 accuracy on the ground of held-out scenes, percent: what a short run learns first."""
    data = SceneImages(SceneMaker(size=(SIZE, SIZE), seed="held out"), 24)
    report = score_regions(
        load_clip(model), data, image_size=SIZE, modes=("stuff_masks",), templates="simple", workers=0, progress=False
    )
    return report.scores["stuff_masks"].top1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty scenes without labels."""
    folder, maker = tmp_path_factory.mktemp("scenes"), SceneMaker(size=(SIZE, SIZE), seed="train")
    for index in range(40):
        maker(index).image.save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def before() -> float:
    return ground_accuracy("clipself-mini")


def gain(pictures: Path, out: Path, before: float) -> float:
    run = distill(
        data=pictures, out=out, image_size=SIZE, max_steps=STEPS, batch_size=2, max_split=3, max_regions=6, lr=1e-3,
        weight_decay=0.05, clip_norm=1.0, workers=0, save_every=0, seed=0,
    )  # fmt: skip
    return ground_accuracy(run.student) - before


def test_the_dense_map_gains_in_a_few_steps(pictures: Path, tmp_path: Path, before: float) -> None:
    assert gain(pictures, tmp_path / "run", before) > MARGIN


def turned_round(student_RD: Tensor, teacher_RD: Tensor, *, reduction: str) -> Tensor:
    return cosine_loss(-student_RD, teacher_RD, reduction=reduction)  # type: ignore[arg-type]


def of_the_neighbour(student_RD: Tensor, teacher_RD: Tensor, *, reduction: str) -> Tensor:
    return cosine_loss(student_RD, torch.roll(teacher_RD, 1, dims=0), reduction=reduction)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [turned_round, of_the_neighbour])
def test_a_wrong_loss_does_not(
    pictures: Path, tmp_path: Path, before: float, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(method, "cosine_loss", wrong)
    assert gain(pictures, tmp_path / "run", before) < MARGIN / 3
