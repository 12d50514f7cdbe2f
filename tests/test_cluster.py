"""The recipes for schedulers, with stand-ins for what they call."""

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.pages import ROOT
from tests.test_docs import command_of, known_flags

FOLDER = ROOT / "examples" / "cluster"
SRUN = 'shift; export SLURM_PROCID=3 SLURM_LOCALID=1; exec "$@"'
SCONTROL = 'echo "scontrol $*" >> log; [ "$1" = show ] && printf "node1\\nnode2\\n" || true'
CLIPSELF = 'echo "rank $RANK $LOCAL_RANK of $WORLD_SIZE at $MASTER_ADDR:$MASTER_PORT" >> log; exit $CODE'


@pytest.mark.parametrize(("code", "ends", "again"), [(0, 0, False), (75, 0, True), (2, 2, False)])
def test_a_job_is_queued_again_where_it_was_asked_to_stop(tmp_path: Path, code: int, ends: int, again: bool) -> None:
    for name, script in {"srun": SRUN, "scontrol": SCONTROL, "clipself": CLIPSELF}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    given = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NTASKS": "16", "SLURM_JOB_ID": "40007", "CODE": str(code)}
    environment = {**os.environ, **given, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", FOLDER / "distill.sbatch"], cwd=tmp_path, env=environment, check=False)
    said = (tmp_path / "log").read_text().splitlines()
    assert done.returncode == ends
    assert said[1] == "rank 3 1 of 16 at node1:20007"
    assert ("scontrol requeue 40007" in said) == again


@pytest.mark.parametrize("name", ["distill.sbatch", "distill.sky.yaml"])
def test_the_command_of_a_recipe_is_one(name: str) -> None:
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    words = next(line for line in text.splitlines() if "--resume auto" in line).split("clipself ", 1)[1].split()
    command = command_of(words)
    assert command == "distill", words
    assert {word[2:] for word in words if word.startswith("--")} <= {*known_flags(command), "recipe"}
