"""The client on real sockets: what it shows, and that it shows it again after any trouble."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from shardlog.crdt.errors import ConfigError, Unreachable
from shardlog.crdt.replication.messages import Changes, HostStatus, SnapshotChunk
from shardlog.crdt.wire import codec
from shardlog.monitor import ABSENT, Cluster, connect
from shardlog.monitor.board import Board
from shardlog.monitor.client import Link
from tests.helpers import eventually, free_pair
from tests.monitor.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shardlog.monitor import Change


@pytest.fixture
def server() -> Iterator[Server]:
    """A node with an intent and its answer."""
    with Server() as server:
        server.write("intents/42/host", "scraper-1")
        server.count("intents/42/resolution/scraper-1/tries", 1)
        yield server


def threads() -> int:
    return sum(thread.name == "shardlog-monitor" for thread in threading.enumerate())


def refusal(url: str) -> str:
    """Why nobody could be connected to; on a busy machine nothing may have been heard yet."""
    with pytest.raises(Unreachable) as raised:
        connect(url, timeout_ms=500)
    return str(raised.value)


def test_connect_returns_with_the_whole_snapshot(server: Server) -> None:
    """What came in many chunks is there at once, as plain dicts and values."""
    for number in range(100):
        server.write(rf"numbers/\i{number}", number)

    with connect(server.url) as cluster:
        assert cluster["intents"] == {
            "42": {"host": "scraper-1", "resolution": {"scraper-1": {"tries": 1}}}
        }
        assert cluster["numbers"] == {number: number for number in range(100)}
        assert cluster["numbers", 7] == 7
    assert server.requests > 10


def test_absent_keys_raise_and_are_not_in_it(server: Server) -> None:
    """An int key is not the str key that reads alike, and what is no key is nowhere."""
    with connect(server.url) as cluster:
        assert "intents" in cluster
        assert ("intents", "42") in cluster
        assert ("intents", 42) not in cluster
        assert ("intents", 4.2) not in cluster  # type: ignore[operator]
        with pytest.raises(KeyError):
            cluster["intents", 42]
        with pytest.raises(KeyError):
            cluster["intents", "42", "host", "below"]


def test_root_of_an_empty_state_is_an_empty_dict() -> None:
    """The root is always there."""
    with Server() as server, connect(server.url) as cluster:
        assert cluster[()] == {}


def test_what_is_returned_is_a_copy(server: Server) -> None:
    """Changing it changes nothing in the cluster."""
    server.write("hosts", ["a", ["b"]])
    with connect(server.url) as cluster:
        cluster["hosts"][1].append("c")
        cluster["intents"].clear()

        assert cluster["hosts"] == ["a", ["b"]]
        assert cluster["intents"] != {}


def test_deltas_arrive(server: Server) -> None:
    """Writes, counts and erases show without another snapshot."""
    with connect(server.url) as cluster:
        requests = server.requests
        server.write("intents/43/host", "scraper-2")
        server.count("intents/43/tries", 2.5)
        server.erase("intents/42/host")

        eventually(lambda: ("intents", "42", "host") not in cluster)
        assert cluster["intents", "43"] == {"host": "scraper-2", "tries": 2.5}
        assert server.requests == requests


def test_total_sums_over_replicas_and_paths(server: Server) -> None:
    """Ints stay ints, floats add up exactly, registers and other paths do not count."""
    server.count("intents/42/resolution/scraper-1/tries", 2, "replica-2")
    server.count("intents/~/resolution/scraper-9/tries", 4)
    server.write("intents/43/resolution/scraper-1/tries", 1000)
    with connect(server.url) as cluster:
        assert cluster.total("intents/*/resolution/*/tries") == 7
        assert type(cluster.total("intents/*/resolution/*/tries")) is int
        assert cluster.total("nothing/*") == 0


def test_total_report_tells_the_sum_and_its_status(server: Server) -> None:
    """What the server said last of its hosts and of itself."""
    server.count("intents/42/tries", 2)
    with connect(server.url) as cluster:
        assert cluster.total_report("intents/*/tries") == ("intents/*/tries", 2, "exact", "", None)
        server.settling = "it was started just now"
        server.beat()
        eventually(lambda: cluster.total_report("*").status == "settling")
        assert cluster.total_report("*").reason == "it was started just now"
        server.settling, server.lower_bound = "", "node-9 is gone"
        server.beat()
        eventually(lambda: cluster.total_report("*").status == "lower bound")


def test_total_is_stale_while_the_server_is_silent() -> None:
    """Since it was heard last."""
    with Server(interval_ms=50) as server, connect(server.url) as cluster:
        server.is_mute = True
        eventually(lambda: cluster.total_report("*").status == "stale")
        assert cluster.total_report("*").since_ns == cluster.stale_since_ns
        server.is_mute = False
        eventually(lambda: cluster.total_report("*").status == "exact")


def test_total_is_settling_while_a_gap_is_healed(server: Server) -> None:
    """What is missing is asked for again; until it is here the sum is no more than a part."""
    with connect(server.url) as cluster:
        server.is_deaf = True
        server.deltas_to_lose = 1
        server.count("intents/42/tries", 2)
        server.beat()

        eventually(lambda: cluster.total_report("intents/*/tries").status == "settling")
        assert cluster.total_report("intents/*/tries").value == 0
        server.is_deaf = False
        eventually(lambda: cluster.total_report("intents/*/tries").status == "exact")
        assert cluster.total_report("intents/*/tries").value == 2


def test_lost_delta_is_noticed_and_healed(server: Server) -> None:
    """The next delta of the lane shows the gap."""
    with connect(server.url) as cluster:
        server.deltas_to_lose = 1
        server.write("intents/43/host", "scraper-2")
        server.write("intents/44/host", "scraper-2")

        eventually(lambda: ("intents", "43") in cluster)
        assert cluster["intents", "44", "host"] == "scraper-2"


def test_lost_tail_is_noticed_and_healed() -> None:
    """If nothing follows the lost delta, the heartbeat shows the gap."""
    with Server(interval_ms=100) as server, connect(server.url) as cluster:
        server.deltas_to_lose = 1
        server.write("intents/43/host", "scraper-2")

        eventually(lambda: ("intents", "43") in cluster)


def test_gap_tells_watchers_the_difference_only(server: Server) -> None:
    """After a snapshot, changes are what looks different from before it."""
    with connect(server.url) as cluster:
        watch = cluster.watch("intents")
        server.deltas_to_lose = 1
        server.erase("intents/42/host")
        server.write("intents/44/host", "scraper-2")
        changes = {change.path: change for change in (next(watch), next(watch))}

    assert changes["intents", "42", "host"].gone == "erased"
    assert changes["intents", "44", "host"].new == "scraper-2"


@pytest.mark.parametrize("source", ["aggregator-1", "aggregator-2"])
def test_restarted_server_is_followed_again(source: str) -> None:
    """A new epoch, or a new source, at the same address: what shows is what that one shows."""
    with Server() as server:
        server.write("intents/42/host", "scraper-1")
        with connect(server.url) as cluster:
            server.stop()
            server.erase("intents/42")
            server.write("intents/43/host", "scraper-2")
            assert cluster["intents"] == {"42": {"host": "scraper-1"}}
            server.start(source)

            eventually(lambda: cluster["intents"] == {"43": {"host": "scraper-2"}})
            server.write("intents/44", {})
            eventually(lambda: ("intents", "44") in cluster)


def test_silent_server_is_stale_and_what_it_said_stays() -> None:
    """After three heartbeats' time without one, and until it speaks again."""
    with Server(interval_ms=50) as server:
        server.write("intents/42/host", "scraper-1")
        with connect(server.url) as cluster:
            eventually(lambda: cluster.stale_since_ns is None)
            server.is_mute = True
            eventually(lambda: cluster.stale_since_ns is not None)
            assert cluster["intents", "42", "host"] == "scraper-1"
            server.is_mute = False
            eventually(lambda: cluster.stale_since_ns is None)


def test_hosts_are_those_of_the_last_heartbeat() -> None:
    """How complete each host's part is, as the server knows it."""
    with Server(interval_ms=50) as server, connect(server.url) as cluster:
        assert cluster.hosts == server.hosts
        server.hosts = [HostStatus("node-1", "replica-1", "stale", 5, 3)]
        eventually(lambda: [host.status for host in cluster.hosts] == ["stale"])


def test_blades_are_one_row_a_process(server: Server) -> None:
    """Read from the presence that shardlog keeps, which the root does not show."""
    process = "scraper-1@node-1:boot:7:1:x"
    presence = f"shardlog/presence/scraper-1/{process}"
    server.write(f"{presence}/host", "node-1")
    server.write(f"{presence}/pid", 7)
    server.write(f"{presence}/started", 1_764_063_000_000_000_000)
    server.write(f"{presence}/status", "up")
    with connect(server.url) as cluster:
        (row,) = cluster.blades()

        assert [row["blade"], row["host"], row["pid"], row["process"], row["status"]] == [
            "scraper-1",
            "node-1",
            7,
            process,
            "up",
        ]
        assert (row["started"], row["heard"]) == ("2025-11-25T09:30:00.000000Z", None)
        assert list(cluster[()]) == ["intents"]
        assert cluster["shardlog", "presence", "scraper-1", process, "pid"] == 7


def test_watch_tells_what_changes_from_now_on(server: Server) -> None:
    """Old and new, who and when; nothing for what was there, and nothing beside the pattern."""
    with connect(server.url) as cluster:
        watch = cluster.watch("intents/*/host")
        server.write("other", 1)
        server.write("intents/42/module", "scrape_pages==1.4")
        server.write("intents/42/host", "scraper-2", "orchestrator@node-1:boot:8:1:x")
        changed = next(watch)
        server.erase("intents/42/host")
        erased = next(watch)
        server.write("intents/43/host", "scraper-1")
        appeared = next(watch)

    assert changed[:5] == (
        ("intents", "42", "host"),
        "scraper-1",
        "scraper-2",
        None,
        "orchestrator",
    )
    assert erased[1:5] == ("scraper-2", ABSENT, "erased", "scraper-1")
    assert appeared[1:4] == (ABSENT, "scraper-1", None)
    assert changed.at_ns < erased.at_ns < appeared.at_ns
    assert list(watch) == []


def test_slow_watcher_gets_the_newest_and_holds_up_nobody(server: Server) -> None:
    """What it did not fetch in time is told as one change."""
    with connect(server.url) as cluster:
        slow = cluster.watch("tries")
        for number in range(200):
            server.write("tries", number)
        eventually(lambda: "tries" in cluster and cluster["tries"] == 199)

        change = next(slow)
        assert (change.old, change.new) == (ABSENT, 199)


def test_watch_without_a_holder_keeps_its_cluster_alive(server: Server) -> None:
    """`connect(url).watch()` works, though nobody holds the cluster."""
    watch = connect(server.url).watch()
    gc.collect()
    server.write("intents/43", {})

    assert next(watch).path == ("intents", "43")
    del watch
    gc.collect()
    eventually(lambda: threads() == 0)


def test_close_ends_watches_and_threads_and_may_be_repeated(server: Server) -> None:
    """A `for` in another thread ends; what was read last stays readable."""
    cluster = connect(server.url)
    seen: list[Change] = []
    consumer = threading.Thread(target=lambda: seen.extend(cluster.watch()))
    consumer.start()
    cluster.close()
    cluster.close()
    consumer.join(10)

    assert not consumer.is_alive()
    eventually(lambda: threads() == 0)
    assert list(cluster.watch()) == []
    assert cluster["intents", "42", "host"] == "scraper-1"


def test_close_does_not_wait_for_ever_for_a_thread_that_waits_for_a_lock(server: Server) -> None:
    """A Ctrl-C may leave one locked: the program ends all the same."""
    board = Board()
    link = Link(server.url, board)
    link.start()
    assert board.wait(10)

    def close_while_it_waits(_: object) -> None:
        server.write("intents/43", {})
        link.close()

    board.read(close_while_it_waits)
    eventually(lambda: threads() == 0)


def test_forgotten_cluster_is_closed(server: Server) -> None:
    """Whoever never closes leaves no thread behind."""
    eventually(lambda: threads() == 0)  # those of earlier tests
    cluster = connect(server.url)
    assert threads() == 1
    del cluster
    gc.collect()

    eventually(lambda: threads() == 0)


def test_async_with_and_async_for(server: Server) -> None:
    """The same within an event loop, which goes on meanwhile."""

    async def main() -> list[Change]:
        changes: list[Change] = []
        async with connect(server.url) as cluster:
            assert cluster["intents", "42", "host"] == "scraper-1"
            watch = cluster.watch("intents")
            first = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            server.write("intents/42/host", "scraper-2")
            changes.append(await first)
            server.write("intents/42/host", "scraper-3")
            async for change in watch:
                changes.append(change)
                cluster.close()
        return changes

    changes = asyncio.run(main())

    assert [change.new for change in changes] == ["scraper-2", "scraper-3"]
    eventually(lambda: threads() == 0)


def test_async_consumer_can_be_cancelled(server: Server) -> None:
    """Nothing is lost by it: whoever iterates next gets the change."""

    async def main() -> Change:
        async with connect(server.url) as cluster:
            watch = cluster.watch()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(watch)
            server.write("intents/43", {})
            return await anext(watch)

    assert asyncio.run(main()).path == ("intents", "43")


def test_connect_in_an_event_loop_waits_at_the_first_read(server: Server) -> None:
    """As in a notebook, where a loop always runs."""

    async def main() -> object:
        cluster = connect(server.url)
        try:
            return cluster["intents", "42", "host"]
        finally:
            cluster.close()

    assert asyncio.run(main()) == "scraper-1"


def test_nobody_there_is_unreachable() -> None:
    """One line that names the address, from `connect` and from `async with`; no thread stays."""
    url = free_pair()

    async def main() -> None:
        async with connect(url, timeout_ms=50):
            raise AssertionError

    with pytest.raises(Unreachable, match=f"^{url}: nobody answers.*$"):
        connect(url, timeout_ms=50)
    with pytest.raises(Unreachable):
        asyncio.run(main())
    eventually(lambda: threads() == 0)


def test_server_that_does_not_answer_is_unreachable() -> None:
    """It says what is missing: the node is heard, the snapshot does not come."""
    with Server(interval_ms=20) as server:
        server.is_deaf = True
        eventually(lambda: "snapshot" in refusal(server.url))


@pytest.mark.parametrize("frame", [b"\x00", b"\x00\x07later", b"\x00\x01\xc1", bytes(1 << 20)])
def test_what_is_not_understood_is_passed_over(server: Server, frame: bytes) -> None:
    """And what follows it is taken."""
    with connect(server.url) as cluster:
        server.send(frame)
        server.write("intents/43", {})

        eventually(lambda: ("intents", "43") in cluster)


def test_chunk_of_a_stream_with_too_few_lanes_is_passed_over(server: Server) -> None:
    """From the very node that is followed, too: the thread goes on."""
    with connect(server.url) as cluster:
        chunk = SnapshotChunk("aggregator-1", "", 1, None, None, [0], Changes([], []))
        server.send(b"\x00" + codec.encode(chunk))
        server.write("intents/43", {})

        eventually(lambda: ("intents", "43") in cluster)


def test_cancelled_connect_leaves_no_thread() -> None:
    """Nobody waits for the rest of the time that was given."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), connect(free_pair(), timeout_ms=600_000):
                raise AssertionError

    asyncio.run(main())
    eventually(lambda: threads() == 0)


def test_server_that_comes_late_is_waited_for() -> None:
    """Within the time that was given."""
    server = Server()
    threading.Timer(0.3, server.start).start()
    with connect(server.url, timeout_ms=30_000) as cluster:
        assert cluster[()] == {}
    server.stop()


def test_address_of_the_collectors_is_told_apart() -> None:
    """Whoever connects to a stream that is not for monitors is told so."""
    with Server(interval_ms=20) as server:
        server.lanes = 1
        eventually(lambda: "not understood" in refusal(server.url))


@pytest.mark.parametrize(
    "url", ["", "localhost:7410", "tcp://host", "ipc://relative", "http://a:1"]
)
def test_what_is_no_address_is_a_config_error(url: str) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError):
        connect(url)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_leaves_its_parent_alone(server: Server) -> None:
    """It may close what it inherited, and connects anew."""
    with connect(server.url) as cluster:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                cluster.close()
                with connect(server.url) as own:
                    code = 0 if ("intents", "42") in own else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        server.write("intents/43", {})

        assert os.waitstatus_to_exitcode(status) == 0
        eventually(lambda: ("intents", "43") in cluster)


def test_program_that_never_closes_ends(server: Server) -> None:
    """At exit nothing hangs and nothing is printed."""
    program = f"from shardlog.monitor import connect; c = connect({server.url!r}); print(c[()])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("{'intents'")


def test_names_are_exported_lazily() -> None:
    """And no others."""
    import shardlog.monitor as monitor

    assert monitor.Cluster is Cluster
    with pytest.raises(AttributeError):
        monitor.nothing  # noqa: B018
