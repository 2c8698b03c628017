"""What can break in the demo while it runs, and stays broken: `shardlog demo --break NAME`.

A blade is told at its start in which way it may break, and by SIGUSR1 that it does now. Its
process lives on and its heart beats on; only what it does, or does not, shows that it is broken.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import NamedTuple


class Break(NamedTuple):
    """One way to break."""

    blade: str
    said: str
    """What the blade does then, for people."""


BREAKS = {
    "spotter": Break("spotter-1", "answers as before, but takes no items in any more"),
    "scraper": Break("scraper-1", "takes what it is asked, but does not start it any more"),
    "module": Break("scraper-2", "goes on with the module it has, whichever it is asked for"),
    "network": Break("spotter-1", "cannot be reached any more, connections to it are refused"),
}


class Broken:
    """Whether SIGUSR1 came to a blade that may break. To be made in the main thread."""

    def __init__(self, name: str) -> None:
        """Await the signal; a blade with an empty name never breaks."""
        self.name = ""
        """The way in which the blade is broken now, empty while it is not."""
        if name:
            self._name = name
            signal.signal(signal.SIGUSR1, self._break)

    def _break(self, number: int, frame: FrameType | None) -> None:
        self.name = self._name
