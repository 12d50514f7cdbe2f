"""Errors from worker processes as the sentences that they were."""

from collections.abc import Iterable, Iterator
from typing import Any


def plain_errors(loader: Iterable[Any]) -> Iterator[Any]:
    """The loader's batches; a worker's error comes without the traceback that PyTorch folds into its message.

    Args:
        loader: A `DataLoader` with any number of workers.

    Raises:
        Exception: What the worker raised, of the same kind.
    """
    try:
        yield from loader
    except (ValueError, FileNotFoundError, OSError) as error:
        said = str(error)
        if "Original Traceback" not in said:
            raise
        last = said.strip().rsplit(f"{type(error).__name__}: ", 1)[-1]
        raise type(error)(last) from None
