"""What no file of the project may say."""

import re

from tests.architecture.tree import ROOT, kept_files, relative

OUTSIDE = re.compile(
    r"\.\./shar[e]d|(?<![\w.~*-])/(?:work|root|home|Users)/|" + re.escape(f"{ROOT}/")
)


def test_no_file_names_a_place_outside_the_project() -> None:
    """No path leads out of the checkout, to a home folder, or to the machine it was written on."""
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in kept_files()
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        )
        if OUTSIDE.search(line)
    ]

    assert found == []
