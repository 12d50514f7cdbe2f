"""`clipself models` says the truth for every name of open_clip's: what it says works is done, the rest is refused."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from open_clip.model import _build_vision_tower
from tests.support.detection import PACKAGED as DETECTORS
from tests.support.towers import TWINS, twin_clip

from clipself.backbones.loading import load_clip
from clipself.backbones.readouts import READOUTS
from clipself.backbones.text import make_vocabulary
from clipself.backbones.trunks import view_trunk
from clipself.cli.main import main
from clipself.detection.detectors.table import build_detector, make_settings
from clipself.distillation.methods import METHODS, build_method
from clipself.distillation.methods import make_settings as method_settings
from clipself.segmentation.segmenters import SEGMENTERS
from clipself.workflows.models import ModelRow, list_models, model_row


def read_without_weights(row: ModelRow) -> None:
    """A whole reading of a tower of full size, on no memory."""
    config = open_clip.get_model_config(row.name)
    assert config is not None
    config["vision_cfg"]["timm_model_pretrained"] = False
    with torch.device("meta"), torch.no_grad():
        trunk = view_trunk(_build_vision_tower(config["embed_dim"], config["vision_cfg"]))
        patch = trunk.patch_size
        taps = tuple(range(len(trunk.stages)))
        images = torch.empty(1, 3, 2 * patch, 3 * patch)
        read = trunk.read(images, taps=taps, dense=True, pooled=True, readout=READOUTS["value"])
    assert read.dense is not None
    assert read.pooled is not None
    assert (tuple(read.dense.shape), tuple(read.pooled.shape)) == ((1, row.embed_dim, 2, 3), (1, row.embed_dim))
    assert len(read.taps) == len(taps)


QUICK = [name for name in open_clip.list_models() if not name.startswith(("conv", "EVA", "Mobile", "PE", "ViTamin"))
         and "SigLIP" not in name and "siglip" not in name]  # fmt: skip
"""Names whose towers are built in hundredths of a second; of the others a twin of each family stands here."""


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(sorted({*QUICK, *TWINS, "clipself-mini"}), id="quick"),
        pytest.param([], id="all", marks=pytest.mark.slow),
    ],
)
def test_every_name_of_open_clip_works_or_is_refused_in_words(names: list[str]) -> None:
    rows = {row.name: row for row in list_models(names)}
    assert list(rows) == (names or ["clipself-mini", *open_clip.list_models()])
    refused = {name for name, row in rows.items() if not row.dense}
    assert refused == {"swin_base_patch4_window7_224", "vit_relpos_medium_patch16_cls_224", "coca_base"}
    for name in refused:
        with pytest.raises(ValueError, match=r".") as said:
            load_clip(name, "random")
        assert str(said.value) == rows[name].reason
    for row in rows.values():
        assert (row.pools_by == "class token") == ("catseg" in row.segment)
        if row.name in TWINS:
            assert row.pools_by == (TWINS[row.name].pools_by if row.dense else "")


@pytest.mark.slow
def test_every_tower_of_full_size_is_read() -> None:
    for row in list_models():
        if row.dense and row.name != "clipself-mini":
            read_without_weights(row)


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "PE-Core-B-16", "ViTamin-S", "convnext_tiny", "MobileCLIP2-S0"])
def test_a_tower_of_full_size_is_read(name: str) -> None:
    read_without_weights(model_row(name))


@pytest.mark.parametrize(
    "name", ["EVA01-g-14", "ViT-B-16-SigLIP", "PE-Core-B-16", "coca_ViT-B-32", "convnext_base", "MobileCLIP2-S3"]
)
def test_the_methods_that_are_named_can_be_built_and_no_others(name: str, tmp_path: Path) -> None:
    row, clip = model_row(name), twin_clip(name, tmp_path)
    vocabulary = make_vocabulary(clip, ("cat", "dog", "kite"), base=("cat", "dog"), templates="simple")
    for method in DETECTORS:
        taps = method in ("fvit", "fvlm", "vild", "baron", "detic") and not clip.trunk.is_pyramid
        settings = make_settings(method, **({"taps": (0, 1, 2, 3)} if taps else {}))
        if method in row.detect:
            build_detector(clip.copy(), settings, vocabulary)
        else:
            with pytest.raises(ValueError, match=r"class token that is the image embedding|causal text transformer"):
                build_detector(clip.copy(), settings, vocabulary)
    for method in METHODS:
        if method in row.distil:
            build_method(clip.copy(), method_settings(method))
        else:
            with pytest.raises(ValueError, match="class token that is the image embedding"):
                build_method(clip.copy(), method_settings(method))
    for method, kind in SEGMENTERS.items():
        if method not in row.segment:
            with pytest.raises(ValueError, match="class token that is the image embedding"):
                kind.build(clip.copy(), kind.settings(), crop=64)  # type: ignore[call-arg]


def test_the_command_prints_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "PE-Core-T", "vit_relpos", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["name"], first["pools_by"], first["patch_size"]) == ("PE-Core-T-16-384", "attention", 16)
    assert (second["dense"], second["distil"]) == (False, [])
    assert "VisionTransformerRelPos has no dense readout" in second["reason"]
    assert main(["models", "ViT-S-16", "swin_base"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["ViT-S-16", "class"]
    assert any(line.startswith("(1) SwinTransformer has no dense readout") for line in lines)
    assert main(["models", "nonsuch"]) == 2
    assert "no model's name holds 'nonsuch'" in capsys.readouterr().err
