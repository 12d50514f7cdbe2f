"""Files out of many trainers and libraries: read to the same weights, or refused by what is wrong with them."""

import argparse
import gzip
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tests.backbones.test_weights import official_eva_state
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip, tiny_resnet_clip
from torch import Tensor

from clipself.backbones import DenseCLIP, load_clip, read_state_dict
from clipself.backbones.strict import load_strictly
from clipself.data.images import read_image
from clipself.files import read_json

State = dict[str, Tensor]
TOWERS = {"openai": tiny_openai_clip, "eva": tiny_eva_clip, "resnet": tiny_resnet_clip}


def prefixed(state: State, before: str) -> State:
    return {f"{before}{name}": tensor for name, tensor in state.items()}


def compiled_blocks(state: State) -> State:
    """A tower of which one block was compiled in place."""
    return {name.replace("blocks.0.", "blocks.0._orig_mod."): tensor for name, tensor in state.items()}


def averaged(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


WRAPPERS: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "ddp": lambda s: {"epoch": 6, "state_dict": prefixed(s, "module.")},
    "ddp of compiled": lambda s: {"model": prefixed(s, "module._orig_mod.")},
    "compiled ddp twice": lambda s: prefixed(s, "_orig_mod.module.module."),
    "lightning": lambda s: {"state_dict": prefixed(s, "model."), "optimizer_states": [{"state": {}}], "epoch": 3},
    "lightning of clip": lambda s: {"state_dict": prefixed(s, "model.clip.") | {"model.x": torch.zeros(0)}},
    "student": lambda s: {"model_state_dict": prefixed(s, "student.")},
    "student and teacher": lambda s: prefixed(averaged(s), "teacher.") | prefixed(s, "student."),
    "nested": lambda s: {"model": {"state_dict": {"module": s}}, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
    "model and its average": lambda s: {"model": s, "model_ema": averaged(s)},
    "average alone": lambda s: {"state_dict_ema": s},
    "average of torch": lambda s: {"ema_model": prefixed(s, "module.") | {"n_averaged": torch.tensor(5)}},
    "three deep": lambda s: {"state": {"model": {"student": prefixed(s, "module.")}}},
    "a step that is a tensor": lambda s: {"step": torch.tensor(3), "model": prefixed(s, "module.")},
    "the generator's state": lambda s: {"rng_state": torch.get_rng_state(), "model": {"state_dict": s}, "epoch": 3},
    "embeddings of names": lambda s: {"state_dict": prefixed(s, "module."), "text_features": torch.zeros(8, 4)},
    "shadow": lambda s: {"ema": {"shadow": s, "decay": 0.9}},
    "one block compiled": compiled_blocks,
    "blocks checkpointed": lambda s: {
        name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module._checkpoint_wrapped_module."): tensor
        for name, tensor in s.items()
    },
    "frozen beside": lambda s: prefixed(averaged(s), "frozen_clip.") | prefixed(s, "clip."),
    "deep": lambda s: prefixed(s, "net.module.model.clip_model._orig_mod."),
}


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_gives_the_same_weights(tower: str, wrapper: str, tmp_path: Path) -> None:
    clip, blank = TOWERS[tower](0), TOWERS[tower](1)
    torch.save(WRAPPERS[wrapper](dict(clip.clip.state_dict())), tmp_path / "a.pt")
    ignore = ["model.x"] if wrapper == "lightning of clip" else []
    load_strictly(blank.clip, read_state_dict(tmp_path / "a.pt"), source="a.pt", ignore=ignore)
    assert blank.weights_hash() == clip.weights_hash()


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("before", ["visual.", "module.visual.", "", "student.clip.visual."])
def test_image_towers_alone(tower: str, before: str, tmp_path: Path) -> None:
    """With and without the name of the tower, as it is saved from `model.visual`; an EVA by its published names too."""
    clip = TOWERS[tower](0)
    state = {name: value for name, value in clip.clip.state_dict().items() if name.startswith("visual.")}
    for given in [state, official_eva_state(state)] if tower == "eva" else [state]:
        cut = "visual.trunk." if tower == "eva" and not before and given is state else "visual."
        blank = TOWERS[tower](1)
        torch.save({f"{before}{name.removeprefix(cut)}": value for name, value in given.items()
                    if before or name.startswith(cut)}, tmp_path / "a.pt")  # fmt: skip
        if tower == "eva" and before and given is state:
            continue  # "visual." + timm's names without "trunk." is nobody's layout
        assert load_strictly(blank.clip, read_state_dict(tmp_path / "a.pt"), source="a.pt")
        assert blank.weights_hash("image") == clip.weights_hash("image")


def test_what_was_left_out_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = tiny_openai_clip()
    state = dict(clip.clip.state_dict())
    with caplog.at_level(logging.INFO, "clipself"):
        load_strictly(clip.clip, prefixed(state, "student.") | prefixed(state, "teacher."), source="a.pt")
        assert "a.pt holds several models; 'student.' was taken, ['teacher.'] left" in caplog.text
        torch.save({"model": state, "ema": state}, tmp_path / "b.pt")
        read_state_dict(tmp_path / "b.pt")
    assert "b.pt holds ['model', 'ema']; the weights under 'model' are taken" in caplog.text


@pytest.mark.parametrize("part", ["lora_A", "lora_B.default.weight"])
def test_updates_that_were_not_merged_are_no_heads_to_leave_out(part: str) -> None:
    """By the names of loralib and of peft: without them the weights beside are those ahead of the training."""
    clip = tiny_openai_clip()
    state = dict(clip.clip.state_dict()) | {f"visual.transformer.resblocks.0.attn.{part}": torch.ones(2, 2)}
    with pytest.raises(
        ValueError, match=r"(?s)a\.pt does not fit.*holds low-rank updates \(LoRA\) .*; merge them"
    ) as said:
        load_strictly(clip.clip, state, source="a.pt")
    assert "ignore=" not in str(said.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_formats_are_brought_to_the_models(dtype: torch.dtype, tmp_path: Path) -> None:
    clip = tiny_openai_clip()
    halves = {name: tensor.to(dtype) for name, tensor in clip.clip.state_dict().items()}
    save_file(halves, tmp_path / "a.safetensors")
    load_strictly(clip.clip, read_state_dict(tmp_path / "a.safetensors"), source="a")
    own = clip.clip.state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in own.values() if tensor.is_floating_point())
    assert torch.equal(own["visual.proj"], halves["visual.proj"].float())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda s: s["visual.proj"].fill_(float("nan")), r"f\.pt: visual\.proj is not finite \(2048 of 2048"),
        (lambda s: s["text_projection"].view(-1)[:3].fill_(float("-inf")), r"text_projection is not finite \(3 of"),
        (lambda s: s.update({"visual.proj": s["visual.proj"].int()}), r"f\.pt: visual\.proj holds int32, .*float32"),
        (lambda s: s.update({"visual.proj": s["visual.proj"] > 0}), "visual.proj holds bool"),
    ],
)
def test_numbers_that_are_none_are_refused_by_name(spoil: Callable[[State], Any], said: str) -> None:
    clip = tiny_openai_clip()
    before, state = clip.weights_hash(), {name: value.clone() for name, value in clip.clip.state_dict().items()}
    spoil(state)
    with pytest.raises(ValueError, match=said):
        load_strictly(clip.clip, state, source="f.pt")
    assert clip.weights_hash() == before


def test_tensors_that_are_shapes_alone_are_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2), "v": torch.ones(2, device="meta")}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: v has a shape but no numbers .* where its weights are gathered"):
        read_state_dict(tmp_path / "a.pt")


def test_weights_that_are_all_nought_are_refused() -> None:
    clip = tiny_openai_clip()
    before = clip.weights_hash()
    with pytest.raises(ValueError, match=r"f\.pt: all numbers of its \d+ tensors are 0; save the model where"):
        load_strictly(clip.clip, averaged(clip.clip.state_dict()), source="f.pt")
    assert clip.weights_hash() == before


def test_plain_data_beside_the_weights_is_passed_over(tmp_path: Path) -> None:
    beside = {
        "scaler": {"scale": np.float64(65536.0)}, "best": np.float32(0.5), "step": np.int64(7), "ok": np.bool_(True),
        "args": argparse.Namespace(lr=1e-3, path="/a", out=Path("runs"), betas=(0.9, 0.98)),
        "curve": np.arange(3.0), "raw": np.uint64(2) ** np.arange(2), "begun": datetime.now(UTC),
        "took": timedelta(hours=2), "numpy": np.random.RandomState(0).get_state(), "names": np.array(["a", "b"]),
    }  # fmt: skip
    torch.save({"state_dict": {"w": torch.ones(2)}, **beside}, tmp_path / "a.pt")
    assert read_state_dict(tmp_path / "a.pt")["w"].tolist() == [1, 1]
    torch.save({"w": torch.ones(2)}, tmp_path / "b.pt", pickle_protocol=4)
    with pytest.raises(ValueError, match=r"b\.pt .* a pickle protocol that torch's safe reader does not know"):
        read_state_dict(tmp_path / "b.pt")


class Settings:
    """A class of somebody's trainer."""


@pytest.mark.parametrize("value", [Settings(), [Settings], {"a": Settings()}, np.array([Settings()], dtype=object)])
def test_what_is_not_plain_is_named_without_control_characters(value: object, tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "extra": value}, tmp_path / "a.pt")
    with pytest.raises(
        ValueError, match=r"a\.pt cannot be read as plain tensors: it holds [\w.]+, which is pickled"
    ) as fault:
        read_state_dict(tmp_path / "a.pt")
    assert str(fault.value).isprintable()
    assert "Settings" in str(fault.value) or not isinstance(value, Settings)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_is_told(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt .* is a TorchScript archive, whose code is never run"):
        read_state_dict(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (7, "holds a int, not a table of tensors"),
        ({}, "holds no tensors"),
        ({"w": np.ones(3)}, r"holds arrays of NumPy, no tensors; save torch.from_numpy\(...\) of each"),
        ({"epoch": 3, "best": 0.5}, r"holds no tensors; its first entries are \['best', 'epoch'\]"),
        ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "w is stored as torch.float8_e4m3fn"),
    ],
)
def test_files_without_weights(held: object, said: str, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=rf"a\.pt.* {said}"):
        read_state_dict(tmp_path / "a.pt")


def tiny_hub_model(folder: Path, **changes: Any) -> Any:
    """transformers' own CLIPModel with random weights, saved as the hub has it."""
    transformers = pytest.importorskip("transformers")
    text = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
            "max_position_embeddings": 16, "vocab_size": 49408}  # fmt: skip
    vision = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.CLIPConfig(
            text_config={**text, **changes}, vision_config={**vision, **changes}, projection_dim=32
        )
        model = transformers.CLIPModel(config).eval()
        for parameter in model.vision_model.parameters():
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim >= 2 else 0.3)
    model.save_pretrained(folder, max_shard_size="300KB" if folder.name == "shards" else "5GB")
    return model


@torch.no_grad()
def embeddings_of(model: Any, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    seen = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
    said = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    return torch.nn.functional.normalize(seen, dim=-1), torch.nn.functional.normalize(said, dim=-1)


@pytest.mark.parametrize(("name", "activation"), [("whole", "quick_gelu"), ("shards", "gelu")])
@torch.no_grad()
def test_a_hub_folder_computes_what_transformers_computes(name: str, activation: str, tmp_path: Path) -> None:
    model = tiny_hub_model(tmp_path / name, hidden_act=activation)
    clip = load_clip(tmp_path / name)
    images, tokens = torch.randn(2, 3, 32, 32), clip.tokenizer(["a cat", "two dogs"])
    seen, said = embeddings_of(model, images, tokens)
    torch.testing.assert_close(clip.encode_image(images), seen, atol=2e-5, rtol=0)
    torch.testing.assert_close(clip.encode_text(["a cat", "two dogs"]), said, atol=2e-5, rtol=0)
    assert (name == "shards") == (tmp_path / name / "model.safetensors.index.json").is_file()
    assert clip.model_cfg["quick_gelu"] == (activation == "quick_gelu")


def test_hub_weights_load_into_a_model_of_their_size(tmp_path: Path) -> None:
    tiny_hub_model(tmp_path / "hub")
    whole, clip = load_clip(tmp_path / "hub"), tiny_openai_clip(3)
    assert load_strictly(clip.clip, read_state_dict(tmp_path / "hub"), source="hub") == []
    assert clip.weights_hash() == whole.weights_hash()
    with pytest.raises(
        ValueError, match=r"does not fit:(.|\n)*the layout of transformers' CLIPModel, which was converted"
    ):
        load_strictly(tiny_openai_clip(layers=3).clip, read_state_dict(tmp_path / "hub"), source="hub")


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"model_type": "blip"},
            r"describes a 'blip' model of transformers; of those, CLIPModel, SiglipModel and TIPSv2",
        ),
        ({"model_type": "siglip"}, r"does not hold the names of transformers' SigLIP, which .*config\.json says it is"),
        ({"vision_config": {"hidden_act": "relu"}}, "hidden_act is .*relu.*; quick_gelu or gelu in both towers"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps is 1e-06"),
        ({"vision_config": {"num_attention_heads": "x"}}, "num_attention_heads is 'x'"),
        ({"vision_config": {"num_attention_heads": 7}}, "64 channels of vision_config do not divide among 7 heads"),
        ({"vision_config": {}}, "64 channels of vision_config do not divide among 12 heads; state its num_attention"),
    ],
)
def test_other_folders_of_the_hub_are_refused(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    tiny_hub_model(tmp_path / "hub")
    edit(tmp_path / "hub" / "config.json", **values)
    with pytest.raises(ValueError, match=said):
        load_clip(tmp_path / "hub")


@torch.no_grad()
def test_a_side_that_states_no_heads_has_those_of_transformers(tmp_path: Path) -> None:
    """12 and 8 whatever the width, where releases have one of each 64 channels."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        text_config={"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "vocab_size": 49408},
        vision_config={"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 1, "image_size": 32,
                       "patch_size": 16}, projection_dim=32,
    )  # fmt: skip
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    held = json.loads((tmp_path / "config.json").read_text())
    for side in ("text_config", "vision_config"):
        del held[side]["num_attention_heads"]
    (tmp_path / "config.json").write_text(json.dumps(held))
    clip, images = load_clip(tmp_path), torch.randn(2, 3, 32, 32)
    seen, said = embeddings_of(model, images, clip.tokenizer(["a cat"]))
    torch.testing.assert_close(clip.encode_image(images), seen, atol=2e-5, rtol=0)
    torch.testing.assert_close(clip.encode_text(["a cat"]), said, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "stated",
    [
        pytest.param({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, id="mean"),
        pytest.param({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 2 / 255}, id="of-two"),
        pytest.param({"do_normalize": False}, id="plain"),
    ],
)
@pytest.mark.parametrize("joint", [False, True], ids=["preprocessor", "processor"])
def test_pixels_are_normalised_as_transformers_does(stated: dict[str, Any], joint: bool, tmp_path: Path) -> None:
    """transformers 5 writes the preprocessing of a whole processor into another file."""
    transformers = pytest.importorskip("transformers")
    tiny_hub_model(tmp_path)
    processor = transformers.CLIPImageProcessor(do_resize=False, do_center_crop=False, **stated)
    name, held = ("processor_config.json", {"image_processor": processor.to_dict()}) if joint else ("", {})
    if joint:
        (tmp_path / name).write_text(json.dumps(held))
    else:
        processor.save_pretrained(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    wanted = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(load_clip(tmp_path).preprocess(picture), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "held", "said"),
    [
        ("adapter_config.json", "{}", "holds an adapter .* save the model after merge_and_unload"),
        ("tokenizer_config.json", '{"tokenizer_class": "BertTokenizer"}', "its tokenizer is a 'BertTokenizer', CLIP's"),
        ("merges.txt", "#version: 0.2\na b\nc d\n", r"merges\.txt is of another tokenizer than CLIP's own byte pairs"),
        ("preprocessor_config.json", '{"rescale_factor": 0}', "rescale_factor is 0, expected a number above 0"),
        ("processor_config.json", '{"image_processor": 3}', "image_processor is 3, expected a table"),
    ],
)
def test_what_lies_beside_a_model_of_the_hub_and_changes_it(file: str, held: str, said: str, tmp_path: Path) -> None:
    tiny_hub_model(tmp_path)
    (tmp_path / file).write_text(held)
    with pytest.raises(ValueError, match=said):
        load_clip(tmp_path)


def test_siglip_of_any_aspect_and_broken_indices_are_refused(tmp_path: Path) -> None:
    state = {
        "vision_model.head.probe": torch.zeros(1, 1, 8),
        "vision_model.embeddings.patch_embedding.weight": torch.zeros(8, 768),
    }
    with pytest.raises(ValueError, match=r"s\.pt cannot be read: it is a SigLIP 2 of any aspect \(NaFlex\)"):
        load_strictly(tiny_openai_clip().clip, state, source="s.pt")
    index = tmp_path / "model.safetensors.index.json"
    for held in ("[]", '{"weight_map": {}}', '{"weight_map": {"a": "../../x.safetensors"}}', '{"weight_map": {"a": 3}}',
                 '{"weight_map": {"a": "model.safetensors.index.json"}}', "{"):  # fmt: skip
        index.write_text(held)
        with pytest.raises(ValueError, match="is no index of a model in several files"):
            read_state_dict(tmp_path)
    index.write_text('{"weight_map": {"a": "gone.safetensors"}}')
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone\.safetensors"):
        read_state_dict(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no weights in .*; they are looked for as"):
        read_state_dict(tmp_path / "..")


def test_an_export_of_stock_open_clip_in_torchs_format_is_read(tmp_path: Path) -> None:
    from clipself.backbones import save_clip

    clip: DenseCLIP = tiny_openai_clip()
    save_clip(clip, tmp_path / "m")
    (tmp_path / "m" / "open_clip_model.safetensors").unlink()
    torch.save(clip.clip.state_dict(), tmp_path / "m" / "open_clip_pytorch_model.bin")
    assert load_clip(tmp_path / "m").weights_hash() == clip.weights_hash()


@pytest.mark.parametrize("beside", ["logit_bias", "attn_mask", "text.transformer.embeddings.position_ids"])
def test_what_is_computed_or_no_embedding_depends_on_is_passed_over(beside: str, tmp_path: Path) -> None:
    clip, other = tiny_openai_clip(0), tiny_openai_clip(1)
    torch.save({**clip.clip.state_dict(), beside: torch.zeros(1)}, tmp_path / "a.pt")
    assert load_strictly(other.clip, read_state_dict(tmp_path / "a.pt"), source="a") == []
    assert other.weights_hash() == clip.weights_hash()


def test_formats_are_told_by_what_a_file_begins_with(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "b.safetensors")
    for name in ("a.pt", "b.safetensors"):
        assert read_state_dict(tmp_path / name)["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "is a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>sign in</html>", "is a web page"),
        (b"", "is empty"),
    ],
)
def test_what_stands_in_place_of_a_file_is_told(content: bytes, said: str, tmp_path: Path) -> None:
    for name in ("a.pt", "a.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} {said}"):
            read_state_dict(tmp_path / name)
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.json {said}"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.jpg is not an image that can be read \(it {said}"):
        read_image(tmp_path / "a.jpg")


def test_compressed_labels_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(ValueError, match=r"a\.json is compressed by gzip; unpack it"):
        read_json(tmp_path / "a.json")
