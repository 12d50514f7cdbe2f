"""Choices in settings are the rows of their tables."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.panoptic.judge import ClipJudge, open_judge
from clipself.panoptic.mixture import MIXTURES
from clipself.panoptic.report import ROW_TITLES
from clipself.panoptic.settings import JudgeSettings


def test_every_mixture_has_a_title() -> None:
    assert tuple(MIXTURES) == tuple(ROW_TITLES)


def test_the_judge_takes_all_its_settings_and_has_their_defaults() -> None:
    from inspect import signature

    taken = {name: one.default for name, one in signature(ClipJudge).parameters.items() if one.kind == one.KEYWORD_ONLY}
    assert taken == {one.name: one.default for one in fields(JudgeSettings)}


@pytest.mark.parametrize("wrong", [{"by": "mask"}, {"image_size": 0}, {"image_size": "640"}, {"readout": 3}])
def test_what_cannot_be_meant_is_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        JudgeSettings(**wrong)


def test_a_refined_model_is_read_as_it_was_refined(tmp_path: Path) -> None:
    save_clip(tiny_openai_clip(), tmp_path / "refined", card={"settings": {"readout": "qq"}})
    save_clip(tiny_openai_clip(), tmp_path / "plain")
    chosen = JudgeSettings(readout="kk")
    names = [open_judge(str(tmp_path / one)).readout for one in ("refined", "plain")]
    assert names == ["qq", "value"]
    assert open_judge(str(tmp_path / "refined"), settings=chosen).readout == "kk"
