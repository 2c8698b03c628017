"""The Pythons that the lifecycle of a process is tried on: this one and each other that is here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "interpreters"
NEEDED = ("pyzmq", "msgspec")
WANTED = ("gevent",)


def others() -> dict[str, Path]:
    """Version -> executable of other CPythons from 3.11 on, one a minor version."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*home.glob("versions/3.*/bin"), *map(Path, os.get_exec_path())]
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("python3.*")):
            match = re.fullmatch(r"python3\.(\d+)", path.name)
            is_wanted = match and int(match[1]) >= 11 and int(match[1]) != sys.version_info[1]
            if is_wanted and path.name not in found and has(path, "venv"):  # a shim may have none
                found[path.name] = path
    return {name.removeprefix("python"): path for name, path in sorted(found.items())}


def prepared(version: str, python: Path) -> tuple[Path | None, str]:
    """An interpreter of that version that has what a blade needs, or None and why not.

    It is made once and kept.
    """
    folder = CACHE / version
    executable = folder / "bin" / "python"
    stamp = folder / "stamp"
    if not stamp.exists():
        pip = (executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        options = ("--only-binary", ":all:", "-c", ROOT / "constraints.txt")
        for command, must in (
            ((python, "-m", "venv", "--clear", folder), True),
            ((*pip, *options, *NEEDED), True),
            ((*pip, *options, *WANTED), False),
        ):
            done = subprocess.run(command, capture_output=True, text=True)
            if must and done.returncode:
                return None, f"{version}: {done.stdout}{done.stderr}"
        stamp.touch()
    return executable, ""


def has(python: Path, module: str) -> bool:
    """Whether that interpreter can import the module."""
    command = (python, "-c", f"import {module}")
    return subprocess.run(command, capture_output=True).returncode == 0


def environment() -> dict[str, str]:
    """Variables with which any interpreter finds the rooms of this checkout."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SHARDLOG_")}
    return {**kept, "PYTHONPATH": str(ROOT / "tests" / "namespace")}
