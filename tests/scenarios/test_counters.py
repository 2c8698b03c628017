"""Counters that are kept and added to, from the process to a monitor."""

from __future__ import annotations

import subprocess
import sys

from shardlog.cli.ledger import examine_ledger
from shardlog.monitor import connect
from tests.helpers import eventually
from tests.scenarios.processes import running

BLADE = """
import os, signal, sys, threading, time
from shardlog.handler import ShardHandler, counter
kept = [counter("work", "kept", str(at)) for at in range(10)]
spent = counter("work", "spent")
handler = ShardHandler(sys.argv[1], "blade")
signal.signal(signal.SIGALRM, lambda *_: kept[0].add())
signals = 0

def work(seconds):
    end, added = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for at in range(100):
            kept[at % 10].add()
            added += 1
        spent.add(0.25)
        counter("work", "dropped").add(2)
    total.append(added)

def all_threads(seconds):
    threads = [threading.Thread(target=work, args=[seconds]) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()

total = []
for _ in range(100):
    os.kill(os.getpid(), signal.SIGALRM)
all_threads(1)
child = os.fork()
if child: os.waitpid(child, 0)
else: total.clear()
all_threads(1)
handler.close()
print(sum(total) + (100 if child else 0), len(total), flush=True)
if not child: os._exit(0)
"""


def test_additions_are_exact_from_the_process_to_the_monitor() -> None:
    """Threads, signals and a forked child add while the collector is killed: the monitor shows what
    they added, and the books balance.
    """
    with running() as cluster, connect(cluster.url) as replica:
        blade = subprocess.Popen(
            [sys.executable, "-c", BLADE, cluster.endpoint()], stdout=subprocess.PIPE, text=True
        )
        eventually(lambda: replica.total("work/kept/*") > 0, "the blade is at work")
        collector = cluster.collectors["node-1"]
        collector.kill()
        collector.start()
        said, _ = blade.communicate(timeout=60)
        added = sum(int(line.split()[0]) for line in said.splitlines())

        assert blade.returncode == 0
        eventually(lambda: replica.total("work/kept/*") == added, f"{added} were added")
        eventually(lambda: replica.total("work/spent") * 400 == added - 100, "so were fractions")
        eventually(lambda: replica.total("work/dropped") * 50 == added - 100, "and dropped ones")
        assert [found.status for found in examine_ledger(cluster.url, timeout_ms=5000)] == ["fine"]
