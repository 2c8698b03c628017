"""How far a host's clock is from ours, told from its heartbeats. Pure.

Theory. A heartbeat says when it was sent, by the host's clock. What that differs from our clock at
its arrival is the offset, less the time that it was under way. That time is never negative and
mostly small, so of the last few differences the one that looks least old is nearest: the minimum
filter that NTP has against delay (Mills, RFC 5905, section 10, over the last eight).

Known anomalies. The least delay of the window counts as a clock that is behind. A step back of the
host's clock shows only when the window has passed.
"""

from __future__ import annotations

from collections import deque

WINDOW = 8
"""Heartbeats."""


class ClockOffset:
    """The offset of one host's clock.

    >>> clock = ClockOffset()
    >>> for sent_ns, arrived_ns in ((1_500, 1_000), (2_500, 2_900), (3_500, 3_020)):
    ...     clock.hear(sent_ns, arrived_ns)
    >>> clock.offset_ns
    500
    """

    __slots__ = ("_differences",)

    def __init__(self) -> None:
        self._differences: deque[int] = deque(maxlen=WINDOW)

    @property
    def offset_ns(self) -> int:
        """The host's clock less ours; 0 before it was heard. O(WINDOW)."""
        return max(self._differences, default=0)

    def hear(self, sent_ns: int, now_ns: int) -> None:
        """A heartbeat has come. O(1)."""
        self._differences.append(sent_ns - now_ns)
