"""`python -m tests.simulation`: many schedules, for so long; or one, and its story.

What was run is noted in benchmarks/results/simulation-CODE.json, where CODE is a hash of what is
simulated and of the simulator: the next run of the same code goes on behind it, whatever else has
changed. The first violation ends the run; its schedule is shrunk and told.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import platform
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import RESULTS, ROOT, about
from tests.simulation.generate import generate
from tests.simulation.runner import run
from tests.simulation.shrink import shrink
from tests.simulation.story import literal, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS_PER_CHUNK = 200
REPORT_SECONDS = 10


@dataclass
class Tally:
    """What came of so many schedules."""

    schedules: int = 0
    steps: int = 0
    happened: Counter[str] = field(default_factory=Counter[str])
    violation: tuple[int, str] | None = None

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.happened += other.happened
        self.violation = self.violation or other.violation


def run_chunk(seeds: range) -> tuple[range, Tally]:
    """Run the schedules of these seeds, up to the first violation."""
    gc.disable()  # once behind each chunk is enough
    tally = Tally()
    for seed in seeds:
        schedule = generate(seed)
        outcome = run(schedule)
        tally.schedules += 1
        tally.steps += len(schedule.steps)
        tally.happened += outcome.happened
        if outcome.violation is not None:
            tally.violation = (seed, outcome.violation)
            break
    gc.collect()
    return seeds, tally


class Results:
    """The result file of one version of the code."""

    def __init__(self) -> None:
        self.commit = about()["commit"]
        self.path = RESULTS / f"simulation-{_code()}.json"
        self.seconds = 0.0
        self.ranges: list[list[int]] = []
        self.tally = Tally()
        if self.path.exists():
            said = json.loads(self.path.read_text(encoding="utf-8"))
            self.seconds = said["seconds"]
            self.ranges = said["seeds"]
            self.tally = Tally(said["schedules"], said["steps"], Counter(said["happened"]))

    def add(self, seeds: range, tally: Tally) -> None:
        """Note a chunk."""
        self.tally.add(tally)
        self.ranges.append([seeds.start, seeds.start + tally.schedules])
        merged: list[list[int]] = []
        for start, end in sorted(self.ranges):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        self.ranges = merged

    def save(self) -> None:
        """Write the file."""
        said: dict[str, Any] = {
            "code": self.path.stem.removeprefix("simulation-"),
            "commit": self.commit,
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
            "seeds": self.ranges,
            "schedules": self.tally.schedules,
            "steps": self.tally.steps,
            "seconds": round(self.seconds, 1),
            "violations": int(self.tally.violation is not None),
            "happened": dict(sorted(self.tally.happened.items())),
        }
        self.path.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def simulate(seeds: range, minutes: float, jobs: int) -> int:
    """Run these seeds, as far as the time goes; the exit code."""
    results = Results()
    before = results.seconds
    began = reported = time.monotonic()
    try:
        with multiprocessing.Pool(jobs) as pool:
            for chunk, tally in pool.imap_unordered(run_chunk, _chunks(seeds, results)):
                results.add(chunk, tally)
                now = time.monotonic()
                results.seconds = before + now - began
                if now - reported >= REPORT_SECONDS:
                    reported = now
                    results.save()
                    print(_progress(results), flush=True)
                if tally.violation is not None or now - began >= 60 * minutes:
                    break
            pool.terminate()
    except KeyboardInterrupt:
        print("interrupted")
    results.save()
    print(_progress(results))
    for what, times in sorted(results.tally.happened.items()):
        print(f"{times:12}  {what}")
    if results.tally.violation is None:
        return 0
    seed, violation = results.tally.violation
    print(f"\nseed {seed}: {violation}\n\nshrunk:\n")
    tell_shrunk(seed)
    return 1


def tell_shrunk(seed: int) -> None:
    """The story of the shortest schedule that fails as the one of this seed does."""
    shrunk = shrink(generate(seed))
    print(tell(shrunk, run(shrunk)))
    print(f"\n{literal(shrunk)}")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for how long (10)")
    parser.add_argument("--seeds", default="0:1000000", help="FROM:TO (0:1000000)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    parser.add_argument("--seed", type=int, help="run this one alone, and tell its story")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        schedule = generate(arguments.seed)
        outcome = run(schedule)
        print(tell(schedule, outcome))
        if outcome.violation is None:
            return 0
        print("\nshrunk:\n")
        tell_shrunk(arguments.seed)
        return 1
    start, _, end = arguments.seeds.partition(":")
    return simulate(range(int(start), int(end)), arguments.minutes, arguments.jobs)


def _chunks(seeds: range, results: Results) -> Iterator[range]:
    """The seeds that were not run yet."""
    done = [range(*pair) for pair in results.ranges]
    start = seeds.start
    while start < seeds.stop:
        inside = next((r for r in done if start in r), None)
        if inside is not None:
            start = inside.stop
            continue
        following = [r.start for r in done if r.start > start]
        end = min([start + SEEDS_PER_CHUNK, seeds.stop, *following])
        yield range(start, end)
        start = end


def _progress(results: Results) -> str:
    tally = results.tally
    per_second = tally.schedules / results.seconds if results.seconds else 0.0
    return (
        f"{tally.schedules} schedules, {tally.steps} steps, {results.seconds:.0f} s, "
        f"{per_second:.0f} schedules/s, {int(tally.violation is not None)} violations"
    )


def _code() -> str:
    """A hash of the project's modules that are loaded, but for those that keep the results."""
    paths = (getattr(module, "__file__", None) for module in [*sys.modules.values()])
    files = {Path(path).resolve() for path in paths if path}
    sha = hashlib.blake2b(digest_size=5)
    for name in sorted(file.relative_to(ROOT) for file in files if file.is_relative_to(ROOT)):
        if name.parts[0] not in (".venv", "benchmarks"):
            sha.update(f"{name}\n".encode() + (ROOT / name).read_bytes())
    return sha.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
