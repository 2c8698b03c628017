"""The site that is scraped: `python -m shardlog.cli.demo.site --pages FOLDER`.

One server on the loopback interface that stands for several domains, told apart by the Host header.
Two domains serve the pages; beside each page `/NAME.html` they have, made from the same page,

    /missing/NAME.html    404
    /failing/NAME.html    500, two times out of three: asking again helps
    /slow/NAME.html       late; every third time later than the scrapers wait
    /cut/NAME.html        ends in the middle, with the connection
    /garbled/NAME.html    bytes that are not text

and the domain `broken.local` has nothing but missing, cut and garbled pages: what it is asked for
is started, and nothing of it is received. `/index.json` on any domain lists them all.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from shardlog.cli.demo.blade import Stop, announce
from shardlog.cli.demo.pages import names_of
from shardlog.cli.demo.server import Handler, serving

DOMAINS = ("pages.local", "docs.local")
BROKEN = "broken.local"

FAULTS = ("missing", "failing", "slow", "cut", "garbled")
HOPELESS = ("missing", "cut", "garbled")
"""The faults of the broken domain: no number of tries gets an item out of these."""

PAGES_PER_FAULT = 12
"""One in so many listed paths is a faulty one."""

LATE_S = 0.2
TOO_LATE_S = 1.5
"""Longer than `client.TIMEOUT_S`."""


class Site:
    """The pages of all domains, and which faults were asked for how often."""

    def __init__(self, folder: Path) -> None:
        names = list(names_of(folder))
        self.pages: dict[str, dict[str, bytes]] = {domain: {} for domain in (*DOMAINS, BROKEN)}
        for number, name in enumerate(names):
            body = (folder / name).read_bytes()
            self.pages[DOMAINS[number % len(DOMAINS)]][name] = body
            if number % PAGES_PER_FAULT == 0:
                self.pages[BROKEN][name] = body
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def index(self) -> dict[str, list[str]]:
        """Domain -> its paths, the faulty ones strewn in among the pages."""
        index: dict[str, list[str]] = {}
        for domain in DOMAINS:
            paths: list[str] = []
            for number, name in enumerate(self.pages[domain]):
                paths.append(f"/{name}")
                if number % PAGES_PER_FAULT == 0:
                    fault = FAULTS[number // PAGES_PER_FAULT % len(FAULTS)]
                    paths.append(f"/{fault}/{name}")
            index[domain] = paths
        index[BROKEN] = [
            f"/{HOPELESS[number % len(HOPELESS)]}/{name}"
            for number, name in enumerate(self.pages[BROKEN])
        ]
        return index

    def times_asked(self, domain: str, path: str) -> int:
        """How often this path has been asked for before."""
        with self._lock:
            self._asked[domain, path] += 1
            return self._asked[domain, path] - 1


class SiteHandler(Handler):
    """Answers what the site is asked."""

    def __init__(self, site: Site, *connection: Any) -> None:
        self.site = site
        super().__init__(*connection)  # the base answers all requests before it returns

    def do_GET(self) -> None:
        """Answer with the index, a page, or what a fault makes of it."""
        domain = self.headers.get("Host", "").partition(":")[0]
        if self.path == "/index.json":
            self.answer(200, json.dumps(self.site.index()).encode(), "application/json")
            return
        fault, _, name = self.path.lstrip("/").rpartition("/")
        body = self.site.pages.get(domain, {}).get(name)
        if body is None or fault not in ("", *FAULTS) or fault == "missing":
            self.answer(404, b"<title>not here</title>")
            return
        before = self.site.times_asked(domain, self.path)
        if fault == "failing" and before % 3 < 2:
            self.answer(500, b"<title>it broke</title>")
        elif fault == "garbled":
            self.answer(200, b"<title>\xff\xfe</title>" + body[:1000])
        elif fault == "cut":
            self.answer_half(body)
        else:
            if fault == "slow":
                time.sleep(TOO_LATE_S if before % 3 == 0 else LATE_S)
            self.answer(200, body)


def main() -> None:
    """Serve the pages of a folder until told to stop."""
    parser = argparse.ArgumentParser(prog="shardlog-demo-site")
    parser.add_argument("--pages", type=Path, required=True)
    arguments = parser.parse_args()
    stop = Stop()
    with serving(partial(SiteHandler, Site(arguments.pages))) as address:
        announce(address)
        stop.wait()


if __name__ == "__main__":
    main()
