"""What people get wrong in a call of the front door is answered by a sentence with what would be right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip

import clipself
from clipself.backbones import loading
from clipself.backbones.export import save_clip
from clipself.cli.main import main
from clipself.text import parse_names

front: Any = clipself  # whose types are what is got wrong here
names_of: Any = parse_names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mistakes")
    draw_pictures(folder / "photos", 2)
    save_clip(tiny_openai_clip(), folder / "clip")
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.chdir(place)
        yield


def clip() -> Any:
    return clipself.load_clip("./clip")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        # another type
        (lambda: front.load_clip(3), "model=3 is of type int, expected a name or a path"),
        (lambda: front.load_clip("ViT-B-16", 3), "pretrained=3 is of type int"),
        (lambda: front.load_clip("./clip", device="gpu"), "unknown device 'gpu'; use auto, cpu, cuda"),
        (lambda: front.Detector.from_checkpoint(3), "checkpoint=3 is of type int"),
        (lambda: front.load_segmenter(None), "checkpoint=None is of type NoneType"),
        (lambda: front.PanopticSegmenter.from_checkpoint(masks=3), "is of type int"),
        (lambda: front.open_segmenter(names=3), "names hold 3 of type int, expected words"),
        (lambda: names_of([None]), "names hold None of type NoneType"),
        (lambda: front.blend(3, out="x"), "student=3 is of type int, expected text"),
        (lambda: front.blend("clip", out="x", alphas="0.5"), "alphas='0.5' is text, expected a number"),
        (lambda: front.convert("clip", out=3), "out=3 is of type int"),
        (lambda: front.quickstart(3), "out=3 is of type int"),
        (lambda: front.quickstart(steps="5"), "steps='5' is text, expected a whole number"),
        (lambda: front.show_kmeans("photos", clusters="6"), "clusters='6' is text"),
        (lambda: front.show_kmeans("photos", image_size="96"), "image_size='96' is text"),
        (lambda: front.show_query("photos", None), "text=None is None, expected text"),
        (lambda: front.distill(data="photos", out="x", recipe=3), "unknown recipe 3, expected one of"),
        (lambda: clip().encode_text([3]), r"texts must be a list of strings, got \[3\]"),
        (lambda: clip().dense_map("photos/0.png"), "images must be a tensor .*clip.preprocess"),
        (lambda: clip().preprocess("photos/0.png", size="96"), "size='96' is no size; pass"),
        (lambda: clip().preprocess("photos/0.png", size=(96,)), r"size=\(96,\) is no size"),
        # one for several, and the other way round
        (lambda: clip().encode_text("cat"), "wrap it in a list"),
        (lambda: front.TrainingFree(clip(), "cat"), "wrap it in a list"),
        (lambda: clip().dense_map(torch.zeros(3, 16, 16)), "stack them with torch.stack"),
        (lambda: front.show_query("a cat", ["photos/0.png"]), r"text=\['photos/0.png'\] is a list, expected text"),
        # a misspelt keyword
        (lambda: front.show_query("photos", "cat", imagesize=3), r"takes no imagesize; did you mean image_size\?"),
        (lambda: front.blend("clip", out="x", alpha=0.5), r"takes no alpha; did you mean alphas\?"),
        (lambda: front.distill(data="photos", out="x", max_step=3), r"no setting max_step; did you mean max_steps\?"),
        # a folder for a file, a file for a folder
        (lambda: front.read_image("photos"), "photos cannot be opened"),
        (lambda: front.evaluate_regions(annotations="photos", images="photos"), "is a folder of no kind that is"),
        (lambda: front.Detector.from_checkpoint("photos/0.png"), "pass a folder that `detect train` writes, or one"),
    ],
)  # fmt: skip
def test_it_is_a_sentence(call: Callable[[], Any], said: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        call()


def test_what_fits_is_taken_in_any_form(tmp_path: Path) -> None:
    folders = front.blend("clip", out=str(tmp_path / "a"), original="./clip", alphas=0.5)
    assert folders == [tmp_path / "a"]
    assert len(front.blend("clip", out=tmp_path / "b", original="./clip", alphas=[0, 1])) == 2
    drawn = front.show_query(Path("photos/0.png"), "cat", model="./clip", out=tmp_path / "q.png", image_size=32.0)
    assert drawn.is_file()


@pytest.mark.parametrize("error", [RuntimeError("Failed to download"), ConnectionError("no route"), KeyError("x")])
def test_weights_that_cannot_be_downloaded_are_no_defect(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(loading, "download_pretrained", fail)
    assert main(["convert", "--model", "ViT-B-16", "--pretrained", "openai", "--out", "x"]) == 2
    said = capsys.readouterr().err
    assert "the weights 'openai' of ViT-B-16 could not be downloaded" in said
    assert "download them elsewhere and pass the file" in said
    assert "Traceback" not in said
