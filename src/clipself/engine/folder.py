"""The folder of a run: one run at a time, nothing of an overwritten one left, nothing half written."""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.engine.checkpoint import load_state
from clipself.engine.config import RunConfig, located
from clipself.engine.distributed import World
from clipself.files import clear_parts, locked, write_json

log = logging.getLogger(__name__)

RECORDS: Final = (
    "result.json", "config.json", "metrics.jsonl", "log.txt", "csv", "tensorboard", "trackers.json", "wandb",
    "training_state.pt",
)  # fmt: skip
"""What every run writes, beside what its task does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFolder:
    """Where a run writes.

    Attributes:
        out: The folder.
        writes: Names of what the task saves there.
        world: This process among its peers; the main one writes.
    """

    out: Path
    writes: Sequence[str]
    world: World

    @property
    def state_path(self) -> Path:
        """The training state."""
        return self.out / "training_state.pt"

    def state_to_resume(self) -> dict[str, Any] | None:
        """The state where the earlier run ends; None where it was killed ahead of its first.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: The state is damaged.
        """
        if self.state_path.exists():
            return load_state(self.state_path)
        if not (self.out / "config.json").exists():
            raise FileNotFoundError(f"{self.out} holds no run to go on with; leave out resume (--resume) to start one")
        log.warning("%s was stopped ahead of its first saved state; the run starts from its beginning", self.out)
        return None

    def begin(self, config: RunConfig) -> None:
        """Removes what an overwritten run left, what stands for a result first, and writes `config.json`."""
        if not self.world.is_main:
            return
        if config.overwrite:
            for name in ("result.json", *self.writes, *RECORDS):
                remove(self.out / name)
        settings = {**located(config), "resume": False, "overwrite": False}  # of this call, not of who takes them up
        write_json(self.out / "config.json", settings)


@contextmanager
def open_folder(config: RunConfig, writes: Sequence[str], world: World) -> Iterator[RunFolder]:
    """Holds the run's folder: no other run may write there meanwhile.

    Args:
        config: Settings of the run.
        writes: Names of what the task saves there.
        world: This process among its peers; the main one decides, the others hear of it.

    Raises:
        FileExistsError: The folder holds a run, and neither resume nor overwrite was asked for; or one runs there now.
    """
    folder = RunFolder(out=config.out, writes=writes, world=world)
    with ExitStack() as stack:
        fault: Exception | None = None
        if world.is_main:
            try:
                stack.enter_context(locked(config.out / ".lock", busy=f"another run is writing to {config.out}"))
                _refuse_other_run(config, folder)
                clear_parts(config.out)
            except (OSError, ValueError) as error:
                fault = error
        world.agree(fault)
        yield folder


def _refuse_other_run(config: RunConfig, folder: RunFolder) -> None:
    held = any((folder.out / name).exists() for name in ("training_state.pt", "result.json", *folder.writes))
    if held and not config.resume and not config.overwrite:
        raise FileExistsError(
            f"{folder.out} already holds a run; go on with it by resume (--resume), start anew in it by "
            "overwrite (--overwrite), or choose another folder"
        )


def remove(path: Path) -> None:
    """Removes a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
