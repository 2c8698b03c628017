"""rich's console, whose broken pipe ends a command as any other output's does."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

from rich.console import Console

PIPE_WIDTH = 200
"""Where there is no terminal, rows are not to be wrapped at 80 characters."""


def console_of_rows() -> PipedConsole:
    """As wide as the terminal; for a pipe wide enough for any row."""
    return PipedConsole(width=None if sys.stdout.isatty() else PIPE_WIDTH)


class PipedConsole(Console):
    """Leaves it to the caller what to do when nobody reads any more."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise: rich would exit 1, which says that something was found."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
