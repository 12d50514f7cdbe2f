"""Tables of captions as other tools write them say the same pairs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from clipself.data.caption_pairs import open_captions

PAIRS = {"a.png": ['a "red" car, parked'], "b/c.png": ["two\tdogs", "dogs"], "d.png": ["é"]}
ROWS = [(path, caption) for path, captions in PAIRS.items() for caption in captions]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in PAIRS:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / path)
    return tmp_path


def with_csv(title: tuple[str, ...], delimiter: str = ",", rows: list[tuple[str, ...]] | None = None) -> object:
    """Writes by the standard library, as pandas and others do."""

    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as held:
            csv.writer(held, delimiter=delimiter).writerows([title, *(rows or ROWS)])

    return write


def as_text(text: str, encoding: str = "utf-8") -> object:
    return lambda path: path.write_bytes(text.encode(encoding))


def lines(make: Callable[[str, str], object]) -> object:
    return as_text("\n".join(json.dumps(make(*row)) for row in ROWS) + "\n\n")


FORMS = {
    "open_clip.csv": with_csv(("filepath", "title")),
    "flickr30k.csv": with_csv(("image_name", "no", "comment"), "|", [(path, "0", said) for path, said in ROWS]),
    "semicolons.csv": with_csv(("Image", "Caption"), ";"),
    "tabs.csv": with_csv(("id", "caption", "path"), "\t", [("1", said, path) for path, said in ROWS]),
    "windows.csv": as_text(
        "\ufefffilepath,title\r\n\r\n" + "".join(f'{p},"{c.replace(chr(34), 2 * chr(34))}"\r\n' for p, c in ROWS)
    ),
    "utf16.csv": as_text(
        "image,caption\n" + "".join(f'{p},"{c.replace(chr(34), 2 * chr(34))}"\n' for p, c in ROWS), "utf-16"
    ),
    "flickr8k.tsv": as_text("".join(f"{path}#{place}\t{said}\n" for place, (path, said) in enumerate(ROWS))),
    "plain.tsv": as_text("".join(f"{path}\t{said}\n" for path, said in ROWS)),
    "metadata.jsonl": lines(lambda path, said: {"file_name": path, "text": said}),
    "backslashes.jsonl": lines(lambda path, said: {"image": path.replace("/", "\\"), "caption": said}),
    "blip.json": as_text(json.dumps([{"image": path, "caption": said} for path, said in PAIRS.items()])),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_the_same_pairs(name: str, folder: Path) -> None:
    FORMS[name](folder / name)  # type: ignore[operator]
    source = open_captions(folder / name, folder)
    assert {path: list(source.read(place)[1]) for place, path in enumerate(source.names)} == PAIRS


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "windows.tsv"])
def test_breaks_inside_captions_end_no_line(name: str, sign: str, folder: Path) -> None:
    """Captions out of web pages hold them; csv's writer does not quote them, a file's lines do not end there."""
    rows = [("a.png", f"a cat{sign}on a mat"), ("d.png", "a dog")]
    if name == "t.csv":
        with_csv(("filepath", "title"), rows=list(rows))(folder / name)  # type: ignore[operator]
    else:
        end = "\r\n" if name == "windows.tsv" else "\n"
        (folder / name).write_bytes("".join(f"{path}\t{said}{end}" for path, said in rows).encode())
    source = open_captions(folder / name, folder)
    assert [(path, *source.read(place)[1]) for place, path in enumerate(source.names)] == rows


def test_columns_beside_paths_and_captions_are_passed_over(folder: Path) -> None:
    (folder / "t.tsv").write_text("id\tfilepath\ttitle\tlang\n7\ta.png\ta car\ten\n")
    assert open_captions(folder / "t.tsv").read(0)[1] == ["a car"]


def test_captions_without_a_word_are_left_out_and_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "t.csv").write_text('image,caption\na.png,\nd.png,"  "\nd.png,a dog\n')
    source = open_captions(folder / "t.csv")
    assert (list(source.names), source.read(0)[1]) == (["d.png"], ["a dog"])
    assert "2 captions without a word left out (line 2, line 3)" in caplog.text
    (folder / "t.jsonl").write_text('{"image": "a.png", "caption": null}\n{"image": "d.png", "caption": "a dog"}\n')
    assert list(open_captions(folder / "t.jsonl").names) == ["d.png"]
    assert "1 captions without a word left out (line 1)" in caplog.text
    rows = [{"image_id": 1, "caption": None}, {"image_id": 2, "caption": "a dog"}]
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "d.png"}]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": rows}))
    assert list(open_captions(folder / "coco.json", folder).names) == ["d.png"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "a.png,a cat\n", r"t\.csv begins with 'a\.png,a cat', expected the names of its columns"),
        ("t.csv", "", r"t\.csv begins with '', expected the names of its columns"),
        ("t.csv", "image,caption\na.png\n", r"t\.csv: line 2 is .*expected a path and a caption"),
        ("t.csv", "image,caption\n,a cat\n", r"t\.csv: line 2 has no path beside"),
        (
            "t.csv",
            f'image,caption\na.png,"{"a" * 200_000}\n',
            r"t\.csv: line 2 cannot be read .* is a quote not closed",
        ),
        ("t.jsonl", '{"image": "a.png", "caption": "a"}\n{"image"\n', r"t\.jsonl: line 2 is not JSON"),
        ("t.jsonl", '{"image": "a.png"}\n', r"t\.jsonl: line 1 is .*expected an object with one of"),
        ("t.jsonl", '{"image": "a.png", "caption": 5}\n', r"t\.jsonl: line 1 has the caption 5, expected text"),
        ("t.json", '[{"image": "a.png", "caption": "a"}, 3]', r"t\.json: row 1 is 3, expected an object"),
        ("t.txt", "image,caption\na.png,a cat\n", r"t\.txt is no table of captions that is read here; write it as"),
        ("t.parquet", "PAR1", r"t\.parquet is no table of captions that is read here; write it as"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(name: str, text: str, said: str, folder: Path) -> None:
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=said):
        open_captions(folder / name, folder)
