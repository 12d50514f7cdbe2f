"""The folder of a training run: whose it is, and how its loss went."""

from pathlib import Path

from clipself.engine.distributed import World
from clipself.engine.log import read_metrics


def open_run_folder(out: Path, *, resume: bool, overwrite: bool, world: World) -> Path:
    """Refuses a folder that holds another run, and clears one that shall be overwritten.

    Args:
        out: The run's folder; need not be there.
        resume: Whether the run in it goes on.
        overwrite: Whether a new one takes its place.
        world: This process among its peers; the main one decides before the others look.

    Returns:
        Where the training state goes.

    Raises:
        FileExistsError: The folder holds a run, and neither resume nor overwrite was asked for.
    """
    state = out / "training_state.pt"
    if world.is_main and not resume and not overwrite and state.exists():
        raise FileExistsError(
            f"{out} already holds a run; go on with it by resume (--resume), start anew in it by overwrite "
            "(--overwrite), or choose another folder"
        )
    world.wait()
    if world.is_main and overwrite and not resume:
        state.unlink(missing_ok=True)
        (out / "metrics.jsonl").unlink(missing_ok=True)
    return state


def loss_at_ends(out: Path) -> tuple[float, float]:
    """Mean loss over the first and over the last tenth of a run's steps; NaN where there are none."""
    losses = [record["loss"] for record in read_metrics(out)]
    tenth = max(1, len(losses) // 10)
    if not losses:
        return float("nan"), float("nan")
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
