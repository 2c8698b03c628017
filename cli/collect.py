"""`shardlog collect`: the sidecar of one host."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import click

from shardlog.cli.options import RETENTION, config_option
from shardlog.cli.output import log_to_stderr
from shardlog.collector.sidecar.config import SidecarConfig
from shardlog.collector.sidecar.shell import run
from shardlog.crdt.endpoint import AGGREGATOR_LISTEN, collector_listen
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.retention import Retention


@click.command()
@click.option(
    "--listen",
    metavar="ADDRESS",
    default=lambda: collector_listen(os.environ, os.getuid(), tempfile.gettempdir()),
    show_default="the runtime directory's socket",
    help="Where the blades of this host send.",
)
@click.option(
    "--to",
    metavar="ADDRESS",
    multiple=True,
    default=(AGGREGATOR_LISTEN,),
    show_default=True,
    help="An aggregator; may be given more than once, in SHARDLOG_TO with spaces between.",
)
@click.option(
    "--host",
    metavar="NAME",
    default=socket.gethostname,
    show_default="the host's name",
    help="What this host is called in the cluster.",
)
@click.option(
    "--store",
    metavar="DIR",
    show_default="$XDG_STATE_HOME/shardlog/HOST",
    help="Where counts outlive a restart.",
)
@click.option(
    "--serve",
    metavar="ADDRESS",
    show_default="nowhere",
    help="Where monitors may read this host's own state.",
)
@click.option("--insecure", is_flag=True, help="Allow tcp addresses that other machines can reach.")
@config_option("collect")
def collect(
    listen: str,
    to: tuple[str, ...],
    host: str,
    store: str | None,
    serve: str | None,
    insecure: bool,
) -> None:
    """Collect what this host's blades log, for the aggregators.

    Prints `ready ADDRESS...` when it listens. SIGTERM drains what is under way and ends it.
    """
    log_to_stderr("collect")
    if store is None:
        store = f"{_state_home()}/shardlog/{host.replace('/', '%2F')}"
    run(
        SidecarConfig(
            listen=listen,
            to=to,
            host=host,
            store=store,
            serve=serve,
            insecure=insecure,
            retention=Retention(click.get_current_context().meta[RETENTION]),
        )
    )


def _state_home() -> str:
    try:
        return os.environ.get("XDG_STATE_HOME") or f"{Path.home()}/.local/state"
    except RuntimeError as error:  # neither HOME nor an entry among the users
        says = "this user has no home folder to keep counts in: say --store DIR"
        raise ConfigError(says) from error
