"""Settings of RegionCLIP-style distillation; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from clipself.distillation.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionClipSettings(MethodSettings):
    """RegionCLIP's pseudo labels (arXiv:2112.09106), as CLIPSelf's baseline has them: names instead of embeddings."""

    method: str = field(default="regionclip", init=False)
    names: tuple[str, ...] = ("coco_80",)
    """What a crop may be named: words, text files, or packaged vocabularies such as lvis_v1_1203."""
    templates: str = "simple"
    """Sentences around the names."""
    columns: int = 100
    """Names that a step compares regions with, beside the region's own; drawn anew in each."""
    crops_weight: float = 0.0
    """Weight of CLIPSelf's own loss beside the names' 1."""

    def check(self) -> None:
        """Refuses what compares with nothing.

        Raises:
            ValueError: There are no names, or a number is outside its range.
        """
        self.check_counts("columns")
        self.check_not_negative("crops_weight")
        self.check_at_most(1e3, "crops_weight")
        if not self.names:
            raise ValueError("names must hold at least one word, text file or packaged vocabulary")

    def located(self) -> "RegionClipSettings":
        """The same with absolute paths of text files."""
        return replace(
            self, names=tuple(str(Path(one).absolute()) if Path(one).is_file() else one for one in self.names)
        )
