"""Region classification: a hand-worked picture, and embeddings of names with their cache."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.dense_clip import DenseCLIP
from clipself.backbones.export import save_clip
from clipself.data.coco.report import drawn_scenes
from clipself.data.labelled import LabelledImage, RegionSamples
from clipself.data.preprocess import Preprocess
from clipself.regions.evaluate import evaluate_regions, score_regions
from clipself.regions.report import compare_reports


class FourThings:
    """One picture of 64 x 64; a red, a green and two blue quarters; the blue ones are stuff."""

    class_names = ["red", "green", "blue"]  # noqa: RUF012
    class_ids: list[int | str] = [1, 2, 3]  # noqa: RUF012
    class_is_thing = [True, True, False]  # noqa: RUF012
    report = drawn_scenes(1)

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> LabelledImage:
        pixels = np.zeros((64, 64, 3), dtype=np.uint8)
        quarters = [(0, 0), (0, 32), (32, 0), (32, 32)]
        masks = torch.zeros(4, 64, 64, dtype=torch.bool)
        for place, ((top, left), channel) in enumerate(zip(quarters, (0, 1, 2, 2), strict=True)):
            pixels[top : top + 32, left : left + 32, channel] = 255
            masks[place, top : top + 32, left : left + 32] = True
        boxes = torch.tensor([[left, top, left + 32, top + 32] for top, left in quarters], dtype=torch.float32)
        labels = torch.tensor([0, 1, 2, 0])  # the last quarter is called red, but shows blue
        return LabelledImage(
            Image.fromarray(pixels), boxes, masks, labels, torch.tensor([True, True, False, True]), "four"
        )


class OneBesideThePicture(FourThings):
    """The green quarter's mask has no pixel, as that of a polygon outside the picture."""

    def read(self, index: int) -> LabelledImage:
        held = super().read(index)
        assert held.masks_RHW is not None
        held.masks_RHW[1] = False
        return held


def test_masks_without_a_pixel_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    plain = Preprocess(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for data, told in ((FourThings(), []), (OneBesideThePicture(), ["four: 1 of its 4 masks cover no pixel"])):
        samples = RegionSamples(data, preprocess=plain, image_size=64, patch_size=8)
        assert samples[0].masks_RYX is not None
        assert samples[0].masks_RYX.flatten(1).any(1).tolist() == [True, not told, True, True]
        assert [record.message.split(";")[0] for record in caplog.records] == told


class ColourCLIP(DenseCLIP):
    """Sees the mean colour of every patch, and knows three words."""

    def __init__(self) -> None:
        donor = tiny_openai_clip()
        super().__init__(
            donor.clip, name="colours", model_cfg={}, tokenizer=None, identity=donor.identity,
            image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0),
        )  # fmt: skip
        self.embed_dim = 3

    def dense_map(self, images_B3HW: torch.Tensor, **options: object) -> torch.Tensor:
        return F.normalize(F.avg_pool2d(images_B3HW, self.patch_size), dim=1)

    def encode_image(self, images_B3HW: torch.Tensor, **options: object) -> torch.Tensor:
        return F.normalize(images_B3HW.mean((2, 3)), dim=-1)

    def encode_text(self, texts: object, **options: object) -> torch.Tensor:
        assert isinstance(texts, list)
        return torch.stack([torch.eye(3)[[c in text for c in ("red", "green", "blue")].index(True)] for text in texts])


def test_hand_worked_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path))
    report = score_regions(
        ColourCLIP(),
        FourThings(),
        image_size=64,
        templates="simple",
        workers=0,
        progress=False,
    )
    # things: red right, green right, the blue one called red wrong -> red 1 of 2, green 1 of 1
    assert report.scores["boxes"].top1 == pytest.approx(75.0)
    assert report.scores["thing_masks"].top1 == pytest.approx(75.0)
    assert report.scores["stuff_masks"].top1 == pytest.approx(100.0)
    assert report.scores["stuff_crops"].top1 == pytest.approx(100.0)
    assert report.scores["boxes"].regions == 3
    assert report.scores["boxes"].per_class["red"] == {"top1": 50.0, "top5": 100.0, "regions": 2.0}
    table = report.to_table()
    assert "75.0 / 100.0" in table
    assert json.loads(report.write(tmp_path / "r.json").read_text())["scores"]["boxes"]["top1"] == pytest.approx(75.0)


class FineColourCLIP(ColourCLIP):
    """The same on a finer grid than its patches, as a guided readout gives it."""

    def dense_map(self, images_B3HW: torch.Tensor, **options: object) -> torch.Tensor:
        return F.normalize(F.avg_pool2d(images_B3HW, self.patch_size // 2), dim=1)


def test_a_map_on_a_guide_s_grid_is_scored_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path))
    report = score_regions(FineColourCLIP(), FourThings(), image_size=64, templates="simple", workers=0, progress=False)
    assert {mode: score.top1 for mode, score in report.scores.items() if mode in ("boxes", "thing_masks")} == {
        "boxes": pytest.approx(75.0), "thing_masks": pytest.approx(75.0)
    }  # fmt: skip
    assert report.scores["stuff_masks"].top1 == pytest.approx(100.0)


def test_several_models_side_by_side(tmp_path: Path) -> None:
    draw_pictures(tmp_path / "p", 2)
    annotations = write_coco(tmp_path, {"0.png": [[5, 5, 30, 30]], "1.png": [[10, 10, 30, 20]]})
    models = [str(save_clip(tiny_openai_clip(seed), tmp_path / f"m{seed}")) for seed in (0, 1)]
    reports = evaluate_regions(
        model=tuple(models), annotations=annotations, images=tmp_path / "p", image_size=64, templates="simple",
        out=tmp_path / "out", device="cpu",
    )  # fmt: skip
    assert [report.scores["boxes"].regions for report in reports] == [2, 2]
    assert len(compare_reports(reports).splitlines()) == 7
    assert models[1] in compare_reports(reports)
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".json", ".png"}


def test_questions_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown mode 'box'"):
        evaluate_regions(annotations=tmp_path, images=tmp_path, modes=("box",))
    with pytest.raises(ValueError, match="image_size=60 is no multiple of the patch of 8 pixels; try 64"):
        score_regions(tiny_openai_clip(), FourThings(), image_size=60)
