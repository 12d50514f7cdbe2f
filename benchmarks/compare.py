"""Two files of `bench.py` side by side: what changed by how much, and what they cannot be compared by.

    python benchmarks/compare.py before.json after.json

Of figures in "x" (ratios within one process) those of different machines may be compared; of the others only where
processor, threads and versions are the same, which is said above the table.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

SAME: Final = ("machine", "cpu", "cores", "threads", "gpu", "versions")
"""What must agree for seconds to be compared."""

Held = Mapping[str, Any]


def apart(before: Held, after: Held) -> Iterator[str]:
    """What the two were not measured alike in."""
    for name in SAME:
        if before[name] != after[name]:
            yield f"{name}: {before[name]} | {after[name]}"


def lines(before: Held, after: Held) -> Iterator[str]:
    """A Markdown table of all figures, by script, name and dtype."""
    old, new = (
        {(row["script"], row["name"], row["dtype"]): row for row in held["figures"]} for held in (before, after)
    )
    yield f"| benchmark | figure | dtype | unit | {before['commit']} | {after['commit']} | after / before |"
    yield "| --- | --- | --- | --- | ---: | ---: | ---: |"
    for key in [*old, *(key for key in new if key not in old)]:
        was, now = old.get(key), new.get(key)
        row: Held = was or now or {}
        values = ["" if one is None else f"{one['value']:.4g}" for one in (was, now)]
        both = was is not None and now is not None and was["value"]
        share = f"{now['value'] / was['value']:.3f}" if both and was and now else ""
        yield f"| {' | '.join(key)} | {row['unit']} | {' | '.join(values)} | {share} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    before, after = (json.loads(path.read_text()) for path in (options.before, options.after))
    differing = list(apart(before, after))
    if differing:
        print("not measured alike, so that only ratios (x) say anything:", *differing, sep="\n  ")
        print()
    print(*lines(before, after), sep="\n")


if __name__ == "__main__":
    main()
