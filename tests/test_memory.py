"""Memory stays what it is, however long a training or a job over pictures goes on."""

import io
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.detection import tiny_detector
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip
from tests.support.training import train_toy

import clipself
from clipself.backbones.export import save_clip
from clipself.data.sources import ImageFolder
from clipself.detection import predict
from clipself.detection.detector import Detector
from clipself.distillation.train import distill
from clipself.engine.callbacks import Progress
from clipself.structures import Detections
from clipself.workflows.labelling import labellers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(7200),  # minutes where nothing else runs
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory of a process is read from /proc"),
]
SLACK: float = 8.0
"""Megabytes between the halves that are the allocator's own; a thousandth of a small picture kept is more in all."""


class Memory:
    """Megabytes of this process, seen now and then."""

    def __init__(self, every: int) -> None:
        self.every, self.calls, self.seen = every, 0, list[float]()
        self.highest()

    def look(self, *_: Any) -> None:
        self.calls += 1
        if self.calls % self.every == 0:
            resident = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen.append(resident * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def highest(self) -> float:
        """The most that the process has held since it was asked before."""
        seen = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        Path("/proc/self/clear_refs").write_text("5")
        assert seen is not None
        return int(seen[1]) / 2**10

    def growth(self) -> float:
        """From the first half to the second, by the medians of their later parts: what starts has been started."""
        quarter = len(self.seen) // 4
        assert quarter >= 5
        early, late = (float(np.median(self.seen[part * quarter : (part + 1) * quarter])) for part in (1, 3))
        print(f"{self.calls} calls: {early:.1f} MB in the second quarter, {late:.1f} MB in the last")
        return late - early


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))


def test_the_measure_sees_what_is_kept() -> None:
    memory, kept = Memory(every=5), list[Any]()
    for _ in range(1000):
        kept.append(np.ones(8_000))  # 64 kB, as much as a picture of 150 x 150
        memory.look()
    assert memory.growth() > 3 * SLACK


@pytest.mark.parametrize("steps", [500, 10_000])
def test_a_loop_of_many_steps(steps: int, tmp_path: Path) -> None:
    memory = Memory(every=steps // 100)
    train_toy(data="d", out=tmp_path / "run", max_steps=steps, save_every=steps // 20, on_step=memory.look)
    assert memory.calls == steps
    assert memory.growth() < SLACK


@pytest.mark.parametrize("steps", [300, 10_000])
def test_self_distillation_of_many_steps(steps: int, tmp_path: Path) -> None:
    model = save_clip(tiny_openai_clip(layers=2), tmp_path / "clip")
    memory = Memory(every=steps // 100)

    def look(now: Progress) -> None:
        memory.look()

    distill(
        out=tmp_path / "run", data=draw_pictures(tmp_path / "pictures", 16), model=str(model), image_size=32,
        max_split=2, max_regions=2, max_steps=steps, batch_size=1, workers=0, precision="fp32", device="cpu",
        save_every=steps // 20, keep_image=1.0, on_step=look,
    )  # fmt: skip
    assert memory.calls == steps
    assert memory.growth() < SLACK


def made_up(path: Path, count: int) -> Path:
    """A shard with so many names for one tiny picture."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(stream, "PNG")
    with tarfile.open(path, "w") as held:
        for number in range(count):
            member = tarfile.TarInfo(f"{number:06d}.png")
            member.size = len(stream.getvalue())
            held.addfile(member, io.BytesIO(stream.getvalue()))
            held.members = []  # type: ignore[attr-defined]
    return path


def three_boxes(image: Image.Image, names: tuple[str, ...]) -> Detections:
    corner = torch.tensor([[0.0, 0.0], [4.0, 2.0], [8.0, 6.0]])
    return Detections(
        boxes=torch.cat([corner, corner + 3], dim=1), scores=torch.tensor([0.9, 0.8, 0.7]),
        labels=torch.tensor([0, 1, 0]), names=names, size=(image.height, image.width),
    )  # fmt: skip


@pytest.mark.parametrize("pictures", [2_000, 100_000])
def test_labels_of_many_pictures(pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(every=pictures // 100)

    class Boxes:
        """Three boxes in any picture."""

        def __init__(self, config: Any) -> None:
            self.names = tuple(config.names)

        def __call__(self, image: Image.Image, file: Path, *, least: float) -> Detections:
            memory.look()
            return three_boxes(image, self.names)

    monkeypatch.setitem(labellers.LABELLERS, "detect", Boxes)
    shard = made_up(tmp_path / "all.tar", pictures)
    result = clipself.label(
        images=shard, names=["cat", "dog"], out=tmp_path / "out", device="cpu", review=False,
        formats=["coco", "yolo"], task="detect",  # a file of all, and files of each
    )  # fmt: skip
    assert (memory.calls, result.pictures, dict(result.objects)) == (
        pictures, pictures, {"cat": 2 * pictures, "dog": pictures}
    )  # fmt: skip
    assert memory.growth() < SLACK
    assert memory.highest() - memory.seen[-1] < 3 * SLACK  # threads that wait for the disk have memory of their own


@pytest.mark.parametrize("pictures", [2_000, 100_000])
def test_predictions_of_many_pictures(pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(every=pictures // 100)

    class Boxes:
        """Three boxes in any picture."""

        trained_names = ("cat", "dog")

        def use(self, names: Sequence[str]) -> None:
            self.names = tuple(names)

        def stream(self, images: Sequence[Image.Image], *, threshold: float) -> Iterator[Detections]:
            for image in images:
                memory.look()
                yield three_boxes(image, self.names)

    monkeypatch.setattr(predict, "open_detector", lambda *_, **__: Boxes())
    result = clipself.predict_images(images=made_up(tmp_path / "all.tar", pictures), out=tmp_path / "out", device="cpu")
    assert (memory.calls, len(result.found), len(result.pictures)) == (pictures, pictures, pictures)
    assert memory.growth() < SLACK
    assert memory.highest() - memory.seen[-1] < 3 * SLACK


@pytest.mark.parametrize("pictures", [300, 10_000])
def test_a_detector_over_many_pictures(pictures: int, tmp_path: Path) -> None:
    shard, memory = made_up(tmp_path / "all.tar", pictures), Memory(every=pictures // 100)
    for found in Detector(tiny_detector(score_threshold=0.0)).stream(ImageFolder(shard).paths):
        assert found.size == (12, 16)
        memory.look()
    assert memory.calls == pictures
    assert memory.growth() < SLACK
