"""`shardlog check --ledger`: is all there that was counted?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

from shardlog.cli.output import printable
from shardlog.crdt import counter
from shardlog.crdt.errors import Unreachable
from shardlog.monitor import Cluster, connect
from shardlog.monitor.balance import Comparison, Fault, Sample, number

PATIENCE_S = 12.0
"""How long something may be on its way: hosts tell their sums every 5 s."""
PAUSE_S = 0.2


class Finding(NamedTuple):
    """What was looked at, and how it is; "unknown": nobody can tell any more."""

    subject: str
    status: Literal["fine", "wrong", "unreachable", "settling", "unknown"]
    says: str


def examine_ledger(url: str, *, timeout_ms: int) -> Iterator[Finding]:
    """Whether the books of the cluster balance, or what is off; raises ConfigError for `url`."""
    try:
        with connect(url, timeout_ms=timeout_ms) as cluster:
            yield from _examine(cluster)
    except Unreachable as error:
        yield Finding("ledger", "unreachable", str(error))


def _examine(cluster: Cluster) -> Iterator[Finding]:
    comparison = Comparison()
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        is_late = time.monotonic() >= deadline_s
        sample = cluster.ledger()
        agrees = comparison.agrees(sample)
        findings = list(_findings(cluster, sample, agrees=agrees))
        if is_late or not findings:
            break
        time.sleep(PAUSE_S)
    yield from findings or [Finding("ledger", "fine", _balanced(sample))]


def _findings(cluster: Cluster, sample: Sample, *, agrees: bool) -> Iterator[Finding]:
    """All that keeps the books from being called balanced."""
    for fault in (fault for book in sample.books for fault in book.faults()):
        yield _fault(fault, "wrong" if fault.known else "unknown")
    told = {book.replica for book in sample.books}
    silent = [host for host in cluster.hosts if host.replica not in told]
    for host in silent:
        if host.status != "replaced":
            yield Finding("ledger", "settling", f"{printable(host.host)} has not told its sums yet")
    for doubt in sample.doubts:
        if doubt.status == "settling":
            yield Finding("ledger", "settling", printable(doubt.reason))
        elif doubt.status == "stale":
            yield Finding("ledger", "unreachable", printable(doubt.reason))
    if not agrees:
        is_replaced = any(host.status == "replaced" for host in cluster.hosts)
        is_doubtful = sample.doubts or silent or is_replaced
        says = f"shows {number(sample.shown)}, its hosts have {number(sample.held())}"
        yield _fault(Fault(cluster.url, "shown", says), "unknown" if is_doubtful else "wrong")


def _fault(fault: Fault, status: Literal["wrong", "unknown"]) -> Finding:
    return Finding(f"ledger {fault.term}", status, printable(f"{fault.host}: {fault.says}"))


def _balanced(sample: Sample) -> str:
    sums = {term: counter.value(amount) for term, amount in sample.sums().items()}
    sums["erased"] += sums["erased_collapsed"]
    sums["refused"] += sums["overflow"]
    terms = [f"{sums[term]} {term}" for term in ("visible", "collapsed", "erased", "refused")]
    terms += [f"{sums['baseline']} before there were sums"] if sums["baseline"] else []
    return f"balanced: {sums['counted']} counted = {' + '.join(terms)} + 0 undelivered"
