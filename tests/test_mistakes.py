"""What people get wrong in a call of the front door is answered by a sentence with what would be right."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip

import clipself
from clipself.backbones import loading
from clipself.backbones.export import save_clip
from clipself.backbones.text import embed_names as embed_typed
from clipself.cli.main import main
from clipself.text import parse_names

front: Any = clipself  # whose types are what is got wrong here
names_of: Any = parse_names
embed_names: Any = embed_typed


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
        (lambda: front.load_clip("openai/clip-vit-base-patch16"), "unknown model 'openai/clip.* is downloaded first"),
        (lambda: front.load_clip("hf-hub:a/b"), "unknown model .hf-hub:a/b.: .* downloaded first"),
        (lambda: front.load_clip("./gone"), r"unknown model '\./gone': no model folder is there"),
        (lambda: front.load_clip("vit-b-61", "random"), r"the nearest names are \['ViT-B-16'"),
        (lambda: front.load_clip("./clip", device="gpu"), "unknown device 'gpu'; use auto, cpu, cuda"),
        (lambda: front.Detector.from_checkpoint(3), "checkpoint=3 is of type int"),
        (lambda: front.load_segmenter(None), "checkpoint=None is of type NoneType"),
        (lambda: front.PanopticSegmenter.from_checkpoint(masks=3), "is of type int"),
        (lambda: front.open_segmenter(names=3), "names hold 3 of type int, expected words"),
        (lambda: names_of([None]), "names hold None of type NoneType"),
        (lambda: front.blend(3, out="x"), "student=3 is of type int, expected text"),
        (lambda: front.blend("clip", out="x", alphas=[0.501, 0.5]), r"alphas \[0.501, 0.5\] are not apart"),
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
        (lambda: clip().preprocess("photos/0.png", size=96.5), r"size=96.5 is no size"),
        (lambda: clip().preprocess("photos/0.png", size=True), r"size=True is no size"),
        (lambda: clip().preprocess("photos/0.png", size=10**6), r"size=1000000 is no size; .*up to 16384"),
        (lambda: front.load_clip("./clip", device="mps:0"), "this PyTorch sees no MPS device"),
        (lambda: front.load_clip("./clip", device=7), "'cuda:7' was asked for, but"),
        (lambda: clip().encode_text({"cat", "dog"}), "names are a set, which has no order; pass a list"),
        (lambda: clip().encode_text(3), r"texts must be a list of strings, got \[3\]"),
        (lambda: clip().encode_text(name for name in ("cat", 3)), r"texts must be a list of strings, got \['cat', 3\]"),
        (lambda: front.TrainingFree(clip(), {"cat", "dog"}), "names are a set"),
        (lambda: front.Detector.from_checkpoint().use({"cat", "dog"}), "names are a set"),
        (lambda: front.Detector.from_checkpoint().use(["coco_80"]), "'coco_80' is no name of one class"),
        (lambda: front.Detector.from_checkpoint().predict("photos/0.png", threshold=50), "threshold=50 is no score"),
        (lambda: front.Detector.from_checkpoint().predict("photos/0.png", threshold="0.5"), "threshold='0.5' is no"),
        (lambda: front.TrainingFree(clip(), ["cat", "cat"]), "'cat' is there more than once"),
        (lambda: front.TrainingFree(clip(), ["cat", " "]), "one of the names is empty"),
        (lambda: front.TrainingFree(clip(), ["list.txt"]), "'list.txt' is no name of one class; pass .*parse_names"),
        (lambda: front.TrainingFree(clip(), ["classes.csv"]), "'classes.csv' is the name of a file"),
        (lambda: front.TrainingFree(clip(), None), "names must be a list of strings, got None"),
        (lambda: front.PanopticSegmenter.from_checkpoint().use({"cat", "dog"}), "names are a set"),
        (lambda: front.predict_images(images="photos", names={"cat", "dog"}, out="x"), "names is a set, which"),
        (lambda: front.predict_images(images="photos", names="cat", out="x", threshold=50), "threshold=50.0 is not in"),
        # images that are none to a tower
        (lambda: clip().dense_map(torch.full((1, 3, 32, 32), 200.0)), "pixels of 200 to 200, expected normalised ones"),
        (lambda: clip().encode_image(torch.full((1, 3, 32, 32), -99.0)), "pixels of -99 to -99"),
        (lambda: clip().embed_boxes(torch.rand(1, 3, 32, 32) * 255, [[[0, 0, 9, 9]]]), r"clip\.preprocess\(picture\)"),
        (lambda: clip().taps(torch.full((1, 3, 32, 32), float("nan")), [0]), "pixels of nan to nan"),
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


def test_rows_of_texts_are_tensors_or_arrays_of_the_models_width() -> None:
    model = clip()
    model.set_image("photos/0.png")
    rows = model.encode_text(["a cat", "a dog"])
    assert torch.equal(model.query(rows), model.query(["a cat", "a dog"]))
    assert torch.equal(model.query(rows.numpy()), model.query(np.array(["a cat", "a dog"])))
    for wrong in (rows[:, 1:], rows[0], rows.numpy()[None]):
        with pytest.raises(ValueError, match=rf"expected \(K, {model.embed_dim}\) of this model"):
            model.query(wrong)


def test_a_vocabulary_is_taken_where_names_are() -> None:
    """With the order of its names, by the detector, the segmenter and the judge of masks alike."""
    words, model = parse_names("dog, cat"), clip()
    assert front.TrainingFree(model, words).names == words.names
    detector = front.Detector.from_checkpoint()
    detector.use(words)
    assert detector.model.vocabulary.names == words.names
    assert torch.equal(embed_names(model, words).rows_SD, embed_names(model, ["dog", "cat"]).rows_SD)


def test_texts_and_sizes_come_in_any_form() -> None:
    model = clip()
    wanted = model.encode_text(["a cat", "a dog"])
    assert torch.equal(model.encode_text(f"a {name}" for name in ("cat", "dog")), wanted)
    sizes = (np.int64(32), [32, np.int32(32)], torch.Size([32, 32]))
    assert all(model.preprocess("photos/0.png", size=size).shape == (3, 32, 32) for size in sizes)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_are_brought_to_the_weights(dtype: torch.dtype) -> None:
    """A model that a caller has cast reads what its own `preprocess` gives; the numbers are the model's."""
    model, images = clip(), clip().preprocess("photos/0.png", size=32)[None]
    assert torch.equal(model.dense_map(images.to(dtype)), model.dense_map(images.to(dtype).float()))
    cast = clip().to(dtype)
    assert cast.dense_map(images).dtype == dtype
    torch.testing.assert_close(cast.encode_image(images).float(), model.encode_image(images), atol=0.02, rtol=0.02)
    cast.set_image("photos/0.png")
    assert cast.query(["a cat"]).dtype == dtype


def test_the_callers_default_dtype_changes_nothing(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": "photos", "max_steps": 1, "batch_size": 2, "workers": 0, "image_size": 64,
                                "crop_size": 64, "device": "cpu", "precision": "fp32"}  # fmt: skip
    images = clip().preprocess("photos/0.png", size=32)[None]
    wanted = clip().dense_map(images), front.distill(out=tmp_path / "a", **settings).last_loss
    torch.set_default_dtype(torch.float64)
    try:
        model = clip()
        assert torch.equal(model.dense_map(model.preprocess("photos/0.png", size=32)[None]), wanted[0])
        assert front.distill(out=tmp_path / "b", **settings).last_loss == wanted[1]
        assert front.Detector.from_checkpoint().model.clip.weights_hash() == front.load_clip().weights_hash()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


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
