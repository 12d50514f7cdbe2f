"""Pictures in the folders that `datasets` saves: what a folder of them gives, read in place."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.pictures import draw_pictures, write_coco
from tests.support.tiny import tiny_openai_clip

from clipself.backbones.export import save_clip
from clipself.data.images import find_pictures, read_image, size_of, tables
from clipself.data.sources import CocoImages, ImageFolder
from clipself.engine.log import read_metrics
from clipself.engine.task import digest_of


def write(folder: Path, columns: dict[str, list[Any]], *, parts: int = 2, fingerprint: str = "one") -> Path:
    """What `Dataset.save_to_disk(folder, num_shards=parts)` writes; checked against datasets 5.2."""
    arrow: Any = pytest.importorskip("pyarrow", reason="tables are read by pyarrow, which is not installed")
    struct = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    pictures = {name for name, rows in columns.items() if any(isinstance(row, dict) for row in rows)}
    table = arrow.table(
        {name: arrow.array(rows, type=struct if name in pictures else None) for name, rows in columns.items()}
    )
    folder.mkdir(parents=True)
    files, size = [], -(-len(table) // parts)
    for part in range(parts):
        files.append(f"data-{part:05d}-of-{parts:05d}.arrow")
        with arrow.ipc.new_stream(str(folder / files[-1]), table.schema) as stream:
            stream.write_table(table.slice(part * size, size), max_chunksize=2)
    kinds = {name: {"_type": "Image"} if name in pictures else {"dtype": "int64", "_type": "Value"} for name in columns}
    (folder / tables.INFO).write_text(json.dumps({"features": kinds}))
    state = {"_data_files": [{"filename": name} for name in files], "_fingerprint": fingerprint, "_split": None}
    (folder / tables.STATE).write_text(json.dumps(state))
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(folder.iterdir())]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return draw_pictures(tmp_path / "pictures", 7)


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    tables.open_column.cache_clear()
    return write(tmp_path / "table", {"image": rows_of(pictures), "label": list(range(7))})


def test_rows_are_the_folder_that_was_saved(pictures: Path, table: Path) -> None:
    whole, saved = ImageFolder(pictures), ImageFolder(table)
    assert list(saved.names) == [f"image/{row}" for row in range(7)]
    for one, two in zip(whole.paths, saved.paths, strict=True):
        assert np.array_equal(np.asarray(read_image(one)), np.asarray(read_image(two)))
        assert size_of(one) == size_of(two)
    found = find_pictures(table)
    assert [(one.file, one.name) for one in found][3] == ("image/3", "image/3")
    assert saved.paths[-1] == saved.paths[6]
    with pytest.raises(IndexError, match="picture 7 of 7"):
        _ = saved.paths[7]
    labels = write_coco(pictures, {"image/2": [[1, 2, 30, 20]]})
    assert CocoImages(labels, table).boxes_xywh(0, size=size_of(saved.paths[2])).tolist() == [[1, 2, 30, 20]]


def test_other_rows_are_other_data(pictures: Path, table: Path, tmp_path: Path) -> None:
    same = write(tmp_path / "same", {"image": rows_of(pictures)})
    other = write(tmp_path / "other", {"image": rows_of(pictures)}, fingerprint="two")
    first, second, third = (digest_of(ImageFolder(one).names) for one in (table, same, other))
    assert first == second != third


def test_a_row_may_name_a_file(pictures: Path, tmp_path: Path) -> None:
    held = [
        {"bytes": None, "path": str(pictures / "1.png")},
        {"bytes": None, "path": "gone.png"},
        {"bytes": None},
        None,
    ]
    folder = write(tmp_path / "named", {"photo": held}, parts=1)
    paths = ImageFolder(folder).paths
    assert paths[0] == folder / "photo/0"
    assert np.array_equal(np.asarray(read_image(paths[0])), np.asarray(read_image(pictures / "1.png")))
    with pytest.raises(
        FileNotFoundError, match=r"no image at gone\.png, which .*photo/1 names; save the data set with"
    ):
        read_image(paths[1])
    for row in (2, 3):
        with pytest.raises(ValueError, match=rf"photo/{row} is empty; leave the row out"):
            read_image(paths[row])


def test_what_cannot_be_read_is_said(
    pictures: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of(pictures)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / tables.SPLITS).write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(ValueError, match=r"splits holds the splits train, test; pass one, such as .*splits/train"):
        ImageFolder(tmp_path / "splits")
    with pytest.raises(ValueError, match="has no column of pictures among label; save one with a single column"):
        ImageFolder(write(tmp_path / "none", {"label": [1, 2]}))
    with pytest.raises(ValueError, match="has several columns of pictures among left, right"):
        ImageFolder(write(tmp_path / "two", {"left": rows, "right": rows}))
    assert len(ImageFolder(write(tmp_path / "both", {"image": rows, "mask": rows}))) == 7
    with pytest.raises(FileNotFoundError, match=r"no image at .*/image/7; the table of .* has 7 rows"):
        read_image(table / "image/7")
    with pytest.raises(FileNotFoundError, match="no column 'mask' in the table"):
        read_image(table / "mask/0")
    tables.open_column.cache_clear()
    whole = (table / "data-00001-of-00002.arrow").read_bytes()
    (table / "data-00001-of-00002.arrow").write_bytes(b"\0\1\2\3" + whole[4:])
    with pytest.raises(ValueError, match=r"data-00001-of-00002\.arrow is damaged"):
        ImageFolder(table)
    (table / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no file at .*data-00001.*, which .*state\.json names; copy the folder"
    ):
        ImageFolder(table)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"is an Arrow table; pip install 'clipself\[arrow\]'"):
        ImageFolder(table)


def test_a_run_on_a_table_is_the_run_on_the_folder(pictures: Path, table: Path, tmp_path: Path) -> None:
    from clipself.distillation.train import distill

    model = save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    for name, data in (("folder", pictures), ("rows", table)):
        distill(
            out=tmp_path / name, data=data, model=str(model), image_size=64, max_regions=4, max_steps=3, batch_size=2,
            workers=0, precision="fp32", device="cpu", teacher_cache=tmp_path / "cache", keep_image=1.0, flip=0.0,
        )  # fmt: skip
    assert [r["loss"] for r in read_metrics(tmp_path / "folder")] == [
        r["loss"] for r in read_metrics(tmp_path / "rows")
    ]
    first, second = (
        torch.load(tmp_path / name / "training_state.pt", weights_only=True) for name in ("folder", "rows")
    )
    assert all(map(torch.equal, first["learning"], second["learning"]))


def test_the_library_itself_writes_such_folders(pictures: Path, tmp_path: Path) -> None:
    library: Any = pytest.importorskip("datasets", reason="datasets is not installed")
    rows = rows_of(pictures)
    saved = library.Dataset.from_dict({"image": rows}, features=library.Features({"image": library.Image()}))
    saved.save_to_disk(str(tmp_path / "saved"), num_shards=3)
    whole, read = ImageFolder(pictures), ImageFolder(tmp_path / "saved")
    for one, two in zip(whole.paths, read.paths, strict=True):
        assert np.array_equal(np.asarray(read_image(one)), np.asarray(read_image(two)))
