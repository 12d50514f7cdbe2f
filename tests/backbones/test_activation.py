"""QuickGELU is chosen by name, by the file, by the caller, and a doubt is told."""

import json
import logging
from pathlib import Path

import pytest
import torch

from clipself.backbones import clip_from_state_dict
from clipself.backbones.activation import decide_quick_gelu, hub_activation

PLAIN: dict[str, object] = {"embed_dim": 512}


def decide(source: str | Path, *, name: str = "ViT-B-16", given: bool | None = None, marker: bool = False) -> bool:
    state = {"input_resolution": torch.tensor(224)} if marker else {}
    return decide_quick_gelu(name, PLAIN, state, source=str(source), given=given)


def test_what_is_said_decides_and_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert decide("tuned.pt", given=True)
    assert not decide("openai.pt", given=False, marker=True)
    assert decide("tuned.pt", marker=True)
    assert decide_quick_gelu("ViT-B-16-quickgelu", {"quick_gelu": True}, {}, source="tuned.pt", given=None)
    assert not decide("tuned.pt", name="EVA02-B-16")  # there is no other one
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai_vitb16_coco_clipself_patches.pt", True),
        ("OpenAI-ViT.pt", True),
        ("tuned_from_openai.bin", True),
        ("notopenai.pt", False),
        ("openaix.pt", False),
        ("laion.pt", False),
    ],
)
def test_the_files_name_decides_or_the_doubt_is_told(
    name: str, expected: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "clipself"):
        assert decide(f"somewhere/{name}") == expected
    assert "QuickGELU" in caplog.text
    assert "ViT-B-16-quickgelu" in caplog.text
    assert ("does not say which activation" in caplog.text) != expected


@pytest.mark.parametrize(("stated", "expected"), [("quick_gelu", True), ("gelu", False)])
def test_a_configuration_of_transformers_beside_the_file_decides(
    stated: str, expected: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    side = {"hidden_act": stated}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clip", "vision_config": side, "text_config": side})
    )
    assert decide(tmp_path / "model.safetensors") == expected
    assert decide(tmp_path) == expected
    assert caplog.text == ""
    for held in ("{", "[]", '{"model_type": "clip"}', '{"model_type": "bert", "vision_config": 3}'):
        (tmp_path / "config.json").write_text(held)
        assert not decide(tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"hidden_act is .*relu"):
        hub_activation({"vision_config": {"hidden_act": "relu"}}, tmp_path, default="gelu")


@torch.no_grad()
def test_the_choice_changes_the_embeddings_and_stays_with_the_model(tmp_path: Path) -> None:
    from clipself.backbones import load_clip, save_clip

    state = load_clip("ViT-S-32-alt", "random").clip.state_dict()
    exact, quick = (
        clip_from_state_dict("ViT-S-32-alt", state, source="w.pt", quick_gelu=quick).eval() for quick in (False, True)
    )
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    assert (exact.encode_image(images) - quick.encode_image(images)).abs().max() > 1e-4
    again = load_clip(save_clip(quick, tmp_path / "m"))
    assert torch.equal(again.encode_image(images), quick.encode_image(images))
