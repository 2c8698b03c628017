"""Each plausible mistake is found by the simulator, within a bounded number of seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.generate import generate
from tests.simulation.mutants import MUTANTS, Mutant, applied, seeds_to_kill, table
from tests.simulation.runner import run

if TYPE_CHECKING:
    from collections.abc import Generator

Killed = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def killed(request: pytest.FixtureRequest) -> Generator[Killed]:
    """What was found by which seed; printed when all are through."""
    found: Killed = {}
    yield found
    capture: Any = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{table(found)}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_is_found(mutant: Mutant, killed: Killed) -> None:
    """By some schedule, of which the one before it found nothing."""
    found = seeds_to_kill(mutant)
    assert found is not None, "no schedule finds it"
    killed[mutant.mistake] = found


def test_a_mistake_is_taken_back() -> None:
    """What is run behind a mutant is the real code again."""
    mutant = next(m for m in MUTANTS if m.mistake == "sending increments")
    with applied(mutant):
        assert any(run(generate(seed)).violation for seed in range(50))
    assert not any(run(generate(seed)).violation for seed in range(5))
