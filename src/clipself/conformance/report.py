"""What `clipself parity` found for one manifest, as a table and as JSON."""

import json
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from clipself.conformance.check import Check


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityReport:
    """One manifest's result.

    Attributes:
        manifest: Its file.
        system: What it is about.
        checks: One for each key.
        seconds: How long it took.
        problem: Why it could not be run, or "".
        unread: Its constants and arrays that the check never looked at, so that they cannot have counted.
    """

    manifest: str
    system: str
    checks: tuple[Check, ...]
    seconds: float
    problem: str = ""
    unread: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every key is within its tolerance."""
        return not self.problem and bool(self.checks) and all(check.passed for check in self.checks)

    def to_table(self, *, most: int = 12) -> str:
        """The keys that came nearest to their tolerance, failures first."""
        verdict = "pass" if self.passed else "FAIL"
        lines = [f"{verdict}  {self.manifest}  ({self.system}, {len(self.checks)} keys, {self.seconds:.1f} s)"]
        if self.problem:
            lines.append(f"      {self.problem}")
        if self.unread:
            lines.append(f"      told and not used: {', '.join(self.unread)}")
        ranked = sorted(self.checks, key=lambda check: (check.passed, -check.difference / max(check.tolerance, 1e-30)))
        failures = sum(not check.passed for check in ranked)
        lines += [
            f"      {_mark(check)}  {check.difference:9.2e} of {check.tolerance:8.1e}  {check.key}"
            for check in ranked[: max(most, failures)]
        ]
        if len(ranked) > max(most, failures):
            lines.append(f"      and {len(ranked) - max(most, failures)} more, all within tolerance")
        return "\n".join(lines)


def said(error: Exception) -> str:
    """Why a manifest could not be run: our own sentence, or where it stopped."""
    if isinstance(error, (ValueError, ImportError, OSError)):
        return str(error)
    if isinstance(error, KeyError):
        return f"the manifest lacks {error}, which this check needs"
    place = traceback.extract_tb(error.__traceback__)[-1]
    first = " ".join(str(error).split()[:40])
    return (
        f"it cannot be run as it is told, {Path(place.filename).name}:{place.lineno} says: {first} "
        "(do its sizes fit its tensors? CLIPSELF_DEBUG=1 shows all of it)"
    )


def to_json(reports: Iterable[ParityReport]) -> str:
    """All reports as JSON."""
    rows = [
        {
            "manifest": report.manifest,
            "system": report.system,
            "passed": report.passed,
            "seconds": round(report.seconds, 2),
            "problem": report.problem,
            "unread": list(report.unread),
            "checks": [
                {"key": check.key, "difference": check.difference, "tolerance": check.tolerance, "passed": check.passed}
                for check in report.checks
            ],
        }
        for report in reports
    ]
    return json.dumps(rows, indent=2)


def _mark(check: Check) -> str:
    return "ok  " if check.passed else "FAIL"
