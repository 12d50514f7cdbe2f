"""`clipself reproduce`: the numbers of the plain commands, rows that are kept, and everything missing told at once."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.reproduction import changed_rows, small_towers, write_coco, write_eva_weights

from clipself.cli.commands import COMMANDS, find
from clipself.cli.main import main
from clipself.cli.read import read_words
from clipself.regions.evaluate import evaluate_regions
from clipself.workflows.reproduction import listing, report, rows, run
from clipself.workflows.reproduction.calls import CALLS
from clipself.workflows.reproduction.config import ReproduceConfig
from clipself.workflows.reproduction.places import DATA
from clipself.workflows.reproduction.published import PUBLISHED, RECALLED, SOURCES
from clipself.workflows.reproduction.report import Reproduction, RowResult
from clipself.workflows.reproduction.rows import MADE, TABLES, needs_of
from clipself.workflows.reproduction.run import reproduce
from clipself.workflows.reproduction.weights import WEIGHTS

READERS = (listing, report, rows, run)
"""Modules that look up `TABLES`."""


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and weights/ in the official layouts."""
    root = tmp_path_factory.mktemp("official")
    write_coco(root / "data")
    write_eva_weights(root / "weights")
    return root


@pytest.fixture
def given(official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Settings of a run at toy sizes: table 2 looks at 128 px."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    tables = changed_rows("table2", image_size=128, templates="simple")
    for module in READERS:
        monkeypatch.setattr(module, "TABLES", tables)
    with small_towers(monkeypatch):
        yield {
            "data": official / "data", "weights": official / "weights", "out": tmp_path / "out", "device": "cpu",
            "partial_data": True,
        }  # fmt: skip


def row(found: Reproduction | str, name: str) -> RowResult:
    assert isinstance(found, Reproduction)
    return next(one for one in found.rows if one.row == name)


def test_table2_gives_the_numbers_of_the_plain_command(given: dict[str, Any], official: Path) -> None:
    found = reproduce(tables=("table2",), **given)
    assert isinstance(found, Reproduction)
    assert [one.state for one in found.rows] == ["done"] * 8
    plain = {}
    for name, model, text in (
        ("eva_vitb16_coco_clipself_patches.pt", "EVA02-B-16", "EVA02_CLIP_B_psz16_s8B.pt"),
        ("EVA02_CLIP_L_336_psz14_s6B.pt", "EVA02-L-14-336", None),
    ):
        (told,) = evaluate_regions(
            annotations=official / "data/coco/annotations/panoptic_val2017.json",
            images=official / "data/coco/val2017", model=(model,), pretrained=str(official / "weights" / name),
            text_from=text and str(official / "weights" / text), image_size=128, templates="simple", device="cpu",
            modes=("boxes", "thing_masks", "stuff_masks"),
        )  # fmt: skip
        plain[name] = {
            mode: (told.scores[mode].top1, told.scores[mode].top5) for mode in ("boxes", "thing_masks", "stuff_masks")
        }
    for name, reported in zip(plain, ("table2/eva-b16-patches", "table2/eva-l14"), strict=True):
        scores = row(found, reported).scores
        assert {mode: (scores[key], scores[f"{key}5"]) for mode, key in zip(
            plain[name], ("boxes", "things", "stuff"), strict=True
        )} == plain[name]  # fmt: skip
    assert len({tuple(one.scores.items()) for one in found.rows}) > 1  # other weights, other numbers
    told = json.loads((given["out"] / "reproduction.json").read_text())
    first = told["rows"][0]
    assert first["published"]["boxes"] == {"value": 18.2, "source": RECALLED}
    assert first["difference"]["boxes"] == pytest.approx(first["scores"]["boxes"] - 18.2)
    assert "18.2*" in (given["out"] / "reproduction.md").read_text()
    page = (given["out"] / "reproduction.html").read_text()
    assert "3 of 3" in page
    assert "not to be compared" in page
    assert row(found, "table2/eva-b16").memory_mib != 0


def test_a_run_that_was_stopped_goes_on_and_rows_that_are_done_are_kept(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real, stop = evaluate_regions, True

    def counted(**settings: Any) -> Any:
        asked.append(Path(settings["pretrained"]).name)
        if stop and len(asked) == 2:
            raise KeyboardInterrupt
        return real(**settings)

    monkeypatch.setitem(CALLS, "evaluate regions", replace(CALLS["evaluate regions"], run=counted))
    some = {"tables": ("table2",), "rows": ("table2/eva-b16", "table2/eva-b16-patches", "table2/eva-b16-regionclip")}
    with pytest.raises(KeyboardInterrupt, match=r"stopped; 1 rows are done and kept in .*rows"):
        reproduce(**some, **given)
    told = json.loads((given["out"] / "reproduction.json").read_text())
    assert [one["state"] for one in told["rows"]] == ["done"]
    stop = False
    first = reproduce(**some, **given)
    assert asked == ["EVA02_CLIP_B_psz16_s8B.pt", *["eva_vitb16_coco_clipself_patches.pt"] * 2,
                     "eva_vitb16_coco_regionclip.pt"]  # fmt: skip
    again = reproduce(**some, **given)
    assert len(asked) == 4
    assert isinstance(first, Reproduction)
    assert isinstance(again, Reproduction)
    assert again.rows == first.rows
    with pytest.raises(ValueError, match=r"eva-b16.json was found by other limit; --overwrite runs it again"):
        reproduce(**some, **{**given, "limit": 1})
    found = reproduce(**some, **{**given, "limit": 1, "overwrite": True})
    assert len(asked) == 7
    assert row(found, "table2/eva-b16").images == 1


def test_everything_that_is_missing_is_told_at_once_and_the_rest_is_run(
    given: dict[str, Any], official: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    original = "EVA02_CLIP_B_psz16_s8B.pt"
    (weights / original).symlink_to(official / "weights" / original)
    (weights / "eva_vitb16_coco_clipself_patches.pt").write_text("<!DOCTYPE html><html>Google Drive can't scan</html>")
    (weights / "eva_vitb16_coco_regionclip.pt").write_text("version https://git-lfs.github.com/spec/v1")
    found = reproduce(tables=("table2",), **{**given, "weights": weights})
    assert isinstance(found, Reproduction)
    states = {one.row: one.state for one in found.rows}
    assert states.pop("table2/eva-b16") == "done"
    assert set(states.values()) == {"missing"}
    said = caplog.text
    for words in (
        "7 of what the rows need is missing", "eva_vitb16_coco_clipself_patches.pt is a web page, not the file",
        "eva_vitb16_coco_regionclip.pt is a pointer of Git LFS", "eva_vitl14_coco_clipself_proposals.pt is not there",
        "https://huggingface.co/QuanSun/EVA-CLIP", "https://drive.google.com/drive/folders/1APWIE7M5zcymbjh5OONqXdBO",
    ):  # fmt: skip
        assert words in said
        assert words in found.missing
    assert "web page" in row(found, "table2/eva-b16-patches").why
    with pytest.raises(FileNotFoundError, match=r"none of the 8 rows can be run. 11 of what the rows need is missing"):
        reproduce(
            tables=("table2",),
            **{**given, "weights": tmp_path / "no", "data": tmp_path / "no", "out": tmp_path / "new"},
        )
    with pytest.raises(FileNotFoundError, match=r"val2017 holds 3 of 5,000 files; --partial-data accepts a part"):
        reproduce(tables=("table2",), **{**given, "partial_data": False, "out": tmp_path / "new"})


def test_files_that_do_not_fit_end_their_own_row_alone(
    given: dict[str, Any], official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for path in (official / "weights").iterdir():
        (weights / path.name).symlink_to(path)
    broken = weights / "eva_vitb16_coco_clipself_patches.pt"
    broken.unlink()
    broken.write_bytes(b"PK\x03\x04 cut short")
    words = ["reproduce", "table2", "--data", str(given["data"]), "--weights", str(weights), "--out", str(given["out"])]
    words += ["--device", "cpu", "--partial-data", "--rows", "table2/eva-b16-patches", "table2/eva-b16"]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "could not be run" in said.out
    assert "table2/eva-b16-patches could not be run" in said.err
    assert [path.name for path in (given["out"] / "rows/table2").iterdir()] == ["eva-b16.json"]
    broken.unlink()
    broken.symlink_to(official / "weights" / broken.name)
    assert main(words) == 0
    assert "could not be run" not in capsys.readouterr().out


def test_a_dry_run_prints_commands_that_mean_the_settings_and_runs_none(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.Run, "measured", None)
    found = reproduce(**given, dry_run=True, tables=tuple(TABLES))
    assert isinstance(found, Reproduction)
    assert not given["out"].exists()
    told = found.to_table()
    for one in found.rows:
        if one.state != "ready":
            continue
        for line in one.commands:
            assert line in told
            words = shlex.split(line)[1:]
            name = next(name for name in COMMANDS if words[: len(name.split())] == name.split())
            read_words(find(COMMANDS[name].settings), words[len(name.split()) :], command=name, about="")
    config = read_words(
        find(COMMANDS["evaluate regions"].settings), shlex.split(row(found, "table2/eva-b16-patches").commands[0])[3:],
        command="evaluate regions", about="",
    )  # fmt: skip
    assert (config.image_size, config.readout, config.model) == (128, "value", ("EVA02-B-16",))


def test_the_list_names_every_row_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 0
    told = capsys.readouterr().out
    for table in TABLES.values():
        for one in table.rows:
            assert f"\n  {one.name}\n" in told
            assert one.cannot in told
    assert main(["reproduce", "table2", "--list"]) == 0
    assert "table3a" not in capsys.readouterr().out
    assert main(["reproduce"]) == 2
    assert "tables, data, weights must be given" in capsys.readouterr().err
    assert main(["reproduce", "table2", "--list", "--rows", "table2/eva-b61"]) == 2
    assert "did you mean 'table2/eva-b16'" in capsys.readouterr().err


def test_the_tables_hang_together() -> None:
    """Every row has what it names, every figure a row and a source, every place somebody who needs it."""
    rows = {one.name: one for table in TABLES.values() for one in table.rows}
    used = {str(place) for one in rows.values() for part in needs_of(one) for place in part}
    assert {one for one in used if one.startswith("data:")} == {f"data:{name}" for name in DATA}
    assert {one for one in used if one.startswith("weights:")} == {f"weights:{name}" for name in WEIGHTS}
    assert {one for one in used if one.startswith("made:")} == {f"made:{name}" for name in MADE}
    for name, figures in PUBLISHED.items():
        assert set(figures) <= set(TABLES[rows[name].table].columns), name
        assert {figure.source for figure in figures.values()} <= set(SOURCES)
    for one in rows.values():
        assert (one.measure is None) == bool(one.cannot), one.name
    assert ReproduceConfig(tables=tuple(TABLES)).tables == tuple(TABLES)  # type: ignore[arg-type]
