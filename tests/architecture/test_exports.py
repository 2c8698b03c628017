"""What the rooms export by their own name: each name once, and loaded only when it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ROOMS = ("shardlog.crdt", "shardlog.monitor", "shardlog.handler")


@pytest.mark.parametrize("room", ROOMS)
def test_every_exported_name_is_there(room: str) -> None:
    """All of `__all__` can be had; what is not in it is an AttributeError."""
    module = importlib.import_module(room)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


@pytest.mark.parametrize("room", ["shardlog.crdt", "shardlog.monitor"])
def test_importing_a_room_loads_none_of_its_modules(room: str) -> None:
    """No index, no wire, no sockets, until a name is used."""
    program = f"import {room}, sys; print(*(m for m in sys.modules if m.startswith('{room}.')))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert loaded.stdout.split() == []
