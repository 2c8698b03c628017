"""What can happen in a simulated cluster, as data: a schedule is a list of steps.

A step names hosts, processes, aggregators and monitors by number. One that names something that is
not there, or that is down, does nothing: so any list of steps is a schedule, and shrinking one is
to leave steps out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from shardlog.crdt import counter

if TYPE_CHECKING:
    from shardlog.crdt.delta import Amount, Value

MS = 1_000_000
SECOND = 1000 * MS
HOUR = 3600 * SECOND

CrashPoint: TypeAlias = Literal[
    "at rest",
    "before the commit",
    "behind the commit",
    "within publishing",
    "before acknowledging",
    "within acknowledging",
]
"""Where in its next batch a collector dies."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How large a cluster is, and what it is set to."""

    hosts: int = 2
    aggregators: int = 2
    """Those that follow collectors."""
    monitors: int = 1
    is_tree: bool = False
    """Whether another aggregator is above these, each of which follows hosts of its own."""
    remembers: bool = False
    """Whether aggregators have stores."""
    retention_s: int = 0
    """How long records of `t/*` and `cfg/*` are kept; 0: as by default, a day."""
    bytes_max: int = 2000
    """About how large the messages of collectors and aggregators may be."""
    report_bytes: int = 100_000
    """About how large the reports of processes may be."""
    idle_ms: int = 600_000
    """After so long without a count a process retires a path."""
    has_life: bool = True
    """Whether processes share a folder with their collector; else nothing acknowledges."""
    erases: bool = False
    """Whether counters may be erased or overwritten: then what shows is known between bounds."""
    ends: bool = False
    """Whether in the end all processes end and all is forgotten."""
    replays: bool = False
    """Whether in the end all reports that were ever sent come again."""


@dataclass(frozen=True, slots=True)
class Start:
    """A process starts; as the child of another, if it is forked."""

    host: int
    process: int
    parent: int | None = None

    def words(self) -> str:
        how = "starts" if self.parent is None else f"is forked by process {self.parent}"
        return f"process {self.process} {how} on host {self.host}"


@dataclass(frozen=True, slots=True)
class Log:
    """A process logs: erases, then registers, then counts."""

    process: int
    counts: tuple[tuple[str, Amount], ...] = ()
    writes: tuple[tuple[str, Value], ...] = ()
    erases: tuple[str, ...] = ()

    def words(self) -> str:
        said = [f"erases {path}" for path in self.erases]
        said += [f"writes {path} = {value!r}" for path, value in self.writes]
        said += [f"counts {counter.value(amount):+} at {path}" for path, amount in self.counts]
        return f"process {self.process} {', '.join(said) or 'logs nothing'}"


@dataclass(frozen=True, slots=True)
class Kill:
    """A process dies at once; what it had not handed over is lost."""

    process: int

    def words(self) -> str:
        return f"process {self.process} is killed"


@dataclass(frozen=True, slots=True)
class Exit:
    """A process ends as it should, and leaves what was not acknowledged in its exit file."""

    process: int

    def words(self) -> str:
        return f"process {self.process} exits"


@dataclass(frozen=True, slots=True)
class Break:
    """The link of a process to its collector breaks, with what is under way."""

    process: int

    def words(self) -> str:
        return f"the link of process {self.process} breaks"


@dataclass(frozen=True, slots=True)
class Pause:
    """A node is stopped (SIGSTOP) for a while."""

    node: str
    ms: int

    def words(self) -> str:
        return f"{self.node} stands still for {self.ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class CrashCollector:
    """A collector dies in its next batch, and starts again later."""

    host: int
    when: CrashPoint
    ms: int

    def words(self) -> str:
        return f"collector {self.host} dies {self.when}, for {self.ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class FailStore:
    """The disk of a collector takes nothing for a while."""

    host: int
    ms: int

    def words(self) -> str:
        return f"the disk of collector {self.host} is full for {self.ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class Backup:
    """The store of a collector is copied."""

    host: int

    def words(self) -> str:
        return f"the store of collector {self.host} is copied"


@dataclass(frozen=True, slots=True)
class LoseStore:
    """A collector dies, and its disk with it."""

    host: int
    ms: int

    def words(self) -> str:
        return f"collector {self.host} dies, for {self.ms / 1000:g} s, and its disk is lost"


@dataclass(frozen=True, slots=True)
class GoBack:
    """A collector dies, and starts again with what was copied last."""

    host: int
    ms: int

    def words(self) -> str:
        return f"collector {self.host} dies, for {self.ms / 1000:g} s, and the copy is put back"


@dataclass(frozen=True, slots=True)
class CrashAggregator:
    """An aggregator dies, and starts again later."""

    aggregator: int
    ms: int

    def words(self) -> str:
        return f"aggregator {self.aggregator} dies, for {self.ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing passes between two nodes for a while."""

    lower: str
    upper: str
    ms: int

    def words(self) -> str:
        return f"nothing passes between {self.lower} and {self.upper} for {self.ms / 1000:g} s"


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad the network is from now on: chances in percent, and the longest delay."""

    loss: int
    duplication: int
    delay_ms: int

    def words(self) -> str:
        return (
            f"the network loses {self.loss} %, repeats {self.duplication} %, "
            f"delays by up to {self.delay_ms} ms"
        )


@dataclass(frozen=True, slots=True)
class StepClock:
    """The wall clock of a host, or of an aggregator, steps."""

    node: str
    ms: int

    def words(self) -> str:
        return f"the clock of {self.node} steps by {self.ms / 1000:+g} s"


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes."""

    ms: int

    def words(self) -> str:
        return f"{self.ms / 1000:g} s pass"


@dataclass(frozen=True, slots=True)
class Sleep:
    """The whole cluster is suspended, and wakes up so much later."""

    hours: int

    def words(self) -> str:
        return f"all machines sleep for {self.hours} h"


Step: TypeAlias = (
    Start
    | Log
    | Kill
    | Exit
    | Break
    | Pause
    | CrashCollector
    | FailStore
    | Backup
    | LoseStore
    | GoBack
    | CrashAggregator
    | Cut
    | Weather
    | StepClock
    | Wait
    | Sleep
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One simulated history: `seed` is that of the links' and machines' own chance."""

    seed: int
    layout: Layout
    steps: tuple[Step, ...]
