"""Worker processes: their errors are the sentences that they were, and who asks a run to stop asks not them."""

import multiprocessing
import signal
from collections.abc import Generator, Iterable
from typing import Any


def plain_errors(loader: Iterable[Any]) -> Generator[Any, None, None]:
    """The loader's batches; a worker's error comes without the traceback that PyTorch folds into its message.

    Workers have ended when the batches have, whoever still holds the error or the loader: the interpreter would send
    those that ignore SIGTERM just that, and wait for them for ever.

    Args:
        loader: A `DataLoader` with any number of workers.

    Raises:
        ValueError: This process may have no workers.
        Exception: What the worker raised, of the same kind.
    """
    if getattr(loader, "num_workers", 0) and multiprocessing.current_process().daemon:
        raise ValueError("this process is one of a pool or server and may start none itself; pass workers=0")
    reading: Any = iter(loader)
    try:
        yield from reading
    except (ValueError, FileNotFoundError, OSError) as error:
        said = str(error)
        if "Original Traceback" not in said:
            raise
        last = said.strip().rsplit(f"{type(error).__name__}: ", 1)[-1]
        raise type(error)(last) from None
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error) or multiprocessing.get_start_method(allow_none=True) in (
            None,
            "fork",
        ):
            raise
        raise RuntimeError(
            f"{error}; workers that are not forked run the calling script again: what calls this must stand below "
            "`if __name__ == '__main__':`, or pass workers=0"
        ) from error
    finally:
        if hasattr(reading, "_shutdown_workers"):
            reading._shutdown_workers()


def leave_stopping_to_the_run(worker: int) -> None:
    """Ignores Ctrl-C and schedulers' signals: they reach the whole group, and the run still needs batches for its step.

    A worker ends when its loader does, or when its parent is gone.

    Args:
        worker: Its number, which a `DataLoader` passes to what it calls first.
    """
    del worker
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
