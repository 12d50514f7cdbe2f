"""Values of several blocks by gates: the formula, what changes nothing, and that they go wherever the model goes."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.support.families import FAMILIES, write_place
from tests.support.tiny import TINY, tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import blend_clips, save_clip
from clipself.backbones.gates import GATES_NAME, blend_gates, plain_gates, set_gates
from clipself.backbones.loading import load_clip
from clipself.backbones.transformer import TransformerTrunk
from clipself.cards import read_card
from clipself.workflows.weights import blend, convert


def images_of(clip: DenseCLIP) -> Tensor:
    size = (2 * clip.patch_size, 3 * clip.patch_size)
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


def some_gates(blocks: int, heads: int = 2) -> Tensor:
    return torch.randn(blocks, heads, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_map_is_the_sum_of_all_heads_of_all_blocks() -> None:
    """Spelled out on the stock tower's own weights, head by head."""
    clip, gates = tiny_openai_clip(3, layers=3), some_gates(2)
    images = images_of(clip)
    set_gates(clip, gates)
    visual: Any = clip.clip.visual
    patches = visual.conv1(images).flatten(2).mT
    trunk = clip.trunk
    assert isinstance(trunk, TransformerTrunk)
    tokens = torch.cat([visual.class_embedding.expand(2, 1, -1), patches], dim=1)
    tokens = visual.ln_pre(tokens + trunk.positions(visual.positional_embedding, (2, 3)))
    entered = []
    for block in visual.transformer.resblocks:
        entered.append(tokens)
        tokens = block(tokens)
    out = entered[-1] + visual.transformer.resblocks[-1].attn.out_proj.bias
    for row, place in enumerate((1, 2)):
        attention, block = visual.transformer.resblocks[place].attn, visual.transformer.resblocks[place]
        values = F.linear(block.ln_1(entered[place]), attention.in_proj_weight[128:], attention.in_proj_bias[128:])
        for head in range(2):
            part = slice(32 * head, 32 * head + 32)
            out = out + gates[row, head] * values[..., part] @ attention.out_proj.weight[:, part].T
    last = visual.transformer.resblocks[-1]
    out = visual.ln_post(out + last.mlp(last.ln_2(out))) @ visual.proj
    expected = F.normalize(out[:, 1:], dim=-1).mT.reshape(2, 32, 2, 3)
    torch.testing.assert_close(clip.dense_map(images), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(clip.dense_map(images, readout="maskclip"), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("make", [make for name, make in TINY.items() if "resnet" not in name])
def test_plain_gates_change_nothing_and_others_only_what_reads_values(make: Any) -> None:
    clip = make()
    if not isinstance(clip.trunk, TransformerTrunk) or clip.trunk.pools_by != "class token":
        pytest.skip("no blocks that end in a class token")
    trunk, images = clip.trunk, images_of(clip)
    before = {readout: clip.read(images, dense=True, pooled=True, readout=readout) for readout in ("value", "qq")}
    digests = [clip.weights_hash(part) for part in ("all", "image", "text")]
    set_gates(clip, plain_gates(trunk.depth, trunk.num_heads))
    torch.testing.assert_close(clip.dense_map(images), before["value"].dense, atol=1e-5, rtol=1e-5)
    set_gates(clip, some_gates(trunk.depth, trunk.num_heads))
    read = clip.read(images, dense=True, pooled=True)
    assert (read.dense - before["value"].dense).abs().max() > 0.01
    assert torch.equal(read.pooled, before["value"].pooled)
    assert torch.equal(clip.dense_map(images, readout="qq"), before["qq"].dense)
    gated = [clip.weights_hash(part) for part in ("all", "image", "text")]
    assert [one == two for one, two in zip(digests, gated, strict=True)] == [False, False, True]
    set_gates(clip, None)
    assert torch.equal(clip.dense_map(images), before["value"].dense)


@torch.no_grad()
def test_an_inner_norm_does_not_undo_the_gates() -> None:
    clip = tiny_eva_clip()
    images = images_of(clip)
    half = plain_gates(1, 2) / 2
    maps = {}
    for name, gates in (("whole", 2 * half), ("half", half)):
        set_gates(clip, gates)
        maps[name] = clip.dense_map(images)
    assert (maps["whole"] - maps["half"]).abs().max() > 1e-3


@torch.no_grad()
def test_they_go_with_copies_exports_conversions_and_blends(tmp_path: Path) -> None:
    original, gates = tiny_openai_clip(layers=3), some_gates(2)
    student = original.copy()
    set_gates(student, gates)
    images = images_of(student)
    expected = student.dense_map(images)
    assert torch.equal(student.copy().dense_map(images), expected)
    folder = save_clip(student, tmp_path / "student")
    assert read_card(folder / "model_card.json")["value_gates"] == [2, 2]
    loaded = load_clip(folder)
    assert torch.equal(loaded.dense_map(images), expected)
    assert loaded.weights_hash() == student.weights_hash()
    assert torch.equal(load_clip(convert(str(folder), out=tmp_path / "converted")).dense_map(images), expected)
    stock = open_clip.create_model(f"local-dir:{folder}")  # which knows no gates, and reads all else
    native = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stock.encode_image(native, normalize=True), student.encode_image(native))
    save_clip(original, tmp_path / "original")
    (half,) = blend(folder, out=tmp_path / "half", original=str(tmp_path / "original"), alphas=(0.5,))
    mixed = load_clip(half).gates
    assert mixed is not None
    torch.testing.assert_close(mixed, (gates + torch.tensor([[0.0, 0.0], [1.0, 1.0]])) / 2)
    for alpha, wanted in ((1.0, student), (0.0, original)):
        torch.testing.assert_close(blend_clips(student, original, alpha).dense_map(images), wanted.dense_map(images))
    save_clip(original, folder)  # over what was there
    assert not (folder / GATES_NAME).exists()
    assert load_clip(folder).gates is None


def test_gates_of_more_blocks_are_blended_with_those_of_fewer() -> None:
    mixed = blend_gates(torch.tensor([[4.0], [2.0]]), torch.tensor([[1.0], [8.0], [6.0]]), 0.25)
    assert mixed is not None
    assert mixed.tolist() == [[0.75], [7.0], [5.0]]
    assert blend_gates(None, None, 0.5) is None


def test_what_does_not_fit_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a readout of several blocks needs a trunk of transformer blocks"):
        set_gates(tiny_resnet_clip(), some_gates(1))
    for shape in ((3, 2), (2, 3), (0, 2)):
        with pytest.raises(ValueError, match="do not fit tiny-openai; expected a row for each of 1 to 2 last blocks"):
            set_gates(tiny_openai_clip(), torch.zeros(shape))
    folder = save_clip(tiny_openai_clip(), tmp_path / "model")
    for held, message in (
        ({"gates": torch.zeros(3, 2)}, "do not fit"),
        ({"doors": torch.zeros(2, 2)}, "holds doors, expected gates alone"),
        ({"gates": torch.full((2, 2), torch.nan)}, GATES_NAME),
    ):
        save_file(held, folder / GATES_NAME)
        with pytest.raises(ValueError, match=message):
            load_clip(folder)
    clip = tiny_openai_clip(layers=3)
    set_gates(clip, some_gates(2))
    with pytest.raises(ValueError, match=r"reads the values of its last 2 blocks .* read it without stitched windows"):
        clip.dense_map(torch.zeros(1, 3, 64, 64), readout="value:window=32,stitch=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes and a CLIP of four blocks with gates."""
    folder = write_place(tmp_path_factory.mktemp("gated"))
    clip = load_clip(folder / "clip")
    set_gates(clip, some_gates(4))
    save_clip(clip, folder / "clip")
    return folder


@pytest.mark.parametrize("name", ["catseg", "san", "fvit", "owl", "owl-dense", "rovit", "panoptic", "distill-patches"])
def test_what_stands_on_such_a_model_trains_and_is_found_again(
    name: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("CLIPSELF_CACHE", str(place / "cache"))
    out = tmp_path / "run"
    FAMILIES[name].train(out, max_steps=1)
    picture = place / "scenes/val/000000.jpg"
    read = FAMILIES[name].read(out, picture)
    assert bool(read.isfinite().all())
    if name == "distill-patches":
        assert load_clip(out / "student").gates is not None
        return
    held = (place / "clip" / GATES_NAME).read_bytes()
    (place / "clip" / GATES_NAME).unlink()
    try:
        with pytest.raises(ValueError, match="trained on another CLIP"):  # the gates are part of what it stands on
            FAMILIES[name].read(out, picture)
    finally:
        (place / "clip" / GATES_NAME).write_bytes(held)
