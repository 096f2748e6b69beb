"""One table of all figures, as text and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

HEADINGS = ("figure", "measured", "limit", "reference", "ratio", "")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a figure must keep: its value, or its ratio to the reference."""

    least: float | None = None
    most: float | None = None
    least_ratio: float | None = None
    aim: float | None = None
    """Better than the limit; not asked for."""

    def holds(self, value: float, ratio: float | None) -> bool:
        """Tell whether the figure keeps it."""
        if self.least is not None:
            return value >= self.least
        if self.most is not None:
            return value < self.most
        return ratio is not None and self.least_ratio is not None and ratio >= self.least_ratio

    def text(self, unit: str) -> str:
        """Return it as the table shows it."""
        aim = "" if self.aim is None else f", aim {shown(self.aim, unit)}"
        if self.least is not None:
            return f">= {shown(self.least, unit)}{aim}"
        if self.most is not None:
            return f"< {shown(self.most, unit)}{aim}"
        return f"ratio >= {self.least_ratio:g}{aim}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the same machine did in the same run without the work, or with less."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    name: str
    value: float
    unit: str
    how: str
    """How it was measured, in one line."""
    limit: Limit | None = None
    reference: Reference | None = None
    inverse: bool = False
    """The ratio is reference by value: how many times faster the smaller one is."""

    @property
    def ratio(self) -> float | None:
        """Value by reference, or the other way round."""
        if self.reference is None or not self.value or not self.reference.value:
            return None
        ratio = self.value / self.reference.value
        return 1 / ratio if self.inverse else ratio

    @property
    def holds(self) -> bool | None:
        """Tell whether the limit is kept; None where there is none."""
        return None if self.limit is None else self.limit.holds(self.value, self.ratio)

    def row(self) -> tuple[str, ...]:
        """Return the cells."""
        reference = self.reference
        return (
            self.name,
            shown(self.value, self.unit),
            self.limit.text(self.unit) if self.limit else "",
            f"{reference.name} {shown(reference.value, reference.unit)}" if reference else "",
            f"{self.ratio:.2f}" if self.ratio is not None else "",
            {None: "", True: "ok", False: "miss"}[self.holds],
        )


@dataclass(slots=True)
class Report:
    """What one benchmark found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """Figures behind the figures, by name, for the JSON."""
    seconds: float = 0.0
    failure: str = ""
    """Why it could not be measured; empty when it was."""


def shown(value: float, unit: str) -> str:
    """Return a figure with its unit, with as many digits as it deserves."""
    digits = 0 if abs(value) >= 1_000 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}".rstrip()


def grid(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return rows as aligned text; the columns in `left` lean left, the others right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at in left else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def table(reports: Sequence[Report]) -> str:
    """Return the table, and below it how each figure was measured."""
    rows: list[Sequence[str]] = [HEADINGS]
    hows = []
    for report in reports:
        rows += [figure.row() for figure in report.figures]
        hows += _hows(report)
        if report.failure:
            rows.append((report.name, "failed", "", "", "", "FAILED"))
            hows.append(f"{report.name}: {report.failure}")
    return f"{grid(rows, left=(0, 2, 3, 5))}\n\n" + "\n".join(hows)


def _hows(report: Report) -> list[str]:
    """Return how each figure was measured, once for those that share it."""
    names: dict[str, list[str]] = {}
    for figure in report.figures:
        names.setdefault(figure.how, []).append(figure.name)
    if len(names) == 1:
        return [f"{report.name}: {how}" for how in names]
    return [f"{'; '.join(those)}: {how}" for how, those in names.items()]


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def write(path: Path, reports: Sequence[Report], quick: bool, at_start: dict[str, Any]) -> None:
    """Write everything as JSON."""
    found = []
    for report in reports:
        figures = [
            asdict(figure) | {"ratio": figure.ratio, "holds": figure.holds}
            for figure in report.figures
        ]
        found.append(asdict(report) | {"figures": figures})
    body = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": at_start,
        "benchmarks": found,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, indent=1) + "\n")
