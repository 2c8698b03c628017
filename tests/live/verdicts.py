"""An engine that says all seven verdicts, for tests of what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shardlog.crdt.delta import REGISTER
from shardlog.crdt.replication.messages import LANES, Changes, Heartbeat, HostStatus, Row
from shardlog.monitor.feed import Heard, Moved, Whole
from shardlog.monitor.live.declared import MARK, each, once
from shardlog.monitor.live.engine import Engine
from shardlog.monitor.live.properties import always, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from shardlog.crdt.delta import Value
    from shardlog.monitor.live.declared import Test

SECOND = 10**9
START = 1_764_000_000 * SECOND
WRITERS = ["orchestrator@node-1:boot:1:1:a", "scraper-2@node-2:boot:1:1:b"]


@each("jobs/*")
def answered(job: Any, live: Any) -> Any:
    """Of four jobs one is done in time, one is late, one is of a host that is away."""
    return eventually(lambda: job.done, within=job.within)


@each("jobs/*")
def sane(job: Any, live: Any) -> Any:
    """Holds, but for what raises."""
    yield always(lambda: job.host != "nobody", at="arrival")
    yield always(lambda: 1 / job.divisor, at="arrival")


@once
def there(live: Any) -> Any:
    """Is there."""
    return eventually(lambda: live.jobs, within=10)


@each("nothing/*")
def unreached(job: Any, live: Any) -> Any:
    """There is none of these."""
    return always(lambda: job)


def declared(function: Callable[..., Any]) -> Test:
    """What the decorators have made of it."""
    test: Test = getattr(function, MARK)
    return test


def moved(at_s: float, rows: dict[str, Value], writer: int = 0) -> Moved:
    """Registers that somebody has written `at_s` seconds after the start."""
    at_ns = START + int(at_s * SECOND)
    said = [Row(path, REGISTER, value, at_ns, writer) for path, value in rows.items()]
    return Moved(at_ns, Changes(WRITERS, said))


def heard(at_s: float, watermark_s: float, **status: Any) -> Heard:
    """A heartbeat: up to when the hosts have told all, and which are not live."""
    at_ns, watermark_ns = START + int(at_s * SECOND), START + int(watermark_s * SECOND)
    hosts = [
        HostStatus(
            host, f"r-{host}", status.get(host.replace("-", "_"), "live"), at_ns, watermark_ns
        )
        for host in ("node-1", "node-2")
    ]
    return Heard(at_ns, Heartbeat("node", "epoch", at_ns, 1000, [0] * LANES, hosts, {}))


def judged(**options: Any) -> Engine:
    """After 30 s: `answered` passes, fails, is pending, overdue and blind; `sane` holds."""
    engine = Engine([declared(one) for one in (answered, sane, there, unreached)], **options)
    engine.receive(Whole(START, ()))
    engine.receive(heard(0, 0))
    # Nobody is left on node-2, so only what was said there waits for it.
    gone = "shardlog/presence/scraper-2/p"
    engine.receive(moved(0, {f"{gone}/host": "node-2", f"{gone}/status": "bye"}, writer=1))
    for key, within in {"good": 40, "bad": 5, "late": 28.5, "open": 60, "away": 28.5}.items():
        rows: dict[str, Value] = {f"jobs/{key}/{name}": 1 for name in ("within", "divisor")}
        rows[f"jobs/{key}/within"] = within
        engine.receive(moved(1, rows, writer=int(key == "away")))
    engine.receive(moved(3, {"jobs/good/done": True, "jobs/bad/divisor": 0}))
    engine.receive(heard(4, 3.5))
    engine.receive(heard(5, 4.5, node_2="stale"))
    engine.receive(heard(20, 19, node_2="stale"))
    engine.handle_timer(START + 30 * SECOND)
    return engine
