"""What all benchmarks do with their results: say where they were measured, show them, keep them."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Rows(NamedTuple):
    """A table: its title, its heads, and its rows."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def about() -> dict[str, str]:
    """Where and when, and of which commit."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{len(models)} x {models[0]}" if models else platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "commit": commit or "none",
    }


def goal(name: str, value: float | None, limit: str, *, met: bool) -> dict[str, Any]:
    """What was promised, what was measured, and whether that is as promised."""
    return {"goal": name, "value": value, "limit": limit, "met": met}


def goal_rows(title: str, goals: list[dict[str, Any]]) -> Rows:
    """The table of all goals."""
    rows = [
        [row["goal"], str(row["value"]), row["limit"], "met" if row["met"] else "MISSED"]
        for row in goals
    ]
    return Rows(title, ["goal", "measured", "limit", ""], rows)


def show(tables: list[Rows], where: dict[str, str], console: Console) -> None:
    """Print the tables."""
    for title, heads, rows in tables:
        table = Table(title=title, title_justify="left")
        for head in heads:
            table.add_column(head)
        for row in rows:
            bad = any(word in cell for cell in row for word in ("RAISES", "hangs", "MISSED"))
            table.add_row(*row, style="yellow" if bad else None)
        console.print(table)
    console.print("   ".join(f"{key}: {value}" for key, value in where.items()))


def keep(name: str, report: dict[str, Any], tables: list[Rows]) -> None:
    """Write a benchmark's results, for machines and for readers."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    where = ", ".join(f"{key} {value}" for key, value in report["about"].items())
    text = [f"# {name.capitalize()}", "", where]
    for title, heads, rows in tables:
        text += ["", f"## {title}", "", f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
        text += [f"| {' | '.join(row)} |" for row in rows]
    (RESULTS / f"{name}.md").write_text("\n".join(text) + "\n")
