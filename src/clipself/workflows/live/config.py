"""Settings of `clipself demo`; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path

from clipself.engine.config import Settings

LARGEST_PORT = 65535


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoConfig(Settings):
    """A page in the browser: a picture, names as they are typed, and what the models make of them."""

    model: str = "clipself-mini"
    """The CLIP whose dense map is shown, which segments, and which judges masks: open_clip name, "clipself-mini", or an
    export folder."""
    pretrained: str | None = None
    """open_clip tag or checkpoint file for a named model."""
    refined: Path | None = None
    """Export folder of a refined model: shown beside the original, and segments and judges in its place."""
    checkpoint: tuple[str, ...] = ()
    """Folders that `detect train`, `segment train` or `panoptic train` wrote, or "hf:NAME" for models of transformers'
    hub; each takes the tab of its kind, and what is packaged the others."""
    image_size: int | None = None
    """Longest side that the CLIP sees, in pixels; the aspect is kept. What the last of the models was refined at if not
    given, else the published 1024 (a small model at twice its own)."""
    readout: str | None = None
    """How the last block becomes a dense map; what each model was refined with if not given, else "value"."""
    port: int = 7860
    """Port of the page on this machine."""
    host: str = "127.0.0.1"
    """Address that is listened on; 0.0.0.0 lets others of the network in."""
    share: bool = False
    """Whether gradio makes a public address for it, through its own servers."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            ValueError: The size or port is outside its range.
        """
        self.check_sizes("image_size")
        self.check_counts("port")
        self.check_at_most(LARGEST_PORT, "port")
