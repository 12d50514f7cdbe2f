"""The built wheel, installed into an environment of its own, works from an empty folder: models and types inside.

The source archive makes the same wheel.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

ROOT = Path(__file__).parents[1]
UNREACHABLE = ("No matching distribution", "Could not find a version", "ConnectionError", "No module named pip")


def run(words: list[str | Path], where: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees neither this repository nor its settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CLIPSELF"))}
    clean["CLIPSELF_CACHE"] = str(where / "cache")
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=where, env=clean, check=False)


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of a folder or an archive."""
    built = run([sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source], folder.parent)
    if built.returncode and any(sign in built.stderr for sign in UNREACHABLE):
        pytest.skip("hatchling cannot be had here")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("clipself-*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, int]:
    """Name -> checksum of every file of the package."""
    with ZipFile(wheel) as held:
        return {one.filename: one.CRC for one in held.infolist() if one.filename.startswith("clipself/")}


def page_of(source: str | None = None) -> str:
    """The long description that a build writes."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())
    known["project"]["urls"] = {} if source is None else {"Source": source}
    held: str = ProjectMetadata(str(ROOT), PluginManager(), known).core.readme
    return held


def test_the_page_of_an_index_shows_no_picture_by_an_address_of_the_clone() -> None:
    """As an index has it, nothing lies beside the page: a relative address leads nowhere."""
    relative = re.compile(r"\]\((?!https?://|#)")
    readme = (ROOT / "README.md").read_text()
    assert "![The page: what is alike" in readme
    assert relative.search(readme)
    alone = page_of()
    assert "*The page: what is alike to the patch below the pointer, original and refined*" in alone
    assert not relative.search(alone)
    known = page_of("https://example.org/us/clipself/")
    assert "](https://example.org/us/clipself/raw/HEAD/docs/images/demo.jpg)" in known
    assert "[docs](https://example.org/us/clipself/blob/HEAD/docs/demo.md)" in known
    assert not relative.search(known)
    code = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert code.findall(alone) == code.findall(known) == code.findall(readme)
    pictures = re.findall(r"/raw/HEAD/([^)]+)\)", known)
    assert len(pictures) == readme.count("![")
    assert all((ROOT / path.split("#")[0]).exists() for path in pictures + re.findall(r"/blob/HEAD/([^)]+)\)", known))


@pytest.mark.slow
def test_the_source_archive_makes_the_same_wheel(tmp_path: Path) -> None:
    made = run([sys.executable, "-m", "venv", tmp_path / "env"], tmp_path)
    assert made.returncode == 0, made.stderr
    python = tmp_path / "env/bin/python"
    installed = run([python, "-m", "pip", "install", "hatchling"], tmp_path)
    if installed.returncode and any(sign in installed.stderr for sign in UNREACHABLE):
        pytest.skip("hatchling cannot be had here")
    assert installed.returncode == 0, installed.stderr
    built = run([python, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path / "archive"], ROOT)
    assert built.returncode == 0, built.stderr
    (archive,) = (tmp_path / "archive").glob("clipself-*.tar.gz")
    assert archive.stat().st_size < 95e6  # a package index takes 100
    of_archive = contents(build_wheel(archive, tmp_path / "second"))
    assert of_archive == contents(build_wheel(ROOT, tmp_path / "first"))
    assert {"clipself/py.typed", "clipself/backbones/mini/MODEL_CARD.md"} <= set(of_archive)


@pytest.mark.slow
def test_the_wheel_works_from_an_empty_folder(tmp_path: Path) -> None:
    wheel = build_wheel(ROOT, tmp_path / "wheel")
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
    for words in (["--version"], ["env"], ["label", "--help"], ["completion", "bash"]):
        done = run([tmp_path / "env/bin/clipself", *words], empty)
        assert done.returncode == 0, done.stderr
    photos = site / "clipself/data/photos"
    done = run(
        [tmp_path / "env/bin/clipself", "detect", "predict", photos / "cat.jpg", "--names", "cat", "--device", "cpu"],
        empty,
    )
    assert done.returncode == 0, done.stderr  # the packaged detector
    done = run([tmp_path / "env/bin/clipself", "label", photos / "cat.jpg", "--names", "cat", "--formats", "yolo",
                "--threshold", "0", "--device", "cpu"], empty)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (empty / "labels/yolo/data.yaml").is_file()
    _check_types(python, empty)


def _check_types(python: Path, folder: Path) -> None:
    """What mypy says of a user's program: the package's types are found and are the right ones."""
    if find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    lines = ["import clipself", 'width: int = clipself.read_image("a.jpg").width']
    lines += [
        'found = clipself.Detector.from_checkpoint("d").predict("a.jpg", ["cat"])[0]',
        "scores: str = found.scores",
    ]
    (folder / "program.py").write_text("\n".join(lines) + "\n")
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-incremental",
        "--python-executable",
        python,
    ]
    said = run([*words, "program.py"], folder)
    errors = [line for line in said.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, said.stdout
    assert errors[0].startswith("program.py:4: error: Incompatible types in assignment")
    assert '"Tensor"' in errors[0]
