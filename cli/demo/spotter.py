"""The blade that receives the items: `python -m shardlog.cli.demo.spotter`.

Items come one by one by `POST /items`. It is not always in the mood: one in `REFUSED` is refused
with 503, and may be sent again. With `--break` it can be broken, see `breaks`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from shardlog.cli.demo.blade import Stop, announce, configure_logging
from shardlog.cli.demo.breaks import Broken
from shardlog.cli.demo.server import Handler, serving
from shardlog.cli.demo.tally import Add, Tally

log = logging.getLogger("blade.receive")

REFUSED = 40
"""One in so many items is refused."""


class Spotter:
    """Takes items in, and says so."""

    def __init__(self, tally: Tally, broken: Broken) -> None:
        self.tally = tally
        self.broken = broken
        self._numbers = itertools.count(1)

    def receive(self, intent: str, item: str) -> bool:
        """Take an item in; False when it is refused."""
        if self.broken.name == "spotter":
            return True
        if next(self._numbers) % REFUSED == 0:
            self.tally.failed(log, "no room for %s", item)
            return False
        received = {"item_received": Add(1)}
        shard = {"intents": {intent: {"resolution": {self.tally.blade: received}}}}
        return self.tally.say(log, logging.INFO, "received", shard=shard)


class SpotterHandler(Handler):
    """`POST /items`: 204 when the item was taken in, 503 when not, 400 when it is none."""

    def __init__(self, spotter: Spotter, *connection: Any) -> None:
        self.spotter = spotter
        super().__init__(*connection)  # the base answers all requests before it returns

    def do_POST(self) -> None:
        """Take one item in, or refuse it."""
        try:
            document = json.loads(self.read_body())
            intent, item = str(document["intent"]), str(document["item"])
        except (ValueError, KeyError, TypeError):
            self.answer(400)
        else:
            self.answer(204 if self.spotter.receive(intent, item) else 503)


def main() -> None:
    """Receive until told to stop."""
    parser = argparse.ArgumentParser(prog="shardlog-demo-spotter")
    parser.add_argument("--blade", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--break", dest="way_to_break", default="")
    arguments = parser.parse_args()
    stop, broken = Stop(), Broken(arguments.way_to_break)
    configure_logging(arguments.blade, arguments.endpoint)
    tally = Tally(arguments.blade)
    with serving(partial(SpotterHandler, Spotter(tally, broken))) as address:
        announce(address)
        while broken.name != "network" and not stop.wait(0.05):
            pass
    stop.wait()  # cut off, it lives on
    tally.close(arguments.tally)


if __name__ == "__main__":
    main()
