"""Things looked for by pictures of them: what a row is made of, and what is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.support.detection import tiny_detector, write_blocks
from tests.support.tiny import tiny_openai_clip
from torchvision.transforms import v2

from clipself.backbones.examples import as_clip_sees_it, embed_examples
from clipself.backbones.export import save_clip
from clipself.backbones.text import centre_on
from clipself.data.examples import read_examples
from clipself.detection import Detector, predict_images
from clipself.detection.checkpoint import save_detector


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (50, 40)) -> Image.Image:
    image = Image.new("RGB", size, colour)
    image.paste((255, 255, 255), (5, 5, 20, 30))
    return image


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A saved detector, pictures, and examples of two things."""
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    write_blocks(tmp_path, 2)
    model = save_clip(tiny_openai_clip(layers=4), tmp_path / "model")
    save_detector(tiny_detector(score_threshold=0.0), tmp_path / "detector", model=str(model), card={})
    for name, colours in {"red block": [(220, 40, 40), (230, 50, 40)], "sea": [(40, 60, 200)]}.items():
        (tmp_path / "examples" / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            picture(colour).save(tmp_path / "examples" / name / f"{number}.png")
    return tmp_path


def test_a_picture_goes_into_the_tower_as_clips_own_preprocessing_has_it() -> None:
    clip = tiny_openai_clip()
    theirs = v2.Compose(
        [
            v2.Resize(32, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(32), v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(clip.image_mean, clip.image_std),
        ]
    )  # fmt: skip
    for size in ((50, 40), (33, 90), (32, 32), (7, 9)):
        image = picture((90, 160, 30), size)
        torch.testing.assert_close(as_clip_sees_it(clip, image), theirs(image), atol=1e-6, rtol=1e-6)


def test_a_row_is_the_mean_of_unit_rows() -> None:
    clip = tiny_openai_clip()
    pictures = [picture((220, 40, 40)), picture((40, 60, 200))]
    rows = embed_examples(clip, {"thing": pictures})
    alone = [clip.encode_image(as_clip_sees_it(clip, one)[None])[0] for one in pictures]
    torch.testing.assert_close(rows["thing"], F.normalize((alone[0] + alone[1]) / 2, dim=0))


def test_rows_stand_beside_texts_and_in_place_of_them(world: Path) -> None:
    detector = Detector.from_checkpoint(world / "detector", device="cpu")
    examples = read_examples(world / "examples")
    assert list(examples) == ["red block", "sea"]
    detector.use(["cat"], examples=examples)
    vocabulary = detector.model.vocabulary
    assert vocabulary.names == ("cat", "red block", "sea")
    assert vocabulary.pictured == {"red block", "sea"}
    rows = embed_examples(detector.model.clip, examples)
    shown, cat = torch.stack(list(rows.values())), vocabulary.texts_KD[0]
    torch.testing.assert_close(vocabulary.texts_KD[1:3], centre_on(shown, cat[None]))
    background = vocabulary.texts_KD[3]
    detector.use(["cat", "red block"])
    assert detector.model.vocabulary.pictured == frozenset()
    assert not torch.allclose(detector.model.vocabulary.texts_KD[1], rows["red block"])
    torch.testing.assert_close(detector.model.vocabulary.texts_KD[2], background)
    detector.use(examples=examples)
    torch.testing.assert_close(detector.model.vocabulary.texts_KD[:2], shown)  # like with like
    detector.use(examples={"sea": picture((40, 60, 200))})
    assert detector.model.vocabulary.names == ("sea",)
    (found,) = detector.predict(picture((40, 60, 200)))
    assert set(found.names) == {"sea"}


def test_predictions_are_made_by_examples(world: Path) -> None:
    given: dict[str, Any] = {"images": world / "pictures", "checkpoint": str(world / "detector"), "device": "cpu"}
    result = predict_images(**given, examples=world / "examples", names="cat", out=world / "both")
    assert result.found[0].names == ("cat", "red block", "sea")
    result = predict_images(**given, examples=str(world / "examples"), out=world / "alone")
    assert result.found[0].names == ("red block", "sea")


def test_examples_that_cannot_be_meant_are_refused(world: Path) -> None:
    given: dict[str, Any] = {"images": world / "pictures", "checkpoint": str(world / "detector"), "device": "cpu"}
    with pytest.raises(FileNotFoundError, match="no folder of examples at nowhere"):
        predict_images(**given, examples="nowhere", out=world / "out")
    result = predict_images(**given, examples=world / "examples", names="cat, sea", out=world / "out")
    assert result.found[0].names == ("cat", "red block", "sea")  # once, by its looks
    (world / "examples/empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no images"):
        predict_images(**given, examples=world / "examples", out=world / "out")
    shutil.copy(world / "instances.json", world / "examples/empty/broken.png")
    with pytest.raises(ValueError, match=r"broken\.png"):
        predict_images(**given, examples=world / "examples", out=world / "out")
    with pytest.raises(ValueError, match="holds no folders; lay the pictures of each thing into one"):
        read_examples(world / "pictures")
    with pytest.raises(ValueError, match="there are no pictures of 'mug'"):
        embed_examples(tiny_openai_clip(), {"mug": []})


def test_somebody_elses_detector_looks_for_names_alone(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipself.detection.predict.open_detector", lambda *given, **named: object())
    with pytest.raises(ValueError, match="hf:owl looks for names alone"):
        predict_images(images=world / "pictures", checkpoint="hf:owl", examples=world / "examples", out=world / "out")
