"""TIPSv2 beside transformers' own model: embeddings, dense map, the release's names, out and in again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.support.tips import write_tips
from torch import Tensor

from clipself.backbones import load_clip, save_clip
from clipself.backbones.mask_tokens import embed_mask_tokens
from clipself.backbones.tips_names import HEADS, from_tips

TEXTS = ["a photo of the dog", "red kite", "a"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


@pytest.mark.parametrize("swiglu", [False, True])
@torch.no_grad()
def test_embeddings_are_those_of_transformers(tmp_path: Path, swiglu: bool) -> None:
    model = write_tips(tmp_path, swiglu=swiglu)
    clip = load_clip(tmp_path)
    assert (clip.patch_size, clip.embed_dim, clip.image_size, clip.num_taps) == (16, 64, (64, 64), 4)
    for height, width in ((64, 64), (96, 32)):
        images = torch.rand(2, 3, height, width)
        theirs = model.get_image_features(pixel_values=images).pooler_output
        torch.testing.assert_close(clip.encode_image(images, normalize=False), theirs, **CLOSE)
    ids = clip.tokenizer(TEXTS)
    texts = model.get_text_features(input_ids=ids, attention_mask=(ids != 0).long()).pooler_output
    torch.testing.assert_close(clip.encode_text(TEXTS, normalize=False), texts, **CLOSE)
    assert float(clip.clip.state_dict()["logit_scale"].exp()) == pytest.approx(50.0)


@torch.no_grad()
def test_the_dense_map_takes_the_last_attention_by_values(tmp_path: Path) -> None:
    model = write_tips(tmp_path)
    clip, images = load_clip(tmp_path), torch.rand(2, 3, 64, 96)
    seen = model.vision_model(pixel_values=images, output_hidden_states=True)
    last = model.vision_model.encoder.layer[-1]
    expected = []
    for entered in seen.hidden_states[-2][:, 2:].flatten(0, 1):  # behind class token and register
        value = last.attention.o_proj(last.attention.v_proj(last.norm1(entered)))
        token = entered + last.layer_scale1.lambda1 * value
        token = token + last.layer_scale2.lambda1 * last.mlp(last.norm2(token))
        expected.append(model.vision_model.layernorm(token))
    dense = clip.dense_map(images, normalize=False)
    assert dense.shape == (2, 64, 4, 6)
    torch.testing.assert_close(dense.flatten(2).mT.flatten(0, 1), torch.stack(expected), atol=1e-4, rtol=1e-4)
    whole = clip.dense_map(images, readout="qk", normalize=False)
    stock = seen.last_hidden_state[:, 2:].mT.reshape(2, 64, 4, 6)
    torch.testing.assert_close(whole, stock, atol=1e-4, rtol=1e-4)


def as_released(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that the release has, told one by one."""
    renamed = dict[str, Tensor]()
    swaps = {
        "vision_model.embeddings.patch_embeddings.projection.": "vision_encoder.patch_embed.proj.",
        "vision_model.embeddings.position_embeddings": "vision_encoder.pos_embed",
        "vision_model.embeddings.": "vision_encoder.", "vision_model.layernorm.": "vision_encoder.norm.",
        "vision_model.encoder.layer.": "vision_encoder.blocks.", ".attention.o_proj.": ".attn.proj.",
        ".layer_scale1.lambda1": ".ls1.gamma", ".layer_scale2.lambda1": ".ls2.gamma", ".mlp.fc1.": ".mlp.c_fc.",
        ".mlp.fc2.": ".mlp.c_proj.", "text_model.embeddings.token_embedding.": "text_encoder.token_embedding.",
        "text_model.encoder.layers.": "text_encoder.transformer.resblocks.",
        "text_model.final_layer_norm.": "text_encoder.ln_final.", ".layer_norm1.": ".ln_1.", ".layer_norm2.": ".ln_2.",
        ".self_attn.out_proj.": ".attn.out_proj.",
    }  # fmt: skip
    for name, tensor in state.items():
        for theirs, ours in swaps.items():
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    for name in [name for name in renamed if ".q_proj." in name]:
        parts = [renamed.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        joined = name.replace(".attention.q_proj.", ".attn.qkv.").replace(".self_attn.q_proj.", ".attn.in_proj_")
        renamed[joined] = torch.cat(parts)
    del renamed["temperature"]
    return renamed


@torch.no_grad()
def test_the_release_s_own_folder_is_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_tips(tmp_path / "theirs")
    folder = tmp_path / "released"
    write_tips(folder)
    state = {name: tensor.clone() for name, tensor in as_released(dict(model.state_dict())).items()}
    assert {"vision_encoder.blocks.0.attn.qkv.weight", "text_encoder.transformer.resblocks.1.attn.in_proj_bias"} <= (
        state.keys()
    )
    save_file(state, folder / "model.safetensors")
    flat = {
        "model_type": "tipsv2", "patch_size": 16, "img_size": 64, "vision_fn": "vit_base", "ffn_layer": "mlp",
        "num_register_tokens": 1, "max_len": 16, "text_num_heads": 2, "temperature": 0.02,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(flat))
    with pytest.raises(ValueError, match="does not fit"):  # 64 channels in the 12 heads of a B
        load_clip(folder)
    monkeypatch.setitem(HEADS, "vit_base", 4)
    clip, images, ids = load_clip(folder), torch.rand(2, 3, 64, 64), torch.tensor([[1, 9, 2, 0, 0]])
    expected = model.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(clip.encode_image(images, normalize=False), expected, **CLOSE)
    text = model.get_text_features(input_ids=ids, attention_mask=(ids != 0).long()).pooler_output
    torch.testing.assert_close(clip.clip.encode_text(ids), text, **CLOSE)  # type: ignore[operator]
    assert float(clip.clip.state_dict()["logit_scale"].exp()) == pytest.approx(50.0)
    theirs, ours = from_tips(dict(model.state_dict())), from_tips(state)
    assert theirs.keys() - ours.keys() == {"logit_scale"}
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@torch.no_grad()
def test_an_export_is_read_again(tmp_path: Path) -> None:
    write_tips(tmp_path / "model")
    clip = load_clip(tmp_path / "model")
    assert clip.image_mean == (0.0, 0.0, 0.0)
    again = load_clip(save_clip(clip, tmp_path / "export"))
    assert again.weights_hash() == clip.weights_hash()
    assert (again.image_mean, again.image_std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert torch.equal(again.encode_text(TEXTS), clip.encode_text(TEXTS))
    images = torch.rand(1, 3, 32, 48)
    assert torch.equal(again.dense_map(images), clip.dense_map(images))


def test_what_knows_no_register_says_so(tmp_path: Path) -> None:
    write_tips(tmp_path)
    clip = load_clip(tmp_path)
    with pytest.raises(ValueError, match="registers"):
        embed_mask_tokens(clip, torch.rand(1, 3, 64, 64), torch.zeros(1, 2, 16, 16))
