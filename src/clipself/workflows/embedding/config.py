"""Settings of `clipself embed`; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedConfig(Settings):
    """Embeds pictures, labelled boxes and names in one joint space; the same command again goes on where it stopped."""

    images: Annotated[tuple[Path, ...], Positional] = ()
    """Picture files, folders of them, and videos; with `annotations` the one folder of their pictures."""
    every: int = 1
    """Of videos 1 takes all frames, 10 every tenth."""
    annotations: Path | None = None
    """Labelled boxes, which are embedded in place of whole pictures: a COCO file or labels of another tool."""
    names: tuple[str, ...] = ()
    """Names to embed too: words, a text file or a packaged vocabulary."""
    templates: str = "detection"
    """Sentences around the names: a packaged set, or a text file."""
    out: Path = Path("embeddings")
    """Folder to write: `embeddings.npz`, what its rows are of in `embeddings.json`, and the state of a stopped run."""
    model: str = "clipself-mini"
    """The CLIP: open_clip name, "clipself-mini", or an export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    text_from: str | None = None
    """Release whose text tower is taken where a checkpoint has none."""
    readout: str | None = None
    """Of boxes: how the last block becomes a dense map; what the model was refined with, else "value"."""
    image_size: int | None = None
    """Of boxes: longest side that the model sees, in pixels; what suits it if not given."""
    overwrite: bool = False
    """Begin anew where the folder holds embeddings of another model or other pictures."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: There is nothing to embed, a setting is outside its range, or one would not be looked at.
        """
        self.check_counts("every")
        self.check_sizes("image_size")
        if not self.images and not self.names:
            raise ValueError("there is nothing to embed; give pictures, names, or both")
        if self.annotations is not None and len(self.images) != 1:
            raise ValueError(f"annotations need the one folder of their pictures, got {len(self.images)} places")
        if self.annotations is None and (self.readout is not None or self.image_size is not None):
            raise ValueError("readout and image_size are for boxes; whole pictures are read as the model was trained")
