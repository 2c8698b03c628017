"""`shardlog check`: is the configuration right, and does everybody answer?"""

from __future__ import annotations

import os
import platform
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import click

from shardlog.cli.ledger import Finding, examine_ledger
from shardlog.cli.options import json_option, load_config
from shardlog.cli.output import echo_json, printable
from shardlog.collector.follow import libzmq_version
from shardlog.crdt.config import CONFIG_VARIABLE, VARIABLE_PREFIX, VARIABLES, Config
from shardlog.crdt.endpoint import AGGREGATOR_SERVE, check_address, collector_listen
from shardlog.crdt.errors import ConfigError, Unreachable
from shardlog.crdt.path import COLLAPSED, RESERVED, path_text
from shardlog.crdt.replication.messages import Heartbeat
from shardlog.monitor import Cluster, connect
from shardlog.monitor.presence import Blade
from shardlog.monitor.views import clock_remark, doubts

TIMEOUT_S = 3.0
LIBZMQ_OLDEST = (4, 3, 5)
"""Older ones have holes that anybody who reaches the port may use."""


@click.command()
@click.option("--config", "path", metavar="FILE", help="TOML file. Or SHARDLOG_CONFIG.")
@click.option("--connect", "url", metavar="URL", help="Where monitors are served.")
@click.option("--ledger", is_flag=True, help="Check instead that nothing counted was lost.")
@json_option("Print a list of objects instead, on one line.")
def check(path: str | None, url: str | None, ledger: bool, as_json: bool) -> None:
    """Check configuration and connections, and say what is wrong.

    With --ledger add up, over all hosts, what was counted and what became of it: it is visible, or
    went on at ~, or was erased or refused, or is not delivered yet. That takes some seconds.

    Exit 1 if something is wrong; else 3 if somebody does not answer, or not all has arrived yet.
    """
    if url is not None:
        check_address(url, insecure=True)
    if ledger:
        served = url or load_config(path, os.environ).monitor.connect or AGGREGATOR_SERVE
        findings = list(examine_ledger(served, timeout_ms=int(1000 * TIMEOUT_S)))
    else:
        findings = list(examine(path, url, os.environ))
    if as_json:
        echo_json([finding._asdict() for finding in findings], one_line=True)
    else:
        for finding in findings:
            click.echo(f"{finding.status:11}  {finding.subject}: {printable(finding.says)}")
    statuses = {finding.status for finding in findings}
    sys.exit(1 if "wrong" in statuses else 3 if statuses != {"fine"} else 0)


def examine(path: str | None, url: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    yield _versions()
    yield from _variables(environ)
    file = path or environ.get(CONFIG_VARIABLE) or ""
    try:
        config = load_config(path, environ)
    except ConfigError as error:
        yield Finding("configuration", "wrong", str(error))
        return
    yield Finding("configuration", "fine", file or "no file")
    found = list(_addresses(config))
    yield from found
    wrong = {finding.subject for finding in found}
    if wrong.isdisjoint(("[handler] endpoint", "[collect] listen")):
        yield from _collector(config, environ)
    for subject, who, addresses in (
        ("[collect] to", "aggregator", config.collect.to),
        ("[aggregate] to", "aggregator", _above(config)),
        ("[aggregate] peer", "twin", config.aggregate.peer),
    ):
        if subject not in wrong:
            for address in addresses:
                yield _reach(f"{who} {address}", address)
    if url or "[monitor] connect" not in wrong:
        yield from _served(url or config.monitor.connect or AGGREGATOR_SERVE)


def _versions() -> Finding:
    libzmq = libzmq_version()
    text = ", ".join(f"{name} {version(name)}" for name in ("shardlog", "pyzmq", "msgspec"))
    text += f", libzmq {'.'.join(map(str, libzmq))}, Python {platform.python_version()}"
    if libzmq < LIBZMQ_OLDEST:
        return Finding("versions", "wrong", f"{text}; libzmq 4.3.5 is needed: update pyzmq")
    return Finding("versions", "fine", text)


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    known = {CONFIG_VARIABLE, *(VARIABLE_PREFIX + key.upper() for key in VARIABLES)}
    for name in sorted(environ):
        if name.startswith(VARIABLE_PREFIX) and name not in known:
            yield Finding(name, "wrong", f"no such variable; they are {', '.join(sorted(known))}")


def _addresses(config: Config) -> Iterator[Finding]:
    """What is wrong with addresses that were written down."""
    handler, collect, aggregate = config.handler, config.collect, config.aggregate
    written = [
        ("[handler] endpoint", handler.endpoint, handler.insecure),
        ("[collect] listen", collect.listen, collect.insecure),
        *(("[collect] to", address, collect.insecure) for address in collect.to),
        ("[collect] serve", collect.serve, collect.insecure),
        ("[aggregate] listen", aggregate.listen, aggregate.insecure),
        ("[aggregate] serve", aggregate.serve, aggregate.insecure),
        *(("[aggregate] to", address, aggregate.insecure) for address in _above(config)),
        *(("[aggregate] peer", address, aggregate.insecure) for address in aggregate.peer),
        ("[monitor] connect", config.monitor.connect, True),
    ]
    for subject, address, insecure in written:
        try:
            check_address(address, insecure=insecure) if address else None
        except ConfigError as error:
            yield Finding(subject, "wrong", str(error))


def _above(config: Config) -> list[str]:
    """Where only an aggregator sends: what SHARDLOG_TO says is in both tables."""
    return [address for address in config.aggregate.to if address not in config.collect.to]


def _collector(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Whether the blades of this host are heard."""
    default = collector_listen(environ, os.getuid(), tempfile.gettempdir())
    address = config.handler.endpoint or config.collect.listen or default
    if address.startswith("ipc://"):
        path = Path(address.removeprefix("ipc://"))
        is_absent = is_open = False
        with suppress(OSError):  # where nothing can be looked at, nobody can be reached either
            is_absent = not path.exists()
            is_open = path.parent.is_dir() and path.parent.stat().st_mode & 0o007 != 0
        if is_absent and address == default:
            yield Finding(
                "collector", "fine", f"none on this host, which would listen at {default}"
            )
            return
        if is_open:
            says = f"{path.parent} is open to all users; chmod 700 {path.parent}"
            yield Finding("collector", "wrong", says)
    yield _reach(f"collector {address}", address)


def _reach(subject: str, address: str) -> Finding:
    """Whether somebody listens there."""
    try:
        if address.startswith("ipc://"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(TIMEOUT_S)
                probe.connect(address.removeprefix("ipc://"))
        else:
            host, _, port = address.removeprefix("tcp://").rpartition(":")
            name = "localhost" if host == "*" else host.strip("[]")
            socket.create_connection((name, int(port)), TIMEOUT_S).close()
    except OSError as error:
        return Finding(subject, "unreachable", error.strerror or str(error))
    return Finding(subject, "fine", "listens")


def _served(url: str) -> Iterator[Finding]:
    """Whether monitors are answered, and how complete what they are told is."""
    try:
        with connect(url, timeout_ms=int(1000 * TIMEOUT_S)) as cluster:
            heartbeat, blades = cluster.heartbeat, cluster.blades()
            refused = [*_refused(cluster)]
    except Unreachable as error:
        yield Finding("monitors", "unreachable", str(error))
    else:
        yield from _heard(url, heartbeat, blades)
        yield from refused


def _refused(cluster: Cluster) -> Iterator[Finding]:
    """What collectors and blades turned away: it shows for a day after the last of it."""
    for node in cluster.nodes():
        subject = f"host {printable(node['node'])}"
        if node["kind"] == "collector" and node["refused"]:
            says = f"refused {_times(node['refused'])}, its log names the first of each"
            yield Finding(subject, "wrong", says)
        if node["store"]:
            yield Finding(subject, "wrong", node["store"])
    said: object = None
    with suppress(KeyError):
        said = cluster[RESERVED, "health", "blade"]
    for blade, told in _dict(said).items():
        refused = _dict(_dict(told).get("refused"))
        counts = {str(reason): n for reason, n in refused.items() if type(n) is int}
        if blade != COLLAPSED and counts:
            first = path_text((RESERVED, "health", "blade", blade, "first"))
            says = f"refused {_times(counts)}, `shardlog get {first}` shows the first of each"
            yield Finding(f"blade {printable(str(blade))}", "wrong", says)


def _dict(said: object) -> dict[Any, Any]:
    """What was said, if it is a dict: anybody may have written it."""
    return said if isinstance(said, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _times(refused: Mapping[str, int]) -> str:
    return ", ".join(f"{times} {reason}" for reason, times in sorted(refused.items()))


def _heard(url: str, heartbeat: Heartbeat | None, blades: list[Blade]) -> Iterator[Finding]:
    """What a server says of itself, of its hosts and of their blades."""
    if heartbeat is None or not heartbeat.hosts:
        says = f"{url} serves no host: no collector sends there"
        yield Finding("monitors", "unreachable", says)
        return
    number = len({host.host for host in heartbeat.hosts})
    yield Finding("monitors", "fine", f"{url} serves {number} host{'s' if number > 1 else ''}")
    for host in heartbeat.hosts:
        if remark := clock_remark(host):
            yield Finding(f"host {printable(host.host)}", "wrong", remark)
    live = Counter(host.host for host in heartbeat.hosts if host.status == "live")
    for name, times in live.items():
        if times > 1:
            says = f"{times} live collectors are called so; give each host its own name (--host)"
            yield Finding(f"host {printable(name)}", "wrong", says)
    for doubt in doubts(url, heartbeat, is_whole=True, stale_since_ns=None):
        subject = f"host {printable(doubt.host)}" if doubt.host else "monitors"
        status: Literal["settling", "wrong"] = "settling" if doubt.status == "settling" else "wrong"
        says = f"{doubt.status}: {doubt.reason}"
        if doubt.status == "stale" and doubt.host in live:
            says += "; a collector with another store has taken its place"
        elif doubt.status == "stale":
            says += "; its collector has ended, or does not reach its aggregator"
        yield Finding(subject, status, says)
    yield from _strangers({host.host for host in heartbeat.hosts}, blades)
    yield from _retention(url, heartbeat)
    for reason, times in sorted(heartbeat.refused.items()):
        says = f"turned away {times} times since the start of {url}, whose log names the first"
        yield Finding(f"refused {printable(reason)}", "wrong", says)


def _strangers(hosts: set[str], blades: list[Blade]) -> Iterator[Finding]:
    """Hosts of blades that no collector calls so: what is said of one is not found for the other.

    Processes that have ended are of yesterday, and a collector may be newer than `hosts`.
    """
    named: set[str] = set()
    for row in blades:
        name, collector = row["host"], row["collector"]
        if row["status"] in ("bye", "lost") or collector not in hosts:
            continue
        if name and name not in hosts | named:
            named.add(name)
            yield Finding(
                f"host {printable(name)}",
                "wrong",
                f"{row['blade']} says that it runs there, but the collector that hears it is called"
                f" {collector}; give blades their collector's name, as SHARDLOG_HOST={collector}",
            )


def _retention(url: str, heartbeat: Heartbeat) -> Iterator[Finding]:
    """Whether all hosts, and who serves them, forget by the same table."""
    tables: dict[str, list[str]] = {}
    for host in heartbeat.hosts:
        if host.retention and host.status != "replaced":
            tables.setdefault(host.retention, []).append(host.host)
    if heartbeat.retention:
        tables.setdefault(heartbeat.retention, []).append(url)
    if len(tables) > 1:
        groups = " | ".join(", ".join(sorted(hosts)) for hosts in tables.values())
        says = f"the tables of {groups} differ; write the same one everywhere"
        yield Finding("[retention]", "wrong", says)
