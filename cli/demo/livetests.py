"""What the demo's cluster is told to do, and whether it does it: `shardlog test` reads this file.

The orchestrator's own log is what is expected: an intent that is asked is a test that begins. With
`shardlog demo --break NAME` these fail, and no others:

    scraper   answered: before rung 1/2 'started'
    module    right_module
    spotter   answered: before rung 2/2 'received'; counts_agree
    network   answered: before rung 2/2 'received'; sent; no_new_error_group
"""

from __future__ import annotations

from typing import Any

from shardlog.cli.demo.cluster import BLADES, SPOTTER
from shardlog.cli.demo.site import BROKEN
from shardlog.monitor.live import (
    above,
    always,
    each,
    eventually,
    ladder,
    moves,
    once,
    plain,
    rung,
    total,
)


@once
def all_there(live: Any) -> Any:
    """All blades that are expected are there, and stay."""
    yield eventually(lambda: live.blades >= {*BLADES}, "all came", within=15)
    yield always(lambda: live.blades >= {*BLADES}, "all stay", broken_for=5, at="arrival")


@once
def asking(live: Any) -> Any:
    """The orchestrator goes on asking."""
    return moves(lambda: len(live.intents), "intents", every=5)


@each("intents/*")
def answered(intent: Any, live: Any) -> Any:
    """The scraper that is asked starts, and what it sends is received."""
    return ladder(
        rung("started", lambda: intent.host in intent.resolution, within=5),
        rung(
            "received",
            lambda: intent.domain == BROKEN or SPOTTER in intent.resolution,
            within=5,
        ),
    )


@each("intents/*/resolution/*/module")
def right_module(module: Any, live: Any) -> Any:
    """The scraper runs the version that it was asked to."""
    intent = above(module, 3)
    return eventually(lambda: module == intent.module, within=3)


@each("intents/*/resolution/*/item_scraped/*/item_collected")
def sent(collected: Any, live: Any) -> Any:
    """Something of what is collected is sent."""
    return eventually(lambda: plain(collected) == 0 or above(collected).item_sent > 0, within=5)


@each("intents/*")
def counts_agree(intent: Any, live: Any) -> Any:
    """All that the scraper has sent the spotter has received."""

    def agree() -> None:
        scraped = total(intent, "resolution/*/item_scraped/*/item_sent")
        received = total(intent, "resolution/*/item_received")
        assert scraped <= received, f"{scraped} sent, {received} received"

    return always(agree, broken_for=3)


@each("shardlog/errors/*")
def no_new_error_group(group: Any, live: Any) -> Any:
    """Nothing goes wrong but what the site and the spotter are there to do wrong."""

    def known() -> None:
        sends = group.about.logger == "blade.send"
        message = str(group.about.message)
        # A page may break in any way; an item may be refused, and late on a busy machine.
        assert not sends or "503" in message or "timed out" in message, f"new: {message}"

    return always(known, when=lambda: group.about.message, at="arrival")
