"""A list on disk is as good as one in memory."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from clipself.data.kept import Kept
from clipself.structures import Detections


def found(number: int, names: tuple[str, ...]) -> Detections:
    return Detections(
        boxes=torch.rand(number, 4) + torch.tensor([0.0, 0.0, 5.0, 5.0]), scores=torch.rand(number),
        labels=torch.zeros(number, dtype=torch.long), names=names, size=(8, 9),
    )  # fmt: skip


def test_items_come_back_as_they_were_in_any_order(tmp_path: Path) -> None:
    names = ("cat", "dog")
    made = [found(number, names) for number in range(4)]
    kept = Kept[Detections](tmp_path / "deep", shared=[names])
    for one in made:
        kept.append(one)
        assert (kept[-1].boxes == one.boxes).all()
    assert len(kept) == 4
    for place in (2, 0, 3, -3):
        assert (kept[place].boxes == made[place].boxes).all()
        assert kept[place].names is names
    assert [len(one) for one in kept[1:]] == [1, 2, 3]
    assert list((tmp_path / "deep").iterdir()) == []  # whatever ends the process, no file stays
    with pytest.raises(IndexError, match="item 4 of 4"):
        kept[4]


def test_shared_objects_are_written_with_no_item(tmp_path: Path) -> None:
    names = tuple(f"a name of {number}" for number in range(1000))
    kept = Kept[Any](tmp_path, shared=[names])
    for number in range(10):
        kept.append({"names": names, "number": number})
    assert kept._ends[-1] < 1000
    assert [(one["names"] is names, one["number"]) for one in kept] == [(True, number) for number in range(10)]


def test_in_another_process_it_is_a_plain_one(tmp_path: Path) -> None:
    kept = Kept[str](tmp_path)
    kept.append("a")
    assert pickle.loads(pickle.dumps(kept)) == ("a",)
