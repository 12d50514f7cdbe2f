"""Settings of reproduction; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional

from clipself.engine.config import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceConfig(Settings):
    """Tables of the paper from the official data and the released weights, the published figures beside ours."""

    tables: Annotated[tuple[Literal["table2", "table3a", "table3b", "table4", "table5"], ...], Positional] = ()
    """Which tables: table2 (regions), table3a (OV-COCO), table3b (OV-LVIS), table4 (semantic segmentation), table5
    (panoptic segmentation)."""
    data: Path | None = None
    """Folder of the official data sets; docs/reproduce.md draws its layout."""
    weights: Path | None = None
    """Folder of the released weights, under their released names."""
    out: Path = Path("reproduction")
    """Folder to write: rows/ (a file for each row that is done), made/ (imported weights, prepared labels), and the
    report as JSON, Markdown and HTML."""
    rows: tuple[str, ...] = ()
    """These rows of the tables only, by the names that --list prints."""
    list: bool = False
    """Whether to print all rows with what each needs, and do nothing."""
    dry_run: bool = False
    """Whether to check what is there and print the commands of every row, and run none."""
    overwrite: bool = False
    """Whether rows that are done are run again."""
    partial_data: bool = False
    """Accept data sets that hold fewer pictures than the official ones; their figures are not to be compared."""
    limit: int | None = None
    """First pictures only, to try a row; its figures are not to be compared."""
    device: str = "auto"
    """cpu, cuda, mps, or auto for the best there is."""

    def check(self) -> None:
        """Refuses a part of nothing.

        Raises:
            ValueError: The limit is below 1.
        """
        self.check_counts("limit")
