"""Processes that know each other, as `torchrun` starts them; they stay for the next job, since starting is slow."""

import atexit
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any, Final

SECONDS: Final = 300
"""How long a job may take."""


def in_two_processes(job: Callable[..., None], *given: Any) -> None:
    """Runs `job(*given)` in two processes; see `in_processes`."""
    in_processes(2, job, *given)


def in_processes(count: int, job: Callable[..., None], *given: Any) -> None:
    """Runs `job(*given)` in some processes of one thread each; what one of them raises is raised here.

    Args:
        count: How many there are.
        job: A function of a module's top level, which the processes can import.
        given: Its arguments; they are pickled.

    Raises:
        RuntimeError: The job failed in one of them, whose traceback is the message.
    """
    group = _GROUPS[count] if count in _GROUPS else _start(count)
    for mine in group.ends:
        mine.send((job, given))
    missing = list(group.ends)
    while missing:
        ready = [end for end in missing if end in wait(missing, timeout=SECONDS)]
        told = [end.recv() for end in ready] or [f"no answer in {SECONDS} seconds"]
        for said in filter(None, told):
            group.stop()  # the others may wait for this one for ever
            raise RuntimeError(said)
        missing = [end for end in missing if end not in ready]


class _Group:
    def __init__(self, processes: list[Any], ends: list[Connection]) -> None:
        self.processes, self.ends = processes, ends

    def stop(self) -> None:
        """Ends all; the next job starts others."""
        _GROUPS.pop(len(self.processes), None)
        for process in self.processes:
            process.kill()
            process.join()


_GROUPS: Final[dict[int, _Group]] = {}


def _start(count: int) -> _Group:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawned = multiprocessing.get_context("spawn")
    pipes = [spawned.Pipe() for _ in range(count)]
    processes = [
        spawned.Process(target=_serve, args=(rank, count, port, theirs), daemon=False)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    group = _Group(processes, [mine for mine, _ in pipes])
    _GROUPS[count] = group
    atexit.register(group.stop)
    return group


def _serve(rank: int, count: int, port: int, end: Connection) -> None:
    import torch

    from clipself.engine.distributed import join_world

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with join_world(torch.device("cpu")):
        while True:
            try:
                job, given = end.recv()
            except EOFError:
                return
            try:
                job(*given)
                end.send(None)
            except BaseException:
                end.send(traceback.format_exc())
