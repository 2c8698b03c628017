"""What a monitor is told when a path looks different from before."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value
    from shardlog.crdt.path import Keys


class Absent(Enum):
    """The type of ABSENT, which is false."""

    ABSENT = "absent"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = Absent.ABSENT
"""The side of a change on which nothing shows; None is a value."""


class Change(NamedTuple):
    """A path looks different from before."""

    path: Keys
    old: Value | Absent
    new: Value | Absent
    gone: Literal["erased", "forgotten"] | None
    """How the value went, None if there is one."""
    by: str | None
    """The blade that said it, None where nobody is named, as with the sums of counters."""
    at_ns: int
    """When it was said, or, where nobody tells, when it was noticed. Wall clock, ns."""
    kind: Literal["register", "counter"]
