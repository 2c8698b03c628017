"""Stamps: the total order behind last-writer-wins.

Theory. A write is ordered by the pair (stamp, writer). The stamp is wall-clock nanoseconds, made
strictly increasing within one process; the writer is the full process id, which no two processes
share. Two different writes therefore never compare equal, and "the later write wins" is a total
order: the precondition for a register to be a join semilattice (Shapiro et al., "A comprehensive
study of Convergent and Commutative Replicated Data Types", INRIA RR-7506, section 3.2.1).

Wall clock and not monotonic clock: monotonic clocks of two machines share no origin.

A step back of the clock leaves a writer whose stamps lead it. A stamp that is MAX_SKEW_NS ahead of
the clock of whoever admits it is refused: a writer that leads by so much is to begin anew, under
another id.

Known anomaly. Between two hosts the order is that of their clocks: with a skew of d, a write may
lose against one that was made up to d earlier elsewhere. Within one process the order is exact.
"""

MAX_SKEW_NS = 3600 * 10**9
"""How far a stamp may be ahead of the clock of whoever admits it."""


class StampClock:
    """Turns wall-clock readings into strictly increasing stamps; a step back does not show.

    >>> clock = StampClock()
    >>> clock.stamp(1_000), clock.stamp(1_000), clock.stamp(400), clock.stamp(2_000)
    (1000, 1001, 1002, 2000)
    """

    __slots__ = ("last_ns",)

    def __init__(self, last_ns: int = 0) -> None:
        self.last_ns = last_ns

    def stamp(self, now_ns: int) -> int:
        """The stamp (int, ns) of a write at wall-clock time `now_ns`. O(1)."""
        self.last_ns = max(now_ns, self.last_ns + 1)
        return self.last_ns

    def is_ahead(self, now_ns: int) -> bool:
        """Whether the next stamp would be refused, at wall-clock time `now_ns`. O(1).

        >>> clock = StampClock(MAX_SKEW_NS + 5)
        >>> clock.is_ahead(5), clock.is_ahead(6)
        (True, False)
        """
        return self.last_ns >= now_ns + MAX_SKEW_NS

    def start_above(self, stamp: int, now_ns: int) -> None:
        """Let all stamps be above this one, unless they would be refused then. O(1).

        >>> clock = StampClock()
        >>> clock.start_above(2_000, 1_000)
        >>> clock.stamp(1_001)
        2001
        """
        if not StampClock(stamp).is_ahead(now_ns):
            self.last_ns = max(self.last_ns, stamp)
