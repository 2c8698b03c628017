"""The end of the demo: what the cluster shows beside what each process counted for itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shardlog.cli.demo.tally import NANOS
from shardlog.cli.verdicts import final
from shardlog.monitor.live.document import report_document
from shardlog.monitor.live.report import Report
from shardlog.monitor.live.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One counted quantity, in units of 1e-9 on both sides."""

    pattern: str
    processes: int
    cluster: int

    @property
    def equal(self) -> bool:
        """Whether the cluster shows exactly what the processes counted."""
        return self.processes == self.cluster

    def as_document(self) -> dict[str, Any]:
        """The row as JSON prints it."""
        return {
            "pattern": self.pattern,
            "processes": number(self.processes),
            "cluster": number(self.cluster),
            "equal": self.equal,
        }


def number(nanos: int) -> int | float:
    """Units of 1e-9 as people write them.

    >>> number(3_000_000_000), number(210_000_000)
    (3, 0.21)
    """
    return nanos // NANOS if nanos % NANOS == 0 else nanos / NANOS


def nanos_of(total: int | float) -> int:
    """A total of the cluster in units of 1e-9."""
    return total * NANOS if isinstance(total, int) else round(total * NANOS)


def widened(pattern: str) -> str:
    """The pattern that sums over all blades and domains; the others stay as they are.

    >>> widened("intents/*/resolution/scraper-1/item_scraped/pages.local/tries")
    'intents/*/resolution/*/item_scraped/*/tries'
    >>> widened("scraper-1/errors/blade.fetch")
    'scraper-1/errors/blade.fetch'
    """
    keys = pattern.split("/")
    if keys[:3] != ["intents", "*", "resolution"]:
        return pattern
    return "/".join("*" if index in (3, 5) else key for index, key in enumerate(keys))


def expected(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """What the processes counted, together: by each pattern of theirs and by each wide one."""
    sums: dict[str, int] = {}
    for tally in tallies:
        for pattern, nanos in tally.items():
            for name in {pattern, widened(pattern)}:
                sums[name] = sums.get(name, 0) + nanos
    return dict(sorted(sums.items()))


def compare(counted: Mapping[str, int], totals: Mapping[str, int | float]) -> list[Row]:
    """A row for each counted quantity; what the cluster does not know is 0 there."""
    return [
        Row(pattern, nanos, nanos_of(totals.get(pattern, 0))) for pattern, nanos in counted.items()
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run."""

    seconds: float
    """How long the blades ran."""
    pages: int
    """How many pages the site has."""
    connect: str
    rows: list[Row]
    missing: list[str]
    """Blades that left no counts behind."""
    restarted: dict[str, int]
    """Node -> how often it was killed and came back."""
    tests: Report
    """What the live tests said while the blades ran."""

    @property
    def equal(self) -> bool:
        """Whether there is something to compare, all of it, and no difference."""
        return bool(self.rows) and not self.missing and all(row.equal for row in self.rows)

    def as_document(self) -> dict[str, Any]:
        """The summary as JSON prints it."""
        return {
            "equal": self.equal,
            "seconds": round(self.seconds, 1),
            "pages": self.pages,
            "connect": self.connect,
            "counts": [row.as_document() for row in self.rows],
            "missing": self.missing,
            "restarted": self.restarted,
            "tests": report_document(self.tests),
        }

    @property
    def is_good(self) -> bool:
        """Whether all counts are equal, and no live test has failed."""
        return self.equal and self.tests.verdict is not Verdict.FAIL

    def renderable(self) -> RenderableType:
        """The summary for people: live tests, the wide quantities, and all that differ."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("counted by", no_wrap=True)
        table.add_column("processes", justify="right", no_wrap=True)
        table.add_column("cluster", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for row in self.rows:
            if row.equal and row.pattern != widened(row.pattern):
                continue
            mark = Text("=", "green") if row.equal else Text("≠", "bold red")
            table.add_row(row.pattern, text_of(row.processes), text_of(row.cluster), mark)
        return Group(*final(self.tests, [], alike_max=1), Text(), table, *self._remarks())

    def _remarks(self) -> list[Text]:
        remarks = [
            Text(f"{name} was killed and came back ({times}×)", "yellow")
            for name, times in self.restarted.items()
        ]
        remarks += [Text(f"{name} left no counts", "bold red") for name in self.missing]
        different = sum(not row.equal for row in self.rows)
        if self.equal:
            text = f"All {len(self.rows)} counts of the cluster equal what its processes counted."
            return [*remarks, Text(text, "green")]
        if different:
            text = f"{different} of {len(self.rows)} counts differ."
            return [*remarks, Text(text, "bold red")]
        return [*remarks, Text("Not all could be compared.", "bold red")]


def text_of(nanos: int) -> str:
    """A number for a table's cell, exact."""
    whole, rest = divmod(abs(nanos), NANOS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if nanos < 0 else ''}{whole:,}{fraction}"
