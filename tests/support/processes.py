"""Two processes that know each other, as `torchrun` starts them."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp


def in_two_processes(job: Callable[..., None], *given: Any) -> None:
    """Runs `job(*given)` in two new processes of one thread each; what one of them raises is raised here.

    Args:
        job: A function of a module's top level, which the new processes can import.
        given: Its arguments; they are pickled.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_join, args=(port, job, given), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]


def _join(rank: int, port: int, job: Callable[..., None], given: tuple[Any, ...]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    job(*given)
