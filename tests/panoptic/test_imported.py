"""A released FC-CLIP becomes a folder whose heads are the released ones, on the CLIP that lay in the file."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.tiny import TEXT_CFG, tiny_resnet_clip

from clipself.cli.main import main
from clipself.panoptic import imported
from clipself.panoptic.generators.own import build_mask_model, load_own_masks
from clipself.panoptic.settings import OwnMasksSettings

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


def test_a_convnext_is_refused_with_the_reason(tmp_path: Path) -> None:
    torch.save(released(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="ConvNeXt has no dense readout"):
        imported.import_fcclip(tmp_path / "a.pth", tmp_path / "o", model="convnext_base")
