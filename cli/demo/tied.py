"""`python -m shardlog.cli.demo.tied PARENT MODULE [ARGUMENT...]`: tied to a parent.

Runs the module's `main`.

The demo starts all of its processes through this, so that none of them outlives it, even when it
is killed with a signal that it cannot catch. Other kernels than Linux have no such thing: there the
module simply runs.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have the kernel kill this process as soon as the parent with this process id has ended."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Tie this process to the parent named first, and be the module named second."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    die_with(parent)
    sys.argv = [module, *sys.argv[3:]]
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()
