"""A blade that scrapes: `python -m shardlog.cli.demo.scraper`.

It is told what to do by `POST /intents` on a port of its own, one intent after the other: fetch
each page, take the items out of it, send each item to the spotter. It logs what it does where it
does it; the names below are the ones of the running example in the documentation. With `--break`
it can be broken, see `breaks`.
"""

from __future__ import annotations

import argparse
import json
import logging
import queue
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shardlog.cli.demo.blade import Stop, announce, configure_logging, resolver
from shardlog.cli.demo.breaks import Broken
from shardlog.cli.demo.client import Client, FetchError
from shardlog.cli.demo.links import Page, ParseError, parse_page
from shardlog.cli.demo.server import Handler, serving
from shardlog.cli.demo.tally import Add, Tally

fetch_log = logging.getLogger("blade.fetch")
parse_log = logging.getLogger("blade.parse")
send_log = logging.getLogger("blade.send")
log = logging.getLogger("blade.scrape")

WAITING_MAX = 3
"""Intents that wait; further ones are refused with 503."""

FETCH_TRIES = 3
SEND_TRIES = 2
ITEMS_PER_PAGE_MAX = 12
SPOTTER = "spotter-1"


@dataclass(frozen=True, slots=True)
class Task:
    """An intent as the scraper hears it."""

    intent: str
    module: str
    pages: tuple[str, ...]


def read_task(body: bytes) -> Task:
    """The task in a request. Raises `ValueError` when there is none in it."""
    document = json.loads(body)
    try:
        return Task(str(document["intent"]), str(document["module"]), tuple(document["pages"]))
    except (KeyError, TypeError) as error:
        raise ValueError("no task") from error


def items_of(page: Page, module: str) -> list[str]:
    """What is sent of a page: its links, since version 1.5 of the module its title as well."""
    items = [] if module == "scrape_pages==1.4" else [page.title]
    return [*items, *page.links][:ITEMS_PER_PAGE_MAX]


def worth_another_try(error: FetchError | ParseError) -> bool:
    """Whether the same page may be there the next time."""
    return isinstance(error, FetchError) and error.status != 404


def since(started_ns: int) -> Add:
    """The seconds since then, to be counted."""
    return Add((time.perf_counter_ns() - started_ns) / 1e9)


class Scraper:
    """Does one task after the other, until told to stop."""

    def __init__(self, tally: Tally, client: Client, stop: Stop, broken: Broken) -> None:
        self.tally = tally
        self.client = client
        self.stop = stop
        self.broken = broken
        self.module = ""
        self.waiting: queue.Queue[Task] = queue.Queue(maxsize=WAITING_MAX)

    def run(self) -> None:
        """Do what waits. When told to stop, end after the page in hand."""
        while not self.stop.asked:
            try:
                task = self.waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            if self.broken.name != "scraper":
                self.do(task)

    def do(self, task: Task) -> None:
        """Do one task, or as much of it as there is time for."""
        blade = self.tally.blade
        if self.broken.name == "module":
            task = replace(task, module=self.module)
        if task.module != self.module:
            self.module = task.module
            self.tally.say(
                log, logging.INFO, "now %s", task.module, shard={blade: {"module": task.module}}
            )
        started = {"resolution": {blade: {"module": task.module}}}
        self.tally.say(log, logging.INFO, "started", shard={"intents": {task.intent: started}})
        for url in task.pages:
            if self.stop.asked:
                return
            page = self.scrape(task, url)
            for item in items_of(page, task.module) if page else ():
                self.send(task, url, item)

    def scrape(self, task: Task, url: str) -> Page | None:
        """Fetch a page and take it apart, None when that cannot be done."""
        for _ in range(FETCH_TRIES):
            started_ns = time.perf_counter_ns()
            try:
                page = parse_page(self.client.get(url))
            except (FetchError, ParseError) as error:
                logger = fetch_log if isinstance(error, FetchError) else parse_log
                self.fail(logger, task, url, {"tries": Add(1), "time_spent": since(started_ns)})
                if self.stop.asked or not worth_another_try(error):
                    return None
            else:
                scraped = {
                    "tries": Add(1),
                    "time_spent": since(started_ns),
                    "item_collected": Add(len(items_of(page, task.module))),
                }
                shard = self.resolution(task, url, scraped)
                self.tally.say(fetch_log, logging.INFO, "scraped %s", url, shard=shard)
                return page
        return None

    def send(self, task: Task, url: str, item: str) -> None:
        """Send one item to the spotter."""
        for _ in range(SEND_TRIES):
            try:
                self.client.post(
                    f"http://{SPOTTER}/items", {"intent": task.intent, "page": url, "item": item}
                )
            except FetchError:
                self.fail(send_log, task, url, {"item_sent_tries": Add(1)})
            else:
                sent = {"item_sent_tries": Add(1), "item_sent": Add(1)}
                shard = self.resolution(task, url, sent)
                self.tally.say(send_log, logging.INFO, "sent %s", item, shard=shard)
                return

    def fail(self, logger: logging.Logger, task: Task, url: str, counted: dict[str, Add]) -> None:
        """Log the exception at hand, and count what was tried in vain."""
        shard = self.resolution(task, url, counted)
        shard[self.tally.blade] = {"errors": {logger.name: Add(1)}}
        self.tally.say(logger, logging.ERROR, "failed at %s", url, shard=shard, exc_info=True)

    def resolution(self, task: Task, url: str, counted: dict[str, Add]) -> dict[str, Any]:
        """The shard that counts for a task and the domain of a page."""
        scraped = {"item_scraped": {urlsplit(url).netloc: counted}}
        return {"intents": {task.intent: {"resolution": {self.tally.blade: scraped}}}}


class ControlHandler(Handler):
    """`POST /intents`: 202 when the task waits now, 503 when too many do, 400 when it is none."""

    def __init__(self, waiting: queue.Queue[Task], *connection: Any) -> None:
        self.waiting = waiting
        super().__init__(*connection)  # the base answers all requests before it returns

    def do_POST(self) -> None:
        """Take what the orchestrator asks for, if there is room for it."""
        try:
            self.waiting.put_nowait(read_task(self.read_body()))
        except ValueError:
            self.answer(400)
        except queue.Full:
            self.answer(503)
        else:
            self.answer(202)


def main() -> None:
    """Scrape until told to stop."""
    parser = argparse.ArgumentParser(prog="shardlog-demo-scraper")
    parser.add_argument("--blade", required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--tally", type=Path, required=True)
    parser.add_argument("--resolve", action="append", default=[])
    parser.add_argument("--break", dest="way_to_break", default="")
    arguments = parser.parse_args()
    stop, broken = Stop(), Broken(arguments.way_to_break)
    configure_logging(arguments.blade, arguments.endpoint)
    with Client(resolver(arguments.resolve)) as client:
        scraper = Scraper(Tally(arguments.blade), client, stop, broken)
        with serving(partial(ControlHandler, scraper.waiting)) as address:
            announce(address)
            scraper.run()
    scraper.tally.close(arguments.tally)


if __name__ == "__main__":
    main()
