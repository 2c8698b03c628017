"""What the kernel knows of the processes of this host: that one is stopped, and how one has ended.

A process can't be asked after its end, and its exit code is its parent's to collect. What anybody
may keep is a pidfd: it stays with the process, however soon its number is given to another. Since
Linux 6.15 it also tells the exit status, once the parent has collected it (`PIDFD_GET_INFO`);
until then the process is a zombie, and `/proc/PID/stat` tells it to whoever may trace it. On older
kernels the zombie is all there is, and most parents are faster: then it is not known. Elsewhere
than on Linux, over tcp, and where collector and process do not see each other's numbers, as in
containers of their own, nothing is known.

That the kernel killed for want of memory is told by the cgroup of the process, which counts such
kills, before the process has given back what it holds. One that has ended by SIGKILL is taken for
one of them if that count rose since the look before the last, which is two seconds at most.

Known anomaly. A process of a cgroup that somebody else kills within two seconds after the kernel
killed another one of it looks as if it had been out of memory too.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESSES_MAX = 1024
"""Each takes a descriptor. Beyond this the oldest are let go."""
OUT_OF_MEMORY = "out of memory"

_INFO_BYTES = 64
_GET_INFO = 3 << 30 | _INFO_BYTES << 16 | 0xFF << 8 | 11
"""C's PIDFD_GET_INFO: _IOWR(0xFF, 11, struct pidfd_info)."""
_INFO_EXIT = 1 << 3
_EXIT_CODE_AT = 60
_CGROUPS = Path("/sys/fs/cgroup")


class Exit(NamedTuple):
    """How a process ended: its exit code, or the name of the signal and, if it is known, why."""

    code: int | None
    signal: str = ""
    cause: str = ""


class _Met(NamedTuple):
    pidfd: int
    pid: int
    kills: Path | None
    """Where its cgroup counts those killed for want of memory."""


class Kernel:
    """The processes of one host, from when they were met until their end is known."""

    def __init__(self) -> None:
        self._met: dict[str, _Met] = {}
        self._of: dict[int, str] = {}
        self._poll = select.poll()
        self._kills: dict[Path, tuple[int, int]] = {}
        """What the cgroups had counted at the look before the last, and at the last."""

    def __contains__(self, process: str) -> bool:
        return process in self._met

    def meet(self, process: str, pid: int) -> None:
        """Follow a process to its end; `pid` must be its own still when this returns. O(1)."""
        if pid <= 0 or not hasattr(os, "pidfd_open"):
            return
        while len(self._met) >= PROCESSES_MAX:
            self.part(next(iter(self._met)))
        with suppress(OSError):
            pidfd = os.pidfd_open(pid)
            kills = _kills_file(pid)
            self._met[process] = _Met(pidfd, pid, kills)
            self._of[pidfd] = process
            self._poll.register(pidfd, select.POLLIN)
            if kills is not None and kills not in self._kills:
                counted = _kills_in(kills)
                self._kills[kills] = counted, counted

    def part(self, process: str) -> None:
        """Follow it no longer. O(1)."""
        met = self._met.pop(process, None)
        if met is not None:
            del self._of[met.pidfd]
            self._poll.unregister(met.pidfd)
            os.close(met.pidfd)

    def is_stopped(self, process: str) -> bool:
        """Whether it is stopped, by SIGSTOP or a debugger. O(1)."""
        met = self._met.get(process)
        return met is not None and _stat(met)[:1] in (["T"], ["t"])

    def look(self) -> Iterator[tuple[str, Exit]]:
        """Who has ended since the last call, and how. O(processes)."""
        for pidfd, _ in self._poll.poll(0):
            process = self._of[pidfd]
            met = self._met[process]
            status = _exit_status(met)
            self.part(process)
            if status is not None:
                yield process, self._exit(status, met.kills)
        files = {met.kills for met in self._met.values()}
        self._kills = {
            file: (self._kills[file][1], _kills_in(file)) for file in files if file is not None
        }

    def close(self) -> None:
        """Close all descriptors."""
        for process in [*self._met]:
            self.part(process)

    def _exit(self, status: int, kills: Path | None) -> Exit:
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return Exit(code)
        is_out = code == -signal.SIGKILL and kills and _kills_in(kills) > self._kills[kills][0]
        return Exit(None, _signal_name(-code), OUT_OF_MEMORY if is_out else "")


def _exit_status(met: _Met) -> int | None:
    """The status of one that has ended, as wait has it; None if nobody tells."""
    info = bytearray(_INFO_EXIT.to_bytes(8, "little").ljust(_INFO_BYTES, b"\0"))
    with suppress(OSError):
        fcntl.ioctl(met.pidfd, _GET_INFO, info)
        if int.from_bytes(info[:8], "little") & _INFO_EXIT:
            return int.from_bytes(info[_EXIT_CODE_AT:_INFO_BYTES], "little", signed=True)
    fields = _stat(met)
    return int(fields[-1]) if fields[:1] == ["Z"] else None


def _stat(met: _Met) -> list[str]:
    """The fields of its `/proc/PID/stat` from the state on; none if it is not there any more."""
    with suppress(OSError, ValueError):
        text = Path(f"/proc/{met.pid}/stat").read_text(errors="replace")
        signal.pidfd_send_signal(met.pidfd, 0)  # else the number may be another's by now
        return text.rpartition(")")[2].split()
    return []


def _kills_file(pid: int) -> Path | None:
    """Where the cgroup of a process counts kills: of version 2, else of version 1."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/cgroup").read_text(errors="replace").splitlines()
        for line in sorted(lines):  # that of version 2 is "0::/path"
            _, controllers, path = line.split(":", 2)
            if not controllers:
                file = _CGROUPS / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                file = _CGROUPS / "memory" / path.lstrip("/") / "memory.oom_control"
            else:
                continue
            if file.exists():
                return file
    return None


def _kills_in(file: Path) -> int:
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
