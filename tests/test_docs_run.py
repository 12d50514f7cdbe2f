"""The blocks of README and docs run, in their order, on a few small pictures and the packaged model."""

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.support.pages import PAGES, ROOT, Block, blocks, commands
from tests.test_docs import command_of, known_flags

from clipself.cli.main import main
from clipself.data.photographs import PHOTOS
from clipself.data.scenes.export import write_scenes
from clipself.detection.recipes import detect_recipe

NOT_HERE = re.compile(r"published|openai|hf:|\.pth|\.pt\b|DATA|ADEChallengeData|recipe ov-|fcclip")
"""Blocks and commands that need weights or archives of others."""

SMALL = {
    "max-steps": "1",
    "batch-size": "1",
    "workers": "0",
    "device": "cpu",
    "limit": "2",
    "evaluate-limit": "2",
    "image-size": "96",
    "detector.image-size": "96",
    "detector.short-side": "96",
    "detector.longest-side": "128",
    "detector.short-sides": "96",
    "generator.image-size": "96",
    "judge.image-size": "96",
    "crop": "96",
    "shortest": "96",
    "window": "96",
    "stride": "96",
    "templates": "simple",
    "generator.templates": "simple",
    "judge.templates": "simple",
    "train": "16",
    "val": "3",
    "size": "96 96",
    "scenes": "3",
    "held-out": "2",
    "steps": "1",
}
"""What is put behind the options of a command that knows it."""

LIGHT = (
    "clipself.md", "data.md", "demo.md", "embedding.md", "labelling.md", "models.md", "pictures.md", "readouts.md",
    "reproduce.md", "scenes.md", "training.md", "weights.md",
)  # fmt: skip
"""Pages that take seconds. Of the others `tests/test_docs.py` reads every command and flag each time,
`tests/test_families.py` trains every method, and the Python of some is run here each time."""

CASES = [
    *(
        pytest.param(page, ("python",), id=f"{page.name}, Python")
        for page in (ROOT / "README.md", ROOT / "docs/examples.md")
    ),
    *(
        pytest.param(
            page, ("python", "", "sh", "bash"), id=page.name, marks=() if page.name in LIGHT else pytest.mark.slow
        )
        for page in PAGES
        if blocks(page)
    ),
]


def small(words: list[str]) -> list[str]:
    if "--resume" in words and "auto" not in words:  # all else is as the run was begun, which was small
        return [*words, "--max-steps", "2"]
    name = command_of(words)
    assert name is not None
    known = known_flags(name)
    if name == "embed" and "--annotations" not in words:
        known = known - {"image-size"}  # which is for boxes
    if name == "detect train":  # each detector has settings of its own
        own = fields(detect_recipe(words[words.index("--recipe") + 1] if "--recipe" in words else "small").detector)
        known = {f for f in known if "." not in f} | {f"detector.{each.name.replace('_', '-')}" for each in own}
    more = [part for flag, value in SMALL.items() if flag in known for part in (f"--{flag}", *value.split())]
    if "resume" in known and "--resume" not in words:
        more.append("--overwrite")
    return [*words, *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files by the names that the pages use."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "photos").mkdir()
    for name, source in zip("abc", PHOTOS.values(), strict=False):
        Image.open(source).resize((128, 96)).save(folder / f"photos/{name}.jpg")
    for name in ("street", "cat", "photo"):
        shutil.copy(folder / "photos/a.jpg", folder / f"{name}.jpg")
    for name, letter in (("my cup", "a"), ("fur", "b")):
        (folder / "examples" / name).mkdir(parents=True)
        shutil.copy(folder / f"photos/{letter}.jpg", folder / "examples" / name)
    write_scenes(folder / "scenes", train=16, val=3, size=(96, 96))
    labels = folder / "scenes/annotations"
    for half in ("train", "val"):
        shutil.copytree(folder / "scenes" / half, folder / half)
        shutil.copy(labels / f"instances_{half}.json", folder)
    shutil.copytree(folder / "val", folder / "pictures")
    shutil.copy(labels / "panoptic_val.json", folder / "panoptic.json")
    shutil.copytree(labels / "panoptic_val", folder / "panoptic")
    shutil.copy(folder / "scenes/novel.txt", folder)
    shutil.copytree(folder / "photos", folder / "coco/train2017")
    for name in ("cat", "umbrella"):
        shutil.copytree(folder / "photos", folder / "pictures_by_class" / name)
    (folder / "tests").symlink_to(ROOT / "tests")
    (folder / "src").symlink_to(ROOT / "src")
    (folder / "sam_masks.json").write_text(
        '[{"file_name": "cat.jpg", "segmentation": {"size": [96, 128], "counts": [0, 6144, 6144]}, "score": 0.9}]'
    )
    distill = ["distill", "--data", str(folder / "photos"), "--out", str(folder / "runs/mine")]
    assert main(small(distill)) == 0
    return folder


def runs_here(words: list[str]) -> bool:
    return words[0] == "help" or not NOT_HERE.search(" ".join(words))


def is_for_here(block: Block) -> bool:
    """Whether anything of a block runs without what others hold."""
    if block.language == "python":
        return not NOT_HERE.search("\n".join(line.split("#")[0] for line in block.text.splitlines()))
    return any(map(runs_here, commands(block)))


def run_shell(block: Block, names: dict[str, str]) -> int:
    ran = 0
    for words in commands(block, names):
        if runs_here(words):
            assert main(words if words[0] == "help" else small(words)) == 0, words
            ran += 1
    return ran


def run_python(block: Block, known: dict[str, Any]) -> int:
    if not is_for_here(block):
        return 0
    text = re.sub(
        r"(clipself\.distill\()",
        r'\1max_steps=1, batch_size=2, image_size=96, workers=0, device="cpu", ',
        block.text,
    )
    place = "\n" * (block.line - 1)  # so that a traceback names the line of the page
    exec(compile(place + text, block.page, "exec"), known)
    return 1


def test_a_training_that_goes_on_is_as_small_as_it_began() -> None:
    cora = ["detect", "train", "--recipe", "small-cora", "--out", "runs/a"]
    began = small(cora)
    assert {"--max-steps", "--detector.short-side", "--overwrite"} < set(began)
    assert "--detector.image-size" not in began
    resumed = ["detect", "train", "--out", "runs/a", "--resume"]
    assert small(resumed) == [*resumed, "--max-steps", "2"]
    assert set(small([*cora, "--resume", "auto"])) - {"--resume", "auto"} == set(began) - {"--overwrite"}


@pytest.mark.parametrize(("page", "languages"), CASES)
def test_blocks_of_a_page_run(
    page: Path, languages: tuple[str, ...], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    shutil.copytree(world, here, symlinks=True)
    monkeypatch.chdir(here)
    names: dict[str, str] = {}
    known: dict[str, Any] = {}
    chosen = [block for block in blocks(page) if block.language in languages]
    ran = sum(run_python(block, known) if block.language == "python" else run_shell(block, names) for block in chosen)
    assert bool(ran) == any(map(is_for_here, chosen))
