"""The error report of a cluster of real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardlog.monitor import connect
from tests.helpers import WAIT_S, eventually
from tests.scenarios.processes import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scenarios.processes import Cluster

SHARDLOG = str(Path(sys.executable).parent / "shardlog")

PAGES = """
__version__ = "{version}"
{shift}
def fetch(page):
    if page % 2:
        raise ValueError(f"page {{page}} is odd")
    raise KeyError(page)
"""

BLADE = """
import logging.config, sys
logging.config.dictConfig({
    "version": 1,
    "handlers": {"cluster": {"class": "shardlog.handler.ShardHandler"}},
    "root": {"level": "INFO", "handlers": ["cluster"]},
})
log = logging.getLogger("blade")
import pages
for page in map(int, sys.argv[1:]):
    try:
        pages.fetch(page)
    except Exception:
        log.exception("page %s failed", page)
"""

LEAK = """
import logging.config
from urllib.request import Request
from shardlog.handler import log_uncaught
logging.config.dictConfig({
    "version": 1,
    "handlers": {"cluster": {"class": "shardlog.handler.ShardHandler"}},
    "root": {"level": "INFO", "handlers": ["cluster"]},
})
log_uncaught()
log = logging.getLogger("blade")
headers = {"Authorization": "Bearer hunter2hunter2", "Cookie": "session=hunter2"}
url = "https://spider:hunter2@pages.local/?token=hunter2"
try:
    raise ConnectionError(f"GET {url} with {headers} failed, password='hunter2'")
except ConnectionError:
    log.exception("GET %s failed", url, extra={"request": {"headers": headers, "url": url}})
log.error(f"no login with password=hunter2 at {url}", extra={"password": "hunter2"})
raise SystemError(f"{headers}")
"""


def blade(
    cluster: Cluster, host: str, program: str, *arguments: str, folder: Path | None = None
) -> None:
    """Run a program that logs, on a host, to its end."""
    environment = {
        **os.environ,
        "SHARDLOG_ENDPOINT": cluster.endpoint(host),
        "SHARDLOG_BLADE": f"blade-{host}",
        "SHARDLOG_HOST": host,
        "PYTHONPATH": os.pathsep.join([str(folder or "."), os.environ.get("PYTHONPATH", "")]),
    }
    subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        check=False,
        capture_output=True,
    )


def shardlog(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SHARDLOG, *arguments], capture_output=True, text=True, timeout=WAIT_S)


def errors(cluster: Cluster) -> list[dict[str, Any]]:
    done = shardlog("errors", "--json", "--connect", cluster.url)
    assert done.returncode in (0, 3), done.stderr
    groups: list[dict[str, Any]] = json.loads(done.stdout)["groups"]
    return groups


def test_same_bug_on_five_hosts_in_two_versions_is_one_group(tmp_path: Path) -> None:
    """Though its lines have moved; and another type in the same function is another group."""
    hosts = [f"node-{n}" for n in range(1, 6)]
    for version, shift in (("1.4", ""), ("1.5", "# moved\n" * 7)):
        (tmp_path / version).mkdir()
        source = PAGES.format(version=version, shift=shift)
        (tmp_path / version / "pages.py").write_text(source)
    with running(*hosts) as cluster:
        for n, host in enumerate(hosts):
            folder = tmp_path / ("1.5" if n >= 3 else "1.4")
            blade(cluster, host, BLADE, "1", "3", "4", folder=folder)

        def total() -> int:
            return sum(group["total"] for group in errors(cluster))

        eventually(lambda: total() == 15)
        groups = {group["type"]: group for group in errors(cluster)}
        odd = groups["ValueError"]

        assert set(groups) == {"ValueError", "KeyError"}
        assert odd["total"] == odd["count"] == 10
        assert odd["status"] == "new"
        assert odd["culprit"] == "pages:fetch"
        assert odd["versions"] == ["1.4", "1.5"]
        assert odd["hosts"] == {host: {f"blade-{host}": 2} for host in hosts}

        one = shardlog("errors", odd["id"], "--connect", cluster.url)
        assert one.returncode == 0
        assert "why       ValueError in __main__:<module> > pages:fetch" in one.stdout
        assert 'raise ValueError(f"page {page} is odd")' in one.stdout
        table = shardlog("errors", "--connect", cluster.url)
        assert "ValueError: page" in table.stdout
        assert "5/5" in table.stdout
        marked = shardlog("errors", "--markdown", "--since", "2h", "--connect", cluster.url)
        assert f"| {odd['id']} | new | 10 | 10 | 5/5 | 1.4, 1.5 |" in marked.stdout
        assert shardlog("check", "--ledger", "--connect", cluster.url).returncode == 0
        assert shardlog("errors", "E9999f", "--connect", cluster.url).returncode == 1
        assert shardlog("errors", "--since", "8d", "--connect", cluster.url).returncode == 2


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def test_secrets_of_errors_are_nowhere(tmp_path: Path) -> None:
    """Not in the state, not in a store, a recording or a log: not a byte of them."""
    with running() as cluster:
        recording = subprocess.Popen(
            [SHARDLOG, "record", str(tmp_path / "run"), "--connect", cluster.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            eventually(lambda: any(files(tmp_path)), "the recording's first segment")
            blade(cluster, "node-1", LEAK)
            with connect(cluster.url) as state:
                eventually(lambda: state.total("shardlog/errors/*/count/**") == 3)
                shown = json.dumps(state["shardlog",]) + json.dumps(state[()])
        finally:
            recording.send_signal(signal.SIGINT)
            said, _ = recording.communicate(timeout=WAIT_S)
        found = [
            path
            for path in (*files(cluster.folder), *files(tmp_path))
            if b"hunter2" in path.read_bytes()
        ]
        written = b"".join(path.read_bytes() for path in files(tmp_path))

        assert "SystemError" in shown
        assert "hunter2" not in shown
        assert b"hunter2" not in said
        assert found == []
        assert b"ConnectionError" in written
