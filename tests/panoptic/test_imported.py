"""A released FC-CLIP or ODISE becomes a folder whose weights are the released ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.diffusion import write_tiny_diffusion
from tests.support.panoptic import draw_world
from tests.support.tiny import TEXT_CFG, tiny_openai_clip, tiny_resnet_clip

from clipself.backbones.export import save_clip
from clipself.backbones.loading import load_clip
from clipself.cli.main import main
from clipself.cli.options import MasksImportOptions
from clipself.panoptic import imported
from clipself.panoptic.generators.own import build_mask_model, load_own_masks
from clipself.panoptic.settings import DiffusionSettings, OdiseSettings, OwnMasksSettings

SIZES = OwnMasksSettings(
    image_size=128, channels=32, pixel_layers=2, pixel_hidden=24, layers=3, hidden=16, queries=5, heads=8
)


def released(**more: Any) -> dict[str, Any]:
    clip = tiny_resnet_clip()
    model = build_mask_model(SIZES, clip)
    heads = {name.removeprefix("heads."): tensor for name, tensor in model.state_dict().items()}
    tower = {f"backbone.clip_model.{name}": tensor for name, tensor in clip.clip.state_dict().items()}
    return {"model": {**heads, **tower, "criterion.empty_weight": torch.ones(3), **more}, "trainer": {}}


@pytest.fixture
def tiny_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny ResNet under a name of open_clip's."""
    import open_clip

    vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": TEXT_CFG}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: config)


def test_heads_and_clip_come_back(tiny_name: None, tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "fcclip.pth")
    folder = imported.import_fcclip(tmp_path / "fcclip.pth", tmp_path / "out", names=["cat", "sky"], image_size=128)
    masks = load_own_masks(folder)
    assert masks.config == SIZES
    assert masks.clip.weights_hash() == tiny_resnet_clip().weights_hash()
    state = released()["model"]
    own = masks.model.state_dict()
    assert all(own[name].shape == state[name.removeprefix("heads.")].shape for name in own)
    assert masks.trained_names == ("cat", "sky")
    file = torch.load(tmp_path / "fcclip.pth", weights_only=True)["model"]
    assert all(torch.equal(own[name], file[name.removeprefix("heads.")]) for name in own)


def test_input_is_as_large_as_published_where_no_size_is_given(tiny_name: None, tmp_path: Path) -> None:
    """FC-CLIP: shortest side 800, longest at most 1333; a size that is given bounds the longest alone."""
    torch.save(released(), tmp_path / "fcclip.pth")
    assert main(["panoptic", "import", str(tmp_path / "fcclip.pth"), "--out", str(tmp_path / "out")]) == 0
    config = load_own_masks(tmp_path / "out").config
    assert (config.shortest, config.longest, config.image_size) == (800, 1333, 1024)


def test_other_files_are_refused(tiny_name: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(released(decoder=torch.zeros(1)), tmp_path / "a.pth")
    words = ["panoptic", "import", "--weights", str(tmp_path / "a.pth"), "--out", str(tmp_path / "o")]
    assert main(words) == 2
    assert "is no FC-CLIP checkpoint: it holds" in capsys.readouterr().err
    torch.save({"model": {"a": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="0 tensors of a CLIP, 0 of heads and 1 others"):
        imported.import_fcclip(tmp_path / "a.pth", tmp_path / "o")
    broken = released()
    del broken["model"]["sem_seg_head.predictor.query_feat.weight"]
    torch.save(broken, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth lacks sem_seg_head\.predictor\.query_feat\.weight"):
        imported.import_fcclip(tmp_path / "a.pth", tmp_path / "o")


def test_a_file_of_another_tower_is_refused(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth does not fit:\n  \d+ of another shape"):
        imported.import_fcclip(tmp_path / "a.pth", tmp_path / "o", model="convnext_base")


def released_odise(place: Path, supervision: str) -> dict[str, Any]:
    """What a release of ODISE holds, at toy size: all that learns, and parts that may ride along."""
    save_clip(tiny_openai_clip(), place / "clip")
    model = str(write_tiny_diffusion(place / "diffusion"))
    sizes = OdiseSettings(
        channels=32, pixel_layers=2, pixel_hidden=24, layers=3, hidden=16, queries=5, heads=8,
        features=f"diffusion:{model}", diffusion=DiffusionSettings(projection=128),
        supervision="label" if supervision == "label" else "caption",
    )  # fmt: skip
    torch.manual_seed(3)
    built = build_mask_model(sizes, load_clip(place / "clip"))
    state = {name.removeprefix("pyramid.").removeprefix("heads."): value for name, value in built.state_dict().items()}
    riding = {"criterion.empty_weight": torch.ones(3), "backbone.feature_extractor.ldm_extractor.ldm.x": torch.ones(1)}
    return {"model": {**state, **riding}}


@pytest.mark.parametrize("supervision", ["label", "caption"])
def test_odise_comes_back_on_the_frozen_parts_that_are_named(supervision: str, tmp_path: Path) -> None:
    file = released_odise(tmp_path, supervision)
    torch.save(file, tmp_path / "odise.pth")
    words = [
        "panoptic", "import", str(tmp_path / "odise.pth"), "--as", "odise", "--model", str(tmp_path / "clip"),
        "--diffusion", str(tmp_path / "diffusion"), "--out", str(tmp_path / "out"), "--image-size", "128",
    ]  # fmt: skip
    assert main(words) == 0
    masks = load_own_masks(tmp_path / "out")
    config: Any = masks.config
    assert (config.supervision, config.diffusion.projection, config.shortest) == (supervision, 128, 128)
    assert (config.layers, config.pixel_layers, config.queries) == (3, 2, 5)
    assert len(masks.trained_names) == 133
    own = masks.model.state_dict()
    for name, tensor in own.items():
        assert torch.equal(tensor, file["model"][name.removeprefix("pyramid.").removeprefix("heads.")]), name
    found = masks(draw_world(0)[0], file="", names=["red box", "sky"])
    assert found.logits_QK is not None
    assert (found.masks_QYX.shape, found.logits_QK.shape) == ((5, 32, 48), (5, 2))


def test_files_that_are_no_odise_are_refused(tmp_path: Path) -> None:
    file = released_odise(tmp_path, "label")
    named: dict[str, Any] = {"model": str(tmp_path / "clip"), "diffusion": str(tmp_path / "diffusion")}
    torch.save({"model": {**file["model"], "decoder.x": torch.ones(1)}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"is no ODISE checkpoint: .* 1 heads of names \(expected one\) and 1 others"):
        imported.import_odise(tmp_path / "a.pth", tmp_path / "o", **named)
    less = {name: value for name, value in file["model"].items() if not name.endswith("clip_project.linear.bias")}
    torch.save({"model": less}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"name the diffusion model and the CLIP that it was trained on"):
        imported.import_odise(tmp_path / "a.pth", tmp_path / "o", **named)
    with pytest.raises(ValueError, match="a released FC-CLIP holds its own CLIP and no diffusion model"):
        MasksImportOptions(weights=tmp_path / "a.pth", out=tmp_path, diffusion="x")
