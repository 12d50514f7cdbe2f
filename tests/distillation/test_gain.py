"""A short real run on generated scenes: the dense map gains by a margin, and does not where the loss is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from clipself.backbones.loading import load_clip
from clipself.data.preprocess import Preprocess
from clipself.data.scenes import SceneMaker
from clipself.distillation import clipself as method
from clipself.distillation.train import distill
from clipself.losses.cosine import cosine_loss
from clipself.ops.boxes import denormalize_boxes
from clipself.ops.grids import grid_boxes
from clipself.ops.pooling import pool_boxes

SIDE, HELD_OUT = 160, 12


class HeldOut:
    """Quarters of scenes that no run has seen, with the original model's embeddings of them as crops."""

    def __init__(self) -> None:
        clip, maker = load_clip("clipself-mini"), SceneMaker(size=(SIDE, SIDE), seed="held out")
        preprocess = Preprocess(mean=clip.image_mean, std=clip.image_std)
        pictures = [maker(index).image for index in range(HELD_OUT)]
        self.quarters = grid_boxes(2, 2)
        boxes = denormalize_boxes(self.quarters, size=(SIDE, SIDE))
        self.images = torch.stack([preprocess.normalize(picture) for picture in pictures])
        with torch.no_grad():
            crops = torch.cat([preprocess.teacher_crops(picture, boxes, SIDE) for picture in pictures])
            self.crops_S4D = clip.encode_image(crops).reshape(HELD_OUT, 4, -1)
        self.before = self.contrast("clipself-mini")

    @torch.no_grad()
    def contrast(self, model: str | Path) -> float:
        """How much nearer, in cosine, a quarter of the dense map is to its own crop than to the other crops."""
        dense = load_clip(model).dense_map(self.images)
        pooled = torch.nn.functional.normalize(pool_boxes(dense, [self.quarters] * HELD_OUT), dim=-1)
        cosine_S44 = pooled.reshape(HELD_OUT, 4, -1) @ self.crops_S4D.mT
        own = cosine_S44.diagonal(dim1=1, dim2=2).sum(-1)
        return float((own / 4 - (cosine_S44.sum((1, 2)) - own) / 12).mean())


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return HeldOut()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty scenes without labels."""
    folder, maker = tmp_path_factory.mktemp("scenes"), SceneMaker(size=(SIDE, SIDE), seed="train")
    for index in range(40):
        maker(index).image.save(folder / f"{index}.png")
    return folder


def gain(pictures: Path, out: Path, held_out: HeldOut) -> float:
    run = distill(
        data=pictures, out=out, image_size=SIDE, max_steps=24, batch_size=4, max_split=2, lr=1e-3, weight_decay=0.05,
        clip_norm=1.0, workers=0, save_every=0, seed=0, keep_image=1.0, keep_crops=0.0,
    )  # fmt: skip
    return held_out.contrast(run.student) - held_out.before


def test_the_dense_map_gains_in_a_few_steps(pictures: Path, tmp_path: Path, held_out: HeldOut) -> None:
    assert gain(pictures, tmp_path / "run", held_out) > 0.04


def turned_round(student_RD: Tensor, teacher_RD: Tensor, **options: Any) -> Tensor:
    return cosine_loss(-student_RD, teacher_RD, **options)


def of_the_neighbour(student_RD: Tensor, teacher_RD: Tensor, **options: Any) -> Tensor:
    return cosine_loss(student_RD, torch.roll(teacher_RD, 1, dims=0), **options)


@pytest.mark.parametrize("wrong", [pytest.param(turned_round, marks=pytest.mark.slow), of_the_neighbour])
def test_a_wrong_loss_does_not(
    pictures: Path, tmp_path: Path, held_out: HeldOut, monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(method, "cosine_loss", wrong)
    assert gain(pictures, tmp_path / "run", held_out) < 0.015
