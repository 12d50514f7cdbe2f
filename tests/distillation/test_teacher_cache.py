"""The store of teacher embeddings: nothing stale, nothing mixed up, nothing made of zeros."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.pictures import draw_pictures
from torch import Tensor

from clipself.distillation.teacher_cache import TeacherCache
from clipself.ops.grids import grid_boxes
from clipself.structures import DistillBatch


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return sorted(draw_pictures(tmp_path / "pictures", 6).iterdir())


def batch_of(*pictures: Path) -> DistillBatch:
    return DistillBatch(
        images_B3HW=torch.zeros(len(pictures), 3, 8, 8), boxes_norm=(grid_boxes(1, 2),) * len(pictures),
        crops_R3hw=torch.zeros(2 * len(pictures), 3, 8, 8), names=tuple(map(str, pictures)),
    )  # fmt: skip


def all_of(value: float) -> Callable[[Tensor], Tensor]:
    return lambda crops: torch.full((len(crops), 4), value)


def cache_in(folder: Path, **changes: Any) -> TeacherCache:
    return TeacherCache(folder, **{"identity": "teacher one", "width": 4, **changes})


def test_rows_are_found_again_under_their_key_alone(tmp_path: Path, pictures: list[Path]) -> None:
    cache = cache_in(tmp_path / "c")
    first = cache.look_up(batch_of(pictures[0]), all_of(1))
    cache.flush()
    again = cache_in(tmp_path / "c")
    assert torch.equal(again.look_up(batch_of(pictures[0]), all_of(0)), first)
    assert (again.hits, again.misses) == (2, 0)
    other = cache_in(tmp_path / "c", identity="teacher two")
    assert float(other.look_up(batch_of(pictures[0]), all_of(0)).sum()) == 0.0
    os.utime(pictures[0], ns=(1, 1))
    assert float(again.look_up(batch_of(pictures[0]), all_of(0)).sum()) == 0.0


def test_two_runs_share_one_store(tmp_path: Path, pictures: list[Path]) -> None:
    """Each keeps what it was told, whoever wrote in between, and finds what the other has written."""
    one, two = cache_in(tmp_path / "c"), cache_in(tmp_path / "c")
    for place, picture in enumerate(pictures):
        cache, value = (one, 1.0) if place % 2 else (two, 2.0)
        cache.look_up(batch_of(picture), all_of(value))
    for cache in (one, two, cache_in(tmp_path / "c")):
        told = cache.look_up(batch_of(*pictures), all_of(9)).reshape(6, -1).mean(1)
        assert told.tolist() == [2, 1] * 3


def test_it_grows(tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipself.distillation.teacher_cache.FIRST_ROWS", 1)
    cache = cache_in(tmp_path / "c")
    for place, picture in enumerate(pictures):
        cache.look_up(batch_of(picture), all_of(place + 1))
    told = cache_in(tmp_path / "c").look_up(batch_of(*pictures), all_of(0)).reshape(6, -1).mean(1)
    assert told.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("damage", ["gone", "cut", "zeroed", "noise"])
def test_what_is_damaged_is_embedded_again(tmp_path: Path, pictures: list[Path], damage: str) -> None:
    cache = cache_in(tmp_path / "c")
    cache.look_up(batch_of(*pictures), all_of(1))
    cache.flush()
    path, size = cache.path, cache.row.itemsize
    del cache
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        os.truncate(path, 5 * size + 7)
    else:
        rows = np.fromfile(path, dtype=np.uint8)
        values = slice(3 * size + 28, 4 * size)  # behind the fourth row's key and checksum
        rows[values] = 0 if damage == "zeroed" else rows[values] ^ 0x55
        rows.tofile(path)
    again = cache_in(tmp_path / "c")
    told = again.look_up(batch_of(*pictures), all_of(2)).mean(1)
    fresh = {"gone": 12, "cut": 7, "zeroed": 1, "noise": 1}[damage]
    assert told.tolist().count(2) == again.misses == fresh
    assert told.tolist().count(1) == 12 - fresh


def test_a_mirrored_picture_has_rows_of_its_own(tmp_path: Path, pictures: list[Path]) -> None:
    cache = cache_in(tmp_path / "c")
    cache.look_up(batch_of(pictures[0]), all_of(1))
    mirrored = replace(batch_of(pictures[0], pictures[1]), mirrored=(True, False))
    assert cache.look_up(mirrored, all_of(2)).mean(1).tolist() == [2.0] * 4
    assert cache.look_up(batch_of(*pictures[:2]), all_of(3)).mean(1).tolist() == [1.0, 1.0, 2.0, 2.0]
