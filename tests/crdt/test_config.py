"""The configuration file, and the variables that override it."""

from __future__ import annotations

import pytest

from shardlog.crdt.config import (
    AggregateConfig,
    CollectConfig,
    Config,
    HandlerConfig,
    MonitorConfig,
    override,
    parse_config,
)
from shardlog.crdt.errors import ConfigError

FULL = """
[handler]
endpoint = "ipc:///run/c.sock"
blade = "scraper-1"
loggers = ["scraper"]

[collect]
listen = "ipc:///run/c.sock"
to = ["tcp://10.0.0.1:7400", "tcp://10.0.0.2:7400"]
host = "node-1"
store = "/var/lib/shardlog"
serve = "tcp://127.0.0.1:7420"
insecure = true

[aggregate]
listen = "tcp://127.0.0.1:7400"
serve = "tcp://127.0.0.1:7410"

[monitor]
connect = "tcp://127.0.0.1:7410"

[retention]
"intents/*" = "7d"

[derived]
"items per try" = "item_collected / tries"
"""


def test_each_key_arrives_in_its_table() -> None:
    """As it was written."""
    assert parse_config(FULL, "a.toml") == Config(
        handler=HandlerConfig(endpoint="ipc:///run/c.sock", blade="scraper-1", loggers=["scraper"]),
        collect=CollectConfig(
            listen="ipc:///run/c.sock",
            to=["tcp://10.0.0.1:7400", "tcp://10.0.0.2:7400"],
            host="node-1",
            store="/var/lib/shardlog",
            serve="tcp://127.0.0.1:7420",
            insecure=True,
        ),
        aggregate=AggregateConfig(listen="tcp://127.0.0.1:7400", serve="tcp://127.0.0.1:7410"),
        monitor=MonitorConfig(connect="tcp://127.0.0.1:7410"),
        retention={"intents/*": "7d"},
        derived={"items per try": "item_collected / tries"},
    )


def test_a_list_of_one_may_be_written_as_that_one() -> None:
    """Wherever none in a list stands for what nobody has said."""
    config = parse_config(
        "[collect]\nto = 'a'\n[aggregate]\nto = 'b'\npeer = 'c'\n[monitor]\nexpected = 'd'",
        "a.toml",
    )

    aggregate = config.aggregate
    assert (config.collect.to, aggregate.to, aggregate.peer) == (["a"], ["b"], ["c"])
    assert config.monitor.expected == ["d"]


def test_nothing_said_is_nothing_set() -> None:
    """An empty file is the default of everything."""
    assert parse_config("", "a.toml") == Config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[monitor]\nconect = 'x'",
            "a.toml: [monitor] has no key 'conect'; the keys are connect, expected",
        ),
        (
            "[colect]",
            "a.toml: there is no table 'colect'; "
            "the tables are handler, collect, aggregate, monitor, retention, derived",
        ),
        ("collect = 3", "a.toml: collect is a table, write [collect]"),
        ("[collect]\nlisten = 3", "a.toml: [collect] listen is a string, not 3"),
        ("[derived]\na = 3", "a.toml: [derived] a is a string, not 3"),
        (
            "[monitor]\nexpected = 3",
            "a.toml: [monitor] expected is a string or a list of strings, not 3",
        ),
        ("[collect]\nto = [3]", "a.toml: [collect] to is a string or a list of strings, not [3]"),
        ("[handler]\nloggers = 'a'", "a.toml: [handler] loggers is a list of strings, not 'a'"),
        ("[collect]\ninsecure = 'no'", "a.toml: [collect] insecure is true or false, not 'no'"),
        ("[collect", "a.toml: Expected ']' at the end of a table declaration (at end of document)"),
    ],
)
def test_mistake_is_named_in_one_line(text: str, says: str) -> None:
    """The file, the table, the key, and what would have been right."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "a.toml")

    assert str(caught.value) == says


def test_variable_overrides_each_table_that_has_its_key() -> None:
    """An empty one counts as unset; `to` is separated by spaces; others are left alone."""
    config = override(
        parse_config(FULL, "a.toml"),
        {
            "SHARDLOG_SERVE": "tcp://127.0.0.1:1",
            "SHARDLOG_TO": " tcp://127.0.0.1:2  tcp://127.0.0.1:3 ",
            "SHARDLOG_BLADE": "other",
            "SHARDLOG_HOST": "",
            "SHARDLOG_LOGGERS": "unknown",
            "LISTEN": "other",
        },
    )

    assert config.collect.serve == config.aggregate.serve == "tcp://127.0.0.1:1"
    assert config.collect.to == ["tcp://127.0.0.1:2", "tcp://127.0.0.1:3"]
    assert config.handler.blade == "other"
    assert config.collect.host == "node-1"
    assert config.handler.loggers == ["scraper"]
    assert config.collect.listen == "ipc:///run/c.sock"
