"""How figures are shown: medians with their p99, ratios, and whether each target was met."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SMALLEST_STEP_S = 0.0005


@dataclass(frozen=True, slots=True)
class Series:
    """Times of one thing in seconds, of interleaved runs."""

    name: str
    seconds: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """Return the value that `share` of all runs stay at or below, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure beside the target that it shall stay below, or reach; without a target it is only told."""

    what: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    def line(self) -> str:
        """Return it as a line of the report."""
        text = f"  {self.what:<58} {self.value:8.2f} {self.unit}"
        if self.target is None:
            return text
        met = self.value >= self.target if self.at_least else self.value <= self.target
        sign = "≥" if self.at_least else "≤"
        return f"{text:<78} target {sign} {self.target:g}: {'met' if met else 'MISSED'}"


def show(
    series: Sequence[Series],
    verdicts: Sequence[Verdict],
    notes: Sequence[str],
    steps: Mapping[str, float],
    traced: str = "hythe run",
) -> None:
    """Print the report; of `steps`, seconds on the critical path of command `traced`, those above half a millisecond."""
    print(f"\n  {'':<44}{'runs':>5}{'best ms':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for one in series:
        figures = "".join(f"{one.quantile(share):>10.1f}" for share in (0, 0.5, 0.99))
        print(f"  {one.name:<44}{len(one.seconds):>5}{figures}")
    print()
    for verdict in verdicts:
        print(verdict.line())
    print(f"\n  where the time of `{traced}` goes, by its trace (median ms of each step by itself)")
    for name, seconds in steps.items():
        if seconds > SMALLEST_STEP_S:
            print(f"  {name:<58} {1000 * seconds:8.1f}")
    for note in notes:
        print(f"  note: {note}")


def save(
    path: Path,
    series: Sequence[Series],
    verdicts: Sequence[Verdict],
    details: Mapping[str, object],
    notes: Sequence[str],
) -> None:
    """Write all figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "series": {
            one.name: {"p50_ms": one.quantile(0.5), "p99_ms": one.quantile(0.99), "seconds": one.seconds}
            for one in series
        },
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "details": details,
        "notes": list(notes),
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
