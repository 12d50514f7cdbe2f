"""Threads of torch's pool. OpenMP reads its settings when torch is loaded, so that they are chosen ahead of that."""

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says what share of the processor a container may use."""


def share_cores(environment: MutableMapping[str, str] = os.environ, *, cgroup: Path = CGROUP) -> None:
    """Asks OpenMP for a thread a core that this process may use, and for threads that sleep while they wait.

    Threads that spin for each other stand still where another process holds a core: a step of small kernels then takes
    several times as long. What the user or `torchrun` chose stays.

    Args:
        environment: Is changed.
        cgroup: Root of the control groups.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("OMP_NUM_THREADS", str(free_cores(cgroup)))


def free_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process may use: no more than its affinity and the quota of its container allow, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def _quota(cgroup: Path) -> float | None:
    """Processor time a container may use in a second; None where nothing limits it."""
    try:
        if (unified := cgroup / "cpu.max").exists():
            granted, period = unified.read_text().split()
        else:
            granted = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        return None if granted in ("max", "-1") else int(granted) / int(period)
    except (OSError, ValueError):
        return None
