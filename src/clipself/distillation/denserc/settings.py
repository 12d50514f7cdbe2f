"""Settings of DenseRC; free of heavy imports so that `--help` is quick."""

from dataclasses import dataclass, field

from clipself.distillation.settings import MethodSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class DensercSettings(MethodSettings):
    """DenseRC (CVPR 2026), in our reading: values of several blocks, each head with a gate."""

    method: str = field(default="denserc", init=False)
    blocks: int | None = None
    """How many of the last blocks' values are read; all of them if not given."""
    gate_rate: float = 50.0
    """Learning rate of the gates, as a multiple of the blocks' own; they are numbers near 1."""

    def check(self) -> None:
        """Refuses what reads nothing or learns nothing.

        Raises:
            ValueError: A number is outside its range.
        """
        self.check_counts("blocks")
        self.check_positive("gate_rate")
        self.check_at_most(1e6, "gate_rate")
