"""`clipself embed`: rows are those of the model itself, the same files whether it was stopped or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.pictures import draw_pictures, pack

import clipself
from clipself.backbones.examples import as_clip_sees_it
from clipself.backbones.text import embed_names
from clipself.cli.main import main
from clipself.ops.patches import fit_longest
from clipself.workflows.embedding.config import EmbedConfig
from clipself.workflows.embedding.run import EmbedResult
from clipself.workflows.embedding.sources import WholePictures


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    draw_pictures(folder, count=5)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def held(result: EmbedResult) -> tuple[dict[str, Any], dict[str, Any]]:
    return dict(np.load(result.tables)), json.loads(result.index.read_text(encoding="utf-8"))


def test_pictures_and_names_are_the_models_own_rows(photos: Path, tmp_path: Path) -> None:
    result = clipself.embed(images=photos, names=["cat", "a red car"], out=tmp_path, device="cpu")
    tables, index = held(result)
    clip = clipself.load_clip("clipself-mini").eval()
    assert [row["file"] for row in index["pictures"]] == sorted(path.name for path in photos.glob("*.png"))
    assert result.rows == {"pictures": 5, "names": 2}
    for row, told in zip(tables["pictures"], index["pictures"], strict=True):
        expected = clip.encode_image(as_clip_sees_it(clip, Image.open(photos / told["file"]).convert("RGB"))[None])[0]
        torch.testing.assert_close(torch.from_numpy(row), expected, atol=1e-5, rtol=0)
    expected = embed_names(clip, ["cat", "a red car"]).rows_SD
    torch.testing.assert_close(torch.from_numpy(tables["names"]), expected, atol=1e-6, rtol=0)
    assert index["names"] == ["cat", "a red car"]
    (bad,) = result.left_out
    assert bad["file"] == "broken.jpg"
    assert "broken.jpg" in bad["reason"]
    assert "5 pictures, 2 names; 1 left out" in result.to_table()


def test_shards_are_embedded_as_their_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    shards = pack(photos, tmp_path / "shards")
    whole = held(clipself.embed(images=photos, out=tmp_path / "whole", device="cpu"))
    result = clipself.embed(images=shards / "*.tar", out=tmp_path / "packed", device="cpu")
    assert np.array_equal(held(result)[0]["pictures"], whole[0]["pictures"])
    files = [row["file"] for row in held(result)[1]["pictures"]]
    assert [file.split("/", 1)[1] for file in files] == [row["file"] for row in whole[1]["pictures"]]
    assert [row["file"] for row in result.left_out] == ["01.tar/broken.jpg"]


def test_boxes_are_pooled_from_the_map_of_their_picture(photos: Path, tmp_path: Path) -> None:
    files, boxes = sorted(path.name for path in photos.glob("*.png"))[:2], [(2, 3, 30, 20), (10, 0, 22, 40)]
    rows = [(1, boxes[0], 7), (1, boxes[1], 8), (2, boxes[1], 7)]
    labels = tmp_path / "labels.json"
    labels.write_text(
        json.dumps(
            {
                "images": [{"id": place, "file_name": file} for place, file in enumerate(files, start=1)],
                "categories": [{"id": 7, "name": "mug"}, {"id": 8, "name": "dog"}],
                "annotations": [
                    {"id": place, "image_id": image, "bbox": list(box), "category_id": label}
                    for place, (image, box, label) in enumerate(rows)
                ],
            }
        )
    )
    words = ["embed", str(photos), "--annotations", str(labels), "--image-size", "96", "--out", str(tmp_path / "out")]
    assert main([*words, "--device", "cpu"]) == 0
    tables, index = (
        dict(np.load(tmp_path / "out/embeddings.npz")),
        json.loads((tmp_path / "out/embeddings.json").read_text(encoding="utf-8")),
    )
    assert [(row["file"], row["name"]) for row in index["boxes"]] == [
        (files[0], "mug"), (files[0], "dog"), (files[1], "mug"),
    ]  # fmt: skip
    assert index["boxes"][1]["box"] == [10, 0, 32, 40]
    assert index["readout"] == "value"
    clip = clipself.load_clip("clipself-mini").eval()
    for row, told in zip(tables["boxes"], index["boxes"], strict=True):
        picture = Image.open(photos / told["file"]).convert("RGB")
        height, width = fit_longest((picture.height, picture.width), longest=96, patch=clip.patch_size)
        scale = torch.tensor([width / picture.width, height / picture.height] * 2)
        image, box = clip.preprocess(picture, size=(height, width))[None], torch.tensor([told["box"]]) * scale
        expected = clip.embed_boxes(image, [box])[0]
        torch.testing.assert_close(torch.from_numpy(row), expected, atol=1e-5, rtol=0)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    made = WholePictures.__init__

    def in_twos(self: WholePictures, *given: Any) -> None:
        made(self, *given)
        self.at_once = 2

    monkeypatch.setattr(WholePictures, "__init__", in_twos)


@pytest.mark.usefixtures("small_pieces")
def test_stopped_and_gone_on_it_leaves_the_same_files(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clipself.embed(images=photos, names=["cat"], out=tmp_path / "whole", device="cpu")
    looked, pieces = WholePictures.embed, []

    def stop_at_the_second(self: WholePictures, clip: Any, places: range) -> Any:
        pieces.append(places)
        if len(pieces) == 2:
            raise KeyboardInterrupt
        return looked(self, clip, places)

    monkeypatch.setattr(WholePictures, "embed", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
        clipself.embed(images=photos, out=tmp_path / "parts", device="cpu")
    with (tmp_path / "parts/rows.f32").open("ab") as stream:
        stream.write(b"half a row")
    with (tmp_path / "parts/pieces.jsonl").open("ab") as stream:
        stream.write(b'{"rows": [')
    gone_on = clipself.embed(images=photos, names=["cat"], out=tmp_path / "parts", device="cpu")
    assert pieces[2].start == 2, "the first piece is not looked at again"
    assert gone_on.resumed in (1, 2)
    for file in ("embeddings.npz", "embeddings.json", "rows.f32", "pieces.jsonl"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    again = clipself.embed(images=photos, names=["dog", "cow"], out=tmp_path / "parts", device="cpu")
    assert len(pieces) == 4, "other names need no pictures"
    assert again.rows == {"pictures": 5, "names": 2}
    (tmp_path / "parts/rows.f32").write_bytes(b"")
    with pytest.raises(ValueError, match="lacks rows that were embedded before; begin anew with overwrite"):
        clipself.embed(images=photos, out=tmp_path / "parts", device="cpu")


def test_opened_pictures_and_names_alone(tmp_path: Path) -> None:
    opened = [Image.new("RGB", (40, 30), "red"), np.zeros((20, 20, 3), np.uint8)]
    tables, index = held(clipself.embed(images=opened, out=tmp_path / "opened", device="cpu"))
    assert tables["pictures"].shape == (2, index["embed_dim"])
    tables, index = held(clipself.embed(names=["cat"], out=tmp_path / "names", device="cpu"))
    assert list(tables) == ["names"]
    assert np.linalg.norm(tables["names"]) == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_meant_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to embed; give pictures, names, or both"):
        clipself.embed(out=tmp_path)
    with pytest.raises(ValueError, match="the one folder of their pictures, got 2 places"):
        EmbedConfig(images=(photos, photos), annotations=tmp_path / "labels.json")
    with pytest.raises(ValueError, match="readout and image_size are for boxes"):
        EmbedConfig(images=(photos,), readout="value")
    (tmp_path / "labels.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(ValueError, match=r"labels\.json holds no boxes to embed"):
        clipself.embed(images=photos, annotations=tmp_path / "labels.json", out=tmp_path / "none", device="cpu")
    with pytest.raises(ValueError, match=r"none of 1 pictures can be read; the first: .*broken"):
        clipself.embed(images=photos / "broken.jpg", out=tmp_path / "broken", device="cpu")
    clipself.embed(images=photos, out=tmp_path / "held", device="cpu")
    with pytest.raises(ValueError, match=r"holds embeddings that were made with other pictures .*--overwrite"):
        clipself.embed(images=sorted(photos.glob("*.png"))[:3], out=tmp_path / "held", device="cpu")
    few = clipself.embed(images=sorted(photos.glob("*.png"))[:3], out=tmp_path / "held", overwrite=True, device="cpu")
    assert few.rows == {"pictures": 3}
    assert few.resumed == 0
