"""Two processes that know each other, as `torchrun` starts them; they stay for the next job, since starting is slow."""

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
    """Runs `job(*given)` in two processes of one thread each; what one of them raises is raised here.

    Args:
        job: A function of a module's top level, which the processes can import.
        given: Its arguments; they are pickled.

    Raises:
        RuntimeError: The job failed in one of them, whose traceback is the message.
    """
    pair = _PAIRS[0] if _PAIRS else _start()
    for mine in pair.ends:
        mine.send((job, given))
    missing = list(pair.ends)
    while missing:
        ready = [end for end in missing if end in wait(missing, timeout=SECONDS)]
        told = [end.recv() for end in ready] or [f"no answer in {SECONDS} seconds"]
        for said in filter(None, told):
            pair.stop()  # the other one may wait for this one for ever
            raise RuntimeError(said)
        missing = [end for end in missing if end not in ready]


class _Pair:
    def __init__(self, processes: list[Any], ends: list[Connection]) -> None:
        self.processes, self.ends = processes, ends

    def stop(self) -> None:
        """Ends both; the next job starts others."""
        _PAIRS.clear()
        for process in self.processes:
            process.kill()
            process.join()


_PAIRS: Final[list[_Pair]] = []


def _start() -> _Pair:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawned = multiprocessing.get_context("spawn")
    pipes = [spawned.Pipe() for _ in range(2)]
    processes = [
        spawned.Process(target=_serve, args=(rank, port, theirs), daemon=False)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    pair = _Pair(processes, [mine for mine, _ in pipes])
    _PAIRS.append(pair)
    atexit.register(pair.stop)
    return pair


def _serve(rank: int, port: int, end: Connection) -> None:
    import torch

    from clipself.engine.distributed import join_world

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
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
