"""`clipself parity`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityConfig:
    """Checks this package against numbers measured on the published implementations."""

    manifests: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """JSON files with their arrays beside them."""
    json: Path | None = None
    """File for the differences of every key."""


def parity(words: Sequence[str]) -> int:
    """Exit code 1 where a number is off."""
    config = tyro.cli(ParityConfig, args=words, prog="clipself parity")
    from clipself.conformance.run import parity as run
    from clipself.conformance.run import to_json
    from clipself.files import write_text

    if not config.manifests:
        raise ValueError(
            "there is nothing to check; name at least one manifest, such as tests/golden/clipself_step.json"
        )
    reports = run(config.manifests)
    if config.json is not None:
        write_text(config.json, to_json(reports) + "\n")
    return 0 if all(report.passed for report in reports) else 1
