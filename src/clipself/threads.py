"""Threads of torch's pool. OpenMP reads its settings when torch is loaded, so that they are chosen ahead of that."""

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what share of the processor a group of processes may use."""

GROUPS = Path("/proc/self/cgroup")
"""Where it says which groups this process is in."""


def share_cores(
    environment: MutableMapping[str, str] = os.environ, *, cgroup: Path = CGROUP, groups: Path = GROUPS
) -> None:
    """Asks OpenMP for a thread a core that this process may use, and for threads that sleep while they wait.

    Threads that spin for each other stand still where another process holds a core: a step of small kernels then takes
    several times as long. What the user or `torchrun` chose stays: `torchrun` gives each of several processes one
    thread. Processes that a launcher counts by `LOCAL_WORLD_SIZE` without giving them threads share the cores. Workers
    that make batches have a thread each, which `DataLoader` sees to, and take nothing away: they sleep while they are
    ahead of the steps, and threads that sleep too leave them a core when they wake.

    Args:
        environment: Is changed.
        cgroup: Root of the control groups.
        groups: File of the groups of this process.
    """
    here = environment.get("LOCAL_WORLD_SIZE", "1")
    cores = free_cores(cgroup, groups) // max(1, int(here) if here.isdigit() else 1)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores)))


def free_cores(cgroup: Path = CGROUP, groups: Path = GROUPS) -> int:
    """Cores that this process may use: no more than its affinity and the quotas of its groups allow, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(
        (granted for folder in _folders(cgroup, groups) if (granted := _quota(folder)) is not None), default=None
    )
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _folders(cgroup: Path, groups: Path) -> Iterator[Path]:
    """The groups of this process that may limit its processor time, from the innermost to the root.

    A container often sees its own group as the root, under the name that the group has outside: what is not there is
    left out.
    """
    yield from (cgroup, cgroup / "cpu")
    try:
        told = groups.read_text().splitlines()
    except OSError:
        return
    for number, controllers, name in (line.split(":", 2) for line in told if line.count(":") >= 2):
        unified = number == "0" and not controllers
        if not unified and "cpu" not in controllers.split(","):
            continue
        inner = Path(name.strip("/"))
        for folder in (inner, *inner.parents):
            if ".." not in folder.parts:
                yield (cgroup if unified else cgroup / "cpu") / folder


def _quota(folder: Path) -> float | None:
    """Processor time that a group may use in a second; None where nothing limits it."""
    try:
        if (unified := folder / "cpu.max").exists():
            granted, period = unified.read_text().split()
        else:
            granted = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if granted in ("max", "-1") else int(granted) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
