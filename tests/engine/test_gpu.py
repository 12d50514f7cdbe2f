"""What only an accelerator shows: number formats, the float16 scaler, compilation, runs that are equal there too."""

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.families import FAMILIES, Family, write_place
from tests.support.pictures import draw_pictures
from tests.support.tiny import tiny_openai_clip, tiny_resnet_clip
from tests.support.training import ToyBatch, ToyTask, train_toy, weights_of
from torch import Tensor, nn

from clipself.backbones.export import save_clip
from clipself.engine.log import read_metrics
from clipself.engine.step import Step

pytestmark = pytest.mark.gpu


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(out)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_place(tmp_path_factory.mktemp("gpu"))


@pytest.fixture
def there(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(world)
    monkeypatch.setenv("CLIPSELF_CACHE", str(world / "cache"))
    return world


@pytest.fixture
def in_order() -> Iterator[None]:
    """Sums in a fixed order, as far as there are such: else two equal runs part after two steps."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.use_deterministic_algorithms(False)


def family_of(name: str) -> Family:
    """A training, where its packages are there."""
    if name.startswith("odise"):
        pytest.importorskip("diffusers")
    return FAMILIES[name]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.1), ("fp16", 0.05)])
def test_every_training_agrees_with_the_cpu(name: str, precision: str, tolerance: float, there: Path) -> None:
    family = family_of(name)
    here, device = there / f"{name}-cpu", there / f"{name}-{precision}"
    if not here.exists():
        family.train(here)
    family.train(device, device="cuda", precision=precision, overwrite=True)
    assert losses(device)[0] == pytest.approx(losses(here)[0], rel=tolerance)
    assert all(bool(value.isfinite().all()) for value in family.weights_of(device).values())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_training_is_resumed(name: str, there: Path, in_order: None) -> None:
    family, broken = family_of(name), there / f"{name}-broken"
    family.train(broken, device="cuda", max_steps=2, schedule="constant")
    family.train(there / f"{name}-four", device="cuda", schedule="constant")
    family.train(broken, device="cuda", resume=True, max_steps=4, schedule="constant")
    assert losses(broken) == pytest.approx(losses(there / f"{name}-four"), rel=1e-4)


def test_a_compiled_run_is_the_same_run(there: Path) -> None:
    family = FAMILIES["distill-patches"]
    for out, compiled in (("eager", False), ("compiled", True)):
        family.train(there / out, device="cuda", compile=compiled)
    assert losses(there / "compiled") == pytest.approx(losses(there / "eager"), rel=1e-3)


def test_the_scaler_of_float16_skips_and_goes_on(tmp_path: Path) -> None:
    class Once(ToyTask):
        """Gradients beyond float16 in one step: the scaler skips it, lowers its scale, and the run goes on."""

        def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
            terms = super().losses(model, batch, step)
            if step.number == 30:  # by then the scale has come down to what the other gradients allow
                terms["steep"] = next(model.parameters()).half().mul(6e4).sum().float() * 1e4
            return terms

    train_toy(data="d", out=tmp_path / "run", task=Once, device="cuda", precision="fp16", max_steps=36)
    skipped = [record["grad_norm"] is None for record in read_metrics(tmp_path / "run")]
    assert skipped[24:] == [False] * 6 + [True] + [False] * 5
    assert all(bool(value.isfinite().all()) for value in weights_of(tmp_path / "run").values())


def test_gradients_that_stay_infinite_end_a_float16_run(tmp_path: Path) -> None:
    class Always(ToyTask):
        def losses(self, model: nn.Module, batch: ToyBatch, step: Step) -> dict[str, Tensor]:
            weight = next(model.parameters())
            return {**super().losses(model, batch, step), "root": (weight - weight).abs().sqrt().sum()}

    with pytest.raises(FloatingPointError, match="norm of the gradients"):
        train_toy(data="d", out=tmp_path / "run", task=Always, device="cuda", precision="fp16", max_steps=60)
    assert not (tmp_path / "run" / "toy.pt").exists()


def test_chance_is_the_same_on_every_device(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data": "d", "precision": "fp32"}
    for device in ("cpu", "cuda"):
        train_toy(out=tmp_path / device, device=device, **settings)
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-4)
    assert torch.cuda.is_available()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two CUDA devices for NCCL to join")
def test_two_devices_train_as_one_does(tmp_path: Path) -> None:
    """As `torchrun` starts them; the same images a step."""
    model, pictures = save_clip(tiny_openai_clip(), tmp_path / "model"), draw_pictures(tmp_path / "pictures", 8)
    shared = [
        "-m", "clipself", "distill", "--data", str(pictures), "--model", str(model), "--image-size", "64",
        "--flip", "0", "--max-steps", "4", "--lr", "1e-3", "--workers", "0", "--precision", "fp32", "--device", "cuda",
    ]  # fmt: skip
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, ahead, batch in (("one", launcher[:0], 4), ("two", launcher, 2)):
        words = [*ahead, *shared, "--batch-size", str(batch), "--out", str(tmp_path / name)]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


@pytest.mark.parametrize("tower", [tiny_resnet_clip, tiny_openai_clip])
def test_channels_last_changes_no_map(tower: Any) -> None:
    clip = tower().cuda().eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).cuda()
    with torch.no_grad():
        plain = clip.dense_map(images)
        clip.to(memory_format=torch.channels_last)
        last = clip.dense_map(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-3, atol=1e-3)
