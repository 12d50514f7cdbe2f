"""Heads beside the CLIP that they stand on: found from anywhere, strict, and every damage is a sentence."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.support.tiny import tiny_openai_clip
from torch import nn

from clipself.backbones import save_clip
from clipself.backbones.clip_reference import find_clip, name_clip
from clipself.backbones.head_folder import HeadKind, Heads, load_heads, read_head_card, save_heads

KIND = HeadKind(name="scorer", stem="scorer", written_by="`score train`", old_keys={"clip.hash": "clip_digest"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerSettings:
    width: int = 4
    depth: int = 2
    taps: tuple[int, int] = (0, 1)


def make(settings: ScorerSettings) -> nn.Module:
    return nn.Sequential(*(nn.Linear(settings.width, settings.width) for _ in range(settings.depth)))


def load(folder: str | Path, **options: Any) -> tuple[Heads, nn.Module]:
    heads = load_heads(folder, KIND, **options)
    settings = heads.settings(ScorerSettings)
    module = heads.build(lambda: make(settings))
    heads.fill(module)
    return heads, module


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with an exported CLIP and a folder for heads, and that folder is the working one."""
    save_clip(tiny_openai_clip(), tmp_path / "project" / "refined")
    (tmp_path / "project" / "runs" / "heads").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def saved(project: Path) -> Path:
    """Trained heads in runs/heads."""
    settings = ScorerSettings()
    save_heads(
        "runs/heads", KIND, make(settings).state_dict(), model="refined", settings=settings, names=["cat", "dog"],
        digest=tiny_openai_clip().weights_hash("image"), card={"steps": 3},
    )  # fmt: skip
    return project / "runs" / "heads"


def test_heads_come_back_equal(saved: Path) -> None:
    heads, module = load(saved)
    assert all(
        torch.equal(value, load_file(saved / "scorer.safetensors")[name]) for name, value in module.state_dict().items()
    )
    assert (heads.names(), heads.card["steps"]) == (("cat", "dog"), 3)
    assert heads.settings(ScorerSettings) == ScorerSettings()
    assert KIND.is_in(saved)


def test_a_relative_clip_is_found_from_anywhere_and_after_a_move(
    project: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given in ("refined", "./refined", "local-dir:refined", str(project / "refined")):
        named = name_clip(given, None, text_from=given, folder=Path("runs/heads"))
        assert named == {"model": "../../refined", "pretrained": None, "text_from": "../../refined"}
    monkeypatch.chdir(tmp_path)
    shutil.move(project, tmp_path / "moved")
    for folder in (Path("moved/runs/heads"), tmp_path / "moved" / "runs" / "heads"):
        assert load(folder)[0].clip.weights_hash() == tiny_openai_clip().weights_hash()


def test_heads_on_another_disk_behind_a_link_find_their_clip(project: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep" / "runs" / "heads").mkdir(parents=True)
    (project / "linked").symlink_to(tmp_path / "disk" / "deep" / "runs")
    folder, digest = Path("linked/heads"), tiny_openai_clip().weights_hash()
    assert find_clip(name_clip("refined", None, folder=folder), folder=folder, digest=digest).num_taps == 2


def test_another_text_tower_is_found_again(project: Path) -> None:
    save_clip(tiny_openai_clip(5), project / "donor")
    digest = tiny_openai_clip().weights_hash("image")
    folder = save_heads(
        "runs/heads", KIND, make(ScorerSettings()).state_dict(), model="refined", text_from="donor", digest=digest,
        settings=ScorerSettings(),
    )  # fmt: skip
    clip = load(folder)[0].clip
    assert clip.weights_hash("text") == tiny_openai_clip(5).weights_hash("text")
    assert clip.weights_hash("image") == digest


def test_names_and_tags_stay_as_they_are_and_files_are_paths(project: Path) -> None:
    folder = project / "runs" / "heads"
    assert name_clip("clipself-mini", None, folder=folder)["model"] == "clipself-mini"
    named = name_clip("ViT-B/16", "openai", folder=folder)
    assert named == {"model": "ViT-B/16", "pretrained": "openai", "text_from": None}
    (project / "weights.pt").touch()
    assert name_clip("ViT-B-16", "weights.pt", folder=folder)["pretrained"] == "../../weights.pt"
    with pytest.raises(ValueError, match="was trained on another CLIP than ViT-S"):  # found, though no folder is there
        find_clip({"model": "ViT-S/32", "pretrained": "random"}, folder=folder, digest="another")


def test_a_clip_that_is_gone_or_another_is_said(project: Path, saved: Path) -> None:
    folder, digest = project / "runs" / "heads", tiny_openai_clip().weights_hash()
    with pytest.raises(
        FileNotFoundError, match=r"the CLIP that .*heads stands on cannot be loaded: .*project/gone; put"
    ):
        find_clip({"model": "../../gone", "pretrained": None}, folder=folder, digest=digest)
    with pytest.raises(ValueError, match=f"was trained on another CLIP than .* expected {digest}"):
        find_clip({"model": "x", "pretrained": None}, folder=folder, digest=digest, clip=tiny_openai_clip(5))
    with pytest.raises(ValueError, match=r"heads stands on cannot be loaded: unknown model 'x'"):
        find_clip({"model": "x"}, folder=folder, digest=digest)
    with pytest.raises(FileNotFoundError, match=r"no scorer\.json with scorer\.safetensors .* `score train` writes"):
        load_heads(project, KIND)


def change_card(folder: Path, **values: Any) -> None:
    held = json.loads((folder / "scorer.json").read_text())
    (folder / "scorer.json").write_text(json.dumps({**held, **values}))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"settings": None}, r"scorer\.json: settings is None, expected the table"),
        ({"settings": {"width": 5}}, r"4 of another shape(.|\n)*its own settings in scorer\.json"),
        ({"settings": {"depth": 3}}, r"2 missing: 2\.bias \(4,\), 2\.weight"),
        ({"settings": {"depth": 10**6}}, r"scorer\.json: its settings make no scorer .*far more than the 4 tensors"),
        ({"settings": {"width": 10**6}}, r"scorer\.json: its settings make no scorer"),
        ({"settings": {"width": -1}}, r"scorer\.json: its settings make no scorer .*RuntimeError"),
        ({"names": "cat"}, r"scorer\.json: names is no list of names"),
        ({"names": ["cat", ""]}, "names is no list of names"),
        ({"names": ["cat", "cat"]}, "names has 2 names of which 1 differ"),
        ({"clip_digest": "x" * 16}, "was trained on another CLIP than"),
        ({"clip_digest": 3}, r"scorer\.json: clip_digest is 3, expected a name or a path"),
        ({"clip_part": "half"}, r"scorer\.json: clip_part is 'half', expected one of"),
        ({"model": None}, r"scorer\.json: model is None, expected a name or a path"),
        ({"pretrained": 7}, r"scorer\.json: pretrained is 7, expected a name or a path"),
        ({"model": "a\x00"}, "model is .*, expected a name or a path"),
        ({"model": "x" * 10**4}, r"scorer\.json: model is 'xx.*, expected a name or a path"),
        ({"model": "x" * 1000}, "stands on cannot be loaded: "),
        ({"kind": "detector"}, "is the card of a 'detector', expected a scorer"),
        ({"format": "other"}, "is no card of a scorer"),
    ],
)  # fmt: skip
def test_an_edited_card_is_said(saved: Path, values: dict[str, Any], said: str) -> None:
    change_card(saved, **values)
    with pytest.raises(ValueError, match=said):
        load(saved)[0].names()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def change_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def act(path: Path) -> None:
        state = load_file(path)
        change(state)
        save_file(state, path)

    return act


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, r"scorer\.safetensors cannot be read as plain tensors"),
        (lambda path: path.write_bytes(b""), r"scorer\.safetensors is empty"),
        (change_tensors(lambda s: s.pop("0.bias")), r"safetensors does not fit:\n  1 missing: 0\.bias"),
        (change_tensors(lambda s: s.update(more=torch.zeros(2))), r"1 that the model has no place for: more \(2,\)"),
        (change_tensors(lambda s: s["1.weight"].fill_(float("nan"))), r"1\.weight is not finite \(16 of"),
        (change_tensors(lambda s: s.update({"0.bias": s["0.bias"].int()})), "0.bias holds int32, .* are float32"),
    ],
)  # fmt: skip
def test_damaged_weights_are_said(saved: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(saved / "scorer.safetensors")
    with pytest.raises(ValueError, match=said):
        load(saved)


def test_weights_that_are_not_finite_are_not_written(project: Path) -> None:
    state = {**make(ScorerSettings()).state_dict(), "0.bias": torch.full((4,), float("inf"))}
    with pytest.raises(ValueError, match=r"scorer\.safetensors: 0\.bias is not finite \(4 of 4"):
        save_heads("runs/new", KIND, state, model="refined", digest="x", settings=ScorerSettings())
    assert not Path("runs/new/scorer.safetensors").exists()


def test_cards_of_earlier_versions_are_read(saved: Path) -> None:
    held = json.loads((saved / "scorer.json").read_text())
    old = {"format": "clipself scorer 1", "clip": {"hash": held["clip_digest"]}, "model": held["model"],
           "pretrained": None, "settings": held["settings"], "names": held["names"]}  # fmt: skip
    (saved / "scorer.json").write_text(json.dumps(old))
    assert load(saved)[0].names() == ("cat", "dog")
    assert "clip" not in read_head_card(saved, KIND)
    (saved / "scorer.json").write_text(json.dumps({**old, "clip": 3}))
    with pytest.raises(ValueError, match=r"scorer\.json: clip_digest is None, expected a name or a path"):
        load(saved)
