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
    assert free_cores(tmp_path, tmp_path / "nowhere") == (cores or affinity())


def affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("told", "folder", "limited"),
    [
        pytest.param("0::/user.slice/job.scope\n", "user.slice/job.scope", True, id="a group of its own"),
        pytest.param("0::/user.slice/job.scope\n", "user.slice", True, id="a group around it"),
        pytest.param("0::/user.slice/job.scope\n", "system.slice", False, id="a group of others"),
        pytest.param("0::/docker/4fa1\n", "", True, id="a container sees its group as the root"),
        pytest.param("0::/../../job\n", "job", False, id="outside of what is seen"),
        pytest.param("3:memory:/box\n2:cpu,cpuacct:/job\n", "cpu/job", True, id="older, one for each kind"),
        pytest.param("3:memory:/box\n2:cpuset:/job\n", "cpu/job", False, id="older, of another kind"),
        pytest.param("no groups\n", "job", False, id="not understood"),
    ],
)
def test_quotas_of_all_groups_around_a_process_count(told: str, folder: str, limited: bool, tmp_path: Path) -> None:
    group, groups = tmp_path / folder, tmp_path / "groups"
    group.mkdir(parents=True, exist_ok=True)
    groups.write_text(told)
    if folder.startswith("cpu"):
        (group / "cpu.cfs_quota_us").write_text("70000\n")
        (group / "cpu.cfs_period_us").write_text("100000\n")
    else:
        (group / "cpu.max").write_text("70000 100000\n")
    assert free_cores(tmp_path, groups) == (1 if limited else affinity())


def test_the_tightest_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    (tmp_path / "slice/job").mkdir(parents=True)
    (tmp_path / "groups").write_text("0::/slice/job\n")
    (tmp_path / "slice/cpu.max").write_text("250000 100000\n")
    (tmp_path / "slice/job/cpu.max").write_text("800000 100000\n")
    assert free_cores(tmp_path, tmp_path / "groups") == 3  # two and a half


@pytest.mark.parametrize(("said", "threads"), [("1", "16"), ("4", "4"), ("3", "5"), ("64", "1"), ("many", "16")])
def test_processes_of_a_launcher_share_the_cores(
    said: str, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    chosen = {"LOCAL_WORLD_SIZE": said}
    share_cores(chosen, cgroup=tmp_path, groups=tmp_path / "nowhere")
    assert chosen["OMP_NUM_THREADS"] == threads


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process to a core")
def test_a_pinned_process_has_a_thread_for_each_of_its_cores() -> None:
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, {{{core}}})\n"
        "from clipself.threads import share_cores; share_cores()\n"
        "import torch; from torch.utils.data import DataLoader\n"
        "def threads(items): return torch.get_num_threads()\n"
        "print(torch.get_num_threads(), *DataLoader([0], num_workers=1, collate_fn=threads))"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


def test_what_was_chosen_stays(tmp_path: Path) -> None:
    chosen = {"OMP_NUM_THREADS": "7"}
    share_cores(chosen, cgroup=tmp_path, groups=tmp_path / "nowhere")
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
