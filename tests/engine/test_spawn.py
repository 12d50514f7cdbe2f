"""Workers of platforms that do not fork, which begin with nothing but the script: the same run, to the last bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.support.families import FAMILIES, write_place

SCRIPT = """
import multiprocessing
from pathlib import Path

from tests.support.families import FAMILIES

print("read", __name__, flush=True)
if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    annotations, images = FAMILIES[{name!r}].labels
    inside = {{"evaluate_every": 1, "evaluate_annotations": annotations, "evaluate_images": images}}
    FAMILIES[{name!r}].train("spawned", max_steps=2, workers=1, **inside)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fvit", "region-prompt"])
def test_a_training_whose_workers_are_spawned(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_place(tmp_path)
    monkeypatch.chdir(tmp_path)
    FAMILIES[name].train("forked", max_steps=2)
    (tmp_path / "script.py").write_text(SCRIPT.format(name=name))
    roots = [str(Path(__file__).parents[2]), *sys.path]
    run = subprocess.run(
        [sys.executable, "script.py"], env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)}, capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert "read __mp_main__" in run.stdout  # a worker began anew
    forked, spawned = (FAMILIES[name].weights_of(Path(out)) for out in ("forked", "spawned"))
    assert forked.keys() == spawned.keys()
    assert all(torch.equal(forked[key], spawned[key]) for key in forked)
