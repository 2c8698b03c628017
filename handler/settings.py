"""What a handler is told, by argument, variable and file, and what it finds of its host."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from shardlog.crdt.endpoint import check_address, collector_listen
from shardlog.crdt.errors import ConfigError
from shardlog.handler.scrub import SECRETS
from shardlog.handler.values import whole_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Settings(NamedTuple):
    """What a handler is told."""

    endpoint: str
    blade: str
    host: str
    loggers: Sequence[str] | None
    scrub: Sequence[str]
    version: str | None


def settings_of(
    environ: Mapping[str, str],
    endpoint: str | None,
    blade: str | None,
    loggers: Sequence[str] | None,
    insecure: bool,
    scrub: Sequence[str] | None = None,
    version: str | None = None,
) -> Settings:
    """Argument, else variable, else file, else default.

    The default's folder is made: what is logged before the first collector starts waits there.

    Raises:
        ConfigError: an address, a name or the file is not usable; the text says which and why.
    """
    endpoint = endpoint or environ.get("SHARDLOG_ENDPOINT")
    blade = blade or environ.get("SHARDLOG_BLADE")
    version = version or environ.get("SHARDLOG_VERSION")
    file = environ.get("SHARDLOG_CONFIG")
    if file:
        from shardlog.crdt.config import parse_config

        try:
            with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - pathlib is slow to load
                text = opened.read()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"SHARDLOG_CONFIG: {file}: {error}") from error
        config = parse_config(text, file).handler
        endpoint = endpoint or config.endpoint
        blade = blade or config.blade
        version = version or config.version
        loggers = config.loggers if loggers is None else loggers
        insecure = insecure or config.insecure
        scrub = config.scrub if scrub is None else scrub
    if not endpoint:
        from tempfile import gettempdir

        endpoint = collector_listen(environ, os.getuid(), gettempdir())
        with contextlib.suppress(OSError):
            os.mkdir(_folder(endpoint), 0o700)  # noqa: PTH102
    endpoint = check_address(endpoint, insecure=insecure)
    if endpoint.startswith("ipc://"):
        _check_owner(_folder(endpoint))
    machine = os.uname().nodename
    host = environ.get("SHARDLOG_HOST") or machine
    words = SECRETS if scrub is None else scrub
    version = whole_text(version) if version else None
    blade, host = whole_text(blade or machine), whole_text(host)
    return Settings(endpoint, blade, host, loggers, words, version)


def _folder(endpoint: str) -> str:
    return os.path.dirname(endpoint.removeprefix("ipc://"))  # noqa: PTH120


def _check_owner(folder: str) -> None:
    """Raise ConfigError if another user made the folder, and so could listen in it."""
    try:
        owner = os.stat(folder).st_uid  # noqa: PTH116
    except OSError:
        return  # whoever makes it later makes it for himself
    if owner not in (0, os.getuid()):
        raise ConfigError(f"{folder} belongs to user {owner}, who would read all; use another")


def boot() -> str:
    """What tells two lives of this host apart, as far as the system says."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as opened:  # noqa: PTH123
            return opened.read(8)
    except OSError:
        return ""
