"""Real processes that are killed at any moment, in saves and exports too, and go on."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.families import FAMILIES, write_place

from clipself.engine.log import read_metrics

CODE = "import sys; from tests.support.families import FAMILIES; FAMILIES[sys.argv[1]].train(sys.argv[2], {})"


def start(name: str, out: Path, more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    words = [sys.executable, "-c", CODE.format(f"max_steps=12, save_every=1{more}"), name, str(out)]
    with out.with_suffix(".err").open("w") as said:
        return subprocess.Popen(words, env=environment, stderr=said)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_killed_at_any_moment_it_goes_on_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_place(tmp_path))
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(name, whole, "").wait(120) == 0
    rng, kills = random.Random(name), 0
    for _ in range(40):
        begun = (broken / "config.json").exists()
        child = start(name, broken, ", resume=True" if begun else "")
        try:
            if kills < 6:
                while child.poll() is None and not (broken / "metrics.jsonl").exists():
                    time.sleep(0.02)
                time.sleep(rng.uniform(0, 0.4))
                child.send_signal(signal.SIGKILL)
                kills += 1
            code = child.wait(120)
        finally:
            child.kill()
        if code == 0:
            break
    assert code == 0, broken.with_suffix(".err").read_text()[-2000:]
    assert [r["loss"] for r in read_metrics(broken)] == [r["loss"] for r in read_metrics(whole)]
    family = FAMILIES[name]
    first, second = family.weights_of(whole), family.weights_of(broken)
    assert all(bool((first[key] == second[key]).all()) for key in first)
    assert list(broken.rglob(".*.part")) == []
