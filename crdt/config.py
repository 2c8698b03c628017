"""The configuration: one TOML file, overridden by variables, both of which are arguments here.

    [handler]    endpoint = "ipc:///run/shardlog/collector.sock"    SHARDLOG_ENDPOINT
                 blade = "scraper-1"                                SHARDLOG_BLADE
                 loggers = ["scraper"]
                 scrub = ["password", "token"]
                 version = "scrape_pages==1.4"                      SHARDLOG_VERSION
    [collect]    listen = "ipc:///run/shardlog/collector.sock"      SHARDLOG_LISTEN
                 to = ["tcp://10.0.0.1:7400"]                       SHARDLOG_TO, separated by spaces
                 host = "node-1"                                    SHARDLOG_HOST
                 store = "/var/lib/shardlog"                        SHARDLOG_STORE
                 serve = "tcp://127.0.0.1:7420"                     SHARDLOG_SERVE
                 insecure = true
    [aggregate]  listen = "tcp://0.0.0.0:7400"                      SHARDLOG_LISTEN
                 serve = "tcp://127.0.0.1:7410"                     SHARDLOG_SERVE
                 to = ["tcp://10.0.0.9:7400"]                       SHARDLOG_TO
                 store = "/var/lib/shardlog"                        SHARDLOG_STORE
                 peer = ["tcp://10.0.0.2:7400"]
    [monitor]    connect = "tcp://127.0.0.1:7410"                   SHARDLOG_CONNECT
                 expected = ["scraper-1", "spotter-1"]
    [retention]  "intents/*" = "24h"
    [derived]    "items per try" = "item_collected / tries"

A key is its flag with `_`. None, or an empty list, stands for what nobody has said: each command
has its own default. A variable concerns all tables that have its key; an empty one counts as unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE_PREFIX = "SHARDLOG_"
VARIABLES = (
    "endpoint", "blade", "version", "listen", "to", "host", "store", "serve", "connect"
)  # fmt: skip
"""The keys that a variable sets too: SHARDLOG_ and the key in capitals."""
CONFIG_VARIABLE = "SHARDLOG_CONFIG"
"""Names the file itself."""

_TYPES: dict[Any, str] = {
    str | None: "a string",
    list[str]: "a string or a list of strings",
    list[str] | None: "a list of strings",
    bool: "true or false",
}


class HandlerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a blade's `ShardHandler` is told."""

    endpoint: str | None = None
    blade: str | None = None
    loggers: list[str] | None = None
    scrub: list[str] | None = None
    version: str | None = None
    insecure: bool = False


class CollectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What `shardlog collect` is told. `to` may also be written as one address."""

    listen: str | None = None
    to: list[str] = []
    host: str | None = None
    store: str | None = None
    serve: str | None = None
    insecure: bool = False


class AggregateConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What `shardlog aggregate` is told. `to` and `peer` may also be written as one address."""

    listen: str | None = None
    to: list[str] = []
    store: str | None = None
    peer: list[str] = []
    serve: str | None = None
    insecure: bool = False


class MonitorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What all commands that read are told.

    `expected` are the blades that ought to be there, and may also be written as one name.
    """

    connect: str | None = None
    expected: list[str] = []


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, one field a table."""

    handler: HandlerConfig = HandlerConfig()
    collect: CollectConfig = CollectConfig()
    aggregate: AggregateConfig = AggregateConfig()
    monitor: MonitorConfig = MonitorConfig()
    retention: dict[str, str] = {}
    derived: dict[str, str] = {}


def parse_config(text: str, where: str) -> Config:
    """The configuration that a TOML text says. `where` names the text in errors. O(len).

    >>> parse_config('[collect]\\nto = "tcp://127.0.0.1:7400"', "a.toml").collect.to
    ['tcp://127.0.0.1:7400']

    Raises:
        ConfigError: no TOML, an unknown table or key, or a value of a wrong type.
    """
    try:
        document: dict[str, Any] = msgspec.toml.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: {error}") from error
    tables = {field.name: field.type for field in msgspec.structs.fields(Config)}
    _refuse_unknown(document, tables, f"{where}: there is no table", "tables")
    said: dict[str, Any] = {
        name: _parse_table(name, tables[name], table, where) for name, table in document.items()
    }
    return Config(**said)


def override(config: Config, environ: Mapping[str, str]) -> Config:
    """The configuration with the variables' values in the place of its own. O(variables).

    >>> override(Config(), {"SHARDLOG_LISTEN": "tcp://127.0.0.1:7400"}).aggregate.listen
    'tcp://127.0.0.1:7400'
    """
    said: dict[str, Any] = {
        key: value for key in VARIABLES if (value := environ.get(VARIABLE_PREFIX + key.upper()))
    }
    if "to" in said:
        said["to"] = said["to"].split()
    tables: dict[str, Any] = {}
    for name in config.__struct_fields__:
        table = getattr(config, name)
        if isinstance(table, dict):  # its keys are patterns, or names
            continue
        own = {key: value for key, value in said.items() if key in table.__struct_fields__}
        tables[name] = msgspec.structs.replace(table, **own)
    return Config(**tables, retention=config.retention, derived=config.derived)


def _parse_table(name: str, kind: Any, found: Any, where: str) -> Any:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: {name} is a table, write [{name}]")
    table = cast("dict[str, Any]", found)
    if name == "retention":
        return _parse_retention(table, where)
    if name == "derived":
        return _parse_derived(table, where)
    types = {field.name: field.type for field in msgspec.structs.fields(kind)}
    _refuse_unknown(table, types, f"{where}: [{name}] has no key", "keys")
    table = {
        key: [value] if types[key] == list[str] and isinstance(value, str) else value
        for key, value in table.items()
    }
    for key, value in table.items():
        try:
            msgspec.convert(value, types[key])
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{where}: [{name}] {key} is {_TYPES[types[key]]}, not {value!r}"
            ) from error
    return msgspec.convert(table, kind)


def _parse_retention(table: dict[str, Any], where: str) -> dict[str, str]:
    for pattern, duration in table.items():
        try:
            Retention({pattern: str(duration)})
        except ConfigError as error:
            raise ConfigError(f"{where}: [retention] {error}") from error
    return table


def _parse_derived(table: dict[str, Any], where: str) -> dict[str, str]:
    for name, expression in table.items():
        if not isinstance(expression, str):
            raise ConfigError(f"{where}: [derived] {name} is a string, not {expression!r}")
    return table


def _refuse_unknown(
    found: Mapping[str, Any], known: Mapping[str, Any], problem: str, noun: str
) -> None:
    for key in found:
        if key not in known:
            raise ConfigError(f"{problem} {key!r}; the {noun} are {', '.join(known)}")
