"""From keywords, files and recipes to one config."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.training import TOY_RECIPES, ToyConfig, ToySettings, small

from clipself.engine.resolve import read_config, recipe, resolve


def make(config: Any = None, /, **options: Any) -> ToyConfig:
    made: ToyConfig = resolve(ToyConfig, TOY_RECIPES, config, **options)
    return made


def test_bare_keywords_mean_the_first_recipe() -> None:
    assert make(data="a", out="b") == replace(small(), data=Path("a"), out=Path("b"))
    assert make(data="a", out="b", recipe="large").lr == 1e-3
    with pytest.raises(ValueError, match=r"unknown recipe 'larg'.*did you mean 'large'"):
        make(data="a", out="b", recipe="larg")


def test_values_are_made_to_fit_their_annotations() -> None:
    config = make(
        data="a", out=Path("b"), lists="one.json", betas=[0.5, 0.6], head={"names": "x"}, lr=1, max_steps=np.int64(7),
        model=Path("folder"), batch_size=2.0,
    )  # fmt: skip
    assert config.lists == (Path("one.json"),)
    assert config.betas == (0.5, 0.6)
    assert config.head == ToySettings(width=2, names=("x",))  # the recipe's width stays
    assert (config.lr, config.max_steps, config.model, config.batch_size) == (1.0, 7, "folder", 2)
    assert isinstance(config.lr, float)
    assert type(config.max_steps) is int
    assert make(data="a", out="b", lists=["x", Path("y")]).lists == (Path("x"), Path("y"))
    direct = ToyConfig(data="a", out="b")  # type: ignore[arg-type]
    assert (direct.data, direct.out) == (Path("a"), Path("b"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"max_step": 3}, "no setting max_step; did you mean max_steps?", id="misspelt"),
        pytest.param({"head": {"widht": 3}}, r"no setting head\.widht; did you mean head\.width?", id="nested"),
        pytest.param({"max_steps": "ten"}, "max_steps='ten' is text, expected a whole number", id="text-for-number"),
        pytest.param({"max_steps": 2.5}, "max_steps=2.5 is a fraction, expected a whole number", id="fraction"),
        pytest.param({"lr": "1e-3"}, "lr='1e-3' is text, expected a number", id="text-for-fraction"),
        pytest.param({"resume": "yes"}, "resume='yes' is text, expected True or False", id="flag"),
        pytest.param({"data": 3}, "data=3 is of type int, expected a path", id="path"),
        pytest.param({"data": ["a", "b"]}, "is a list, expected a path", id="list-for-path"),
        pytest.param({"betas": (0.5,)}, "holds 1 values, expected 2", id="pair"),
        pytest.param({"betas": 0.5}, "betas=0.5 is one value, expected 2", id="one-for-pair"),
        pytest.param({"schedule": "cosin"}, "schedule='cosin' is none of .*did you mean 'cosine'", id="choice"),
        pytest.param({"head": 3}, "head=3 is of type int, expected ToySettings", id="settings"),
        pytest.param({"model": 3}, "model=3 is of type int, expected text", id="text"),
        pytest.param({"kind": None}, "kind=None is None, expected text", id="none"),
    ],
)
def test_mistakes_are_sentences(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"data": "a", "out": "b", **options})


def test_what_every_run_needs_is_asked_for() -> None:
    with pytest.raises(ValueError, match="out=, data= must be given"):
        make()
    assert make(data=".", out="x").data == Path(".")  # not what stands for nothing


def test_a_length_in_epochs_takes_the_place_of_steps() -> None:
    assert make(data="a", out="b", epochs=2).max_steps is None
    assert make(data="a", out="b", epochs=2, max_steps=3).max_steps == 3
    assert recipe(TOY_RECIPES, "small", epochs=2).max_steps is None


def test_configs_as_objects_tables_and_files(tmp_path: Path) -> None:
    config = make(data="a", out="b", lr=0.3, head={"width": 9})
    assert make(config) == config
    assert make(config, lr=0.1) == replace(config, lr=0.1)
    path = tmp_path / "run.json"
    path.write_text(json.dumps(config.to_json()))
    assert make(path) == make(str(path)) == make(config.to_json()) == config
    assert make(path, head={"names": ["z"]}).head == ToySettings(width=9, names=("z",))
    (tmp_path / "run.yaml").write_text("data: a\nout: b\nlr: 0.3\nhead:\n  width: 9\n")
    assert make(tmp_path / "run.yaml").head.width == 9
    (tmp_path / "run.yaml").write_text("data: a\nout: b\nlr: 1e-4\n")  # text to YAML 1.1
    assert make(tmp_path / "run.yaml").lr == 1e-4
    for name, text in {"twice.yaml": "data: a\nlr: 0.1\nlr: 0.2\n", "twice.json": '{"lr": 0.1, "lr": 0.2}'}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(
            ValueError, match=rf"{name} cannot be read as settings: 'lr' is set twice; keep one of them"
        ):
            make(tmp_path / name)
    with pytest.raises(ValueError, match="choose one of them"):
        make(config, recipe="small")
    with pytest.raises(FileNotFoundError, match="no config file at"):
        make(tmp_path / "none.json")
    path.write_text("[1]")
    with pytest.raises(ValueError, match="holds no table of settings, but list"):
        make(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read as settings"):
        make(path)


def test_old_names_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"ToyConfig": {"folder": "data", "width": "head.width"}}
    monkeypatch.setattr("clipself.engine.resolve.FIELDS", table)
    with pytest.warns(FutureWarning) as told:
        config = make(folder="a", out="b", width=7, head={"names": ["y"]})
    assert config.data == Path("a")
    assert config.head == ToySettings(width=7, names=("y",))
    assert "folder of ToyConfig is now data" in str(told[0].message)


def test_a_config_file_in_another_encoding_is_read_or_named(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes('{"model": "häuser"}'.encode("utf-16"))
    assert read_config(path) == {"model": "häuser"}
    path.write_bytes('{"model": "häuser"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"run\.json is not UTF-8 text"):
        read_config(path)
