"""Benchmarks run as they are documented, at the smallest sizes: what nobody runs is soon of another version."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORDS = {
    "detection.py": ["--size", "64", "--batch", "1", "--steps", "1", "--memory-images", "2"],
    "distill_step.py": ["--models", "ViT-S-32-alt", "--sizes", "64", "--steps", "1"],
    "demo.py": ["--longest", "64", "--lists", "1"],
    "segmentation.py": ["--classes", "3"],
}
"""Benchmark -> the least that it can be asked for; the two that train are not among them."""


def run(name: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_a_benchmark_runs(name: str) -> None:
    assert any(char.isdigit() for char in run(name, *WORDS[name]))


@pytest.mark.slow
def test_every_benchmark_says_what_it_is_for() -> None:
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        assert "usage" in run(path.name, "--help")


@pytest.mark.slow
def test_names_by_example_are_scored_beside_words(tmp_path: Path) -> None:
    from clipself.data.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=60, val=2, size=(96, 96))
    printed = run("names_by_example.py", "--scenes", str(tmp_path / "scenes"), "--limit", "1", "--shots", "1")
    assert printed.count("| clipself-mini | ") == 1
    assert "| clipself-mini-detector AP50 |" in printed


@pytest.mark.slow
def test_the_table_of_detectors_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    from clipself.data.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=4, val=2, size=(96, 96))
    words = ["--scenes", str(tmp_path / "scenes"), "--out", str(tmp_path / "out"), "--only", "small", "--steps", "1"]
    first = run("detectors.py", *words)
    assert first.count("| small | raw |") == 2  # as it was filled, and in the table
    assert run("detectors.py", *words).splitlines()[-1] == first.splitlines()[-1]
