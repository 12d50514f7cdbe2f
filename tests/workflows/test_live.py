"""What the page of `clipself demo` answers, without a page: same answers as elsewhere, one look, mistakes in words."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clipself.backbones.reading import read_images
from clipself.data.images import read_image
from clipself.data.photographs import load_photo
from clipself.detection.detector import Detector
from clipself.segmentation import TrainingFree
from clipself.text.vocabulary import load_vocabulary
from clipself.workflows.live import page, run
from clipself.workflows.live.config import DemoConfig
from clipself.workflows.live.samples import list_samples
from clipself.workflows.live.studio import LONGEST, MOST_NAMES, Studio, read_typed
from clipself.workflows.live.views import GROUPS, MOST_HEATS, VIEWS, Question, sides_of


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(DemoConfig(device="cpu", image_size=160))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "cat.png"
    load_photo("cat").resize((160, 96)).save(path)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each pass of an image tower, and for each list of texts."""
    passes: list[str] = []

    def counted(clip: Any, images: Any, **asked: Any) -> Any:
        passes.append("image")
        return read_images(clip, images, **asked)

    monkeypatch.setattr("clipself.backbones.dense_clip.read_images", counted)
    return passes


def ask(file: Path, names: str = "cat, dog", stuff: str = "grass", **more: Any) -> Question:
    return Question(picture=str(file), names=names, stuff=stuff, **more)


@pytest.mark.parametrize("tab", VIEWS)
def test_a_tab_looks_once_whatever_the_names(tab: str, studio: Studio, file: Path, runs: list[str]) -> None:
    asked = ask(file, threshold=0.0)
    VIEWS[tab](studio, asked)
    runs.clear()
    found = VIEWS[tab](studio, replace(asked, names="sea, boat, cat"))
    assert runs == []
    assert found.said
    for part in found.parts:
        for picture in part if isinstance(part, tuple) else [part]:
            assert isinstance(picture, str) or (isinstance(picture, Image.Image) and picture.width >= 160)


def test_boxes_are_those_of_a_detector_that_never_saw_the_picture(studio: Studio, file: Path) -> None:
    image = studio.look(str(file))
    studio.detect(image, ["boat"], threshold=0.0)
    found = studio.detect(image, ["cat", "dog"], threshold=0.0)
    (expected,) = Detector.from_checkpoint(device="cpu").predict(file, names=["cat", "dog"])
    torch.testing.assert_close(found.boxes, expected.boxes)
    torch.testing.assert_close(found.scores, expected.scores)
    assert len(studio.detect(image, ["cat", "dog"], threshold=0.99)) < len(found)


def test_segments_are_those_of_a_segmenter_that_never_saw_the_picture(studio: Studio, file: Path) -> None:
    image = studio.look(str(file))
    assert isinstance(studio.segmenter, TrainingFree)
    studio.segment(image, ["boat", "sea"])
    fresh = TrainingFree(studio.columns[0].clip, ["cat", "dog"], studio.segmenter.settings)
    assert torch.equal(studio.segment(image, ["cat", "dog"]).labels_HW, fresh.segment(image).labels_HW)


def test_heat_is_the_cosine_of_patches_and_names(studio: Studio, file: Path) -> None:
    image, clip = studio.look(str(file)), studio.columns[0].clip
    ((_, dense_DYX),) = studio.dense(image)
    ((title, near_KYX),) = studio.near(image, ["cat", "dog"])
    assert title == "original"
    assert near_KYX.shape == (2, *dense_DYX.shape[1:])
    clip.set_image(image, size=(96, 160))
    expected = clip.query([f"This is a photo of a {name}." for name in ("cat", "dog")])
    np.testing.assert_allclose(near_KYX, expected.numpy(), atol=1e-5)


def test_a_name_is_embedded_once(studio: Studio, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, clip, told = studio.look(str(file)), studio.columns[0].clip, list[str]()
    encode: Callable[..., Any] = clip.encode_text

    def heard(texts: list[str], **more: Any) -> Any:
        told.extend(texts)
        return encode(texts, **more)

    monkeypatch.setattr(clip, "encode_text", heard)
    studio.near(image, ["heron", "reed"])
    studio.near(image, ["reed", "pond", "heron"])
    assert told == [f"This is a photo of a {name}." for name in ("heron", "reed", "pond")]


def test_another_picture_is_looked_at(studio: Studio, file: Path, tmp_path: Path, runs: list[str]) -> None:
    other = tmp_path / "coffee.png"
    load_photo("coffee").resize((128, 96)).save(other)
    first = VIEWS["K-means"](studio, ask(file))
    runs.clear()
    found = VIEWS["K-means"](studio, ask(other))
    assert runs == ["image"]
    assert found.parts[0].size != first.parts[0].size


def test_with_one_model_two_readouts_are_compared(studio: Studio, file: Path) -> None:
    assert [side.readout for side in sides_of(studio)] == ["qk", "value"]
    groups = VIEWS["Raw | refined"](studio, ask(file, compared="gone"))
    assert groups.choices == (GROUPS, "cat", "dog")
    heat = VIEWS["Raw | refined"](studio, ask(file, compared="dog"))
    for pair in (groups.parts[0], heat.parts[0]):
        assert [side.size for side in pair] == [(160, 96), (160, 96)]
        assert pair[0].tobytes() != pair[1].tobytes()
    assert heat.parts[0][0].tobytes() != groups.parts[0][0].tobytes()


def test_with_a_refined_model_both_are_shown(file: Path) -> None:
    both = Studio(DemoConfig(device="cpu", image_size=160, refined=Path("clipself-mini")))
    assert [side.title for side in sides_of(both)] == ["original", "refined"]
    panel, heats = VIEWS["Similarity"](both, ask(file)).parts
    assert [one["title"] for one in json.loads(panel)["maps"]] == ["original", "refined"]
    assert heats.height > 2 * 100


def test_without_names_patches_can_still_be_asked(studio: Studio, file: Path) -> None:
    panel, heats = VIEWS["Similarity"](studio, ask(file, names="")).parts
    assert json.loads(panel)["size"] == [160, 96]
    assert heats is None
    many = VIEWS["Similarity"](studio, ask(file, names=", ".join(f"name {number}" for number in range(9))))
    assert many.said == f"the first {MOST_HEATS} of 9 names"


@pytest.mark.parametrize("tab", ["Detection", "Segmentation", "Panoptic"])
def test_no_names_are_told(tab: str, studio: Studio, file: Path) -> None:
    with pytest.raises(ValueError, match=r"type at least one, such as: cat, cup"):
        VIEWS[tab](studio, ask(file, names=" , ", stuff=""))


@pytest.mark.parametrize("tab", VIEWS)
def test_no_picture_and_broken_ones_are_told(tab: str, studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no picture; upload one"):
        VIEWS[tab](studio, Question(picture=None, names="cat"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(ValueError, match=r"broken\.png"):
        VIEWS[tab](studio, Question(picture=str(broken), names="cat"))


def test_a_large_picture_is_made_smaller(studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large.png"
    Image.new("RGB", (3000, 1500)).save(large)
    assert studio.look(str(large)).size == (LONGEST, LONGEST // 2)
    monkeypatch.setattr("clipself.data.images.read.MOST_PIXELS", 100)
    with pytest.raises(ValueError, match=r"has 160 x 96 pixels, 100 are the most; make it smaller"):
        read_image(Image.new("RGB", (160, 96)))


def test_typed_names_are_words_and_never_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("password\n")
    assert read_typed(f"cat, {secret}").names == ("cat", str(secret))
    assert read_typed("cat, kitten; dog").names == ("cat, kitten", "dog")
    found = read_typed("cat, grass", "grass, sky")
    assert dict(zip(found.names, found.is_thing, strict=True)) == {"cat": True, "grass": False, "sky": False}
    assert read_typed("", "sky").is_thing == (False,)
    assert read_typed("coco_80").names == load_vocabulary("coco_80").names
    with pytest.raises(ValueError, match=r"'cat' more than once"):
        read_typed("cat, cat")
    with pytest.raises(ValueError, match=rf"{MOST_NAMES + 1} names are too many for a page"):
        read_typed(",".join(map(str, range(MOST_NAMES + 1))))


def test_checkpoints_take_the_tab_of_their_kind() -> None:
    with pytest.raises(ValueError, match="are both for the tab 'detect'; name one of them"):
        Studio(DemoConfig(device="cpu", checkpoint=("clipself-mini-detector", "clipself-mini-detector")))
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere"):
        Studio(DemoConfig(device="cpu", checkpoint=("nowhere",)))


def test_packaged_pictures_come_with_names() -> None:
    samples = list_samples()
    assert len(samples) == 10
    assert "butterfly" in samples[0].names
    assert all(read_typed(one.names, one.stuff).names for one in samples)


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ImportError(name) if name == "gradio" else AssertionError(name)

    monkeypatch.setattr(page, "import_module", gone)
    with pytest.raises(ImportError, match=r"pip install 'clipself\[demo\]'"):
        run.demo(device="cpu")
    assert import_module("clipself").demo is run.demo


def test_a_port_that_is_taken_is_told() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(ValueError, match=rf"127\.0\.0\.1:{port} cannot be listened on .*choose another --port"):
            run.check_port(DemoConfig(port=port))
