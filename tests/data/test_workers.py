"""What goes wrong in a process that reads pictures is said as if it had gone wrong here."""

from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from clipself.data.workers import plain_errors


class Broken(Dataset[int]):
    """Fails at its third item."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise self.error
        return index


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("a.json: annotations[3]: its mask is 4 x 5 pixels: look there"),
        FileNotFoundError("no image at b.jpg"),
        OSError("c.jpg: the disk\nis gone"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fault_of_the_data_is_its_own_sentence(workers: int, error: Exception) -> None:
    loader: Any = DataLoader(Broken(error), batch_size=None, num_workers=workers)
    with pytest.raises(type(error)) as caught:
        list(plain_errors(loader))
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [RuntimeError("shapes"), KeyError("area")], ids=lambda error: type(error).__name__)
def test_a_defect_keeps_its_traceback(workers: int, error: Exception) -> None:
    loader: Any = DataLoader(Broken(error), batch_size=None, num_workers=workers)
    with pytest.raises(type(error)) as caught:
        list(plain_errors(loader))
    assert not workers or "Original Traceback" in str(caught.value)
