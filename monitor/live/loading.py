"""Files of live tests: imported, and what `each` and `once` have marked in them.

A file is imported as pytest would: under a name of its own, and what lies beside it can be imported
by it. What goes wrong there is a person's to mend, so it is said in one line, with file and line.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager, suppress
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from itertools import count
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import path_keys
from shardlog.monitor.live.declared import MARK, Test

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from types import ModuleType, TracebackType

_numbers = count(1)


class One(Test):
    """A test at a single key: `answered[42]`."""

    def __init__(self, test: Test, label: str) -> None:
        super().__init__(test.function, test.pattern)
        self._label = label

    def matches(self, path: str) -> bool:
        """Whether it is run for this path: for one at most."""
        return super().matches(path) and self.label(path_keys(path)) == self._label


def load(paths: Iterable[Path], only: str | None = None) -> list[Test]:
    """The tests in these files and folders, in order; of these `only` one, or one instance.

    Raises:
        ConfigError: a file is not there or can't be imported, has no test, or has one of a name
            that another has, too; or there is no test of the name that is wanted.
    """
    found: dict[str, tuple[Test, Path]] = {}
    for path in _files(paths):
        tests = _tests(_imported(path))
        if not tests:
            raise ConfigError(f"{path}: no tests: no function there is under @each or @once")
        for test in tests:
            other, where = found.setdefault(test.name, (test, path))
            if other is not test:
                raise ConfigError(
                    f"{_place(test, path)}: there is another {test.name}, at "
                    f"{_place(other, where)}: it would not be known which one says something"
                )
    every = [test for test, _ in found.values()]
    return every if only is None else [_wanted(every, only)]


def _wanted(tests: list[Test], only: str) -> Test:
    name, bracket, _ = only.partition("[")
    for test in tests:
        if test.name == name:
            if not bracket:
                return test
            if not only.endswith("]") or not test.pattern:
                raise ConfigError(f"{only!r}: write it as {name}{'[42]' if test.pattern else ''}")
            return One(test, only)
    raise ConfigError(f"there is no test {only!r}; there are {', '.join(t.name for t in tests)}")


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        is_folder = False
        with suppress(OSError):  # whoever opens it says what it is
            is_folder = path.is_dir()
        if not is_folder:
            yield path
            continue
        inside = sorted(
            file
            for file in path.glob("*.py")
            if not file.name.startswith("_") and file.name != "conftest.py"
        )
        if not inside:
            raise ConfigError(f"{path}: no tests: the folder has no *.py")
        yield from inside


def _tests(module: ModuleType) -> list[Test]:
    """What is marked in a module, each once."""
    marked = (getattr(value, MARK, None) for value in [*vars(module).values()])
    return [*dict.fromkeys(test for test in marked if isinstance(test, Test))]


def _imported(path: Path) -> ModuleType:
    name = f"shardlog_tests_{next(_numbers)}_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importable(path.parent):
            loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also what `sys.exit` and `pytest.importorskip` raise
        del sys.modules[name]
        raise ConfigError(_said(error, path)) from error
    return module


@contextmanager
def _importable(folder: Path) -> Generator[None]:
    where = str(folder.resolve())
    sys.path.insert(0, where)
    try:
        yield
    finally:
        if where in sys.path:
            sys.path.remove(where)


def _said(error: BaseException, path: Path) -> str:
    """What has gone wrong in an import, in one line; file and line first."""
    if isinstance(error, SyntaxError):
        line = f":{error.lineno}" if error.lineno else ""
        return f"{error.filename or path}{line}: {type(error).__name__}: {error.msg}"
    line = _line(error.__traceback__, str(path))
    if not line and isinstance(error, OSError) and error.filename == str(path):
        return f"{path}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, ConfigError):
        return f"{path}{line}: {text}"
    return f"{path}{line}: {type(error).__name__}{': ' if text else ''}{text}"


def _line(traceback: TracebackType | None, path: str) -> str:
    """Where in the file it happened, or what there led to it."""
    lines = [frame.lineno for frame in extract_tb(traceback) if frame.filename == path]
    return f":{lines[-1]}" if lines else ""


def _place(test: Test, path: Path) -> str:
    code: Any = getattr(test.function, "__code__", None)
    return str(path) if code is None else f"{code.co_filename}:{code.co_firstlineno}"
