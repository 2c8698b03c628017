"""Process ids: one text for one run, from which the blade can be read off."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shardlog.crdt.process_id import blade_of, process_id

NAME = st.text(alphabet="ab@:-é", min_size=1, max_size=6)
BOOT = st.text(alphabet="0123456789abcdef", min_size=1, max_size=4)
NUMBER = st.integers(1, 99)


@given(NAME, NAME, BOOT, NUMBER, NUMBER, BOOT)
def test_the_blade_can_be_read_off(
    blade: str, host: str, boot: str, pid: int, start_ns: int, nonce: str
) -> None:
    """Whatever is in the names of blade and host, an `@` too."""
    assert blade_of(process_id(blade, host, boot, pid, start_ns, nonce)) == blade


@given(st.lists(st.tuples(NAME, BOOT, NUMBER, NUMBER, BOOT), min_size=2, unique=True))
def test_two_runs_have_two_ids(runs: list[tuple[str, str, int, int, str]]) -> None:
    """A difference in any part makes another id."""
    ids = {process_id(run[0], "node-7", run[1], run[2], run[3], run[4]) for run in runs}

    assert len(ids) == len(runs)
