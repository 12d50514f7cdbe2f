"""RegionCLIP-style names: the teacher's word for a crop is the label, and the step draws the others."""

import math
from pathlib import Path

import pytest
import torch
from tests.support.distill import batch_of, learning, losses_of, moved, reached, step_of
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.text import embed_names
from clipself.distillation.clipself import ClipSelf
from clipself.distillation.config import DistillConfig
from clipself.distillation.keep import KeepImages
from clipself.distillation.regionclip.model import RegionClip
from clipself.distillation.regionclip.settings import RegionClipSettings
from clipself.engine.config import located, shareable
from clipself.ops.pooling import pool_boxes

NAMES = ("cat", "dog", "red kite", "grass", "lamp")


def test_the_term_is_the_baseline_spelled_out() -> None:
    batch = batch_of((1, 2), (2, 2))
    method = RegionClip(tiny_openai_clip(1), settings=RegionClipSettings(names=NAMES, columns=2))
    moved(method)
    step = step_of(method, batch)
    terms = losses_of(method, batch)
    drawn = torch.randperm(5, generator=step.generator("names"))[:2].tolist()
    with torch.no_grad():
        words = embed_names(method.teacher, NAMES, templates="simple").rows_SD
        crops = method.teacher.encode_image(batch.crops_R3hw)
        regions = pool_boxes(method.student.dense_map(batch.images_B3HW), list(batch.boxes_norm))
    scale, total = math.exp(float(method.teacher.clip.logit_scale)), 0.0  # type: ignore[arg-type]
    for crop, region in zip(crops, regions, strict=True):
        near = [float(crop @ word) for word in words]
        own = near.index(max(near))
        for column, word in enumerate(words):
            value = scale * float(region @ word) / math.sqrt(float(region @ region))
            if column == own or column in drawn:
                total += math.log1p(math.exp(-value if column == own else value))
    assert terms.keys() == {"names"}
    assert terms["names"].item() == pytest.approx(total / 6, rel=1e-4)


def test_clipselfs_loss_and_whole_images_beside_it() -> None:
    clip, batch = tiny_openai_clip(1), batch_of((1, 2))
    settings = RegionClipSettings(names=NAMES, crops_weight=0.5)
    method = RegionClip(clip, settings=settings, keep=KeepImages(clip, weight=2.0))
    moved(method)
    terms = losses_of(method, batch)
    plain = ClipSelf(clip, student=method.student, keep=KeepImages(clip, weight=2.0))
    others = losses_of(plain, batch)
    assert terms["crops"].item() == pytest.approx(0.5 * others["distance"].item())
    assert terms["kept"].item() == pytest.approx(others["kept"].item())
    assert reached(method, batch) == learning(method)


def test_files_of_names_hold_from_anywhere_and_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("cat\n")
    config = DistillConfig(data=Path("a"), out=Path("b"), method=RegionClipSettings(names=("words.txt", "dog")))
    held = located(config)
    assert list(held["method"]["names"]) == [f"{tmp_path}/words.txt", "dog"]
    there = DistillConfig(data=Path("a"), out=Path("b"), method=held["method"])
    assert shareable(there)["method"]["names"] == ["words.txt", "dog"]


def test_nothing_to_be_named_is_refused() -> None:
    with pytest.raises(ValueError, match="names must hold at least one word, text file or packaged vocabulary"):
        RegionClipSettings(names=())
