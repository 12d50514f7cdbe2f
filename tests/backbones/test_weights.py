"""Weights in and out: strict, by published names, back in stock open_clip."""

import json
import logging
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones.export import blend_clips, save_clip, sweep_blends
from clipself.backbones.fast_init import unfilled
from clipself.backbones.layouts import from_official_eva, is_official_eva, to_official_eva
from clipself.backbones.loading import blank_clip, load_clip
from clipself.backbones.model_config import named_config
from clipself.backbones.strict import load_strictly
from clipself.backbones.weights import read_state_dict


def official_eva_state(clip_state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    official = to_official_eva(list(clip_state))
    state = {official[name]: tensor for name, tensor in clip_state.items()}
    state["visual.rope.freqs_cos"] = torch.zeros(16, 32)
    state["visual.blocks.0.attn.rope.freqs_sin_400"] = torch.zeros(16, 32)
    return state


@torch.no_grad()
def test_exported_folder_is_read_by_stock_open_clip(tmp_path: Path) -> None:
    clip = tiny_openai_clip()
    save_clip(clip, tmp_path / "m")
    stock = open_clip.create_model(f"local-dir:{tmp_path / 'm'}").eval()
    images, tokens = torch.randn(2, 3, 32, 32), clip.tokenizer(["a cat", "two dogs"])
    torch.testing.assert_close(
        stock.encode_image(images), clip.encode_image(images, normalize=False), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        stock.encode_text(tokens), clip.encode_text(["a cat", "two dogs"], normalize=False), atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_exported_folder_comes_back_whole(tmp_path: Path) -> None:
    clip = tiny_eva_clip()
    again = load_clip(save_clip(clip, tmp_path / "m", card={"recipe": "none"}))
    assert again.weights_hash() == clip.weights_hash()
    assert (again.name, again.identity, again.image_mean) == (clip.name, clip.identity, clip.image_mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_card_of_a_folder_in_half_precision_tells_what_is_read_back(dtype: torch.dtype, tmp_path: Path) -> None:
    clip = tiny_eva_clip()
    before = clip.weights_hash()
    folder = save_clip(clip, tmp_path / "m", dtype=dtype)
    told = json.loads((folder / "model_card.json").read_text())["weights_hash"]
    assert told == load_clip(folder).weights_hash() != before
    assert clip.weights_hash() == before


def test_official_eva_names_load_strictly() -> None:
    clip, blank = tiny_eva_clip(0), tiny_eva_clip(1)
    official = official_eva_state(clip.clip.state_dict())
    assert is_official_eva(official)
    assert "visual.blocks.0.mlp.w3.weight" in official
    assert load_strictly(blank.clip, official, source="release") == []
    assert blank.weights_hash() == clip.weights_hash()


def test_renaming_there_and_back_is_the_identity() -> None:
    own = {name: value for name, value in tiny_eva_clip().clip.state_dict().items() if name.startswith("visual.")}
    assert from_official_eva(official_eva_state(own)).keys() == own.keys()


def test_published_names_cover_the_whole_tower() -> None:
    names = [name for name, _ in tiny_eva_clip().clip.named_parameters() if name.startswith("visual.")]
    official = set(to_official_eva(names).values())
    assert len(official) == len(names)
    for name in ("cls_token", "pos_embed", "blocks.2.attn.q_bias", "blocks.0.attn.inner_attn_ln.bias", "head.bias"):
        assert f"visual.{name}" in official


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_an_openai_file_gets_its_activation(tmp_path: Path, suffix: str) -> None:
    config = named_config("ViT-B-16")
    assert not config.get("quick_gelu", False)
    blank = blank_clip("ViT-B-16")
    state = {name: tensor.contiguous() for name, tensor in blank.clip.state_dict().items()}
    state |= {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    path = tmp_path / f"openai.{suffix}"
    if suffix == "pt":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 6}, path)
    else:
        save_file(state, path)
    clip = load_clip("ViT-B-16", path)
    assert clip.model_cfg["quick_gelu"] is True
    assert clip.weights_hash() == blank.weights_hash()


def test_a_file_without_text_says_so_and_texts_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip, blank = tiny_openai_clip(0), tiny_openai_clip(1)
    visual = {name: value for name, value in clip.clip.state_dict().items() if name.startswith("visual.")}
    absent = load_strictly(blank.clip, visual, source="visual.pt")
    assert "positional_embedding" in absent
    assert blank.weights_hash("image") == clip.weights_hash("image")
    folder = save_clip(clip, tmp_path / "m")
    save_file(visual, folder / "open_clip_model.safetensors")
    with caplog.at_level(logging.WARNING, "clipself"):
        loaded = load_clip(folder)
    assert "holds no text tower" in caplog.text
    assert loaded.weights_hash() == load_clip(folder).weights_hash()  # a run on it can be resumed
    with pytest.raises(ValueError, match=r"held no text tower.*text_from="):
        loaded.encode_text(["a cat"])
    donor = save_clip(clip, tmp_path / "donor")
    assert load_clip(folder, text_from=donor).encode_text(["a cat"]).shape == (1, 32)


def misfits() -> list[object]:
    return [
        pytest.param(lambda s: s.pop("visual.proj"), r"1 missing: visual\.proj \(64, 32\)", id="missing"),
        pytest.param(
            lambda s: s.update({"head.weight": torch.zeros(3, 4)}),
            r"no place for: head\.weight \(3, 4\)\n.*ignore=",
            id="extra-head",
        ),
        pytest.param(
            lambda s: s.update({"visual.proj": torch.zeros(64, 16)}),
            r"another shape: visual\.proj \(64, 16\) for \(64, 32\)",
            id="shape",
        ),
    ]


@pytest.mark.parametrize(("spoil", "message"), misfits())
def test_misfits_are_named(spoil: object, message: str) -> None:
    clip = tiny_openai_clip()
    before = clip.weights_hash()
    state = dict(clip.clip.state_dict())
    spoil(state)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        load_strictly(clip.clip, state, source="file.pt")
    assert clip.weights_hash() == before


def test_extra_heads_may_be_named() -> None:
    clip = tiny_openai_clip()
    state = {**clip.clip.state_dict(), "head.weight": torch.zeros(3, 4)}
    assert load_strictly(clip.clip, state, source="file.pt", ignore=["head."]) == []


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never run",))


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": Code()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="pickled code, which is never run"):
        read_state_dict(tmp_path / "bad.pt")
    assert "must never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"not a checkpoint", "cannot be read as plain tensors", id="garbage"),
        pytest.param(b"", "is empty", id="empty"),
    ],
)
def test_damaged_files(tmp_path: Path, content: bytes, message: str) -> None:
    for suffix in ("pt", "safetensors"):
        path = tmp_path / f"bad.{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("model", "pretrained", "error", "message"),
    [
        pytest.param(
            "ViT-B-61", "openai", ValueError, "unknown model 'ViT-B-61'; the nearest names are .*ViT-B-16", id="name"
        ),
        pytest.param("ViT-B-16", None, ValueError, "needs weights: pass pretrained= one of .*openai", id="no-weights"),
        pytest.param("ViT-B-16", "opnai", ValueError, "neither a file nor a set of weights", id="tag"),
        pytest.param("/nowhere/at/all", None, FileNotFoundError, "no exported model at /nowhere/at/all", id="folder"),
    ],
)
def test_models_that_cannot_be_loaded(model: str, pretrained: str | None, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_clip(model, pretrained)


def test_a_folder_that_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no open_clip_config\.json"):
        load_clip(tmp_path)


@pytest.mark.parametrize(("alpha", "end"), [(0.0, "original"), (1.0, "student")])
def test_blend_ends_are_exact(alpha: float, end: str) -> None:
    models = {"student": tiny_openai_clip(1), "original": tiny_openai_clip(0)}
    models["student"].identity = models["original"].identity
    blended = blend_clips(models["student"], models["original"], alpha)
    assert blended.weights_hash() == models[end].weights_hash()


def test_blend_is_the_weighted_mean() -> None:
    student, original = tiny_openai_clip(1), tiny_openai_clip(0)
    student.identity = original.identity
    ((_, blended),) = sweep_blends(student, original, [0.7])
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    expected = 0.7 * student.clip.state_dict()[name] + 0.3 * original.clip.state_dict()[name]
    torch.testing.assert_close(blended.clip.state_dict()[name], expected)


def test_blends_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match=r"alpha=1.5 is not in \[0, 1\]"):
        blend_clips(tiny_openai_clip(), tiny_openai_clip(), 1.5)
    with pytest.raises(ValueError, match="not one architecture"):
        blend_clips(tiny_openai_clip(), tiny_eva_clip(), 0.5)
    with pytest.raises(ValueError, match="text tower comes from"):
        blend_clips(tiny_openai_clip(1), tiny_openai_clip(0), 0.5)


def test_unfilled_modules_leave_the_random_state_but_keep_their_constants() -> None:
    before = torch.get_rng_state()
    with unfilled():
        tower = torch.nn.TransformerEncoderLayer(16, 2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(tower.norm1.weight, torch.ones(16))
    assert torch.equal(tower.self_attn.out_proj.bias, torch.zeros(16))
    torch.nn.Linear(2, 2)
    assert not torch.equal(torch.get_rng_state(), before)


def test_a_truncated_normal_ends_whatever_the_memory_held() -> None:
    """It draws again until every number lies within the bounds."""
    weight = torch.full((5, 300), 1e9)
    with unfilled():
        torch.nn.init.trunc_normal_(weight)
        assert weight.abs().max() <= 2
        torch.nn.init.trunc_normal_(weight.fill_(1e9), mean=3.0, a=1.0, b=2.0)
        assert weight.min() >= 1
        assert weight.max() <= 2


def test_random_weights_are_those_of_the_seed() -> None:
    first, again, other = (load_clip("ViT-S-32", "random", seed=seed).weights_hash("image") for seed in (0, 0, 1))
    assert first == again != other
