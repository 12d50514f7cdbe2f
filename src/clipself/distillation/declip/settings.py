"""Settings of DeCLIP; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from clipself.distillation.settings import MethodSettings

Context = Literal["queries", "queries+keys"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeclipSettings(MethodSettings):
    """DeCLIP (arXiv:2505.04410): CLIPSelf for the content, a guide's patch cosines for the context."""

    method: str = field(default="declip", init=False)
    guide: str = "clip"
    """Whose patches say what belongs together: "clip", the CLIP itself, which needs no other weights; "timm:NAME",
    "timm:NAME@FILE", "hf:NAME" or a folder, such as DINOv2's."""
    context: Context = "queries"
    """What of the last block must be alike where the guide's patches are: queries, or the mean of what queries and keys
    say."""
    context_weight: float = 0.1
    """Weight of the context beside the content's 1."""

    def check(self) -> None:
        """Refuses a weight that is none.

        Raises:
            ValueError: It is below 0 or beyond what is not a slip.
        """
        self.check_not_negative("context_weight")
        self.check_at_most(1e3, "context_weight")

    def located(self) -> "DeclipSettings":
        """The same with the absolute path of a file or folder that the guide names."""
        if self.guide == "clip":  # whatever lies there by that name
            return self
        place = max(self.guide.find(":"), self.guide.find("@")) + 1
        ahead, path = self.guide[:place], self.guide[place:]
        return replace(self, guide=f"{ahead}{Path(path).absolute()}") if path and Path(path).exists() else self
