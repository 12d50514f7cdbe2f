import multiprocessing
import os
import shutil
import tempfile

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runslow", action="store_true", help="also run the tests marked slow or weights")


def pytest_configure(config: pytest.Config) -> None:
    # No test reads or fills the cache of whoever runs it.
    os.environ["CLIPSELF_CACHE"] = tempfile.mkdtemp(prefix="clipself-cache-")
    # Two workers on two cores: more threads than that only fight each other.
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    # The traceback of a failed test may hold workers, which ignore the SIGTERM of the interpreter that waits for them.
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()
    shutil.rmtree(os.environ["CLIPSELF_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))
    if config.getoption("--runslow"):
        return
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("weights"):  # keywords hold folder names too
            item.add_marker(pytest.mark.skip(reason="minutes long; run with --runslow"))
