"""Threads by what a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipself.threads import free_cores, share_cores


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, None, id="no control groups"),
        pytest.param({"cpu.max": "max 100000\n"}, None, id="no quota"),
        pytest.param({"cpu.max": "50000 100000\n"}, 1, id="half a core"),
        pytest.param({"cpu.max": "strange\n"}, None, id="not understood"),
        pytest.param({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, id="older, none"),
        pytest.param({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1, id="older, one"),
    ],
)
def test_cores_of_a_container(files: dict[str, str], cores: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert free_cores(tmp_path) == (cores or affinity)


def test_what_was_chosen_stays(tmp_path: Path) -> None:
    chosen = {"OMP_NUM_THREADS": "7"}
    share_cores(chosen, cgroup=tmp_path)
    assert chosen == {"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "PASSIVE"}


def test_a_command_chooses_ahead_of_torch() -> None:
    """In a new process, whose torch then runs with it."""
    code = (
        "import sys; sys.argv = ['clipself', '--version']\n"
        "import clipself.cli.main as cli\n"
        "assert 'torch' not in sys.modules\n"
        "try: cli.run()\n"
        "except SystemExit: pass\n"
        "import os, torch; print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["PASSIVE", str(free_cores())]
