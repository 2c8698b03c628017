"""What live tests say, for Prometheus to scrape: `shardlog test --metrics HOST:PORT`.

    shardlog_live_test_state{test,state}               1 for the verdict of a test, 0 for others
    shardlog_live_test_instances{test,verdict}         how many instances there are of each verdict
    shardlog_live_test_verdicts_total{test,verdict}    how many final verdicts, pass and fail
    shardlog_live_test_time_to_verdict_seconds{test}   how long passes took, a histogram
    shardlog_live_test_slack_seconds{test}             until the next deadline, if there is one
    shardlog_judged_timestamp_seconds                  up to when all this is judged
    shardlog_judged_in_doubt                           1 while that may not be all there is, else 0

There is no label for keys, of which there is no bound: an alert says which test it is, and the
report which instance. The histogram can be summed over tests, which quantiles can't; its sum is
that of times cut to two digits, so up to a tenth too low. Instances that passed are counted for
good, also where their keys are gone.

A scrape shows the report that was put here last, so it neither waits for the engine nor disturbs
it; one that is not renewed any more shows by its timestamp.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.live.report import overall
from shardlog.monitor.live.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import CollectorRegistry, Metric

    from shardlog.monitor.live.report import Report

SECOND = 10**9
PATIENCE_S = 10.0
"""So long the server waits for a part of a request, or until its answer is read."""
BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
"""Upper bounds. Each has two digits, as the times that are counted have."""


class Metrics:
    """Serves the newest report at `http://HOST:PORT/metrics`, in a thread of its own.

    `report` is what a scrape shows; whoever judges puts a new one there now and then. With port 0
    a free one is taken: `url` says which.

    Raises:
        ConfigError: the extra `metrics` is not installed, or this is no address to listen at.
    """

    def __init__(self, address: str) -> None:
        try:
            from prometheus_client import CollectorRegistry
        except ImportError:
            raise ConfigError(
                "metrics need prometheus-client: pip install 'shardlog[metrics]'"
            ) from None
        host, port = _parse(address)
        self.report: Report | None = None
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server = _server(host, port, registry)
        except OSError as error:
            raise ConfigError(f"can't serve metrics at {address}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://{address.rpartition(':')[0]}:{self._server.server_port}/metrics"

    def collect(self) -> Iterator[Metric]:
        """What `prometheus_client` asks for at each scrape. O(tests)."""
        report = self.report
        return iter(()) if report is None else families(report)

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: else it would collect."""
        return iter(())

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(host: str, port: int, registry: CollectorRegistry) -> ThreadingHTTPServer:
    """Like that of `prometheus_client`, which waits without end for what is never said or read."""
    from prometheus_client import MetricsHandler

    class Handler(MetricsHandler):
        timeout = PATIENCE_S

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

    class Server(ThreadingHTTPServer):
        address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]

    Handler.registry = registry
    return Server((host, port), Handler)


def families(report: Report) -> Iterator[Metric]:
    """The metrics of a report. O(tests x what each took)."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    state = GaugeMetricFamily(
        "shardlog_live_test_state",
        "1 for the verdict that a live test has, 0 for the others.",
        labels=["test", "state"],
    )
    instances = GaugeMetricFamily(
        "shardlog_live_test_instances",
        "How many instances of a live test have a verdict.",
        labels=["test", "verdict"],
    )
    finals = CounterMetricFamily(
        "shardlog_live_test_verdicts",
        "How many final verdicts a live test has given.",
        labels=["test", "verdict"],
    )
    took = HistogramMetricFamily(
        "shardlog_live_test_time_to_verdict_seconds",
        "How long it took the instances of a live test to pass.",
        labels=["test"],
    )
    slack = GaugeMetricFamily(
        "shardlog_live_test_slack_seconds",
        "How long it is until the next deadline of a live test.",
        labels=["test"],
    )
    judged = GaugeMetricFamily(
        "shardlog_judged_timestamp_seconds",
        "Up to when live tests are judged, in seconds since 1970.",
        value=report.judged_ns / SECOND,
    )
    doubt = GaugeMetricFamily(
        "shardlog_judged_in_doubt",
        "1 while what live tests are about may not be all there is, else 0.",
        value=float(bool(report.doubt)),
    )
    for test in report.tests:
        said = overall(report, test)
        for verdict in Verdict:
            number = test.counts.get(verdict, 0)
            state.add_metric([test.name, str(verdict)], float(verdict is said))
            instances.add_metric([test.name, str(verdict)], number)
            if verdict.is_final:
                finals.add_metric([test.name, str(verdict)], number)
        buckets, sum_s = _histogram(test.took_by_ms)
        took.add_metric([test.name], buckets, sum_s)
        if test.due_ns is not None:
            slack.add_metric([test.name], (test.due_ns - report.judged_ns) / SECOND)
    yield from (state, instances, finals, took, slack, judged, doubt)


def _histogram(took_by_ms: dict[int, int]) -> tuple[list[tuple[str, float]], float]:
    """Its buckets, each with all below it, and the sum.

    >>> buckets, sum_s = _histogram({40: 1, 100: 2, 4_000_000: 1})
    >>> buckets[0], buckets[1], buckets[2], buckets[-2], buckets[-1], sum_s
    (('0.05', 1), ('0.1', 1), ('0.25', 3), ('3600.0', 3), ('+Inf', 4), 4000.24)
    """
    # Cut to two digits, 100 ms are 100 to 110: what is at a bound is above it.
    below = [
        (repr(float(bound)), sum(n for ms, n in took_by_ms.items() if ms < bound * 1000))
        for bound in BUCKETS_S
    ]
    buckets: list[tuple[str, float]] = [*below, ("+Inf", sum(took_by_ms.values()))]
    return buckets, sum(ms * n for ms, n in took_by_ms.items()) / 1000


def _parse(address: str) -> tuple[str, int]:
    """Host and port.

    >>> _parse("127.0.0.1:9464"), _parse("[::1]:0")
    (('127.0.0.1', 9464), ('::1', 0))
    """
    host, _, port = address.rpartition(":")
    with suppress(ValueError):
        if host and port.isascii() and port.isdigit() and int(port) < 2**16:
            bare = host.removeprefix("[").removesuffix("]")
            if ":" not in bare or bare != host:
                bare.encode("idna")  # as whoever looks it up does
                return bare, int(port)
    raise ConfigError(f"{address!r} is no address for metrics: HOST:PORT, as 127.0.0.1:9464")
