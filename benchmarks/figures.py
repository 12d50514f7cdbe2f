"""What all benchmarks write alike: figures by name, and the machine, commit and versions that they are of.

A benchmark takes `--json FILE`, notes its figures and writes them; `bench.py` gathers the files of all.
"""

import argparse
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from clipself.files import write_json

PACKAGES: Final = ("clipself", "torch", "torchvision", "open-clip-torch", "timm", "transformers", "numpy")
"""Whose versions a figure depends on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number.

    Attributes:
        name: Says what was measured and at which size; unique within a benchmark.
        value: The number.
        unit: "s", "MiB", "images/s"; "x" for a ratio of two figures of one process, which other machines may compare.
        dtype: In which numbers were computed.
    """

    name: str
    value: float
    unit: str
    dtype: str = "fp32"


class Figures:
    """Figures of one run of a benchmark.

    Args:
        path: Where they are written; nowhere if None.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.figures = path, list[Figure]()

    def note(self, name: str, value: float, unit: str, *, dtype: str = "fp32") -> None:
        """Adds a figure, and writes all that there are: a benchmark that is stopped leaves what it has."""
        self.figures.append(Figure(name=name, value=value, unit=unit, dtype=dtype))
        if self.path is not None:
            command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *_without_json(sys.argv[1:])])
            rows = [{**asdict(figure), "command": command} for figure in self.figures]
            write_json(self.path, {**machine(), "figures": rows})


def _without_json(words: list[str]) -> list[str]:
    if "--json" not in words:
        return words
    place = words.index("--json")
    return words[:place] + words[place + 2 :]


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option of all benchmarks."""
    parser.add_argument("--json", type=Path, help="also write the figures there")


def machine() -> dict[str, Any]:
    """What figures depend on beside the code that they measure."""
    held: dict[str, Any] = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **_versions()},
    }
    return held


def headline() -> str:
    """The same on a line, above a table."""
    held = machine()
    device = held["gpu"] or held["cpu"]
    return (
        f"{held['date']}  {held['commit']}  torch {held['versions']['torch']}  {device}, {held['threads']} threads, "
        f"load {held['load']}"
    )


def commit() -> str:
    """The commit of this checkout, marked where files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip() or "unknown"


def cpu_model() -> str:
    """The processor's name where the system tells it, with what it multiplies small numbers by."""
    if not (told := Path("/proc/cpuinfo")).exists():
        return platform.processor() or platform.machine()
    text = told.read_text()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile") if f" {flag} " in text]
    return f"{name[1] if name else platform.machine()} ({' '.join(flags)})"


def _versions() -> Mapping[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


Clock = Callable[[], float]


def interleaved(
    works: Mapping[str, Callable[[], object]], *, rounds: int, clock: Clock = time.process_time
) -> dict[str, float]:
    """Median seconds of each piece of work, one after another in every round, so that a busy machine touches all alike.

    Args:
        works: Each is called once ahead of the rounds, which does not count.
        rounds: How often.
        clock: Of the processor if not given (all threads together): other work on the machine counts little.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            begun = clock()
            work()
            taken[name].append(clock() - begun)
    return {name: median(seconds) for name, seconds in taken.items()}
