"""The tree under test: its rooms, packages, modules and files."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("crdt", "handler", "collector", "monitor", "cli")


def sources(*folders: str) -> list[Path]:
    """Python files below the folders; links are not followed."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def relative(path: Path) -> str:
    """The path as it is written in this project's documents: `crdt/path.py`."""
    return path.relative_to(ROOT).as_posix()


def packages() -> list[str]:
    """Full names of all folders in the rooms that hold Python files."""
    return sorted({_dotted(path.parent) for path in sources(*ROOMS)})


def modules() -> list[str]:
    """Full names of all modules that can be imported without running a program."""
    names = (
        _dotted(path.parent if path.name == "__init__.py" else path.with_suffix(""))
        for path in sources(*ROOMS)
        if path.name != "__main__.py"
    )
    return sorted(names)


def kept_files() -> list[Path]:
    """Files that git keeps, or would keep if they were added."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def _dotted(path: Path) -> str:
    return ".".join(("shardlog", *path.relative_to(ROOT).parts))
