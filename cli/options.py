"""What the commands share: where their settings come from, and how the reading ones connect.

A setting is a flag, or a variable, or a key in the configuration file, or a default, in this order.
A command declares its flags with their defaults, and below them

    @config_option("collect")

which adds `--config FILE` and hands click the values of the variables and of the file's table
[collect] as defaults, so that the function's arguments are final. The flag `--listen` is the key
`listen`. A flag that has no default arrives as None, or as an empty tuple where it may be repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from shardlog.crdt.config import (
    CONFIG_VARIABLE,
    VARIABLE_PREFIX,
    VARIABLES,
    Config,
    override,
    parse_config,
)
from shardlog.crdt.endpoint import AGGREGATOR_SERVE
from shardlog.crdt.errors import ConfigError

if TYPE_CHECKING:
    from shardlog.monitor.derived import Expression

RETENTION = "shardlog.retention"
"""Where click's context keeps the file's table [retention], which has no flags."""
DERIVED = "shardlog.derived"
"""The same of [derived], its expressions parsed."""

F = TypeVar("F", bound=Callable[..., object])


def load_config(path: str | None, environ: Mapping[str, str]) -> Config:
    """The file's settings, overridden by the variables'.

    No `path` means the file that SHARDLOG_CONFIG names, if it names one.

    Raises:
        ConfigError: the file cannot be read, or says something that is not in the configuration.
    """
    path = path or environ.get(CONFIG_VARIABLE)
    config = override(_read(path) if path else Config(), environ)
    parse_derived(config)
    return config


def parse_derived(config: Config) -> dict[str, Expression]:
    """The expressions of [derived].

    Raises:
        ConfigError: one of them is none.
    """
    found: dict[str, Expression] = {}
    for name, text in config.derived.items():
        from shardlog.monitor.derived import Expression  # only who derives loads it

        try:
            found[name] = Expression(text)
        except ConfigError as error:
            raise ConfigError(f"[derived] {name}: {error}") from error
    return found


def config_option(table: str) -> Callable[[F], F]:
    """Decorates a command: `--config FILE`, whose [table] gives the other flags their defaults."""

    def take(context: click.Context, _: click.Parameter, path: str | None) -> None:
        config = load_config(path, os.environ)
        context.meta[RETENTION] = config.retention
        context.meta[DERIVED] = parse_derived(config)
        settings = msgspec.structs.asdict(getattr(config, table))
        names = {flag: option.name for option in context.command.params for flag in option.opts}
        context.default_map = {
            name: value
            for key, value in settings.items()
            if value and (name := names.get(f"--{key}"))
        }

    return click.option(
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=take,
        help=f"TOML file, or SHARDLOG_CONFIG; its table [{table}] says what no flag and no "
        f"variable says ({_variables(table)}).",
    )


def connect_option(command: F) -> F:
    """Decorates a command that reads: `--connect URL` and `--config FILE`."""
    url: Callable[[F], F] = click.option(
        "--connect",
        "url",
        metavar="URL",
        default=AGGREGATOR_SERVE,
        show_default=True,
        help="Where an aggregator, or a collector, serves monitors.",
    )
    return url(config_option("monitor")(command))


def json_option(says: str) -> Callable[[F], F]:
    """Decorates a command: `--json`."""
    return click.option("--json", "as_json", is_flag=True, help=says)


def _variables(table: str) -> str:
    keys = [field.name for field in msgspec.structs.fields(getattr(Config(), table))]
    return ", ".join(VARIABLE_PREFIX + key.upper() for key in keys if key in VARIABLES)


def _read(path: str) -> Config:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8, at byte {error.start}") from error
    return parse_config(text, path)
