"""What every training promises, on all of them: a row in tests/support/families.py is a training."""

import csv
import json
import os
import signal
from collections.abc import Container
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import copytree, move
from typing import Any

import pytest
import torch
from tests.support.evaluated import (
    NO_COMMAND,
    assert_the_command_says_the_same,
    labels_of,
    watched_detections,
    write_few_classes,
)
from tests.support.families import FAMILIES, Family, write_place
from tests.support.processes import in_processes, in_two_processes
from tests.support.tiny import tiny_openai_clip
from tests.support.training import act_at, kill
from torch import Tensor

from clipself.backbones.clip_reference import find_clip
from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.cli import main as cli
from clipself.engine import run
from clipself.engine.callbacks import Progress
from clipself.engine.log import read_metrics
from clipself.engine.run import train
from clipself.engine.stopping import Stopped

ONE_OF_EACH = ("distill-patches", "fvit", "catseg", "panoptic", "region-prompt", "pretrain")
"""Of each family's trainings one."""

ROUNDING = 2e-4
"""Farthest that a weight comes by another order of sums, which AdamW enlarges where a gradient is nearly zero: 1e-4 was
seen with two threads. Another batch takes it twenty times as far (4e-3 in four steps of ODISE)."""

VARIANTS = (
    "pretrain-rovit", "distill-keep", "distill-proposals", "distill-declip-guide", "odise-captions", "fvit-batch-norm",
    "fvit-masks", "owl-dense", "cfm", "rovit-plain", "detic-image-labels", "detic-captions", "fvit-image-labels",
    "detic-c4-image-labels", "detic-centernet-image-labels",
)  # fmt: skip
"""Trainings that differ from another row by settings alone: how a run is kept and read is that of the other."""


def rows(fast: Container[str] = FAMILIES) -> pytest.MarkDecorator:
    """A test for each training; those that are not fast are among the slow ones."""
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(
                name,
                marks=[
                    pytest.mark.skipif(
                        bool(family.needs) and find_spec(family.needs) is None,
                        reason=f"{family.needs} is not installed",
                    ),
                    *([] if name in fast else [pytest.mark.slow]),
                ],
            )
            for name, family in FAMILIES.items()
        ],
    )


families = rows()


def test_a_variant_is_a_training() -> None:
    assert set(VARIANTS) < FAMILIES.keys()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_place(tmp_path_factory.mktemp("families"))
    write_few_classes(folder)
    return folder


@pytest.fixture(autouse=True)
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("CLIPSELF_CACHE", str(world / "cache"))


@pytest.fixture(scope="module")
def whole(world: Path) -> dict[str, Path]:
    """Unbroken runs that several tests compare with, made when first asked for."""
    return {}


def unbroken(name: str, whole: dict[str, Path]) -> Path:
    if name not in whole:
        out = Path.cwd() / f"{name}-whole"
        FAMILIES[name].train(str(out))
        whole[name] = out
    return whole[name]


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(out)]


def farthest(family: Family, one: Path, two: Path) -> float:
    first, second = family.weights_of(one), family.weights_of(two)
    assert first.keys() == second.keys()
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


def break_run(name: str, out: Path, at: int, **options: Any) -> None:
    """Trains up to a step, and dies there."""

    with pytest.MonkeyPatch.context() as patch:
        act_at(patch, at, kill)
        with pytest.raises(SystemExit):
            FAMILIES[name].train(str(out), **options)


@families
def test_a_rerun_with_workers_that_is_evaluated_on_the_way_is_bit_equal(name: str, whole: dict[str, Path]) -> None:
    """The evaluation says what the command says of what was saved."""
    family, out, again = FAMILIES[name], unbroken(name, whole), Path.cwd() / f"{name}-again"
    inside = {f"evaluate_{key}": value for key, value in labels_of(family).items()}
    steps: list[Progress] = []
    evaluations: list[Progress] = []
    callbacks: dict[str, Any] = {"on_step": steps.append, "on_evaluate": evaluations.append}
    with watched_detections() as detections:
        # a path where the first run had text
        family.train(again, workers=2, evaluate_every=2, evaluate_limit=2, track=["csv"], **callbacks, **inside)
        if family.module not in NO_COMMAND:
            assert_the_command_says_the_same(family, again, limit=2, detections=detections)
    found = read_metrics(again, kind="evaluation")
    assert [record["step"] for record in found] == [2, 4]
    assert any(isinstance(value, float) for value in found[0].values())
    assert [seen.values["loss"] for seen in steps] == losses(again)
    assert len(evaluations) == 2
    for seen, record in zip(evaluations, found, strict=True):
        assert seen.values.keys() <= record.keys()
    with (again / "csv/train.csv").open(newline="") as stream:
        assert [float(row["loss"]) for row in csv.DictReader(stream)] == losses(again)
    # the model has trained as if nobody had looked
    assert losses(again) == losses(out)
    assert farthest(family, out, again) == 0.0


@families
def test_killed_and_resumed_by_the_folder_alone_equals_unbroken(
    name: str, whole: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, straight = Path.cwd() / f"{name}-broken", unbroken(name, whole)
    break_run(name, out, 3)
    monkeypatch.chdir(tmp_path)  # from anywhere
    FAMILIES[name].resume(out)
    assert losses(out) == losses(straight)
    assert farthest(FAMILIES[name], out, unbroken(name, whole)) == 0.0


def _train(name: str, out: str, options: dict[str, Any]) -> None:
    FAMILIES[name].train(out, **options)


def _break(name: str, out: str, options: dict[str, Any]) -> None:
    break_run(name, Path(out), 3, **options)


def _go(folder: str) -> None:
    os.chdir(folder)
    os.environ["CLIPSELF_CACHE"] = f"{folder}/cache"


def two_processes(name: str, world: Path) -> Path:
    """An unbroken run of two processes with half the batch each, made when it is first asked for."""
    out = world / f"{name}-two"
    in_two_processes(_go, str(world))
    if not (out / "result.json").exists():
        in_two_processes(_train, name, str(out), {"batch_size": 2})
    return out


@families
def test_two_processes_are_one_with_the_double_batch(name: str, whole: dict[str, Path], world: Path) -> None:
    two, one = two_processes(name, world), unbroken(name, whole)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    assert farthest(FAMILIES[name], one, two) < ROUNDING


@rows(fast=ONE_OF_EACH)
def test_killed_on_two_processes_it_goes_on_with_two_or_alone(name: str, world: Path) -> None:
    two, broken = two_processes(name, world), f"{world}/{name}-two-broken"
    in_two_processes(_break, name, broken, {"batch_size": 2})
    alone = Path(copytree(broken, f"{world}/{name}-two-then-one"))
    FAMILIES[name].resume(alone)
    assert losses(alone) == pytest.approx(losses(two), rel=1e-4)
    assert farthest(FAMILIES[name], alone, two) < ROUNDING
    in_two_processes(_train, name, broken, {"batch_size": 2, "resume": True})
    assert losses(Path(broken)) == losses(two)
    assert farthest(FAMILIES[name], two, Path(broken)) == 0.0


def _stop(name: str, out: str, options: dict[str, Any]) -> None:
    """One of them is told to stop, as schedulers do it."""

    def ask_one() -> None:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        act_at(patch, 1, ask_one)
        with pytest.raises(Stopped, match="after 2 steps"):
            FAMILIES[name].train(out, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distill-patches", "distill-proposals", "fvit", "catseg", "panoptic"])
def test_stopped_on_two_processes_it_goes_on_with_one_or_four(name: str, whole: dict[str, Path], world: Path) -> None:
    family, one, stopped = FAMILIES[name], unbroken(name, whole), f"{world}/{name}-stopped"
    for count in (2, 4):
        in_processes(count, _go, str(world))
    in_two_processes(_stop, name, stopped, {"batch_size": 2})
    four = copytree(stopped, f"{world}/{name}-on-with-four")
    family.resume(Path(stopped))
    in_processes(4, _train, name, four, {"batch_size": 2, "resume": True})
    for out in map(Path, (stopped, four)):
        assert losses(out) == pytest.approx(losses(one), rel=1e-4)
        far = farthest(family, out, one)
        print(f"{name}: {far:.1e}")
        assert far < (1e-5 if name == "fvit" else 1e-6)  # see "Processes" of docs/scale.md


@families
def test_it_says_whether_images_of_a_batch_learn_from_one_another(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[bool]()

    def tell(begun: Any, **given: Any) -> None:
        del begun
        said.append(given["whole"])
        stop()

    monkeypatch.setattr(run, "cut_again", tell)
    with pytest.raises(SystemExit):
        FAMILIES[name].train(tmp_path / "run")
    assert said == [FAMILIES[name].whole_batches]


def stop() -> None:
    raise SystemExit


@families
def test_accumulated_micro_batches_are_one_batch(name: str, whole: dict[str, Path]) -> None:
    if FAMILIES[name].whole_batches:
        pytest.skip("this loss looks at a micro-batch as a whole")
    out = Path.cwd() / f"{name}-accumulated"
    FAMILIES[name].train(out, batch_size=2, accumulate=2)
    assert losses(out) == pytest.approx(losses(unbroken(name, whole)), rel=1e-4)
    assert farthest(FAMILIES[name], out, unbroken(name, whole)) < ROUNDING


@families
def test_python_and_the_command_line_mean_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, taken = FAMILIES[name], []

    def take(task: Any, config: Any, **callbacks: Any) -> Any:
        assert set(callbacks.values()) == {None}
        taken.append(config)
        raise KeyboardInterrupt

    module = import_module(family.module)
    assert module.train is train
    monkeypatch.setattr(module, "train", take)
    with pytest.raises(KeyboardInterrupt):
        getattr(module, family.function)(out="run", recipe=family.recipe, **family.required)
    words = [word for key, value in family.required.items() for word in (f"--{key.replace('_', '-')}", value)]
    recipe = [] if family.recipe is None else ["--recipe", family.recipe]
    assert cli.main([*family.command.split(), "--out", "run", *words, *recipe]) == 130
    assert taken[0] == taken[1]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_two_processes_evaluate_to_the_very_numbers_of_one(name: str, world: Path) -> None:
    family = FAMILIES[name]
    labels = {"evaluate_annotations": family.labels[0], "evaluate_images": family.labels[1], "evaluate_every": 1}
    still = {"max_steps": 1, "lr": 1e-30, "weight_decay": 0.0, **labels}  # weights stay what they are
    one, two = f"{world}/{name}-scored-by-one", f"{world}/{name}-scored-by-two"
    family.train(one, **still)
    in_two_processes(_go, str(world))
    in_two_processes(_train, name, two, {**still, "batch_size": 2})
    found = [read_metrics(Path(out), kind="evaluation") for out in (one, two)]
    assert len(found[1]) == 1
    assert [str({**row, "time": 0}) for row in found[0]] == [str({**row, "time": 0}) for row in found[1]]


@families
def test_what_was_saved_is_read_from_elsewhere_and_after_a_move(
    name: str, whole: dict[str, Path], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, picture = FAMILIES[name], world / "scenes/val/000000.jpg"
    here: Tensor = family.read(unbroken(name, whole), picture)
    assert here.numel() > 0
    assert bool(here.isfinite().all())
    monkeypatch.chdir(tmp_path)
    assert torch.equal(family.read(unbroken(name, whole), picture), here)
    copytree(world / "clip", tmp_path / "moved" / "clip")  # both lie as they lay to each other
    copytree(unbroken(name, whole), tmp_path / "moved" / f"{name}-whole")
    move(tmp_path / "moved", tmp_path / "again")
    assert torch.equal(family.read(tmp_path / "again" / f"{name}-whole", picture), here)


@rows(fast=FAMILIES.keys() - set(VARIANTS))
def test_another_text_tower_is_found_again_after_a_callback_has_ended_the_run(
    name: str, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    donor = world / "donor"
    if not donor.exists():
        save_clip(tiny_openai_clip(7, layers=4), donor)
    out = world / f"{name}-donor"
    result = FAMILIES[name].train(str(out), text_from="donor", on_step=lambda seen: seen.stop())
    assert (result.steps, len(losses(out))) == (1, 1)
    monkeypatch.chdir(tmp_path)  # from anywhere
    cards = [(path.parent, json.loads(path.read_text())) for path in out.rglob("*.json")]
    heads = [(folder, card) for folder, card in cards if "clip_digest" in card]
    found = [find_clip(card, folder=at, digest=card["clip_digest"], part=card["clip_part"]) for at, card in heads]
    clips = found or [load_clip((out / file).parent, device="cpu") for file in FAMILIES[name].weights]
    text, own = (load_clip(one).encode_text(["a cat"]) for one in (donor, world / "clip"))
    assert not torch.allclose(text, own)
    for clip in clips:
        said = clip.encode_text(["a cat"])
        if FAMILIES[name].learns_text:
            assert (said - text).norm() < (said - own).norm()
        else:
            torch.testing.assert_close(said, text)
    assert bool(FAMILIES[name].read(out, world / "scenes/val/000000.jpg").isfinite().all())


@families
def test_what_is_passed_on_tells_no_folders_of_this_machine(name: str, whole: dict[str, Path], world: Path) -> None:
    out = unbroken(name, whole)
    kept = {"config.json", "result.json"}  # the records of the run, which goes on from them
    cards = [path for path in out.rglob("*.json") if path.name not in kept]
    assert cards
    for card in cards:
        assert str(world) not in card.read_text(), f"{card.relative_to(out)} names {world}"


@families
def test_no_setting_is_forgotten(name: str) -> None:
    """Misspelt names and other people's types are refused by every training."""
    with pytest.raises(ValueError, match=r"no setting max_step; did you mean max_steps\?"):
        FAMILIES[name].train("nowhere", max_step=3)
    with pytest.raises(ValueError, match="max_steps='3' is text, expected a whole number"):
        FAMILIES[name].train("nowhere", max_steps="3")
    with pytest.raises(ValueError, match="clip_norm=-1"):
        FAMILIES[name].train("nowhere", clip_norm=-1)
    assert not Path("nowhere").exists()
