"""The folder of a run: one run at a time, nothing of an overwritten one left, nothing half written, nothing lost."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clipself.engine.checkpoint import load_state
from clipself.engine.config import RunConfig, located
from clipself.engine.cut import Cut, read_cut
from clipself.engine.distributed import World
from clipself.files import clear_parts, locked, read_json, write_json

log = logging.getLogger(__name__)

RECORDS: Final = (
    "result.json", "config.json", "cut.json", "metrics.jsonl", "log.txt", "csv", "tensorboard", "trackers.json",
    "wandb", "training_state.pt",
)  # fmt: skip
"""What every run writes, beside what its task does."""

REPLACED: Final = ".replaced"
"""Folder within the run's that holds an overwritten run until the new one has saved a state."""

MOVING: Final = ".replacing"
"""What it is called while it is moved, to there or back."""


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

    @property
    def names(self) -> tuple[str, ...]:
        """All that a run writes here, what stands for a result first."""
        return ("result.json", *self.writes, *RECORDS[1:])

    def state_to_resume(self, resume: object) -> dict[str, Any] | None:
        """The state where the earlier run ends; None where it was killed ahead of its first, or a run shall begin.

        Args:
            resume: True, False, or "auto" for a run that begins where there is none.

        Raises:
            FileNotFoundError: There is no run.
            ValueError: The state is damaged.
        """
        if not resume:
            return None
        if self.state_path.exists():
            return load_state(self.state_path)
        if (self.out / "config.json").exists():
            log.warning("%s was stopped ahead of its first saved state; the run starts from its beginning", self.out)
        elif resume is True:
            raise FileNotFoundError(
                f"{self.out} holds no run to go on with; leave out resume (--resume) to start one, or use auto"
            )
        return None

    def cut_of(self, config: RunConfig, state: Mapping[str, Any] | None) -> Cut:
        """The cut of the steps as the run began.

        Args:
            config: Settings of this call.
            state: What the run has saved, if it has.
        """
        now = Cut.at_first(batch_size=config.batch_size, accumulate=config.accumulate, processes=self.world.size)
        if state is not None and "cut" in state:
            return read_cut(state["cut"])
        if state is not None:  # of an older version
            return read_cut({**state["settings"], "processes": state["identity"]["processes"]})
        if config.resume and (self.out / "cut.json").is_file():
            return read_cut(read_json(self.out / "cut.json", what="cut"))
        return now

    def begin(self, config: RunConfig, begun: Cut) -> None:
        """Sets an overwritten run aside, and writes `config.json` and `cut.json`.

        Args:
            config: Settings of the run.
            begun: The cut of its steps as it began.
        """
        if not self.world.is_main:
            return
        if config.overwrite:
            self._set_aside()
        settings = {**located(config), "resume": False, "overwrite": False}  # of this call, not of who takes them up
        first = {"batch_size": begun.batch_size, "accumulate": begun.accumulate}
        write_json(self.out / "cut.json", begun.to_json())
        write_json(self.out / "config.json", {**settings, **first})

    def _set_aside(self) -> None:
        """Moves the run here away; where one lies there already, what is here came to save nothing, and goes."""
        aside, moving = self.out / REPLACED, self.out / MOVING
        for name in self.names:
            if aside.exists():
                remove(self.out / name)
            elif (self.out / name).exists():
                moving.mkdir(exist_ok=True)
                (self.out / name).rename(moving / name)
        if moving.exists():
            moving.rename(aside)

    def forget_replaced(self) -> None:
        """Removes what was set aside: the new run has saved a state."""
        if self.world.is_main and (self.out / REPLACED).exists():
            shutil.rmtree(self.out / REPLACED)

    def bring_back(self) -> None:
        """Puts a run that was set aside in its place again, where the new one saved nothing."""
        if not self.world.is_main:
            return
        aside, moving = self.out / REPLACED, self.out / MOVING
        if aside.exists() and self.state_path.exists():
            self.forget_replaced()
        if aside.exists():
            for name in self.names:
                remove(self.out / name)
            aside.rename(moving)
        if not moving.exists():
            return
        for path in list(moving.iterdir()):
            path.rename(self.out / path.name)
        moving.rmdir()
        log.warning("%s holds the earlier run again: the one that was to overwrite it has saved nothing", self.out)


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
                if not config.resume and not config.overwrite:
                    folder.bring_back()  # of a run that was killed
                _refuse_other_run(config, folder)
                clear_parts(config.out)
            except (OSError, ValueError) as error:
                fault = error
        world.agree(fault)
        try:
            yield folder
        except BaseException:
            if config.overwrite:
                folder.bring_back()
            raise


def _refuse_other_run(config: RunConfig, folder: RunFolder) -> None:
    held = any((folder.out / name).exists() for name in ("training_state.pt", "result.json", *folder.writes))
    begun = config.resume is True or (config.resume == "auto" and (folder.out / "config.json").exists())
    if held and not begun and not config.overwrite:
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
