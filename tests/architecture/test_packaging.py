"""What `pip install` sees is what is on disk, and the wheel works away from the checkout."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

from tests.architecture.tree import ROOMS, ROOT, kept_files, modules, packages, relative

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def run(*command: str | Path, cwd: Path) -> str:
    """The command's standard output; a failure shows all that it said."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_listed_packages_are_the_folders_on_disk() -> None:
    """Each folder with Python files in a room is listed in pyproject.toml, and no other."""
    assert sorted(SETUPTOOLS["packages"]) == packages()


def test_each_package_has_an_init() -> None:
    """Only `shardlog` itself is a namespace; what lies below is packages."""
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in packages()]

    assert [relative(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_each_room_has_its_folder_its_types_and_its_link() -> None:
    """A room is mapped to its folder, marked as typed, and linked for the type checkers."""
    assert SETUPTOOLS["package-dir"] == {f"shardlog.{room}": room for room in ROOMS}
    for room in ROOMS:
        assert (ROOT / room / "py.typed").is_file()
        link = ROOT / "tests" / "namespace" / "shardlog" / room
        assert link.readlink() == Path("../../..", room)


def test_constraints_pin_all_requirements() -> None:
    """constraints.txt names a version of each requirement in pyproject.toml."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    project = PYPROJECT["project"]
    wanted: list[str] = [*project["dependencies"], *project["optional-dependencies"]["dev"]]

    assert {re.split(r">=|\[", requirement)[0] for requirement in wanted} <= pinned


def test_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    """Built from the source distribution and put elsewhere: all imports, the command runs."""
    tree = tmp_path / "tree"  # others read the checkout, where the build would leave its files
    for path in kept_files():
        copy = tree / relative(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, tree, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv = tmp_path / "venv"
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, wheel, cwd=tmp_path)
    # The dependencies are those at hand. Their own .pth files stay unread, so that the checkout,
    # which one of them names, stays out of sight.
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path
    )
    Path(purelib.strip(), "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    script = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    )
    files = run(python, "-c", script, *modules(), cwd=tmp_path).split()
    usage = run(venv / "bin" / "shardlog", "--help", cwd=tmp_path)
    pytest_options = run(python, "-m", "pytest", "--help", cwd=tmp_path)

    assert [file for file in files if not Path(file).is_relative_to(venv)] == []
    assert "Usage: shardlog" in usage
    assert "--shardlog=URL" in pytest_options
