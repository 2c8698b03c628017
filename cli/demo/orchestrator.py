"""The blade that tells the scrapers what to do: `python -m shardlog.cli.demo.orchestrator`.

It asks the site for its index, and then, every so often, one scraper after the other to scrape a
few pages of one domain. Each such intent has a number, counted from 1. Now and then it wants a
newer version of the module, and now and then a domain of which nothing will come.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from shardlog.cli.demo.blade import Stop, announce, configure_logging, resolver
from shardlog.cli.demo.client import Client, FetchError
from shardlog.cli.demo.site import BROKEN, DOMAINS
from shardlog.cli.demo.tally import Add, Tally

log = logging.getLogger("blade.ask")

OLDEST_MINOR = 4
"""The first version of the module that is asked for is 1.4."""

INTENTS_PER_VERSION = 10
INTENTS_PER_BROKEN = 9
"""Every so many intents, one for the domain that is broken."""

PAGES_PER_INTENT = 5
TRIES = 10
PAUSE_S = 0.3


@dataclass(frozen=True, slots=True)
class Intent:
    """What one scraper is asked to do."""

    number: int
    host: str
    module: str
    domain: str
    pages: tuple[str, ...]

    def as_document(self) -> dict[str, object]:
        """What is sent to the scraper."""
        return {"intent": str(self.number), "module": self.module, "pages": list(self.pages)}


def plan(index: dict[str, list[str]], hosts: list[str], seed: int) -> Iterator[Intent]:
    """Intents without end: all pages of a domain in a random order, again and again."""
    rng = random.Random(seed)
    pages: dict[str, Iterator[str]] = {}
    for domain in (*DOMAINS, BROKEN):
        urls = [f"http://{domain}{path}" for path in index[domain]]
        rng.shuffle(urls)
        pages[domain] = itertools.cycle(urls)
    for number in itertools.count(1):
        # each host in turn, then each domain: every host gets to every domain
        domain = DOMAINS[number // len(hosts) % len(DOMAINS)]
        if number % INTENTS_PER_BROKEN == 0:
            domain = BROKEN
        yield Intent(
            number=number,
            host=hosts[number % len(hosts)],
            module=f"scrape_pages==1.{OLDEST_MINOR + number // INTENTS_PER_VERSION}",
            domain=domain,
            pages=tuple(itertools.islice(pages[domain], PAGES_PER_INTENT)),
        )


def ask(intent: Intent, client: Client, tally: Tally, stop: Stop) -> None:
    """Say that the intent is asked for, and ask for it until the scraper has room for it."""
    wanted = {"host": intent.host, "module": intent.module, "domain": intent.domain}
    shard = {"intents": {str(intent.number): wanted}, tally.blade: {"asked": Add(1)}}
    tally.say(log, logging.INFO, "asked", shard=shard)
    for _ in range(TRIES):
        try:
            client.post(f"http://{intent.host}/intents", intent.as_document())
            return
        except FetchError as error:
            if error.status != 503:
                break
        if stop.wait(PAUSE_S):
            return
    tally.failed(log, "%s does not take intent %d", intent.host, intent.number)


class Rest:
    """Whether SIGUSR1 came: then nothing more is asked. To be made in the main thread."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def main() -> None:
    """Ask until told to stop, or by SIGUSR1 to rest."""
    parser = argparse.ArgumentParser(prog="shardlog-demo-orchestrator")
    parser.add_argument("--blade", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--resolve", action="append", default=[])
    parser.add_argument("--scraper", action="append", required=True)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two intents")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    stop, rest = Stop(), Rest()
    configure_logging(arguments.blade, arguments.endpoint)
    tally = Tally(arguments.blade)
    with Client(resolver(arguments.resolve)) as client:
        index = json.loads(client.get(f"http://{DOMAINS[0]}/index.json"))
        announce()
        for intent in plan(index, arguments.scraper, arguments.seed):
            ask(intent, client, tally, stop)
            if stop.wait(arguments.every) or rest.asked:
                break
    stop.wait()  # at rest it is still there
    tally.close(arguments.tally)


if __name__ == "__main__":
    main()
