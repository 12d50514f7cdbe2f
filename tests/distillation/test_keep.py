"""The term that keeps what a student says of whole images: its value, what it reaches, and what it is good for."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.support.distill import batch_of, learning, losses_of, moved, reached
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.config import DistillConfig
from clipself.distillation.keep import KeepImages
from clipself.distillation.recipes import distill_recipe
from clipself.distillation.train import distill
from clipself.engine.log import read_metrics


def method_of(*, weight: float = 2.0, crops: float = 0.0) -> ClipSelf:
    """A student that has left its teacher."""
    original = tiny_openai_clip(1)
    method = ClipSelf(original, keep=KeepImages(original, weight=weight, crops=crops))
    moved(method)
    return method


def cosine(one: list[float], two: list[float]) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True)) / (math.hypot(*one) * math.hypot(*two))


def stock(clip: DenseCLIP, images: torch.Tensor) -> list[list[float]]:
    with torch.no_grad():
        return [clip.encode_image(image[None])[0].tolist() for image in images]


def quarters(path: Path) -> list[Image.Image]:
    """Crops that no grid of a training need have cut."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.width // 2, picture.height // 2
    return [picture.crop((x, y, x + width, y + height)) for x in (0, width) for y in (0, height)]


def test_the_term_is_the_mean_over_whole_images_and_chosen_crops() -> None:
    method, batch = method_of(crops=0.5), batch_of((2, 2), (1, 3))
    assert method.keep is not None
    chosen = method.keep.places(batch)
    assert [sum(place < 4 for place in chosen), len(chosen)] == [2, 4]  # two of four, and two of three: round(1.5)
    pairs = list(zip(stock(method.student, batch.images_B3HW), stock(method.teacher, batch.images_B3HW), strict=True))
    for place in chosen:
        crop = batch.crops_R3hw[place : place + 1]
        pairs += list(zip(stock(method.student, crop), stock(method.teacher, crop), strict=True))
    expected = 2.0 * sum(1 - cosine(ours, theirs) for ours, theirs in pairs) / 6
    terms = losses_of(method, batch)
    assert expected > 0.01
    assert terms["kept"].item() == pytest.approx(expected, abs=1e-5)
    plain = ClipSelf(method.teacher, student=method.student)
    assert terms["distance"].item() == pytest.approx(losses_of(plain, batch)["distance"].item())


@pytest.mark.parametrize(("share", "counts"), [(0.0, (0, 0)), (0.25, (1, 1)), (1.0, (4, 3))])
def test_each_image_keeps_its_share_of_crops(share: float, counts: tuple[int, int]) -> None:
    keep = KeepImages(tiny_openai_clip(), weight=1.0, crops=share)
    places = keep.places(batch_of((2, 2), (1, 3)))
    assert (sum(place < 4 for place in places), sum(place >= 4 for place in places)) == counts
    assert places == sorted(set(places))


def test_kept_crops_lie_anywhere_in_a_grid_and_stay_the_same() -> None:
    keep = KeepImages(tiny_openai_clip(), weight=1.0, crops=0.25)
    batch = batch_of((2, 2))
    found = [keep.places(replace(batch, names=(f"{number}.jpg",))) for number in range(400)]
    drawn = Counter(place for (place,) in found)
    assert all(abs(drawn[cell] - 100) < 40 for cell in range(4))  # four and a half standard deviations
    elsewhere = [keep.places(replace(batch, names=(f"elsewhere/{number}.jpg",))) for number in range(400)]
    assert found == elsewhere


def test_a_student_that_has_not_moved_has_nothing_to_keep() -> None:
    original, batch = tiny_openai_clip(1), batch_of((1, 2))
    method = ClipSelf(original, keep=KeepImages(original, weight=1.0))
    terms = losses_of(method, batch)
    assert terms["kept"].item() == pytest.approx(0.0, abs=1e-6)


def test_queries_and_keys_of_the_last_block_learn_for_the_class_token_alone() -> None:
    kept, plain = method_of(), ClipSelf(tiny_openai_clip(1))
    batch = batch_of((1, 2), (2, 2))
    for method in (kept, plain):
        assert reached(method, batch) == learning(method)
    width = 64
    for method, learnt in ((kept, True), (plain, False)):
        visual: Any = method.student.clip.visual
        queries = visual.transformer.resblocks[-1].attn.in_proj_weight.grad[:width]
        assert bool(queries.abs().sum() > 0) == learnt


def test_a_short_run_keeps_whole_images_and_crops_with_the_term_and_not_without_it(tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    settings: dict[str, Any] = {
        "data": draw_pictures(tmp_path / "pictures", 8), "model": str(model), "image_size": 64, "max_steps": 25,
        "batch_size": 4, "lr": 1e-3, "workers": 0, "precision": "fp32", "max_regions": 6, "flip": 0.0,
    }  # fmt: skip
    original = load_clip(model)
    pictures = sorted((tmp_path / "pictures").iterdir())
    images = torch.stack([original.preprocess(path, size=64) for path in pictures])
    crops = torch.stack([original.preprocess(quarter, size=32) for path in pictures for quarter in quarters(path)])
    lost, lost_crops, near = dict[float, float](), dict[float, float](), dict[float, float]()
    for weight in (0.0, 4.0):
        run = distill(out=tmp_path / f"run-{weight}", keep_image=weight, keep_crops=0.5 * bool(weight), **settings)
        for found, pixels in ((lost, images), (lost_crops, crops)):
            with torch.no_grad():
                ours, theirs = (clip.encode_image(pixels) for clip in (load_clip(run.student), original))
            found[weight] = float((1 - (ours * theirs).sum(-1)).mean())
        distances = [record["distance"] for record in read_metrics(run.out)]
        near[weight] = sum(distances[-5:]) / 5
    assert lost[4.0] < 0.035
    assert lost[0.0] > 3 * lost[4.0]
    assert lost_crops[4.0] < 0.035
    assert lost_crops[0.0] > 3 * lost_crops[4.0]
    assert near[4.0] < 1.2 * near[0.0]  # regions are learnt all the same


def test_whole_images_come_from_the_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    settings: dict[str, Any] = {
        "data": draw_pictures(tmp_path / "pictures", 4), "model": str(model), "image_size": 64, "max_steps": 4,
        "batch_size": 4, "lr": 1e-3, "workers": 0, "precision": "fp32", "max_split": 1, "flip": 0.0,
        "keep_image": 1.0,
    }  # fmt: skip
    distill(out=tmp_path / "plain", **settings)
    embedded, embed = list[int](), KeepImages._embed

    def count(self: KeepImages, images_B3HW: torch.Tensor) -> torch.Tensor:
        embedded.append(len(images_B3HW))
        return embed(self, images_B3HW)

    monkeypatch.setattr(KeepImages, "_embed", count)
    distill(out=tmp_path / "cached", teacher_cache=tmp_path / "cache", **settings)
    assert sum(embedded) == 4
    plain, cached = ([record["kept"] for record in read_metrics(tmp_path / run)] for run in ("plain", "cached"))
    assert cached == pytest.approx(plain, abs=1e-3)  # the store is float16


def test_nothing_is_kept_without_a_weight_whatever_the_share_of_crops(tmp_path: Path) -> None:
    config = DistillConfig(data=Path("a"), out=Path("b"))
    assert config.keep_image == 0
    assert distill_recipe("modern").keep_crops > 0
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    run = distill(
        data=draw_pictures(tmp_path / "pictures", 2), model=str(model), out=tmp_path / "run", image_size=64,
        max_steps=1, batch_size=2, workers=0, keep_image=0.0,
    )  # fmt: skip
    assert "kept" not in read_metrics(run.out)[0]
