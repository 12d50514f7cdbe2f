"""The table of methods: one word chooses, in Python, on the command line and in a file; a toy is one file."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.support.distill import batch_of, learning, reached
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip
from tests.support.towers import TWINS, twin_clip
from tests.support.toys.distill import ToyMethod, ToySettings

from clipself.backbones.export import save_clip
from clipself.cards import read_card
from clipself.cli.read import read_words
from clipself.distillation import methods
from clipself.distillation.config import DistillConfig
from clipself.distillation.declip.settings import DeclipSettings
from clipself.distillation.denserc.settings import DensercSettings
from clipself.distillation.keep import KeepImages
from clipself.distillation.methods import METHODS, MethodType, make_settings
from clipself.distillation.recipes import RECIPES
from clipself.distillation.settings import ClipSelfSettings
from clipself.distillation.train import distill
from clipself.engine.log import read_metrics
from clipself.engine.resolve import resolve


@pytest.fixture(autouse=True)
def _one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "toy", MethodType(settings=ToySettings, build=ToyMethod, source="a test"))


def words(*more: str) -> DistillConfig:
    line = ["--data", "photos", "--out", "run", *more]
    return read_words(DistillConfig, line, command="distill", about="", recipes=RECIPES)


def keywords(**more: Any) -> DistillConfig:
    return resolve(DistillConfig, RECIPES, data="photos", out="run", **more)


def test_a_word_chooses_and_means_the_same_everywhere(tmp_path: Path) -> None:
    assert words().method == keywords().method == ClipSelfSettings()
    toy = keywords(method="toy")
    assert toy.method == ToySettings()
    assert words("--method", "toy") == words("--method=toy") == words("--method.method", "toy") == toy
    other = keywords(method={"method": "toy", "weight": 2.0})
    assert words("--method", "toy", "--method.weight", "2") == other
    assert keywords(method=ToySettings(weight=2.0)) == other
    kept = {"keep_image": toy.keep_image, "keep_crops": toy.keep_crops}  # of the recipe, which a file alone has not
    for held in ({"method": "toy"}, {"method": {"method": "toy", "weight": 0.5}}):
        file = tmp_path / "config.json"
        file.write_text(json.dumps({"data": "photos", "out": "run", **kept, **held}))
        assert resolve(DistillConfig, RECIPES, str(file)) == toy
        assert resolve(DistillConfig, RECIPES, str(file), method={"weight": 2.0}) == other
        assert words("--config", str(file), "--method.weight", "2") == other
    assert keywords(**{"recipe": "published", "method": "toy"}).image_size == 1024


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("clipselv", "unknown distillation method 'clipselv', expected one of .*did you mean 'clipself'"),
        ({"method": "toy", "wait": 1}, r"there is no setting method.wait; did you mean method.weight\?"),
        ({"method": "toy", "weight": -1.0}, "weight=-1.0 must be a number of at least 0"),
        (3, "expected MethodSettings"),
    ],
)
def test_what_is_no_method(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keywords(method=given)


def test_settings_are_read_back_from_what_they_wrote() -> None:
    for name in METHODS:
        made = make_settings(name)
        assert made.method == name
        assert make_settings(**made.to_json()) == made


def test_a_toy_method_trains_and_its_card_tells_it(tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(), tmp_path / "model")
    result = distill(
        data=draw_pictures(tmp_path / "pictures", 4), out=tmp_path / "run", model=str(model), image_size=64,
        max_steps=3, batch_size=4, workers=0, precision="fp32", max_regions=6, method={"method": "toy", "weight": 2.0},
    )  # fmt: skip
    assert set(read_metrics(result.out)[0]) >= {"distance", "alike", "kept"}
    card = read_card(result.student / "model_card.json")
    assert card["settings"]["method"] == {"method": "toy", "weight": 2.0}
    assert card["refined_by"] == "a test"
    assert distill(out=tmp_path / "run", resume=True, max_steps=4).steps == 4


def test_the_help_lists_all_of_them() -> None:
    (line,) = methods.list_methods()
    assert all(name in line for name in METHODS)


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.text is None])
def test_exactly_what_the_terms_read_learns_on_every_tower(name: str, tmp_path: Path) -> None:
    """Nothing idle is handed out, which two processes would wait for, and nothing that a term reads is left."""
    for settings in (ClipSelfSettings(), DeclipSettings(context="queries+keys"), DensercSettings()):
        clip = twin_clip(name, tmp_path)
        size, crop = (2 * clip.patch_size, 3 * clip.patch_size), clip.image_size[0]
        keep = KeepImages(clip, weight=1.0, crops=0.5)
        if TWINS[name].pools_by != "class token" and settings.method != "clipself":
            with pytest.raises(ValueError, match="needs a trunk of transformer blocks with a class token"):
                methods.build_method(clip, settings, keep=keep)
            continue
        method = methods.build_method(clip, settings, keep=keep)
        assert reached(method, batch_of((1, 2), size=size, crop=crop)) == learning(method)
