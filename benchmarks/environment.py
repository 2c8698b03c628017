"""Environments of their own for what shardlog is compared with, below `.cache/`."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.report import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CACHE = ROOT / ".cache"


def environment(
    name: str, requirements: Path, *, with_shardlog: bool = False
) -> tuple[Path, list[str]]:
    """The Python of an environment that has what a file lists, and what pip could not install.

    It is made anew when the file has changed. One by one where not all can be had at once.
    """
    CACHE.mkdir(exist_ok=True)
    (CACHE / ".gitignore").write_text("*\n")
    folder = CACHE / f"{name}-venv"
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    wanted = requirements.read_text()
    if stamp.is_file() and stamp.read_text() == wanted:
        return python, (folder / "missing.txt").read_text().split()
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    if with_shardlog:
        constraints = ("-c", str(ROOT / "constraints.txt"), "-e", str(ROOT))
        _install(python, *constraints, check=True)
    missing: list[str] = []
    if not _install(python, "-r", str(requirements)):
        lines = [line.partition("#")[0].strip() for line in wanted.splitlines()]
        missing += [line for line in lines if line and not _install(python, line)]
    (folder / "missing.txt").write_text("\n".join(missing))
    stamp.write_text(wanted)
    return python, missing


def _install(python: Path, *what: str, check: bool = False) -> bool:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
    output = None if check else subprocess.DEVNULL
    done = subprocess.run(pip, stdout=output, stderr=output, check=check)
    return done.returncode == 0
