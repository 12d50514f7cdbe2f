"""All benchmarks that need no data, at short settings: one JSON of their figures and one table.

    python benchmarks/bench.py --out build/bench
    python benchmarks/bench.py --device cuda --out build/bench-gpu

Writes OUT/bench.json and OUT/bench.md. Minutes on two idle cores. A benchmark that fails is named, the others run; the
exit code is then 1. `compare.py` holds two such files side by side.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from clipself.files import write_json, write_text
from figures import headline, machine

SHORT: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "cpu": {
        "distill_step.py": ("--models", "ViT-B-16", "--sizes", "512", "--steps", "2", "--bf16"),
        "segmentation.py": ("--classes", "20", "150"),
        "detection.py": ("--size", "320", "--steps", "1", "--memory-images", "12"),
        "detection_heads.py": ("--times", "3", "--detectors", "packaged", "small-vild"),
        "demo.py": ("--lists", "2"),
        "shard_index.py": ("--names", "1000000"),
        "threads.py": ("--times", "1"),
        "sizes.py": ("--images", "100", "10000", "--names", "10", "150", "--sides", "224", "640"),
    },
    "cuda": {
        "distill_step.py": (
            "--device", "cuda", "--models", "ViT-B-16", "ViT-L-14", "--sizes", "1008", "--crops", "20", "--steps", "10",
            "--bf16", "--memory",
        ),
    },
}  # fmt: skip
"""Device -> benchmark -> its words. Those that train on data are not among them."""


def run(name: str, words: Sequence[str]) -> list[dict[str, Any]] | None:
    """Runs one benchmark, whose table goes to the terminal; None where it failed."""
    print(f"\n{name} {' '.join(words)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        command = [sys.executable, str(Path(__file__).parent / name), *words, "--json", str(path)]
        if subprocess.run(command, check=False).returncode or not path.exists():
            return None
        return [{"script": name, **row} for row in json.loads(path.read_text())["figures"]]


def lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The figures as a Markdown table, a command ahead of its own."""
    said = None
    for row in rows:
        if row["command"] != said:
            said = row["command"]
            yield f"\n`{said}`\n\n| figure | dtype | value | unit |\n| --- | --- | ---: | --- |"
        name = row["name"].replace("|", "\\|")  # a tab of the demo is called "Raw | refined"
        yield f"| {name} | {row['dtype']} | {row['value']:.4g} | {row['unit']} |"


def main() -> None:
    """Runs all and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(SHORT), default="cpu")
    parser.add_argument("--only", nargs="+", metavar="SCRIPT", help="these alone")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    held = machine()
    if options.device == "cuda" and held["gpu"] is None:
        print("there is no CUDA device, so that nothing was measured")
        return
    chosen = {name: SHORT[options.device][name] for name in options.only or SHORT[options.device]}
    found = {name: run(name, words) for name, words in chosen.items()}
    rows = [row for some in found.values() for row in some or ()]
    write_json(options.out / "bench.json", {**held, "figures": rows})
    table = write_text(options.out / "bench.md", "\n".join([headline(), *lines(rows)]) + "\n")
    print(f"\n{len(rows)} figures in {options.out / 'bench.json'}, as a table in {table}")
    if failed := [name for name, some in found.items() if some is None]:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
