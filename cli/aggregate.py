"""`shardlog aggregate`: the cluster's state in one place."""

from __future__ import annotations

import click

from shardlog.cli.options import RETENTION, config_option
from shardlog.cli.output import log_to_stderr
from shardlog.collector.aggregator.config import AggregatorConfig
from shardlog.collector.aggregator.shell import run
from shardlog.crdt.endpoint import AGGREGATOR_LISTEN, AGGREGATOR_SERVE
from shardlog.crdt.retention import Retention


@click.command()
@click.option(
    "--listen",
    metavar="ADDRESS",
    default=AGGREGATOR_LISTEN,
    show_default=True,
    help="Where the collectors connect.",
)
@click.option(
    "--serve",
    metavar="ADDRESS",
    default=AGGREGATOR_SERVE,
    show_default=True,
    help="Where monitors read the state.",
)
@click.option(
    "--to",
    metavar="ADDRESS",
    multiple=True,
    show_default="nowhere",
    help="An aggregator above this one, which gets the streams of all its hosts; may be given more "
    "than once, in SHARDLOG_TO with spaces between.",
)
@click.option(
    "--store",
    metavar="DIR",
    show_default="nowhere",
    help="Where all that was heard outlives a restart, of hosts that are gone too.",
)
@click.option(
    "--peer",
    metavar="ADDRESS",
    multiple=True,
    show_default="none",
    help="The --listen of a twin: what hosts had said that are gone is fetched from it at the "
    "start; may be given more than once.",
)
@click.option("--insecure", is_flag=True, help="Allow tcp addresses that other machines can reach.")
@config_option("aggregate")
def aggregate(
    listen: str,
    serve: str,
    to: tuple[str, ...],
    store: str | None,
    peer: tuple[str, ...],
    insecure: bool,
) -> None:
    """Compose the state of all hosts, and serve it to monitors.

    A host is there once its collector connects. Prints `ready ADDRESS...` when it listens. SIGTERM
    ends it.
    """
    log_to_stderr("aggregate")
    run(
        AggregatorConfig(
            listen=listen,
            serve=serve,
            to=to,
            store=store,
            peer=peer,
            insecure=insecure,
            retention=Retention(click.get_current_context().meta[RETENTION]),
        )
    )
