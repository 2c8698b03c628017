"""Files of live tests: what is found in them, and what is said if they can't be imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from shardlog.crdt.errors import ConfigError
from shardlog.monitor.live.loading import load

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "from shardlog.monitor.live import always, each, eventually, once\n"
GOOD = (
    HEAD
    + """
@each("intents/*")
def answered(intent, live):
    return eventually(lambda: intent.started, within=30)

@once
def spotter_is_there(live):
    always(lambda: live.presence("spotter") == "up")

def helper():
    pass
"""
)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def said(*paths: Path, only: str | None = None) -> str:
    """The error, which is one line."""
    with pytest.raises(ConfigError) as raised:
        load(paths, only)
    (line,) = str(raised.value).splitlines()
    return line


def test_marked_functions_are_tests_in_their_order(tmp_path: Path) -> None:
    """And no other function is."""
    tests = load([write(tmp_path, "good.py", GOOD)])

    assert [(test.name, test.pattern) for test in tests] == [
        ("answered", "intents/*"),
        ("spotter_is_there", ""),
    ]


def test_a_folder_is_its_files(tmp_path: Path) -> None:
    """Without what is private there, or pytest's."""
    write(tmp_path, "b.py", HEAD + "@once\ndef b(live): pass\n")
    write(tmp_path, "a.py", HEAD + "@once\ndef a(live): pass\n")
    write(tmp_path, "_shared.py", "1/0\n")
    write(tmp_path, "conftest.py", "1/0\n")

    assert [test.name for test in load([tmp_path])] == ["a", "b"]


def test_what_lies_beside_a_file_can_be_imported_by_it(tmp_path: Path) -> None:
    """Also a test, which is one test then; `sys.path` is afterwards as it was."""
    write(tmp_path, "_beside_the_tests.py", GOOD)
    one = write(tmp_path, "one.py", "from _beside_the_tests import answered\n")
    two = write(tmp_path, "two.py", "from _beside_the_tests import answered, spotter_is_there\n")
    before = [*sys.path]

    assert [test.name for test in load([one, two])] == ["answered", "spotter_is_there"]
    assert sys.path == before


def test_two_files_of_one_name_are_two(tmp_path: Path) -> None:
    """In two folders."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "tests.py", HEAD + f"@once\ndef {name}(live): pass\n")

    assert [test.name for test in load([tmp_path / "a", tmp_path / "b"])] == ["a", "b"]


def test_only_one_test_or_one_instance_of_it(tmp_path: Path) -> None:
    """By its name, or by what an instance is called."""
    path = write(tmp_path, "good.py", GOOD)

    (by_name,) = load([path], "answered")
    assert by_name.matches("intents/7")
    (by_label,) = load([path], "answered[42]")
    assert by_label.matches("intents/42")
    assert by_label.matches(r"intents/\i42")
    assert not by_label.matches("intents/43")
    assert by_label.name == "answered"


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("answer", "there is no test 'answer'; there are answered, spotter_is_there"),
        ("answered[42", "'answered[42': write it as answered[42]"),
        ("spotter_is_there[1]", "'spotter_is_there[1]': write it as spotter_is_there"),
    ],
)
def test_a_name_that_is_none(tmp_path: Path, only: str, says: str) -> None:
    """Is told, with the ones that there are."""
    assert said(write(tmp_path, "good.py", GOOD), only=only) == says


# A ValueError before Python 3.11.4.
NULL_ERROR = "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def f(:\n", ":1: SyntaxError: "),
        ("if True:\npass\n", ":2: IndentationError: expected an indented block"),
        ("x = '\0'\n", f": {NULL_ERROR}: source code string cannot contain null bytes"),
        ("\nimport no_such_module\n", ":2: ModuleNotFoundError: No module named 'no_such_module'"),
        ("from shardlog.crdt.path import nothing\n", ":1: ImportError: cannot import name"),
        ("\n\n1 / 0\n", ":3: ZeroDivisionError: division by zero"),
        ("def f():\n  raise OSError('a\\nb')\n\nf()\n", ":2: OSError: a b"),
        ("import sys\nsys.exit('enough')\n", ":2: SystemExit: enough"),
        ("class Skipped(BaseException): ...\nraise Skipped('x')\n", ":2: Skipped: x"),
        ("import json\njson.loads('?')\n", ":2: JSONDecodeError: Expecting value"),
        (HEAD + "@each\ndef f(i, live): pass\n", ":2: each: a pattern is missing"),
        (HEAD + "@each('a/**')\ndef f(i, live): pass\n", ":2: each('a/**'): a pattern"),
        (HEAD + "always(lambda: 1)\n", ":2: this is said in a function under @each or @once"),
        ("x = 1\n", ": no tests: no function there is under @each or @once"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, says: str) -> None:
    """File, line, what it is, and what it says."""
    path = write(tmp_path, "tests.py", text)

    assert said(path).startswith(f"{path}{says}")


def test_an_error_beside_a_file_is_said_where_it_is(tmp_path: Path) -> None:
    """A syntax error is in the file that has it, another one where the test file led to it."""
    write(tmp_path, "_with_a_bad_line.py", "def f(:\n")
    write(tmp_path, "_that_divides.py", "def f():\n  1 / 0\n")
    one = write(tmp_path, "one.py", "import _with_a_bad_line\n")
    two = write(tmp_path, "two.py", "import _that_divides\n\n_that_divides.f()\n")

    assert said(one).startswith(f"{tmp_path}/_with_a_bad_line.py:1: SyntaxError: ")
    assert said(two) == f"{two}:3: ZeroDivisionError: division by zero"


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    """Both places are said."""
    one = write(tmp_path, "one.py", GOOD)
    two = write(tmp_path, "two.py", GOOD)

    assert said(one, two).startswith(f"{two}:3: there is another answered, at {one}:3: ")


def test_what_may_not_be_looked_at(closed_folder: Path) -> None:
    """A file, or a folder, below one that may not be entered."""
    assert said(closed_folder / "tests") == f"{closed_folder}/tests: Permission denied"


def test_what_is_not_there(tmp_path: Path) -> None:
    """Neither a file, nor a test in a folder."""
    assert said(tmp_path / "none.py") == f"{tmp_path}/none.py: No such file or directory"
    assert said(tmp_path) == f"{tmp_path}: no tests: the folder has no *.py"
