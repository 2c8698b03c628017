"""One Hypothesis profile for all: a red run is caused by the change at hand, not by luck.

`HYPOTHESIS_PROFILE=search` draws anew each time, and twenty times as much.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = 65534

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search", settings.get_profile("fixed"), derandomize=False, max_examples=4000, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture
def closed_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may enter; root, who may, is another user for the time of the test."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o700)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which seed found each mutant; here, since what a worker of the tests prints is not shown."""
    killed = {
        mistake: (seeds, violation)
        for report in terminalreporter.getreports("passed")
        for name, (mistake, seeds, violation) in report.user_properties
        if name == "killed"
    }
    if killed:
        from tests.simulation.mutants import table

        terminalreporter.write_line(table(killed))
