"""Who imports what, as far as the floors in pyproject.toml do not say it."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOMS, ROOT, modules, relative, sources

ZMQ_MODULES = {
    "handler/connection.py",
    "collector/follow.py",
    "collector/sidecar/shell.py",
    "collector/aggregator/shell.py",
    "monitor/client.py",
    "monitor/live/serve.py",
}
"""The shells, or what they hold their socket in: all that may know sockets."""

PURE_BY_NAME = {
    "shardlog.collector.aggregator.machine",
    "shardlog.collector.sidecar.machine",
    "shardlog.handler.outbox",
    "shardlog.handler.shard",
    "shardlog.monitor.machine",
    "shardlog.monitor.views",
}
"""Outside crdt/, the floors' contracts find pure modules by their last name."""

HEAVY = {"asyncio", "click", "rich", "sortedcontainers", "sqlite3"}


def imported(path: Path) -> Iterator[str]:
    """Full names of the modules that the file imports; a relative one starts with a dot."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def test_rooms_are_imported_by_their_full_names_only() -> None:
    """No `import crdt`, no `from ..crdt`: either would load classes twice or hide a floor."""
    short = [
        f"{relative(path)}: {name}"
        for path in sources(*ROOMS, "tests", "benchmarks")
        for name in imported(path)
        if name.startswith(".") or name.split(".")[0] in ROOMS
    ]

    assert short == []


def test_only_shells_import_zmq() -> None:
    """Sockets are known to the shells, each listed here, and to nothing else in the rooms."""
    found = {
        relative(path)
        for path in sources(*ROOMS)
        if any(name.split(".")[0] == "zmq" for name in imported(path))
    }

    assert found == ZMQ_MODULES


def test_pure_modules_are_where_the_contracts_look_for_them() -> None:
    """`machine`, `outbox`, `shard` and `views` are the names that the contracts go by."""
    last_names = {name.rpartition(".")[2] for name in PURE_BY_NAME}

    assert {name for name in modules() if name.rpartition(".")[2] in last_names} == PURE_BY_NAME


def test_each_module_of_crdt_has_its_floor() -> None:
    """The contract on floors names each module and package of crdt/: none stands outside."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    (floors,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = {name.strip("() ") for floor in floors for name in floor.split("|")}

    found = {".".join(name.split(".")[:3]) for name in modules() if "shardlog.crdt." in name}

    assert found - named == set()


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("shardlog.handler", HEAVY),
        ("shardlog.crdt", HEAVY | {"msgspec", "zmq"}),
        ("shardlog.crdt.wire", HEAVY | {"zmq"}),
        ("shardlog.crdt.replication.messages", HEAVY | {"zmq"}),
        ("shardlog.monitor", HEAVY | {"msgspec", "zmq"}),
    ],
)
def test_import_is_light(module: str, unwanted: set[str]) -> None:
    """A blade pays for pyzmq and msgspec alone; who only looks a name up pays for neither."""
    script = (
        f"import sys, {module}\n"
        "print(*sys.modules)\n"
        "import threading\n"
        "print(threading.active_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded, threads = done.stdout.splitlines()

    assert set(loaded.split()) & unwanted == set()
    assert threads == "1"
