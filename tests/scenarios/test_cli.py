"""A cluster of real processes that do nothing but log, and what the commands say of it.

The examples are those of the documentation: what it prints must come out, to the letter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shardlog.monitor import connect
from tests.helpers import WAIT_S, eventually, free_pair
from tests.scenarios.processes import Cluster, running

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARDLOG = str(Path(sys.executable).parent / "shardlog")

LOGGING = """
import logging.config, os, sys
logging.config.dictConfig({
    "version": 1,
    "handlers": {"cluster": {"class": "shardlog.handler.ShardHandler"}},
    "root": {"level": "INFO", "handlers": ["cluster"]},
})
log = logging.getLogger("program")
"""

ORCHESTRATOR = """
log.info("asked", extra={"intents": {"42": {"host": "scraper-1", "module": "scrape_pages==1.4"}}})
"""

SCRAPER = """
from shardlog.handler import count
log.info("started", extra={"intents": {"42": {"resolution": {"scraper-1": {"item_scraped": {
    "pages.local": {"tries": count(1), "time_spent": count(0.21), "item_collected": count(7),
                    "item_sent_tries": count(7), "item_sent": count(6)}}}}}}})
"""

SPOTTER = """
from shardlog.handler import count
log.info("received", extra={
    "intents": {"42": {"resolution": {"spotter-1": {"item_received": count(6)}}}}})
"""

INTENTS = {
    "42": {
        "host": "scraper-1",
        "module": "scrape_pages==1.4",
        "resolution": {
            "scraper-1": {
                "item_scraped": {
                    "pages.local": {
                        "item_collected": 7,
                        "item_sent": 6,
                        "item_sent_tries": 7,
                        "time_spent": 0.21,
                        "tries": 1,
                    }
                }
            },
            "spotter-1": {"item_received": 6},
        },
    }
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two hosts, for tests of which each logs under keys of its own."""
    with running("node-1", "node-2") as cluster:
        yield cluster


def environment(cluster: Cluster, blade: str, host: str = "node-1") -> dict[str, str]:
    """For a program that logs, as a blade."""
    endpoint = cluster.endpoint(host)
    return {**os.environ, "SHARDLOG_ENDPOINT": endpoint, "SHARDLOG_BLADE": blade}


def log(cluster: Cluster, blade: str, program: str, host: str = "node-1") -> None:
    """Run a program that logs, as a blade, to its end."""
    done = subprocess.run(
        [sys.executable, "-c", LOGGING + program],
        env=environment(cluster, blade, host),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def shardlog(*arguments: str) -> str:
    done = subprocess.run([SHARDLOG, *arguments], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def get(cluster: Cluster, path: str) -> Any:
    """What a fresh `get` prints, None if nothing is there."""
    done = subprocess.run(
        [SHARDLOG, "get", path, "--json", "--connect", cluster.url],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == (0 if done.stdout else 1), done.stderr
    return json.loads(done.stdout) if done.stdout else None


def test_orchestrator_scraper_and_spotter_make_one_state(cluster: Cluster) -> None:
    """What three processes on two hosts said of an intent, merged; and the message of each."""
    log(cluster, "orchestrator", ORCHESTRATOR)
    log(cluster, "scraper-1", SCRAPER)
    log(cluster, "spotter-1", SPOTTER, host="node-2")

    eventually(lambda: get(cluster, "intents") == INTENTS, "the intent with both answers")
    assert shardlog("get", "intents/42/resolution/spotter-1", "--connect", cluster.url) == (
        '{\n  "item_received": 6\n}\n'
    )
    for blade, message in (("orchestrator", "asked"), ("scraper-1", "started")):
        assert get(cluster, blade) == {"msg": message}

    log(cluster, "scraper-1", SCRAPER)
    tries = "intents/*/resolution/*/item_scraped/*/tries"
    with connect(cluster.url) as monitor:
        eventually(lambda: monitor.total(tries) == 2, "the second try")
        assert monitor["intents", "42", "resolution", "scraper-1", "item_scraped"] == {
            "pages.local": {
                "item_collected": 14,
                "item_sent": 12,
                "item_sent_tries": 14,
                "time_spent": 0.42,
                "tries": 2,
            }
        }


def test_what_can_not_be_taken_of_an_extra_is_counted_named_once_and_the_rest_goes_on(
    cluster: Cluster,
) -> None:
    """A socket is marked, a key of 10 kB is refused; each is a line in the collector's log, `check`
    says how often, and what is beside them and after them arrives.
    """
    log(
        cluster,
        "odd",
        """
import socket
with socket.socket() as one:
    for n in range(3):
        log.info("odd", extra={"odds": {"socket": one, "k" * 10240: 1, "good": n}})
log.info("odd", extra={"odds": {"next": True}})
""",
    )
    eventually(lambda: "next" in (get(cluster, "odds") or {}), "what came after")
    assert get(cluster, "odds") == {"good": 2, "next": True, "socket": "<socket.socket>"}
    health = get(cluster, "shardlog/health/blade/odd")
    assert health["refused"] == {"key": 3, "type": 3}
    said = cluster.collectors["node-1"].log()
    assert said.count("odd refused (key)") == said.count("odd refused (type)") == 1
    checked = subprocess.run(
        [SHARDLOG, "check", "--connect", cluster.url], capture_output=True, text=True
    )
    assert checked.returncode == 1
    assert "blade odd: refused 3 key, 3 type, " in checked.stdout


MERGES: dict[str, tuple[list[dict[Any, Any]], dict[str, Any]]] = {
    "deep-merge": (
        [{1: {"foo": "bar"}}, {2: "bar", 1: {"something": "merged"}}],
        {"1": {"foo": "bar", "something": "merged"}, "2": "bar"},
    ),
    "int-and-str": ([{1: "int", "1": "str", 2: "int"}], {r"\i1": "int", "1": "str", "2": "int"}),
    "later-scalar-over-dict": ([{"a": {"b": 1}}, {"a": 2}], {"a": 2}),
    "later-dict-over-scalar": ([{"a": 2}, {"a": {"b": 1}}], {"a": {"b": 1}}),
    "presence": ([{"a": {}}], {"a": {}}),
    "lists-are-values": ([{"a": [1, 2]}, {"a": [3]}], {"a": [3]}),
    "values": (
        [{"none": None, "true": True, "int": 7, "float": 0.5, "str": "ü", "bytes": b"ab"}],
        {
            "none": None,
            "true": True,
            "int": 7,
            "float": 0.5,
            "str": "ü",
            "bytes": {"$bytes": "YWI="},
        },
    ),
    "no-number": ([{"a": float("inf")}], {"a": {"$float": "inf"}}),
}


@pytest.mark.parametrize("example", MERGES)
def test_log_calls_are_deep_merged(cluster: Cluster, example: str) -> None:
    """What one process says in a row shows as the documentation says."""
    shards, expected = MERGES[example]
    calls = "".join(
        f"log.info('said', extra={{'shard': {{{example!r}: {shard!r}}}}})\n" for shard in shards
    )
    log(cluster, "merger", "inf = float('inf')\n" + calls)

    eventually(lambda: get(cluster, example) == expected, example)


def test_erased_key_is_gone_with_all_below_it(cluster: Cluster) -> None:
    """And a later write below it shows alone."""
    log(
        cluster,
        "eraser",
        """
from shardlog.handler import erase
log.info("one", extra={"erased": {"a": {"b": 1, "c": 2}, "d": {"e": 3}}})
log.info("two", extra={"erased": {"a": erase, "d": erase}})
log.info("three", extra={"erased": {"d": {"f": 4}}})
""",
    )

    eventually(lambda: get(cluster, "erased") == {"d": {"f": 4}}, "what was written last")
    assert get(cluster, "erased/a") is None


def test_processes_are_listed_with_their_host_and_how_they_ended(cluster: Cluster) -> None:
    """One that has ended said goodbye."""
    log(cluster, "leaver", "log.info(str(os.getpid()), extra={'leaver-pid': os.getpid()})")
    eventually(lambda: get(cluster, "leaver-pid") is not None, "its pid")

    def row() -> dict[str, Any]:
        rows = json.loads(shardlog("blades", "--json", "--connect", cluster.url))
        (found,) = (row for row in rows if row["blade"] == "leaver")
        return dict(found)

    eventually(lambda: row()["status"] == "bye", "its goodbye")
    assert set(row()) >= {"blade", "host", "pid", "process", "status", "started", "heard"}
    assert row()["pid"] == get(cluster, "leaver-pid")
    assert row()["process"].startswith("leaver@")
    assert row()["started"] <= row()["heard"]


def test_watch_says_who_said_what(cluster: Cluster) -> None:
    """What comes first is what came first; it ends with its reader."""
    program = """
import itertools, time
for number in itertools.count():
    log.info("%d", number, extra={"watched": {"n": number}})
    time.sleep(0.01)
"""
    with (
        subprocess.Popen(
            [SHARDLOG, "watch", "watched", "--connect", cluster.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as watch,
        subprocess.Popen(
            [sys.executable, "-c", LOGGING + program], env=environment(cluster, "watched-1")
        ) as watched,
    ):
        assert watch.stdout is not None
        try:
            change = json.loads(watch.stdout.readline())
        finally:
            watch.kill()
            watched.kill()

    assert change["path"] == "watched/n"
    assert change["by"] == "watched-1"
    assert change["gone"] is None


def test_collector_serves_its_own_host(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same commands work at a collector, which needs no aggregator for it."""
    with running() as cluster:
        serve = free_pair()
        node = cluster.start_collector("node-9", "--serve", serve)
        log(cluster, "orchestrator", ORCHESTRATOR, host="node-9")
        alone = Cluster(cluster.folder, url=serve)

        eventually(lambda: get(alone, "intents/42/host") == "scraper-1", "what its blade said")
        checked = shardlog("check", "--connect", serve)
        assert f"{serve} serves 1 host\n" in checked
        assert node.process.poll() is None


def test_all_settings_may_come_from_one_file() -> None:
    """Of collector, aggregator, blade and monitor, each its own table."""
    with running() as cluster:
        cluster.collectors["node-1"].stop()
        cluster.aggregator.stop()
        file = cluster.folder / "shardlog.toml"
        collect = cluster.collectors["node-1"].arguments
        store = collect[collect.index("--store") + 1]  # another one would be that of a lost replica
        file.write_text(
            f"""
[handler]
endpoint = "{cluster.endpoint()}"
blade = "by-file"
[collect]
listen = "{cluster.endpoint()}"
to = "{cluster.listen}"
host = "node-by-file"
store = "{store}"
[aggregate]
listen = "{cluster.listen}"
serve = "{cluster.url}"
[monitor]
connect = "{cluster.url}"
"""
        )
        for node in (cluster.aggregator, cluster.collectors["node-1"]):
            node.arguments = [node.arguments[0], "--config", str(file)]
            node.start()
        done = subprocess.run(
            [sys.executable, "-c", LOGGING + ORCHESTRATOR],
            env={**os.environ, "SHARDLOG_CONFIG": str(file)},
        )
        assert done.returncode == 0

        def blades() -> list[str]:
            rows = json.loads(shardlog("blades", "--json", "--config", str(file)))
            return [row["blade"] for row in rows]

        eventually(lambda: blades() == ["by-file"], "the blade that the file names")
        check = [SHARDLOG, "check", "--config", str(file)]
        eventually(lambda: subprocess.run(check).returncode == 0, "the aggregator has settled")
        assert "serves 1 host\n" in shardlog(*check[1:])
