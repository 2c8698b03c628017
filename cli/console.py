"""rich's console, whose broken pipe ends a command as any other output's does."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from rich.console import Console


class PipedConsole(Console):
    """Leaves it to the caller what to do when nobody reads any more."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise: rich would exit 1, which says that something was found."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
