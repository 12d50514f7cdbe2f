"""The built wheel, installed into an environment of its own, works from an empty folder: models and types inside."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNREACHABLE = ("No matching distribution", "Could not find a version", "ConnectionError", "No module named pip")


def run(words: list[str | Path], where: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees neither this repository nor its settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CLIPSELF"))}
    clean["CLIPSELF_CACHE"] = str(where / "cache")
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=where, env=clean, check=False)


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    built = run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT], tmp_path)
    if built.returncode and any(sign in built.stderr for sign in UNREACHABLE):
        pytest.skip("hatchling cannot be had here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("clipself-*.whl")
    made = run([sys.executable, "-m", "venv", tmp_path / "env"], tmp_path)
    assert made.returncode == 0, made.stderr
    python = tmp_path / "env/bin/python"
    (site,) = (tmp_path / "env/lib").glob("python*/site-packages")
    # What it depends on is taken from here; a line of a .pth is searched last and starts no .pth of its own.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    installed = run([python, "-m", "pip", "install", "--no-deps", "--no-index", wheel], tmp_path)
    assert installed.returncode == 0, installed.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    where = run([python, "-c", "import clipself; print(clipself.__file__)"], empty)
    assert Path(where.stdout.strip()).is_relative_to(site)
    assert (site / "clipself/py.typed").is_file()
    for words in (["--version"], ["env"], ["label", "--help"]):
        done = run([tmp_path / "env/bin/clipself", *words], empty)
        assert done.returncode == 0, done.stderr
    photos = site / "clipself/data/photos"
    done = run([tmp_path / "env/bin/clipself", "label", photos / "cat.jpg", "--names", "cat", "--formats", "yolo",
                "--threshold", "0", "--device", "cpu"], empty)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (empty / "labels/yolo/data.yaml").is_file()
