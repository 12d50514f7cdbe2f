"""Every predictor takes pictures by one door: in whatever form one comes, it is the same picture to all of them."""

import io
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tests.support.detection import tiny_detector
from tests.support.tiny import tiny_openai_clip
from tests.support.toys.masks import ColourMasks
from torch import Tensor

import clipself
from clipself.backbones.dense_clip import DenseCLIP
from clipself.data.images import read_image, read_video
from clipself.detection.detector import Detector
from clipself.panoptic.judge import ClipJudge
from clipself.panoptic.segmenter import PanopticSegmenter
from clipself.segmentation.training_free import TrainingFree, TrainingFreeSettings

NAMES: Final = ("red", "green")


def drawn() -> NDArray[np.uint8]:
    pixels = np.random.default_rng(0).integers(0, 90, (48, 64, 3), dtype=np.uint8)
    pixels[:24, :40, 0] += 150
    pixels[24:, :, 1] += 120
    return pixels


FORMS: Final[Mapping[str, Callable[[NDArray[np.uint8]], Any]]] = {
    "text": lambda p: "a.png",
    "path": lambda p: Path("a.png"),
    "RGB": Image.fromarray,
    "array": lambda p: p,
    "of OpenCV, turned": lambda p: np.ascontiguousarray(p[..., ::-1])[..., ::-1],
    "16-bit array": lambda p: p.astype(np.uint16) * 257,
    "float array": lambda p: p.astype(np.float32) / 255,
    "tensor": lambda p: torch.from_numpy(p.copy()).permute(2, 0, 1).float() / 255,
    "byte tensor": lambda p: torch.from_numpy(p.copy()).permute(2, 0, 1),
    "RGBA": lambda p: Image.fromarray(p).convert("RGBA"),
    "RGBX": lambda p: Image.fromarray(p).convert("RGBX"),
}
"""Forms of which each holds all of the picture's pixels."""

OTHER_MODES: Final[Mapping[str, Callable[[NDArray[np.uint8]], Any]]] = {
    **{mode: lambda p, mode=mode: Image.fromarray(p).convert(mode)  # type: ignore[misc]
       for mode in ("P", "L", "LA", "1", "CMYK", "YCbCr", "HSV", "F", "I")},
    "I;16": lambda p: Image.fromarray(p[..., 0].astype(np.uint16) * 257),
    "PA": lambda p: Image.fromarray(p).convert("P").convert("PA"),
    "La": lambda p: Image.fromarray(p).convert("LA").convert("La"),
    "grey array": lambda p: p[..., 0],
    "mask": lambda p: p[..., 0] > 99,
}  # fmt: skip
"""Forms that lose something, which `read_image` brings to RGB; see tests/data/images/test_read.py."""


@cache
def clip() -> DenseCLIP:
    return tiny_openai_clip(layers=4)


@cache
def detector() -> Detector:
    return Detector(tiny_detector(score_threshold=0.0))


@cache
def segmenter() -> TrainingFree:
    return TrainingFree(clip(), NAMES, TrainingFreeSettings(templates="simple", shortest=32, window=32, stride=32))


@cache
def panoptic() -> PanopticSegmenter:
    return PanopticSegmenter(ColourMasks("0.05"), ClipJudge(clip(), image_size=64, templates="simple"), list(NAMES))


def by_detector(picture: Any) -> Tensor:
    (found,) = detector().predict(picture)
    return torch.cat([found.boxes, found.scores[:, None]], dim=1)


def by_detector_that_waits(picture: Any) -> Tensor:
    detector().set_image(picture)
    found = detector().detect()
    return torch.cat([found.boxes, found.scores[:, None]], dim=1)


def by_segmenter(picture: Any) -> Tensor:
    scores = segmenter().segment(picture).scores_HW
    assert scores is not None
    return scores


def by_query(picture: Any) -> Tensor:
    clip().set_image(picture, size=32)
    return clip().query(["a cat"])


DOORS: Final[Mapping[str, Callable[[Any], Tensor]]] = {
    "Detector.predict": by_detector,
    "Detector.set_image": by_detector_that_waits,
    "Segmenter.segment": by_segmenter,
    "PanopticSegmenter": lambda picture: panoptic()(picture).log_scores_QK1,
    "DenseCLIP.preprocess": lambda picture: clip().preprocess(picture, size=32),
    "DenseCLIP.set_image": by_query,
}
doors = pytest.mark.parametrize("door", DOORS)


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    Image.fromarray(drawn()).save("a.png")


@doors
def test_one_picture_in_every_form(door: str) -> None:
    wanted = DOORS[door](Image.fromarray(drawn()))
    assert wanted.numel() > 0
    assert not torch.equal(DOORS[door](Image.fromarray(drawn()[:, ::-1].copy())), wanted)  # it looks at the picture
    for name, form in FORMS.items():
        assert torch.equal(DOORS[door](form(drawn())), wanted), name
    for name, form in OTHER_MODES.items():
        assert torch.equal(DOORS[door](form(drawn())), DOORS[door](read_image(form(drawn())))), name


REFUSED: Final[Mapping[str, tuple[Callable[[], Any], str]]] = {
    "address": (lambda: "https://example.org/a.jpg", "is an address; download the file and pass its path"),
    "address as a path": (lambda: Path("https://example.org/a.jpg"), "is an address; download the file"),
    "bucket": (lambda: "s3://bucket/a.jpg", "is an address; download the file"),
    "picture in text": (lambda: "data:image/png;base64,iVBOR", "is an address; download the file"),
    "bytes": (lambda: b"\x89PNG", "not bytes; pass one picture"),
    "open file": (lambda: io.BytesIO(b"\x89PNG"), "not BytesIO; pass one picture"),
    "table": (lambda: {"image": drawn()}, "not dict; pass one picture"),
    "nothing": (lambda: None, "not NoneType; pass one picture"),
    "normalised tensor": (lambda: torch.randn(3, 48, 64), "not normalised ones"),
    "two channels": (lambda: np.zeros((48, 64, 2), dtype=np.uint8), r"\(48, 64, 2\) is no picture"),
    "missing file": (lambda: "b.png", "no image at b.png; check the path"),
    "text file": (lambda: __file__, "is not an image that can be read"),
}
"""What is no picture, and what is said of it."""


@doors
@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_picture_is_refused_in_words(door: str, form: str) -> None:
    make, said = REFUSED[form]
    if (door, form) == ("Segmenter.segment", "nothing"):
        pytest.skip("which means the picture that was set")
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        DOORS[door](make())


def write_video(path: str, frames: int) -> None:
    av = pytest.importorskip("av")
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(5))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(frames):
            for packet in stream.encode(av.VideoFrame.from_ndarray(drawn(), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


MANY: Final[Mapping[str, tuple[Callable[[], Any], int]]] = {
    "list of all kinds": (lambda: [drawn(), "a.png", Image.fromarray(drawn()), Path("a.png")], 4),
    "generator": (lambda: (drawn() for _ in range(3)), 3),
    "opened by map": (lambda: map(Image.open, ["a.png", "a.png"]), 2),
    "batch of arrays": (lambda: np.stack([drawn(), drawn()]), 2),
    "batch of tensors": (lambda: torch.zeros(2, 3, 48, 64), 2),
    "frames": (lambda: read_video("v.mp4"), 3),
}
"""Several pictures, and how many."""


@pytest.mark.parametrize("form", MANY)
def test_several_pictures_in_every_form(form: str) -> None:
    if form == "frames":
        write_video("v.mp4", 3)
    make, count = MANY[form]
    assert len(detector().predict(make())) == count


def test_one_picture_is_not_a_video() -> None:
    write_video("v.mp4", 2)
    with pytest.raises(ValueError, match=r"v\.mp4 is a video; pass its frames, one by one, by read_video"):
        read_image("v.mp4")


SMALL: Final[dict[str, Any]] = {"names": ["cat", "dog"], "device": "cpu"}
FOLDERS: Final[Mapping[str, Callable[[Any, str], int]]] = {
    "predict_images": lambda p, out: len(clipself.predict_images(images=p, out=out, **SMALL).found),
    "predict_segments": lambda p, out: len(
        json.loads(clipself.predict_segments(images=p, out=out, templates="simple", **SMALL).read_text())["images"]
    ),
    "predict_panoptic": lambda p, out: len(clipself.predict_panoptic(images=p, out=out, **SMALL).drawings),
    "label": lambda p, out: clipself.label(images=p, out=out, formats=["coco"], **SMALL).pictures,
    "show_kmeans": lambda p, out: int(clipself.show_kmeans(p, out=f"{out}.png", image_size=64, device="cpu").is_file()),
}
"""What takes many at once -> how many pictures it has seen."""


@pytest.mark.slow
@pytest.mark.parametrize("job", FOLDERS)
def test_jobs_take_them_too(job: str) -> None:
    write_video("v.mp4", 3)
    Path("folder").mkdir()
    Image.fromarray(drawn()).save("folder/b.png")
    forms = {**MANY, "video": (lambda: "v.mp4", 3), "folder": (lambda: "folder", 1)}
    for name, (make, count) in forms.items():
        if name == "list of all kinds":
            count = 3  # a file is listed once
        seen = FOLDERS[job](make(), f"out {name}")
        assert seen == (1 if job == "show_kmeans" else count), name
    for name, (make, said) in REFUSED.items():
        if name not in ("nothing", "text file"):
            with pytest.raises((ValueError, FileNotFoundError), match=said):
                FOLDERS[job](make(), f"out {name}")
