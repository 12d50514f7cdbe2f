"""Benchmarks run as they are documented, at the smallest sizes: what nobody runs is soon of another version."""

import json
import math
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
WORDS = {
    "detection.py": ["--size", "64", "--batch", "1", "--steps", "1", "--memory-images", "2"],
    "detection_heads.py": ["--size", "64", "--times", "1", "--detectors", "small-vild"],
    "distill_step.py": ["--models", "ViT-S-32-alt", "--sizes", "64", "--steps", "1"],
    "demo.py": ["--longest", "64", "--lists", "1"],
    "segmentation.py": ["--classes", "3"],
    "shard_index.py": ["--names", "1000", "--each", "100"],
    "sizes.py": ["--images", "100", "--names", "3", "--sides", "64"],
    "threads.py": ["--times", "1", "--neighbours", "0"],
}
"""Benchmark -> the least that it can be asked for; the two that train are not among them."""


def run(name: str, *words: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / name), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", WORDS)
def test_a_benchmark_runs_and_writes_its_figures(name: str, tmp_path: Path) -> None:
    printed = run(name, *WORDS[name], "--json", str(tmp_path / "figures.json"))
    assert any(char.isdigit() for char in printed)
    held = json.loads((tmp_path / "figures.json").read_text())
    assert {"machine", "cpu", "commit", "versions", "threads", "gpu"} <= set(held)
    names = [(figure["name"], figure["dtype"]) for figure in held["figures"]]
    assert len(set(names)) == len(names) > 0
    assert all(
        math.isfinite(figure["value"]) and f"benchmarks/{name}" in figure["command"] for figure in held["figures"]
    )
    assert "--json" not in held["figures"][0]["command"]


def test_the_short_settings_of_all_are_words_that_each_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    short = runpy.run_path(str(ROOT / "benchmarks/bench.py"))["SHORT"]
    assert set(short["cpu"]) >= set(WORDS)
    for some in short.values():
        for name, words in some.items():
            source = (ROOT / "benchmarks" / name).read_text()
            assert all(f'"{word}"' in source for word in words if word.startswith("--")), name


def test_a_bar_in_a_name_makes_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    lines = runpy.run_path(str(ROOT / "benchmarks/bench.py"))["lines"]
    row = {"name": "Raw | refined", "dtype": "fp32", "value": 0.5, "unit": "s", "command": "demo"}
    assert list(lines([row]))[1] == r"| Raw \| refined | fp32 | 0.5 | s |"


def test_two_files_of_figures_are_held_side_by_side(tmp_path: Path) -> None:
    held: dict[str, Any] = dict.fromkeys(("machine", "cpu", "cores", "threads", "gpu", "versions"), "the same")
    row = {"script": "a.py", "name": "a step", "dtype": "fp32", "unit": "s"}
    files = []
    for commit, threads, rows in (
        ("one", 2, [{**row, "value": 4.0}, {**row, "name": "gone", "value": 1.0}]),
        ("two", 1, [{**row, "value": 3.0}, {**row, "name": "new", "value": 7.0}]),
    ):
        files.append(tmp_path / f"{commit}.json")
        files[-1].write_text(json.dumps({**held, "commit": commit, "threads": threads, "figures": rows}))
    printed = run("compare.py", *map(str, files)).splitlines()
    assert printed[0].startswith("not measured alike")
    assert "threads: 2 | 1" in printed[1]
    assert "| a.py | a step | fp32 | s | 4 | 3 | 0.750 |" in printed
    assert "| a.py | gone | fp32 | s | 1 |  |  |" in printed
    assert "| a.py | new | fp32 | s |  | 7 |  |" in printed
    assert run("compare.py", str(files[0]), str(files[0])).startswith("| benchmark |")


@pytest.mark.slow
def test_one_command_runs_them_and_names_those_that_fail(tmp_path: Path) -> None:
    printed = run("bench.py", "--only", "shard_index.py", "--out", str(tmp_path))
    (first, *_), table = (
        json.loads((tmp_path / "bench.json").read_text())["figures"],
        (tmp_path / "bench.md").read_text(),
    )
    assert first["script"] == "shard_index.py"
    assert first["name"] in table
    assert first["command"] in table
    assert "figures in" in printed


@pytest.mark.slow
def test_every_benchmark_says_what_it_is_for() -> None:
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        if path.name == "figures.py":  # what they share
            continue
        assert "usage" in run(path.name, "--help")


@pytest.mark.slow
def test_names_by_example_are_scored_beside_words(tmp_path: Path) -> None:
    from clipself.data.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=100, val=2, size=(96, 96))  # fewer do not show every thing
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
