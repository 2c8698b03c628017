"""How the commands print."""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from shardlog.monitor.document import change_document
from shardlog.monitor.views import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shardlog.monitor import Change, views
    from shardlog.monitor.feed import Doubt


def echo_json(value: Any, *, one_line: bool) -> None:
    """Print what JSON can say, at once; what a terminal would obey, or cannot show, as escapes."""
    indent = None if one_line else 2
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    text = "\n".join(map(_escaped, text.split("\n")))
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=indent)
    click.echo(text)


def echo_change(change: Change) -> None:
    """Print a change as one line of JSON, at once."""
    echo_json(change_document(change), one_line=True)


def echo_doubt(command: str, doubt: Doubt) -> None:
    """Say on stderr that what shows is in doubt from here on, or no more."""
    said = printable(doubt.reason) or "what shows is all there again"
    click.echo(f"shardlog {command}: {iso_utc(doubt.at_ns)}: {said}", err=True)


def echo_doubts(command: str, doubts: Iterable[views.Doubt]) -> None:
    """Say on stderr, a line each, what may be missing of what is printed."""
    for doubt in doubts:
        click.echo(f"shardlog {command}: {doubt.status}: {printable(doubt.reason)}", err=True)


def log_to_stderr(command: str) -> None:
    """Let what a long-running command logs look like what all commands say."""
    logging.basicConfig(format=f"shardlog {command}: %(message)s")


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def printable(text: str) -> str:
    r"""A text that a terminal shows and does not obey: anybody may have logged it.

    >>> printable("caf\xe9 \x1b[2J")
    'café �[2J'
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
