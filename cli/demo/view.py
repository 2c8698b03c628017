"""What the terminal shows: the cluster's state, and an earlier sample of it, as tables.

Pure: nothing here looks at a clock or asks anybody. A state comes from a cluster, where anybody may
write anything, so what has not the expected shape is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shardlog.cli.verdicts import MARKS, STYLES
from shardlog.monitor.live.report import Report

COLLAPSED = "~"
"""The key under which the counts of forgotten intents go on."""

LADDER_ROWS = 12
WIDTH = 98
"""Of the whole view, in characters."""

Counts = dict[str, float]
"""Name of a quantity -> its number."""


@dataclass(frozen=True, slots=True)
class Rung:
    """How far one intent got."""

    intent: str
    host: str
    module: str
    module_started: str | None
    """The module that the host says it started with, None while it has not answered."""
    collected: float
    received: float


@dataclass(slots=True)
class Sample:
    """The numbers of one moment, as far as the view shows them."""

    at: float
    """Seconds, on whichever clock; only differences matter."""
    domains: dict[str, Counts] = field(default_factory=dict[str, Counts])
    errors: dict[str, Counts] = field(default_factory=dict[str, Counts])
    """Logger -> blade -> number of errors."""
    rungs: list[Rung] = field(default_factory=list[Rung])
    """The oldest intent first."""
    received: float = 0

    @staticmethod
    def of(state: Mapping[Any, Any], at: float) -> Sample:
        """The sample of a state, which is nested plain dicts as a monitor gives them."""
        sample = Sample(at)
        for intent, record in children(state.get("intents")):
            sample._add_intent(intent, record)
        for blade, own in children(state):
            for logger, times in numbers(own.get("errors")):
                sample.errors.setdefault(logger, {})[blade] = times
        sample.rungs.sort(key=lambda rung: (len(rung.intent), rung.intent))
        return sample

    def progress(self) -> str:
        """The sample in one line."""
        started = sum(rung.module_started is not None for rung in self.rungs)
        arrived = sum(rung.received > 0 for rung in self.rungs)
        errors = sum(sum(times.values()) for times in self.errors.values())
        return (
            f"{len(self.rungs)} intents asked, {started} started, {arrived} received; "
            f"{self.received:,.0f} items received; {errors:,.0f} errors"
        )

    def _add_intent(self, intent: str, record: Mapping[Any, Any]) -> None:
        collected = received = 0.0
        host = str(record.get("host"))
        module_started = None
        for blade, answer in children(record.get("resolution")):
            received += dict(numbers(answer)).get("item_received", 0)
            if blade == host:
                module_started = str(answer.get("module", "?"))
            for domain, counts in children(answer.get("item_scraped")):
                sums = self.domains.setdefault(domain, {})
                for name, value in numbers(counts):
                    sums[name] = sums.get(name, 0) + value
                    collected += value if name == "item_collected" else 0
        self.received += received
        if intent != COLLAPSED and "host" in record:
            module = str(record.get("module"))
            self.rungs.append(Rung(intent, host, module, module_started, collected, received))


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether the value is a dict."""
    return isinstance(value, Mapping)


def mapping(value: object) -> Mapping[Any, Any]:
    """The value if it is a dict, else an empty one."""
    return value if is_mapping(value) else {}


def children(value: object) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The keys of a dict that lead to dicts."""
    for key, below in mapping(value).items():
        if is_mapping(below):
            yield str(key), below


def numbers(value: object) -> Iterator[tuple[str, float]]:
    """The keys of a dict that lead to numbers."""
    for key, below in mapping(value).items():
        if isinstance(below, (int, float)) and not isinstance(below, bool):
            yield str(key), below


def render(
    title: str,
    blades: Sequence[Mapping[str, Any]],
    state: Mapping[Any, Any],
    sample: Sample,
    before: Sample | None,
    tests: Report,
) -> RenderableType:
    """The whole view, about 100 columns by 32 lines.

    `before` is what was sampled a few seconds ago, for the rates; None shows none.
    """
    beside = Group(tests_table(tests), errors_table(sample, before))
    return Group(
        Text(title, style="bold"),
        blades_table(blades, state),
        domains_table(sample, before),
        Columns([ladder_table(sample), beside], padding=(0, 1)),
    )


def blades_table(blades: Sequence[Mapping[str, Any]], state: Mapping[Any, Any]) -> Table:
    """Who is there, and what it said last."""
    table = _table("blades", WIDTH)
    for name, width in (("blade", 12), ("host", 8), ("status", 8), ("pid", 7), ("module", 20)):
        table.add_column(name, width=width, no_wrap=True)
    table.add_column("said last", ratio=1, no_wrap=True)
    for row in sorted(blades, key=lambda row: str(row.get("blade"))):
        said = mapping(state.get(row.get("blade")))
        status = str(row.get("status", ""))
        table.add_row(
            str(row.get("blade", "")),
            str(row.get("host", "")),
            Text(status, STATUS_STYLES.get(status, "yellow")),
            str(row.get("pid", "")),
            str(said.get("module", "")),
            Text(str(said.get("msg", ""))),
        )
    return table


STATUS_STYLES = {"up": "green", "bye": "dim", "lost": "bold red"}


def domains_table(sample: Sample, before: Sample | None) -> Table:
    """What was scraped of each domain, and how fast."""
    table = _table("domains", WIDTH)
    table.add_column("domain", width=14, no_wrap=True)
    for name in ("tries", "tries/s", "s/try", "items", "items/s", "sent", "arrived"):
        table.add_column(name, ratio=1, justify="right", no_wrap=True)
    for domain, counts in sorted(sample.domains.items()):
        tries, sent_tries = counts.get("tries", 0), counts.get("item_sent_tries", 0)
        sent = counts.get("item_sent", 0)
        earlier = before.domains.get(domain, {}) if before else None
        table.add_row(
            domain,
            f"{tries:,.0f}",
            rate(counts, earlier, "tries", sample, before),
            f"{counts.get('time_spent', 0) / tries:.3f}" if tries else "",
            f"{counts.get('item_collected', 0):,.0f}",
            rate(counts, earlier, "item_collected", sample, before),
            f"{sent:,.0f}",
            f"{sent / sent_tries:.1%}" if sent_tries else "",
        )
    return table


def ladder_table(sample: Sample) -> Table:
    """The latest intents: asked, started, received, and where they stand."""
    table = _table("intents", 62)
    for name, width in (("", 4), ("host", 9), ("asked", 5), ("started", 20)):
        table.add_column(name, width=width, no_wrap=True)
    table.add_column("items", justify="right", width=5)
    table.add_column("received", justify="right", width=9)
    for rung in sample.rungs[-LADDER_ROWS:]:
        received = Text(f"{rung.received:,.0f} ✓", "green") if rung.received else Text("–", "dim")
        collected = f"{rung.collected:,.0f}" if rung.collected else ""
        table.add_row(
            rung.intent, rung.host, Text("✓", "green"), _started(rung), collected, received
        )
    return table


def tests_table(tests: Report) -> Table:
    """The live tests, the worst first."""
    table = _table("live tests", 35)
    table.add_column("", width=1)
    table.add_column("test", ratio=1, no_wrap=True)
    table.add_column("", justify="right", width=14, no_wrap=True)
    for test in tests.tests:
        style, number = STYLES[test.verdict], test.counts.get(test.verdict, 0)
        verdict = Text(f"{number:,} {test.verdict}", style)
        table.add_row(Text(MARKS[test.verdict], style), test.name, verdict)
    return table


def errors_table(sample: Sample, before: Sample | None) -> Table:
    """The errors of each logger, over all blades."""
    table = _table("errors", 35)
    table.add_column("logger", ratio=1, no_wrap=True)
    table.add_column("errors", justify="right", width=6)
    table.add_column("/s", justify="right", width=5)
    for logger, times in sorted(sample.errors.items()):
        earlier = {"n": sum(before.errors.get(logger, {}).values())} if before else None
        total = sum(times.values())
        errors_rate = rate({"n": total}, earlier, "n", sample, before)
        table.add_row(logger, Text(f"{total:,.0f}", "red"), errors_rate)
    return table


def rate(
    now: Mapping[str, float],
    earlier: Mapping[str, float] | None,
    name: str,
    sample: Sample,
    before: Sample | None,
) -> str:
    """How fast a quantity grows, per second, between two samples."""
    if before is None or earlier is None or sample.at <= before.at:
        return ""
    return f"{(now.get(name, 0) - earlier.get(name, 0)) / (sample.at - before.at):,.1f}"


def _started(rung: Rung) -> Text:
    if rung.module_started is None:
        return Text("–", "dim")
    if rung.module_started != rung.module:
        return Text(rung.module_started, "red")
    return Text(rung.module_started, "green")


def _table(title: str, width: int) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="cyan",
        box=box.SIMPLE_HEAD,
        width=width,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
