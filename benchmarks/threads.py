"""Seconds of 25 small steps, idle and beside busy loops, with threads that spin for each other or sleep.

    python benchmarks/threads.py --cores 0 1 --neighbours 0 1 2

Each run is a process of its own, since OpenMP reads its settings when torch is loaded; both kinds run in turn, and the
medians are told. "spin" is torch as it comes, "sleep" what `clipself.threads.share_cores` asks for. The clock's time is
what counts here: on cores that do other work figures say little.
"""

import argparse
import os
import subprocess
import sys
import time
from statistics import median
from typing import Final

from figures import Figures, add_json, headline

STEPS: Final = 25
WAYS: Final = {"spin": {}, "sleep": {"OMP_WAIT_POLICY": "PASSIVE"}}
"""How threads wait -> what OpenMP is told."""


def steps(cores: list[int], side: int, neighbours: int) -> float:
    """Seconds of the steps in this process, on these cores beside loops; what is ahead runs where it was started."""
    import torch

    from clipself.backbones.loading import load_clip

    clip = load_clip("clipself-mini").requires_grad_(True)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    taken = []
    try:
        for _ in range(STEPS + 3):
            begun = time.perf_counter()
            torch.autograd.backward(clip.dense_map(images).square().sum())
            taken.append(time.perf_counter() - begun)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return sum(taken[3:])


def run(way: str, threads: int, cores: list[int], neighbours: int, side: int) -> float:
    """The same in a new process."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    words = ["--steps-only", "--side", str(side), "--neighbours", str(neighbours), "--cores", *map(str, cores)]
    environment = {**bare, **WAYS[way], "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, *words]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Prints a line for each number of neighbours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    held = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]
    parser.add_argument("--cores", type=int, nargs="+", default=held)
    parser.add_argument("--neighbours", type=int, nargs="+", default=[0, 1, 2], help="busy loops on the same cores")
    parser.add_argument("--threads", type=int, help="one for each core if not given")
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--steps-only", action="store_true", help=argparse.SUPPRESS)
    add_json(parser)
    options = parser.parse_args()
    if options.steps_only:
        print(steps(options.cores, options.side, options.neighbours[0]))
        return
    figures, threads = Figures(options.json), options.threads or len(options.cores)
    print(f"{headline()}; {STEPS} steps of {threads} threads on {len(options.cores)} cores")
    for neighbours in options.neighbours:
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(options.times):
            for way, seconds in taken.items():
                seconds.append(run(way, threads, options.cores, neighbours, options.side))
        middle = {way: median(seconds) for way, seconds in taken.items()}
        print(
            f"{neighbours} busy loops: " + ", ".join(f"{way} {value:.2f} s" for way, value in middle.items()),
            flush=True,
        )
        for way, value in middle.items():
            title = f"{STEPS} steps, {threads} threads on {len(options.cores)} cores beside {neighbours} loops: {way}"
            figures.note(title, value, "s")


if __name__ == "__main__":
    main()
