"""Plausible mistakes in the pure core, each of which the room's own checks must find.

A mutant is a module with one piece of its text replaced. Whoever changes that piece of text mends
the entry here too: a mutant that cannot be made fails.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from shardlog.crdt.errors import LocalProtocolError
from shardlog.crdt.replication.follower import Follower
from tests.crdt.fragments import streams
from tests.crdt.lossy_stream import swarm
from tests.crdt.owners import dealings, sayings
from tests.crdt.test_counter import check_marks, shuffled_reports
from tests.crdt.test_entry import check_owner, histories
from tests.crdt.test_lww_map import check_order, shuffled_histories
from tests.crdt.test_parts import check_dealings, check_what_is_named
from tests.crdt.test_state import check_deliveries, check_snapshot, check_views, deliveries, takings

T = TypeVar("T")


class Mutant(NamedTuple):
    """What is replaced by what, and what the mistake is."""

    mistake: str
    text: str
    replacement: str


MAP = [
    Mutant(
        "the tie by writer is ignored",
        "(stamp == old.stamp and writer <= old.writer)",
        "stamp == old.stamp",
    ),
    Mutant(
        "the tie by writer is ignored by floors",
        "if leaf is not None and leaf.mark <= mark:",
        "if leaf is not None and leaf.stamp <= mark[0]:",
    ),
    Mutant(
        "an older scalar below a newer `{}` leaves no floor",
        "return [] if is_old else self.join_floor(path, Floor(stamp, writer))",
        "return []",
    ),
    Mutant(
        "a scalar under a newer `{}` leaves no floor",
        "self.floors[path] = Floor(old.stamp, old.writer)",
        "pass",
    ),
    Mutant(
        "`{}` is hidden by what is below it",
        "not (leaf.is_scalar and path in self.odd)",
        "path not in self.odd",
    ),
    Mutant(
        "visibility is decided by what is visible",
        "not (leaf.is_scalar and path in self.odd)",
        "not (leaf.is_scalar and any(map(self.is_visible, self.index.below(path))))",
    ),
    Mutant(
        "a hidden scalar is dropped, and its floor with it",
        "        touched = [path, *above]\n",
        """        touched = [path, *above]
        for p in touched[1:]:
            if self.leaves[p].is_scalar:
                self._pop_leaf(p)
                self._remove(p)
""",
    ),
    Mutant(
        "an erase takes a newer `{}` along",
        "elif leaf is not None and leaf.mark < mark:",
        "elif leaf is not None:",
    ),
    Mutant(
        "a late write passes the floor at its own path",
        "(floor is not None and floor > mark) or above is None",
        "above is None",
    ),
    Mutant(
        "a late write passes the scalars above it",
        "if leaf.is_scalar and leaf.mark >= mark:\n                    return None",
        "if False:\n                    return None",
    ),
    Mutant(
        "a late write passes the floors above it",
        "if floor is not None and floor >= mark:\n                return None",
        "if False:\n                return None",
    ),
    Mutant(
        "a scalar hides nothing older below it",
        "                touched += self._drop_below(path, mark)",
        "                pass",
    ),
]

VERSIONS = [
    Mutant(
        "a late fragment takes the version back", "if fragment.to_version <= known:", "if False:"
    ),
    Mutant("a gap is passed over", "if fragment.from_version > known:", "if False:"),
]

STATE = [
    Mutant(
        "entries add up instead of replacing one another",
        "        part.entries[path] = entry\n",
        "        old = part.entries[path].amount if path in part.entries else 0\n"
        "        amount = counter.add(old, entry.amount)\n"
        "        part.entries[path] = Entry(path, entry.last, amount)\n",
    ),
    Mutant(
        "a counter's short cut passes over what it meets",
        "if path in entries and not mixed:",
        "if path in entries:",
    ),
    Mutant(
        "an erase below a counter is no meeting",
        "self._mixed = any(p in self.counting for p in ancestors(path))",
        "pass",
    ),
    Mutant(
        "a register below a counter is no meeting",
        "            or any(p in self.counting for p in ancestors(path))\n",
        "",
    ),
    Mutant(
        "ties go to the counter",
        "if leaf is not None and leaf.stamp >= last:",
        "if leaf is not None and leaf.stamp > last:",
    ),
    Mutant(
        "ties go to the counter above",
        "if any(self._last(p) > last for p in above):",
        "if any(self._last(p) >= last for p in above):",
    ),
    Mutant(
        "a counter hides `{}` above it",
        "if leaf.is_scalar and self._last_below(path)",
        "if self._last_below(path)",
    ),
    Mutant(
        "hidden entries count",
        "if entry.last > floor and is_counted(entry):",
        "if is_counted(entry):",
    ),
    Mutant(
        "what is erased counts on",
        "total = counter.add(total, difference(entry))",
        "total = counter.add(total, entry.amount)",
    ),
    Mutant(
        "what is erased hides others still",
        "for entry in entries if is_counted(entry)",
        "for entry in entries",
    ),
    Mutant(
        "an erase does not name the counters below it",
        "            self._touch(path, touched)\n"
        "            self._touched.update(dict.fromkeys(self._counted.below(path), 0))\n",
        "            self._touch(path, touched)\n",
    ),
    Mutant(
        "what is above is not named",
        "for p in ancestors(path):\n            if p in leaves or p in counting:",
        "for p in ():\n            if p in leaves or p in counting:",
    ),
]

SNAPSHOT = [
    Mutant(
        "what others hold below is not met by a part that is new",
        "elif over in shared and self.is_held_below(top):",
        "elif False:",
    ),
    Mutant(
        "what others hold above is not met by a part that is new",
        "if over in met or self.map.holds(top) or top in self.counting:",
        "if over in met or top in self.counting:",
    ),
    Mutant(
        "floors stay at home",
        "take(paths, 0, part.map.leaves, part.map.floors, {})",
        "take(paths, 0, part.map.leaves, {}, {})",
    ),
    Mutant(
        "the entries of others are taken along",
        "take(paths, 0, {}, {}, part.entries)",
        "take(paths, 0, {}, {}, {p: self._entries(p)[0] for p in paths})",
    ),
    Mutant(
        "a chunk begins behind what did not fit into the one before it",
        "following = kind + paths[taken - 1]",
        "following = kind + paths[taken if taken < len(paths) else -1]",
    ),
    Mutant(
        "a chunk that ends with the registers is the last",
        "    if kind != _COUNTERS:\n",
        "    if kind != _COUNTERS and after:\n        return\n    if kind != _COUNTERS:\n",
    ),
]

PART = [
    Mutant(
        "what others hold where a row is lost stays away",
        "rejoined = self._rejoin(path)",
        "rejoined = list[str]()",
    ),
    Mutant(
        "what a lost floor had dominated stays away",
        "for below in self._held.below(path):",
        "for below in list[str]():",
    ),
    Mutant(
        "a lost scalar is taken for a `{}`",
        "joined.floor_at(path))",
        'joined.floors.get(path, (0, "")))',
    ),
    Mutant(
        "what is below the second of two floors that are lost is passed over",
        "and not (lowered and is_within(path, lowered[-1])):",
        "and not lowered:",
    ),
    Mutant(
        "what a part has lost stays in the join",
        "                dropped = self.joined.drop(path, marks)\n",
        "",
    ),
    Mutant(
        "a part takes in only what is news to all",
        "        is_known = path in own.leaves\n",
        "        is_known = path in own.leaves\n"
        "        if not self.joined.join_leaf(path, leaf):\n"
        "            return []\n",
    ),
    Mutant(
        "it is not noted that a part has lost what a floor dominates",
        "        self._note(part, news)\n        return self.joined.join_floor(path, floor)",
        "        self._note(part, [path])\n        return self.joined.join_floor(path, floor)",
    ),
    Mutant(
        "the first who leaves a path takes the others along",
        "elif holders == part.alone:",
        "elif replica in holders:",
    ),
    Mutant(
        "a scalar above what is lost is not named",
        "(path, *(p for p in ancestors(path) if p in self.joined.leaves), *rejoined)",
        "(path, *rejoined)",
    ),
    Mutant(
        "floors do not come back",
        "touched += self.joined.join_floor(path, floor)",
        "pass",
    ),
    Mutant(
        "the first part goes on being the join",
        "part.map = self.joined.copy()",
        "part.map = self.joined",
    ),
]

PRODUCT = [
    Mutant(
        "what a snapshot does not restate stays",
        "lost[path] = [mark]",
        "pass",
    ),
    Mutant(
        "an old floor stays where a snapshot restates `{}`",
        "lost.setdefault(path, []).append(floor)",
        "pass",
    ),
    Mutant(
        "entries that a snapshot lacks stay",
        "[path for path in part.counted if path not in entries]",
        "[]",
    ),
    Mutant(
        "an older snapshot takes the replica back",
        "if version < self.versions.get(replica, 0):",
        "if False:",
    ),
    Mutant(
        "all that a replica has is forgotten, however new",
        "for mark in part.map.marks(path) if mark[0] <= cut]",
        "for mark in part.map.marks(path)]",
    ),
    Mutant(
        "what others have is forgotten too",
        "part.map.marks(path) if mark[0] <= cut]",
        "self.map.marks(path) if mark[0] <= cut]",
    ),
    Mutant(
        "the short cut is taken where another's value shows",
        "                and old.replica is replica\n",
        "",
    ),
    Mutant(
        "the short cut passes over what is below",
        "                and path not in odd\n",
        "",
    ),
    Mutant(
        "the counters that a lost floor had hidden are not named",
        "for path in lowered:",
        "for path in list[str]():",
    ),
    Mutant(
        "what comes back meets no counter",
        "if not self._mixed and self.counting and self.map.holds(path):",
        "if False:",
    ),
]

OWNER = [
    Mutant(
        "an owner's short cut passes over what is below",
        "            and path not in self.map.odd\n",
        "",
    ),
    Mutant(
        "an owner's short cut passes over counters",
        "            and not self._mixed\n        ):\n            part.map",
        "        ):\n            part.map",
    ),
    Mutant(
        "an owner's short cut takes `{}` for a scalar",
        "            and type(value) is not dict\n            and path not in self.map",
        "            and path not in self.map",
    ),
]

MARKS = [
    Mutant(
        "a late total is dropped, whatever it has",
        "more = excess(total, self.amount)",
        "more = excess(total, self.amount) if total != self.amount else total",
    ),
    Mutant(
        "an older generation counts again",
        "            return self, 0\n",
        "            return self, total\n",
    ),
    Mutant(
        "an older generation takes the mark back", "if generation < self.generation:", "if False:"
    ),
    Mutant(
        "a new generation goes on from the old",
        "return Mark(_shared(generation), total), total",
        "return Mark(_shared(generation), total), excess(total, self.amount)",
    ),
]

ENTRY = [
    Mutant("a reset without a reset stamp", "reset=floor,", "reset=entry.reset,"),
    Mutant(
        "base taken from after",
        "    return Entry(entry.path, last, amount, entry.base, entry.reset, born)",
        "    base = entry.base if is_counted(entry) or not entry.reset else amount\n"
        "    return Entry(entry.path, last, amount, base, entry.reset, born)",
    ),
    Mutant("what is newer than the floor goes too", "entry.born > floor or", "False or"),
    Mutant(
        "what was counted before the floor shows behind it",
        "    if last <= floor:",
        "    if False:",
    ),
    Mutant(
        "an erased entry keeps its first stamp",
        "        born = min(entry.born, born)\n",
        "        pass\n    born = min(entry.born, born)\n",
    ),
]

FOLLOWER = [
    Mutant(
        "a gap is passed over",
        "elif delta.sequence == self._known[delta.lane] + 1:",
        "elif delta.sequence > self._known[delta.lane]:",
    ),
    Mutant("a lost tail is not noticed", 'if self.phase == "live" and any(', "if False and any("),
    Mutant("a new epoch is passed over", "or message.epoch != self._epoch:", "or False:"),
    Mutant(
        "what was buffered before an epoch is kept",
        "            self._buffer.clear()\n            self._retry_ms",
        "            self._retry_ms",
    ),
    Mutant(
        "a hole in the buffer is passed over",
        """                self._sync(now_ns)
                return
        if any(""",
        """                known[delta.lane] = delta.sequence
                behind.append(delta)
        if any(""",
    ),
    Mutant(
        "the deltas up to the last chunk are not awaited",
        "if any(known[lane] < self._chunks[-1].sequences[lane] for lane in self._lanes):",
        "if False:",
    ),
    Mutant(
        "the snapshot is taken to be that of its last chunk",
        "known = {lane: self._chunks[0].sequences[lane] for lane in self._lanes}",
        "known = {lane: self._chunks[-1].sequences[lane] for lane in self._lanes}",
    ),
    Mutant(
        "what did not come is not asked for again",
        "if now_ns < self._retry_ns:",
        "if True:",
    ),
    Mutant(
        "lost deltas behind a snapshot are awaited for ever",
        "            self._sync(now_ns)\n        else:\n",
        "            pass\n        else:\n",
    ),
]


def mutated(module: str, mutant: Mutant) -> ModuleType:
    """The module with the mistake in it."""
    source = inspect.getsource(importlib.import_module(module))
    assert source.count(mutant.text) == 1, f"{module} has changed: {mutant.mistake}"
    result = ModuleType(f"{module}_mutated")
    exec(
        compile(source.replace(mutant.text, mutant.replacement), f"<{module}>", "exec"),
        vars(result),
    )
    return result


def is_killed(strategy: st.SearchStrategy[T], check: Callable[[T], None]) -> bool:
    """Whether any of a thousand examples fails."""

    @settings(
        max_examples=1000,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        derandomize=True,
        database=None,
    )
    @given(strategy)
    def run(case: T) -> None:
        check(case)

    try:
        run()
    except (AssertionError, KeyError, ValueError, LocalProtocolError):
        return True
    return False


@pytest.mark.parametrize("mutant", MAP, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_map_is_found(mutant: Mutant) -> None:
    """By any order against the sequential oracle."""
    map_class = mutated("shardlog.crdt.lww_map", mutant).LwwMap

    assert is_killed(shuffled_histories(), lambda case: check_order(*case, map_class))


@pytest.mark.parametrize("mutant", STATE, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_state_is_found(mutant: Mutant) -> None:
    """By brute force over the rules."""
    state_class = mutated("shardlog.crdt.state", mutant).State

    assert is_killed(streams(), lambda fragments: check_views(fragments, state_class))


@pytest.mark.parametrize("mutant", VERSIONS, ids=lambda mutant: mutant.mistake)
def test_a_mistake_with_versions_is_found(mutant: Mutant) -> None:
    """By windows of versions that are old, overlap, or are too new."""
    state_class = mutated("shardlog.crdt.state", mutant).State

    assert is_killed(deliveries(), lambda case: check_deliveries(*case, state_class))


@pytest.mark.parametrize("mutant", SNAPSHOT, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_snapshot_is_found(mutant: Mutant) -> None:
    """By a snapshot and the deltas behind it against all deltas."""
    state_class = mutated("shardlog.crdt.state", mutant).State

    assert is_killed(takings(), lambda case: check_snapshot(*case, state_class))


def test_dealings_find_nothing_where_there_is_no_mistake() -> None:
    """Else what they find of a mutant would prove nothing."""
    assert not is_killed(dealings(), check_dealings)


@pytest.mark.parametrize("mutant", PART, ids=lambda mutant: mutant.mistake)
def test_a_mistake_with_parts_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """By followers who hear the same in their own ways, and are compared."""
    parts_class = mutated("shardlog.crdt.parts", mutant).Parts
    monkeypatch.setattr("shardlog.crdt.state.Parts", parts_class)

    assert is_killed(dealings(), check_dealings)


@pytest.mark.parametrize("mutant", PRODUCT, ids=lambda mutant: mutant.mistake)
def test_a_mistake_with_the_product_is_found(mutant: Mutant) -> None:
    """By the same."""
    state_class = mutated("shardlog.crdt.state", mutant).State

    assert is_killed(dealings(), lambda steps: check_dealings(steps, state_class))


@pytest.mark.parametrize("mutant", OWNER, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_owner_is_found(mutant: Mutant) -> None:
    """By what it names of what looks different, and by its own invariants."""
    state_class = mutated("shardlog.crdt.state", mutant).State

    assert is_killed(sayings(), lambda said: check_what_is_named(said, state_class))


@pytest.mark.parametrize("mutant", MARKS, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_mark_is_found(mutant: Mutant) -> None:
    """By what totals add in order and out of order."""
    mark = mutated("shardlog.crdt.counter", mutant).NEVER

    assert is_killed(shuffled_reports(), lambda case: check_marks(*case, mark))


@pytest.mark.parametrize("mutant", ENTRY, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_reset_is_found(mutant: Mutant) -> None:
    """By counts and floors in any order against a list of what is kept."""
    module = mutated("shardlog.crdt.entry", mutant)

    assert is_killed(histories(), lambda case: check_owner(case, module))


@pytest.mark.parametrize("mutant", FOLLOWER, ids=lambda mutant: mutant.mistake)
def test_a_mistaken_follower_is_found(mutant: Mutant) -> None:
    """By a swarm of faults: a hole, something twice, or never whole again."""
    follower_class = mutated("shardlog.crdt.replication.follower", mutant).Follower

    assert any(fails(seed, follower_class) for seed in range(400))


def fails(seed: int, follower_class: type[Follower]) -> bool:
    """Whether the swarm of this seed finds something wrong."""
    try:
        swarm(seed, follower_class)
    except (AssertionError, KeyError):
        return True
    return False
