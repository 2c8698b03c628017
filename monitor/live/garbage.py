"""Garbage collection for a process that keeps very many objects for long.

Python's collector looks at all objects again whenever their number has grown by a quarter, which
took two thirds of the time of judging at 100,000 live intents, and pauses of 100 ms. What has
survived a full collection is frozen here: it is still freed when nobody refers to it, but never
looked at again. Cycles among what is frozen are not found any more; an engine makes none.
"""

from __future__ import annotations

import gc
from typing import Any


def freeze_survivors() -> None:
    """From now on, in this process, whatever survives a full collection is not looked at again."""
    if _freeze not in gc.callbacks:
        gc.callbacks.append(_freeze)


def _freeze(phase: str, info: dict[str, Any]) -> None:
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()
