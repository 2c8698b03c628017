"""Docstring examples run, under the names that users import."""

import doctest
import importlib

import pytest

from tests.architecture.tree import modules


@pytest.mark.parametrize("name", modules())
def test_module_imports_and_its_examples_hold(name: str) -> None:
    """Each module imports by itself, and each example in its docstrings prints what it says."""
    results = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert results.failed == 0
