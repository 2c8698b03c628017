"""The site's pages: what pydoc makes of the standard library, about 200 pages and 10 MB.

They are made once per version of Python, by two processes, and kept in the user's cache folder;
where that cannot be written, in the folder of the run.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import multiprocessing
import os
import pkgutil
import pydoc
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from shutil import rmtree

from shardlog.cli.demo.tied import die_with

LAYOUT = 1
"""Part of the cache folder's name: changes when the choice or the form of the pages does."""

# Importing these opens a browser, prints, runs a test suite, or needs a display and its libraries.
LEFT_OUT = frozenset({"antigravity", "idlelib", "test", "this", "tkinter", "turtle", "turtledemo"})

# Their modules are documented too, the rest of the site is top-level modules.
PACKAGES = ("email", "http", "importlib", "json", "logging", "unittest", "urllib", "xml")

Progress = Callable[[int, int], None]
"""Called with the number of modules done and the number of all."""


def module_names() -> list[str]:
    """The modules that get a page if they can be imported here, sorted."""
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")} - LEFT_OUT
    for package in PACKAGES:
        folder = getattr(importlib.import_module(package), "__path__", [])
        names.update(
            f"{package}.{module.name}"
            for module in pkgutil.iter_modules(folder)
            if not module.name.startswith("_")
        )
    return sorted(names)


def make_page(name: str) -> bytes | None:
    """The page of one module, None when it cannot be imported on this platform."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            module = importlib.import_module(name)
            writer = pydoc.HTMLDoc()
            text = writer.page(pydoc.describe(module), writer.document(module, name))
        except (Exception, SystemExit):  # a module of another platform fails in ways of its own
            return None
    return text.encode("utf-8", "replace")


def make_pages(folder: Path, progress: Progress, workers: int = 2) -> int:
    """Write `NAME.html` for every module into the folder; returns how many there are."""
    names = module_names()
    made = 0
    # Spawned, because a fork of a process with threads may hang, and with a clean environment,
    # because the page of `os` shows it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),)
    ) as pool:
        try:
            pages = pool.map(make_page, names, chunksize=4)
            for done, (name, page) in enumerate(zip(names, pages, strict=True), start=1):
                if page is not None:
                    (folder / f"{name}.html").write_bytes(page)
                    made += 1
                progress(done, len(names))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return made


def find_pages(spare: Path, progress: Progress) -> Path:
    """The folder with the pages: the cached one, or one made now.

    `spare` is a folder that can be written, for when the cache cannot.
    """
    name = f"pages-{sys.implementation.cache_tag}-{sys.version_info.micro}-{LAYOUT}"
    for parent in (cache_folder(), spare):
        if parent is None:
            continue
        folder = parent / name
        if folder.is_dir():
            return folder
        try:
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=parent))
        except OSError:
            continue
        try:
            make_pages(aside, progress)
            aside.chmod(0o755)
            with contextlib.suppress(OSError):  # another demo was faster: its pages do as well
                aside.rename(folder)
            if folder.is_dir():
                return folder
        except OSError:  # full, or a quota
            continue
        finally:
            rmtree(aside, ignore_errors=True)
    raise OSError(f"no room for the demo's pages in {spare}")


def cache_folder() -> Path | None:
    """Where this user's pages are kept between runs, None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(base or "~/.cache").expanduser() / "shardlog"
    except RuntimeError:
        return None


def names_of(folder: Path) -> list[str]:
    """The file names of the pages in a folder, sorted."""
    return sorted(file.name for file in folder.glob("*.html"))


def _start_worker(parent: int) -> None:
    """Prepare a process that makes pages: Ctrl-C is the parent's business, its death ours."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.clear()
