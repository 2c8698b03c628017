"""Each plausible mistake is found by the simulator, within a bounded number of seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation.generate import generate
from tests.simulation.mutants import MUTANTS, Mutant, applied, seeds_to_kill
from tests.simulation.runner import run

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_is_found(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    """By some schedule, of which the one before found nothing; by which is printed at the end."""
    found = seeds_to_kill(mutant)
    assert found is not None, "no schedule finds it"
    record_property("killed", (mutant.mistake, *found))


def test_a_mistake_is_taken_back() -> None:
    """What is run behind a mutant is the real code again."""
    mutant = next(m for m in MUTANTS if m.mistake == "sending increments")
    with applied(mutant):
        assert any(run(generate(seed)).violation for seed in range(50))
    assert not any(run(generate(seed)).violation for seed in range(5))
