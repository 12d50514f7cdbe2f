"""A model's folder with an edited configuration: a sentence with the file, nothing fetched, nothing huge built."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from tests.support.tiny import tiny_eva_clip, tiny_openai_clip

from clipself.backbones import load_clip, save_clip
from clipself.backbones.model_config import PACKAGED, build_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_clip(tiny_openai_clip(), tmp_path / "m")


def edit(folder: Path, path: str, value: Any, *, file: str = "open_clip_config.json") -> None:
    held = json.loads((folder / file).read_text())
    *tables, last = path.split(".")
    table = held
    for name in tables:
        table = table[name]
    table[last] = value
    (folder / file).write_text(json.dumps(held))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("model_cfg", None, r"config\.json: model_cfg is None, expected a table"),
        ("model_cfg.vision_cfg", [], r"config\.json: vision_cfg is \[\], expected a table"),
        ("model_cfg.text_cfg", "x", r"config\.json: text_cfg is 'x', expected a table"),
        ("model_cfg.embed_dim", 16, "does not fit"),
        ("model_cfg.embed_dim", "x", r"config\.json: embed_dim is 'x', expected a whole number above 0"),
        ("model_cfg.nonsense", 1, r"config\.json describes no CLIP that can be built .*TypeError"),
        ("model_cfg.vision_cfg.layers", 10**6, r"config\.json describes no CLIP .*far more than the \d+ tensors"),
        ("model_cfg.text_cfg.layers", 10**6, r"config\.json describes no CLIP .*far more than the \d+ tensors"),
        ("model_cfg.text_cfg.layers", 2, "does not fit"),
        ("model_cfg.vision_cfg.layers", 10**18, "layers is 1000000000000000000, far beyond any model"),
        ("model_cfg.vision_cfg.width", float("nan"), "width is nan, far beyond any model"),
        ("model_cfg.vision_cfg.width", -8, r"config\.json: width is -8, expected a whole number above 0"),
        ("model_cfg.text_cfg.heads", 0.5, r"config\.json: heads is 0.5, expected a whole number above 0"),
        ("model_cfg.text_cfg.heads", 7, r"config\.json describes no CLIP that can be built"),
        ("model_cfg.text_cfg.context_length", 10**5, "context_length is 100000, no text's length"),
        ("model_cfg.text_cfg.context_length", None, "context_length is None, expected a whole number above 0"),
        (
            "model_cfg.text_cfg.tokenizer_kwargs",
            {"bpe_path": "../../secret.gz"},
            "only the name of a file in",
        ),
        ("model_cfg.text_cfg.tokenizer_kwargs", {"bpe_path": "/etc/passwd"}, "only the name of a file in"),
        ("model_cfg.text_cfg.hf_model_name", "some/repository", "config.json; nothing is fetched for a folder"),
        ("preprocess_cfg", 3, "the preprocessing is 3, expected a table"),
        ("preprocess_cfg.mean", [0.5, 0.5], r"mean is \[0.5, 0.5\], expected three numbers"),
        ("preprocess_cfg.mean", ["a", 0, 0], "mean is .*, expected three numbers"),
        ("preprocess_cfg.mean", [123.7, 116.3, 103.5], "are not of pixels in \\[0, 1\\]; divide by 255"),
        ("preprocess_cfg.std", [0.5, 0, 0.5], "std is .*, expected numbers above 0"),
    ],
)
def test_an_edited_configuration_is_said(folder: Path, path: str, value: Any, said: str) -> None:
    edit(folder, path, value)
    with pytest.raises(ValueError, match=said):
        load_clip(folder)


@pytest.mark.parametrize("tower", ["hf_hub:timm/x", "hf-hub:timm/x", "local-dir:/tmp", "timm/x", 3, ["a"], ""])
def test_a_tower_from_elsewhere_is_never_fetched(tower: Any, tmp_path: Path) -> None:
    folder = save_clip(tiny_eva_clip(), tmp_path / "m")
    edit(folder, "model_cfg.vision_cfg.timm_model_name", tower)
    with pytest.raises(ValueError, match=r"timm_model_name is .*; only the plain name of one of timm's models"):
        load_clip(folder)


@pytest.mark.parametrize(("key", "value"), [("name", 3), ("image_tower", []), ("text_tower", {})])
def test_an_edited_card_is_said(folder: Path, key: str, value: Any) -> None:
    edit(folder, key, value, file="model_card.json")
    with pytest.raises(ValueError, match=rf"model_card\.json: {key} is .*, expected a text"):
        load_clip(folder)


@pytest.mark.parametrize("name", ["open_clip_config.json", "model_card.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"null", b"\xff\xfe"])
def test_files_that_are_no_tables_are_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        load_clip(folder)


def test_a_folder_without_weights_is_said(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds open_clip_config\.json but no open_clip_model\.safetensors"):
        load_clip(folder)


def test_byte_pairs_that_are_not_the_models_are_said(tmp_path: Path) -> None:
    folder = save_clip(load_clip("clipself-mini"), tmp_path / "m")
    whole = (folder / "merges.txt.gz").read_bytes()
    for spoiled in (whole[: len(whole) // 2], b"", whole[:200] + b"x" * 50 + whole[250:]):
        (folder / "merges.txt.gz").write_bytes(spoiled)
        with pytest.raises(
            ValueError, match=r"config\.json describes no CLIP .*(is no list of byte pairs|knows \d+ tokens)"
        ):
            load_clip(folder)
    edit(folder, "model_cfg.text_cfg.tokenizer_kwargs", None)
    with pytest.raises(ValueError, match="the tokenizer knows 49408 tokens and the text tower embeds 8514"):
        load_clip(folder)


def test_byte_pairs_are_read_once_and_lengths_are_each_models_own(tmp_path: Path) -> None:
    one = build_tokenizer({"context_length": 77}, folder=None)
    two = build_tokenizer({"context_length": 16}, folder=None)
    assert isinstance(one, SimpleTokenizer)
    assert isinstance(two, SimpleTokenizer)
    assert two.encoder is one.encoder
    assert (one(["a cat"]).shape, two(["a cat"]).shape) == ((1, 77), (1, 16))
    stock = SimpleTokenizer(context_length=16)
    assert two(["a cat", "two dogs"]).tolist() == stock(["a cat", "two dogs"]).tolist()
    whole = gzip.decompress((PACKAGED["clipself-mini"] / "merges.txt.gz").read_bytes())
    sizes = []
    for kept in (300, 200):  # a file that has changed is another
        (tmp_path / "m.gz").write_bytes(gzip.compress(b"\n".join(whole.split(b"\n")[:kept])))
        config = {"vocab_size": 512 + kept - 1 + 2, "tokenizer_kwargs": {"bpe_path": "m.gz"}}
        tokenizer = build_tokenizer(config, folder=tmp_path)
        assert isinstance(tokenizer, SimpleTokenizer)
        sizes.append(tokenizer.vocab_size)
    assert sizes == [813, 713]


STOCK = """
import os, sys, open_clip, torch
import clipself.backbones.mini_tower
for place, given in zip(sys.argv[1::2], sys.argv[2::2]):
    os.chdir(place)
    model = open_clip.create_model("local-dir:" + given).eval()
    tokenizer = open_clip.get_tokenizer("local-dir:" + given)
    with torch.no_grad():
        print("read", float(model.encode_text(tokenizer(["a cat", "two dogs"])).sum()),
              float(model.encode_image(torch.ones(1, 3, 160, 160)).sum()))
"""


@torch.no_grad()
def test_stock_open_clip_reads_an_export_of_the_packaged_model_from_anywhere(tmp_path: Path) -> None:
    clip = load_clip("clipself-mini")
    save_clip(clip, tmp_path / "project" / "runs" / "mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places = [elsewhere, "../project/runs/mine", tmp_path, tmp_path / "project" / "runs" / "mine"]
    run = subprocess.run(
        [sys.executable, "-c", STOCK, *map(str, places)], env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-500:]
    said = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("read ")]
    assert len(said) == 2
    for text, image in ([float(part) for part in parts] for parts in said):
        assert text == pytest.approx(float(clip.encode_text(["a cat", "two dogs"], normalize=False).sum()), abs=1e-3)
        expected = clip.encode_image(torch.ones(1, 3, 160, 160), normalize=False).sum()
        assert image == pytest.approx(float(expected), abs=1e-3)


def test_weights_beside_a_model_that_holds_its_own_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(tiny_openai_clip().clip.state_dict(), folder.parent / "tuned.pt")
    load_clip(folder, "openai")  # as recipes name it for the model that stood there before
    assert not caplog.records
    load_clip(folder, folder.parent / "tuned.pt")
    assert re.search(r"m holds its own weights; .*tuned\.pt is not used", caplog.text)
