"""Released CORA files: a detector written by their names comes back as it was, and what does not fit is named."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
from tests.support.detection import BASE, NAMES
from tests.support.tiny import tiny_resnet_clip
from torch import Tensor

from clipself.backbones.text import make_vocabulary
from clipself.backbones.weights import read_state_dict
from clipself.data.detection import ClassSplit
from clipself.detection.detector import Detector
from clipself.detection.detectors.cora import published
from clipself.detection.detectors.cora.model import Cora
from clipself.detection.detectors.cora.published import without_twins
from clipself.detection.detectors.cora.settings import CoraSettings
from clipself.detection.detectors.table import build_detector
from clipself.detection.released import import_released

SETTINGS = CoraSettings(
    templates="simple", short_side=64, longest_side=96, width=32, hidden=32, heads=4, encoder_layers=1,
    decoder_layers=2, queries=12, bottleneck=8, score_threshold=0.0,
)  # fmt: skip
CLASSES = ClassSplit(ids=(1, 2, 3, 4), names=NAMES, is_base=tuple(name in BASE for name in NAMES))


def released(detector: Cora) -> dict[str, Tensor]:
    """A detector by the released names, with everything that they hold twice."""
    state = {f"{name}": tensor for name, tensor in detector.localiser.state_dict().items()}
    for name, tensor in detector.clip.clip.state_dict().items():
        if name.endswith("num_batches_tracked") or name == "logit_scale":
            continue
        theirs = f"classifier.{name}"
        if name.startswith("visual."):
            theirs = name.replace("visual.attnpool.", "backbone.0.attn_pool.").replace("visual.", "backbone.0.body.")
        state[theirs] = tensor
    twins = {"bbox_embed.": "transformer.decoder.bbox_embed.", "backbone.0.body.layer4.": "backbone.0.layer4."}
    return state | {
        twins[start] + name.removeprefix(start): tensor
        for name, tensor in state.items()
        for start in twins
        if name.startswith(start)
    }


@pytest.fixture
def detector() -> Cora:
    clip = tiny_resnet_clip()
    made = build_detector(clip, SETTINGS, make_vocabulary(clip, NAMES, base=BASE, **SETTINGS.spoken))
    assert isinstance(made, Cora)
    return made.eval()


def test_the_averaged_weights_come_back(detector: Cora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSELF_CACHE", str(tmp_path / "cache"))
    state = released(detector)
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    file = tmp_path / "cora.pth"
    torch.save({"model": other, "model_ema": state, "args": Namespace(epochs=35), "epoch": 34}, file)

    def same_architecture(model: str, tensors: dict[str, Tensor], *, source: str, quick_gelu: bool) -> object:
        clip = tiny_resnet_clip(seed=1)
        own = clip.clip.state_dict()
        clip.clip.load_state_dict({**tensors, "logit_scale": own["logit_scale"]}, strict=True)
        return clip

    monkeypatch.setattr(published, "clip_from_state_dict", same_architecture)
    folder = import_released(file, tmp_path / "out", model="tiny", pretrained=None, settings=SETTINGS, classes=CLASSES)
    again = Detector.from_checkpoint(folder, device="cpu").model
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (one,), (two,) = (some.detect(images, [(64, 64)]) for some in (detector, again))
    assert len(one.scores)
    torch.testing.assert_close(one.scores, two.scores)
    torch.testing.assert_close(one.boxes, two.boxes)
    assert again.vocabulary.base_K.tolist() == [name in BASE for name in NAMES] + [True]


def test_an_entry_is_taken_by_its_name_where_it_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "two.pth"
    torch.save({"model": {"a": torch.zeros(1)}, "model_ema": {"a": torch.ones(1)}}, file)
    assert read_state_dict(file)["a"] == 0
    assert read_state_dict(file, prefer="model_ema")["a"] == 1
    assert read_state_dict(file, prefer="absent")["a"] == 0


def test_twins_that_differ_are_refused(detector: Cora) -> None:
    state = released(detector)
    once = without_twins(state, source="x.pth")
    assert len(once) < len(state)
    assert not any(name.startswith(("transformer.decoder.bbox_embed.", "backbone.0.layer4.")) for name in once)
    name = "transformer.decoder.bbox_embed.0.layers.0.weight"
    with pytest.raises(ValueError, match="are one tensor in the released files"):
        without_twins({**state, name: state[name] + 1}, source="x.pth")
