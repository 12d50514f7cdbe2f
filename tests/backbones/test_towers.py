"""Every family of towers at a small size: the libraries' own embeddings, the dense map, out and in again."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from tests.support.towers import POOLED, STAGED, TWINS, twin_clip
from torch import Tensor

from clipself.backbones import DenseCLIP, load_clip, save_clip
from clipself.backbones.model_config import named_normalisation
from clipself.backbones.readouts import READOUTS
from clipself.backbones.transformer import TransformerTrunk

TEXTS = ["a photo of the dog .", "red kite", "a"]
CLOSE: dict[str, Any] = {"atol": 1e-5, "rtol": 1e-5}


def images_of(clip: DenseCLIP, rows: int, cols: int, *, batch: int = 2) -> Tensor:
    side = clip.patch_size
    return torch.randn(batch, 3, side * rows, side * cols, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TWINS)
@torch.no_grad()
def test_an_export_is_read_by_open_clip_and_says_the_same(name: str, tmp_path: Path) -> None:
    clip = twin_clip(name, tmp_path / "hub")
    images = torch.randn(2, 3, *clip.image_size)
    folder = save_clip(clip, tmp_path / "export")
    stock: Any = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False).eval()
    hub = clip.model_cfg["text_cfg"].get("hf_tokenizer_name")
    tokens = clip.tokenizer(TEXTS) if hub else open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    ours = (clip.encode_image(images, normalize=False), clip.encode_text(TEXTS, normalize=False))
    theirs = (stock.encode_image(images, normalize=False), stock.encode_text(tokens, normalize=False))
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=1e-5)
    assert ours[0].std(0).mean() > 1e-4  # two pictures differ
    back = load_clip(folder)
    assert back.weights_hash() == clip.weights_hash()
    assert torch.equal(back.encode_image(images), clip.encode_image(images))
    if clip.model_cfg["text_cfg"].get("hf_model_name"):
        assert (folder / "text_tower" / "config.json").is_file()
    if hub:  # the tokenizer's files lie in the export
        assert torch.equal(back.tokenizer(TEXTS), tokens)
    assert torch.equal(back.encode_text(TEXTS), clip.encode_text(TEXTS))


@pytest.mark.parametrize("name", TWINS)
@torch.no_grad()
def test_a_dense_map_of_any_grid_and_taps(name: str, tmp_path: Path) -> None:
    clip = twin_clip(name, tmp_path)
    assert (clip.trunk.native_grid, clip.trunk.pools_by) == (TWINS[name].grid, TWINS[name].pools_by)
    last, images = clip.num_taps - 1, images_of(clip, 2, 3)
    read = clip.read(images, taps=range(last + 1), dense=True, pooled=True, normalize=False)
    assert read.dense is not None
    assert read.dense.shape == (2, clip.embed_dim, 2, 3)
    for tap, stage in zip(read.taps, clip.trunk.stages, strict=True):
        assert tap.shape == (2, stage.width, 2 * clip.patch_size // stage.stride, 3 * clip.patch_size // stage.stride)
    torch.testing.assert_close(clip.trunk.read_tap(read.taps[last]), read.dense, atol=1e-4, rtol=1e-4)
    if name in STAGED or "SigLIP" in name or "bigG" in name:  # the last tap is all that is pooled
        torch.testing.assert_close(clip.trunk.pool_map(read.taps[last]), read.pooled, atol=1e-4, rtol=1e-4)
    for readout in READOUTS:
        try:
            found = clip.dense_map(images, readout=readout)
        except ValueError as error:
            assert "use 'value'" in str(error) or "looks further back" in str(error)  # noqa: PT017
        else:
            assert found.isfinite().all()


@pytest.mark.parametrize("name", [name for name in POOLED if name != "RN50"])  # which has positions in the pool
@torch.no_grad()
def test_the_pool_over_a_constant_map_is_the_dense_map(name: str, tmp_path: Path) -> None:
    clip = twin_clip(name, tmp_path)
    trunk = clip.trunk
    rows, cols = 3, 4
    column = torch.randn(2, trunk.width, 1, 1, generator=torch.Generator().manual_seed(0))
    constant = column.expand(-1, -1, rows, cols).contiguous()
    pooled, dense = trunk.pool_map(constant), trunk.read_tap(constant)
    assert pooled.std() > 0.01
    if name.startswith("MobileCLIP2-S"):  # its last convolution sees the border; what follows the mean is linear
        torch.testing.assert_close(dense.mean((2, 3)), pooled, atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(dense, pooled[:, :, None, None].expand_as(dense), **CLOSE)


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-gopt-16-SigLIP2-256", "PE-Core-B-16", "PE-Core-bigG-14-448"])
@torch.no_grad()
def test_a_patch_is_its_value_in_the_attention_pool(name: str, tmp_path: Path) -> None:
    clip = twin_clip(name, tmp_path)
    tower: Any = clip.clip.visual.trunk  # type: ignore[union-attr]
    images = torch.randn(1, 3, *clip.image_size)
    tokens = tower.forward_features(images)[0, tower.num_prefix_tokens :]
    pool, width = tower.attn_pool, tower.embed_dim
    dense = clip.dense_map(images, normalize=False)[0]
    for place in (0, 5):
        alone = tokens[place]
        value = pool.kv.weight[width:] @ alone + pool.kv.bias[width:]  # softmax over one key is 1
        out = pool.proj(value)
        out = out + pool.mlp(pool.norm(out))
        expected = tower.head(out)
        torch.testing.assert_close(dense[:, place // 4, place % 4], expected, **CLOSE)
        torch.testing.assert_close(tower.head(pool(alone[None, None]))[0], expected, **CLOSE)
    torch.testing.assert_close(clip.dense_map(images, readout="qk", normalize=False)[0], dense, **CLOSE)
    assert not torch.allclose(clip.dense_map(images, readout="kk", normalize=False)[0], dense, atol=1e-2)


@torch.no_grad()
def test_a_patch_is_its_value_in_cocas_pool(tmp_path: Path) -> None:
    clip = twin_clip("coca_ViT-B-32", tmp_path)
    tower: Any = clip.clip.visual
    images = torch.randn(1, 3, *clip.image_size)
    tokens = tower.transformer(tower._embeds(images))[0, 1:]
    dense = clip.dense_map(images, normalize=False)[0]
    for place in (0, 6):
        expected = tower.ln_post(tower.attn_pool(tokens[place][None, None])[0, 0]) @ tower.proj
        torch.testing.assert_close(dense[:, place // 4, place % 4], expected, **CLOSE)


@torch.no_grad()
def test_a_cell_of_a_convolutional_tower_is_a_picture_of_one_pixel(tmp_path: Path) -> None:
    clip = twin_clip("convnext_large_d", tmp_path)
    visual: Any = clip.clip.visual
    images = images_of(clip, 2, 3)
    last = visual.trunk.forward_features(images)
    dense = clip.dense_map(images, normalize=False)
    for y, x in ((0, 0), (1, 2)):
        cell = last[:, :, y : y + 1, x : x + 1]
        torch.testing.assert_close(dense[:, :, y, x], visual.head(visual.trunk.forward_head(cell)), **CLOSE)


@pytest.mark.parametrize("name", [name for name in TWINS if name not in STAGED])
@torch.no_grad()
def test_our_parts_of_a_block_make_up_the_stock_block(name: str, tmp_path: Path) -> None:
    clip = twin_clip(name, tmp_path)
    trunk = clip.trunk
    assert isinstance(trunk, TransformerTrunk)
    held = trunk.embed(images_of(clip, 3, 4))
    for block in trunk.blocks:
        normed = trunk.norm_attention(block, held.tokens)
        query, key = (trunk.rotate(trunk.project(block, normed, part), held) for part in "qk")
        shares = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        mixed = (shares @ trunk.project(block, normed, "v")).transpose(1, 2).flatten(2)
        tokens = held.tokens + trunk.merge_heads(block, mixed)
        tokens = tokens + trunk.feed_forward(block, tokens)
        stock = block(held.tokens) if held.rope is None else block(held.tokens, rope=held.rope)
        torch.testing.assert_close(tokens, stock, atol=1e-4, rtol=1e-4)
        held = held.with_tokens(tokens)


def test_pixels_are_normalised_as_the_releases_of_a_name_ask_for() -> None:
    assert load_clip("ViT-B-32", "random").image_mean == OPENAI_DATASET_MEAN
    assert named_normalisation("ViT-SO400M-14-SigLIP2") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert named_normalisation("MobileCLIP2-S0") == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert named_normalisation("MobileCLIP2-L-14") == (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


def test_what_is_not_at_hand_of_a_folders_text_side_is_named_and_nothing_is_fetched(tmp_path: Path) -> None:
    clip = twin_clip("nllb-clip-base-siglip", tmp_path / "hub")
    folder = save_clip(clip, tmp_path / "export")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    image_alone = load_clip(folder)
    assert image_alone.dense_map(torch.zeros(1, 3, 32, 32)).shape == (1, 64, 2, 2)
    with pytest.raises(ValueError, match=r"go through the tokenizer .* does not hold its files \(tokenizer.json"):
        image_alone.encode_text(TEXTS)
    (folder / "text_tower" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"text_tower does not hold its config.json; nothing is fetched for a folder"):
        load_clip(folder)


def test_code_of_a_folders_text_side_is_never_run(tmp_path: Path) -> None:
    folder = save_clip(twin_clip("nllb-clip-base", tmp_path / "hub"), tmp_path / "export")
    config = folder / "text_tower" / "config.json"
    held = json.loads(config.read_text())
    config.write_text(json.dumps({**held, "auto_map": {"AutoConfig": "code.Config"}}))
    with pytest.raises(ValueError, match="asks for code of its own, which is never run"):
        load_clip(folder)
    config.write_text(json.dumps(held))
    config = folder / "open_clip_config.json"
    edited = json.loads(config.read_text())
    edited["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    config.write_text(json.dumps(edited))
    with pytest.raises(ValueError, match=r"tokenizer_kwargs \['trust_remote_code'\] are none of clean, "):
        load_clip(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    clip = twin_clip("ViT-B-16-SigLIP", tmp_path)
    clip.tokenizer.embedded = 5
    with pytest.raises(ValueError, match="gives token 11 and the text tower embeds 5; it is another model's"):
        clip.encode_text(TEXTS)


def test_what_the_hub_does_not_give_is_a_fault_of_the_network_and_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*words: Any, **options: Any) -> Any:
        raise OSError("We couldn't connect")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", offline)
    for kind in (OSError, ValueError):
        with pytest.raises(kind, match=r"the configuration of the text tower .* could not be had from the hub"):
            load_clip("nllb-clip-base", "random")
