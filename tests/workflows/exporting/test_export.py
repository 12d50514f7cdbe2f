"""Folders of `clipself export`: a script without torch runs them, other names are added, what cannot be is said."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from clipself.backbones.loading import load_clip
from clipself.backbones.text import embed_names
from clipself.cli.main import main
from clipself.data.images import read_image
from clipself.data.photographs import PHOTOS
from clipself.detection.detector import Detector
from clipself.detection.detectors.table import DETECTORS
from clipself.ops.patches import fit_longest
from clipself.segmentation.segmenters import SEGMENTERS
from clipself.workflows.exporting.config import ExportConfig
from clipself.workflows.exporting.kinds import DETECTORS_EXPORTED, SEGMENTERS_EXPORTED, graph_builder
from clipself.workflows.exporting.run import export, export_names

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["clipself"] = None  # importing them fails
import json, pathlib, numpy
folder, picture, names_file = map(pathlib.Path, sys.argv[1:])
sys.path.insert(0, str(folder))
import run_graph
found = run_graph.run(picture, names_file=names_file.name)
print(json.dumps({name: numpy.asarray(value).tolist() for name, value in found.items()}))
"""


def test_what_is_in_the_tables_is_every_method() -> None:
    ours = {name for name, row in DETECTORS.items() if row.settings.__module__.startswith("clipself.")}
    assert set(DETECTORS_EXPORTED) == ours
    assert set(SEGMENTERS_EXPORTED) >= {name for name in SEGMENTERS if name in ("catseg", "san")}


@pytest.mark.parametrize("name", [name for name, row in DETECTORS_EXPORTED.items() if isinstance(row, str)])
def test_what_cannot_be_exported_says_why(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} cannot be exported: .{{20,}}These can: fvit"):
        graph_builder(DETECTORS_EXPORTED, name)


def test_a_readout_beside_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="readout is for a model without a checkpoint"):
        ExportConfig(out=tmp_path, checkpoint="runs/mine", readout="value")
    with pytest.raises(ValueError, match="another library"):
        export(out=tmp_path, checkpoint="hf:google/owlvit-base-patch32")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
def test_a_detector_runs_where_importing_torch_fails(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "graph"
    words = ["--checkpoint", "clipself-mini-detector", "--names", "cat", "ball", "--out", str(folder)]
    assert main(["export", *words]) == 0
    card = json.loads((folder / "graph.json").read_text())
    assert card["inputs"]["images"] == ["batch", 3, "16 * rows", "16 * cols"]
    assert json.loads((folder / "names.json").read_text()) == ["cat", "ball"]
    more = folder / "more.npz"
    assert main(["export", "names", str(folder), "--names", "cat", "cup", "red ball", "--out", str(more)]) == 0
    words = [sys.executable, "-c", WITHOUT_TORCH, str(folder), str(PHOTOS["coffee"]), str(more)]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    (expected,) = Detector.from_checkpoint().predict(PHOTOS["coffee"], ["cat", "cup", "red ball"])
    assert found["names"] == list(expected.names)
    assert len(expected) > 3
    assert found["labels"] == expected.labels.tolist()
    np.testing.assert_allclose(found["scores"], expected.scores.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["boxes"], expected.boxes.numpy(), atol=0.05)  # of 600 pixels


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's own exporters
def test_a_dense_map_runs_where_importing_torch_fails_and_takes_names(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export(out=tmp_path, to="onnx")
    assert not (tmp_path / "names.npz").exists()
    words = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path), str(PHOTOS["coffee"]), "none.npz"]
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    clip, size = load_clip("clipself-mini"), json.loads((tmp_path / "graph.json").read_text())["prepare"]["size"]
    picture = read_image(PHOTOS["coffee"])
    sides = fit_longest((picture.height, picture.width), longest=size, patch=clip.patch_size)
    with torch.no_grad():
        expected = clip.dense_map(clip.preprocess(picture, size=sides)[None], readout="value")[0]
    np.testing.assert_allclose(found["dense_map"], expected.numpy(), atol=1e-4)
    rows = np.load(export_names(graph=tmp_path, names=("cat", "a red cup")))
    np.testing.assert_allclose(
        rows["texts"],
        embed_names(clip, ["cat", "a red cup"], templates="imagenet", wording="as-written").rows_SD,
        atol=1e-5,
    )
    assert json.loads((tmp_path / "names.json").read_text()) == ["cat", "a red cup"]
