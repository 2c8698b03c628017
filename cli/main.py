"""The `shardlog` command: finds its subcommands, and turns errors into exit codes.

0   fine
1   a verdict or a finding is bad, or what was asked for is not there
2   usage: a flag, an address, a setting that a person can mend
3   cannot tell: nobody answered, or the output cannot be written
130 interrupted by Ctrl-C; what goes on until then, or sums up then, ends as by itself
141 its reader has gone, as in `shardlog get | head -1`
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import Any, NoReturn

import click

from shardlog.crdt.errors import ConfigError, Unreachable

EXIT_USAGE = 2
EXIT_CANNOT_TELL = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What keeps a disk, or a terminal, from taking what is printed."""

COMMANDS = {
    "demo": "shardlog.cli.demo.command",
    "collect": "shardlog.cli.collect",
    "aggregate": "shardlog.cli.aggregate",
    "get": "shardlog.cli.get",
    "total": "shardlog.cli.total",
    "rates": "shardlog.cli.rates",
    "watch": "shardlog.cli.watch",
    "blades": "shardlog.cli.blades",
    "errors": "shardlog.cli.errors",
    "record": "shardlog.cli.record",
    "replay": "shardlog.cli.replay",
    "check": "shardlog.cli.check",
    "test": "shardlog.cli.test",
}
"""Each command is an attribute of its own name in its module, which is loaded when it is wanted."""


class Commands(click.Group):
    """A group that imports the command it runs and no other."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of a first acquaintance."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, if there is one."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; what people can mend is said in one line, without a traceback."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except ConfigError as error:
            self._fail(ctx, error, EXIT_USAGE)
        except Unreachable as error:
            self._fail(ctx, error, EXIT_CANNOT_TELL)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _drop_output()
            ctx.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            _drop_output()
            self._fail(ctx, f"the output cannot be written: {error.strerror}", EXIT_CANNOT_TELL)
        return result

    def _fail(self, context: click.Context, says: object, code: int) -> NoReturn:
        click.echo(f"shardlog {context.invoked_subcommand}: {says}", err=True)
        context.exit(code)


def _drop_output() -> None:
    """What is still in the buffer would fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands)
@click.version_option(package_name="shardlog")
def main() -> None:
    """The live state of a cluster, made of what its processes log."""
    # Anybody may log what the output's encoding lacks: there is a `?` for it then.
    if (reconfigure := getattr(sys.stdout, "reconfigure", None)) is not None:
        reconfigure(errors="replace")


if __name__ == "__main__":
    main()
