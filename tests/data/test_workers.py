"""What goes wrong in a process that reads pictures is said as if it had gone wrong here."""

import multiprocessing
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from clipself.data.workers import leave_stopping_to_the_run, plain_errors


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


@pytest.mark.parametrize("error", [ValueError("its picture is cut short"), None], ids=["fails", "ends"])
def test_workers_end_with_their_batches_whoever_holds_the_error(error: Exception | None) -> None:
    """The interpreter sends SIGTERM to those that are left, which they ignore, and waits for them for ever."""
    before = set(multiprocessing.active_children())
    data: Any = Broken(error) if error else [1, 2, 3]
    how: Any = {"batch_size": None, "num_workers": 1, "worker_init_fn": leave_stopping_to_the_run}
    held: list[Any] = [DataLoader(data, **how)]
    try:
        for batch in plain_errors(held[0]):
            held.append(batch)
    except ValueError as caught:
        held.append(caught)  # and by its traceback the frames that hold the workers
    assert set(multiprocessing.active_children()) <= before


def _read_in_a_daemon(out: Any) -> None:
    try:
        list(plain_errors(DataLoader(Broken(ValueError("x")), num_workers=1)))
    except ValueError as error:
        out.put(str(error))


def test_a_process_that_may_have_no_workers_says_so() -> None:
    forked = multiprocessing.get_context("fork")
    out = forked.Queue()
    daemon = forked.Process(target=_read_in_a_daemon, args=(out,), daemon=True)
    daemon.start()
    assert "may start none itself; pass workers=0" in out.get(timeout=60)
    daemon.join()
