"""Settings of `clipself export` and `clipself export names`; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from clipself.engine.config import Settings
from clipself.segmentation.settings import Mode

Target = Literal["onnx", "torchscript", "torch-export"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig(Settings):
    """Writes a model as a graph that runs without this package; the embeddings of names are an input of it.

    A checkpoint is exported as the detector or segmenter that it is. Without one names make the model a segmenter that
    needs no training, and without names its dense map is exported.
    """

    out: Path
    """Folder to write: the graph, `graph.json`, and the names in `names.npz` and `names.json`."""
    to: Target = "onnx"
    """What the graph is for: ONNX Runtime and others, TorchScript, or `torch.export.load`."""
    checkpoint: str | None = None
    """Folder that `detect train` or `segment train` wrote, or a packaged detector."""
    model: str = "clipself-mini"
    """Without a checkpoint: open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    names: tuple[str, ...] = ()
    """What the names file holds at first: words, a text file or a packaged vocabulary; those of training if not
    given."""
    readout: str | None = None
    """Without a checkpoint: how the last block becomes a dense map; what the model was refined with, else "value"."""
    templates: str = "imagenet"
    """Without a checkpoint: sentences around the names."""
    mode: Mode = "sliding"
    """CAT-Seg: windows and the whole, averaged, as published, or the whole in one pass, which is
    several times faster."""

    def check(self) -> None:
        """Refuses what would not be looked at.

        Raises:
            ValueError: A checkpoint has a readout of its own.
        """
        if self.checkpoint is not None and self.readout is not None:
            raise ValueError("readout is for a model without a checkpoint, which knows its own; leave one of them out")


@dataclass(frozen=True, kw_only=True, slots=True)
class NamesConfig(Settings):
    """Embeds other names for an exported graph, by the text tower that it was made with; the graph stays as it is."""

    graph: Annotated[Path, Positional]
    """Folder that `clipself export` wrote."""
    names: tuple[str, ...]
    """Words, a text file or a packaged vocabulary."""
    out: Path | None = None
    """File to write, its list of names as JSON beside it; `names.npz` of the folder if not given."""
