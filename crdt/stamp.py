"""Stamps: the total order behind last-writer-wins.

Theory. A write is ordered by the pair (stamp, writer). The stamp is wall-clock nanoseconds, made
strictly increasing within one process; the writer is the full process id, which no two processes
share. Two different writes therefore never compare equal, and "the later write wins" is a total
order: the precondition for a register to be a join semilattice (Shapiro et al., "A comprehensive
study of Convergent and Commutative Replicated Data Types", INRIA RR-7506, section 3.2.1).

Wall clock and not monotonic clock: monotonic clocks of two machines share no origin.

Known anomaly. Between two hosts the order is that of their clocks: with a skew of d, a write may
lose against one that was made up to d earlier elsewhere. Within one process the order is exact.
"""


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
