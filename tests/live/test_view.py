"""What a predicate sees, and that it is judged anew whenever that changes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardlog.crdt.delta import COUNTER, ERASED, FORGOTTEN, REGISTER
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import Key, path_text
from shardlog.crdt.replication.messages import Changes, Row
from shardlog.crdt.sketch import bucket
from shardlog.crdt.sketch import number as number_of
from shardlog.monitor.feed import Moved, Whole
from shardlog.monitor.live.properties import always, eventually, sometimes
from shardlog.monitor.live.view import (
    Glance,
    Live,
    Node,
    ReadOnly,
    Undefined,
    key_of,
    path_of,
    plain,
    said_by,
    total,
)
from shardlog.monitor.live.world import World
from tests.live.run import WRITERS, Run, ns

if TYPE_CHECKING:
    from shardlog.crdt.delta import Value

Ask = Callable[[Any], object]


def seen(**values: Any) -> Live:
    """A state of registers, and of counters where the name begins with `n_`; `__` is a slash."""
    rows = [
        Row(path, COUNTER if "n_" in path else REGISTER, value, ns(1), -1 if "n_" in path else 0)
        for name, value in values.items()
        for path in [name.replace("__", "/")]
    ]
    world: World[Any] = World()
    world.apply(Changes(WRITERS, rows))
    glance = Glance(world)
    glance.begin(ns(1))
    return Live(world.root, glance)


def glance_of(live: Node) -> Glance:
    """What was looked at."""
    return live._glance  # pyright: ignore[reportPrivateUsage]


def test_what_is_absent_equals_nothing_contains_nothing_and_is_false() -> None:
    """Not even another absent one, or itself, or None."""
    live = seen(a=1)
    assert not live.x
    assert live.x != live.x
    assert live.x != live.y
    assert live.x != None  # noqa: E711
    assert live.x != {}
    assert "a" not in live.x
    assert [*live.x] == []
    assert len(live.x) == 0
    assert not live.x.y.z
    assert repr(live.x.y) == "<nothing at x/y>"


NO_ANSWER: list[Ask] = [
    lambda x: x < 1,
    lambda x: x > 1,
    lambda x: x >= x,
    lambda x: x + 1,
    lambda x: 1 - x,
    lambda x: x * 2,
    lambda x: 1 / x,
    lambda x: x // 2,
    lambda x: x % 2,
    lambda x: 2**x,
    lambda x: x**2,
    lambda x: divmod(x, 2),
    lambda x: -x,
    lambda x: abs(x),
    lambda x: float(x),
    lambda x: int(x),
    lambda x: round(x),
    lambda x: sum([x, x]),
    lambda x: max(1, x),
    lambda x: x.rate(60),
]


@pytest.mark.parametrize("ask", NO_ANSWER)
def test_to_order_what_is_absent_or_calculate_with_it_has_no_answer(ask: Ask) -> None:
    """The predicate as a whole has none; the message says what is absent."""
    with pytest.raises(Undefined, match=r"^x"):
        ask(seen(a=1).x)


def test_an_absent_key_has_no_answer_and_is_in_nothing() -> None:
    """As with `i.resolution[i.host]` before there is a host."""
    live = seen(a__b=1)
    with pytest.raises(Undefined, match=r"^x$"):
        live.a[live.x]
    assert live.x not in live.a


def test_to_order_a_dict_or_calculate_with_it_is_a_mistake_that_is_said() -> None:
    """It is there, so waiting won't help."""
    live = seen(a__b=1)
    with pytest.raises(TypeError, match=r"^a is no number: there are keys below it$"):
        assert live.a > 1
    with pytest.raises(TypeError, match=r"^a/items is called, but nothing is there"):
        live.a.items()


@pytest.mark.parametrize("key", [None, 1.5, True, (1,), b"a"])
def test_what_is_no_key_is_in_nothing_and_to_look_there_is_a_mistake(key: Any) -> None:
    """A value can be anything, and be looked up; what can't be a path must not become a place."""
    live = seen(a__b=1)
    assert key not in live.a
    with pytest.raises(TypeError, match=r"no key"):
        live.a[key]
    assert {cell.path for cell in glance_of(live).world.cells()} == {"", "a", "a/b"}


def test_a_count_is_a_key_like_its_number() -> None:
    """It is no place of its own."""
    live = seen(n_page=3)
    assert not live.pages[live.n_page]
    assert {type(cell.key) for cell in glance_of(live).cells} == {str, int}
    assert path_of(live.pages[live.n_page]) == r"pages/\i3"


def test_an_empty_dict_is_there_and_has_no_keys() -> None:
    """`{}` is a value that says that there is a dict."""
    live = seen(a={}, b={})
    assert live.a
    assert len(live.a) == 0
    assert live.a == {}
    assert live.a == live.b
    assert plain(live) == {"a": {}, "b": {}}


def test_dicts_are_equal_if_what_they_contain_is() -> None:
    """Wherever they are."""
    live = seen(wanted__x__y=1, got__x__y=1, other__x__y=2)
    assert live.wanted == live.got
    assert live.wanted != live.other
    assert live.wanted == {"x": {"y": 1}}


def test_lists_are_copies() -> None:
    """Also those within."""
    live = seen(a=[1, [2]])
    live.a.append(3)
    live.a[1].append(3)
    assert live.a == [1, [2]]


WRITES: list[Ask] = [
    lambda live: setattr(live, "a", 1),
    lambda live: setattr(live.a, "b", 1),
    lambda live: live.a.__setitem__("b", 1),
    lambda live: delattr(live, "a"),
    lambda live: live.__delitem__("a"),
    lambda live: setattr(live, "_cell", 1),
]


@pytest.mark.parametrize("write", WRITES)
def test_writing_is_refused(write: Ask) -> None:
    """The state is only looked at."""
    live = seen(a__b=1)
    with pytest.raises(ReadOnly, match="the state is not written here"):
        write(live)
    assert plain(live) == {"a": {"b": 1}}


def test_what_shardlog_keeps_itself_is_seen_only_by_name() -> None:
    """As by all who look at the root; and of forgotten records only their counts are added up."""
    live = seen(
        a=1,
        n_b=2,
        shardlog__live__x=1,
        shardlog__n_b=5,
        intents__42__n_t=3,
        **{"intents__~__n_t": 4},
    )
    assert {*live} == {"a", "n_b", "intents"}
    assert "live" in live.shardlog
    assert [*live.intents] == ["42"]
    assert total(live, "intents/*/n_t") == 7
    assert total(live, "*/n_b") == 0
    assert total(live.shardlog, "n_b") == 5


def test_int_keys_and_str_keys_are_two() -> None:
    """Attributes are str keys."""
    world: World[Any] = World()
    world.apply(
        Changes(WRITERS, [Row(r"a/\i1", REGISTER, "int", 5, 0), Row("a/1", 0, "str", 5, 0)])
    )
    live = Live(world.root, Glance(world))
    assert (live.a[1], live.a["1"]) == ("int", "str")
    assert {*live.a} == {1, "1"}
    assert 1 in live.a
    assert 2 not in live.a
    assert key_of(live.a[3]) == 3


def test_totals_are_exact_and_refuse_what_is_no_pattern() -> None:
    """Ints add up as ints; `**` is said to be not for here."""
    live = seen(a__x__n_t=3, a__y__n_t=4, a__z__t=100)
    assert total(live.a, "*/n_t") == 7
    assert total(live, "a/*/n_t") == 7
    assert total(live.a, "*/none") == 0
    assert total(live.a, "*/t") == 0
    with pytest.raises(ConfigError, match=r"\*\*"):
        total(live, "a/**")


def test_said_by_is_whose_word_a_value_is() -> None:
    """Of counters nobody is named; of what is absent neither, also if it was erased."""
    live = seen(a=1, n_b=2)
    assert said_by(live, "a") == "orchestrator"
    assert said_by(live, "n_b") is None
    assert said_by(live, "x") is None
    glance_of(live).world.apply(Changes(WRITERS, [Row("a", ERASED, None, ns(2), 1)]))
    assert said_by(live, "a") is None


def test_presence_is_the_best_of_a_blades_processes() -> None:
    """One that is up is up, whatever became of those before it."""
    live = seen(
        shardlog__presence__a__p1__status="lost",
        shardlog__presence__a__p2__status="up",
        shardlog__presence__b__p1__status="lost",
        shardlog__presence__b__p2__status="bye",
    )
    assert (live.presence("a"), live.presence("b"), live.presence("c")) == ("up", "bye", None)
    assert live.presence(live.nobody) is None
    assert live.blades == {"a"}


@pytest.mark.parametrize(
    ("said", "status", "is_there"),
    [
        ({"busy": ["index", 1, 2, False]}, "busy", True),
        ({"busy": ["index", 1, 2, True]}, "late", True),
        ({"silence": "late"}, "late", True),
        ({"silence": "silent"}, "silent", False),
        ({"silence": "stopped", "busy": ["index", 1, 2, False]}, "silent", False),
        ({"status": "lost", "silence": "silent", "busy": ["index", 1, 2, True]}, "lost", False),
    ],
)
def test_presence_is_what_blades_says(said: dict[str, Value], status: str, is_there: bool) -> None:
    """A blade at a long task is there; one that has been stopped is not."""
    record = {"status": "up", **said}
    live = seen(**{f"shardlog__presence__a__p__{key}": value for key, value in record.items()})
    assert live.presence("a") == status
    assert live.blades == ({"a"} if is_there else set())


def test_what_was_observed_is_asked_for_like_keys() -> None:
    """Where there are such keys it is these."""
    slow, fast = f"~{bucket(70)}", f"~{bucket(0.2)}"
    live = seen(**{f"n_a__{fast}": 98, f"n_a__{slow}": 2, "b__count": 7, f"b__n_{fast}": 1})
    said = live["n_a"]
    assert (said.count, said.p50, said.p90) == (100, number_of(bucket(0.2)), number_of(bucket(0.2)))
    assert (said.p99, said.max) == (number_of(bucket(70)), number_of(bucket(70)))
    assert live.b.count == 7
    assert not live.b.p50
    assert not live.nothing.count
    with pytest.raises(Undefined):
        bool(live.nothing.p99 > 1)


def test_counters_know_how_fast_they_grew() -> None:
    """By what was counted since somebody asked, also when nothing comes any more."""

    def busy(live: Any) -> Any:
        return always(lambda: live.n.rate(10) < 1, at="arrival")

    run = Run(("", busy)).begin().count(1, "n", 5)
    assert run.verdict("busy").name == "HOLDING"
    run.count(2, "n", 25)
    assert run.condition("busy").message.startswith("broken")


@pytest.mark.parametrize("at", ["cut", "arrival"])
def test_a_rate_falls_when_nothing_comes(at: str) -> None:
    """It is judged again when what was counted is as long ago as the rate is asked for."""

    def busy(live: Any) -> Any:
        slow = lambda: live.n.rate(10) > 0.1  # noqa: E731
        return always(slow, broken_for=2, at=at)  # type: ignore[arg-type]

    run = Run(("", busy)).begin()
    for second in range(1, 20):
        run.count(second, "n", 5 * second).hear(second)
    assert run.verdict("busy").name == "HOLDING"
    for second in range(20, 40):
        run.pass_time(second).hear(second)
    assert run.verdict("busy").name == "FAIL"


def test_no_samples_are_kept_of_what_nobody_asks_for() -> None:
    """A test that has ended leaves nothing behind."""

    def fast(i: Any, live: Any) -> Any:
        return eventually(lambda: i.n.rate(10) > 1, within=20)

    run = Run(("intents/*", fast)).begin()
    run.count(1, "intents/42/n", 1).count(2, "intents/42/n", 100)
    assert run.verdicts("fast[42]")[-1] == "pass"
    assert not glance_of(run.engine.live).samples


# What follows is the tracking: random predicates over random states.

KEYS: tuple[Key, ...] = ("a", "b", 1)
HOSTS = ("scraper-1", "spotter-1")
Look = tuple[str, tuple[Key, ...]]


def _looks(live: Live, what: str, keys: tuple[Key, ...]) -> object:
    node: Any = live
    for key in keys[:-1]:
        if not isinstance(node, Node):
            return node
        node = node[key]
    if not isinstance(node, Node):
        return node
    last = keys[-1]
    match what:
        case "value":
            value = node[last]
            return "a node" if isinstance(value, Node) else repr(value)  # its repr is no look
        case "is":
            return bool(node[last])
        case "in":
            return last in node
        case "keys":
            there = node[last]
            return {*there} if isinstance(there, Node) else there
        case "deep":
            return repr(sorted(map(repr, plain(node).items())))
        case "total":
            return total(node, "*/a")
        case "totals":
            return total(live, "*/*")
        case "said":
            return said_by(node, last)
        case "presence":
            return live.presence("scraper-1")
        case "blades":
            return live.blades
        case _:
            return node[last] < 3


def predicate(live: Live, looks: list[Look], bits: int) -> bool:
    """Some of the looks, each depending on the one before; true or false by what they saw."""
    said = 0
    for what, keys in looks:
        try:
            answer = _looks(live, what, keys)
        except TypeError as error:
            answer = str(error)
        if isinstance(answer, set):
            answer = sorted(map(repr, cast("set[object]", answer)))
        # What is seen first decides what is looked at next, as with `and` and `or`.
        said = said * 31 + sum(repr(answer).encode())
        if said % 3 == 2:
            break
    return bool(bits >> (said % 16) & 1)


PLACES = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(tuple)
PRESENCE = [
    f"shardlog/presence/{blade}/p{n}/{key}"
    for blade in HOSTS
    for n in (1, 2)
    for key in ("status", "status", "busy", "silence")
]
SAID: dict[str, list[Value]] = {
    "status": ["up", "lost", "bye"],
    "busy": [["index", 1, 2, False], ["index", 1, 2, True], 3],
    "silence": ["late", "silent", ""],
}
WHAT = ["value", "is", "in", "keys", "deep", "total", "totals", "said", "presence", "blades", "<"]
LOOKS = st.lists(st.tuples(st.sampled_from(WHAT), PLACES), min_size=1, max_size=4)
VALUES: list[Value] = [1, 5, "x", {}, [1]]


def _row(path: str, kind: Literal[0, 1, 2, 3], value: Value, writer: int) -> Row:
    if kind == COUNTER:
        value, writer = len(path) + writer, -1
    if path in PRESENCE and kind == REGISTER:
        value = SAID[path.rpartition("/")[2]][writer]
    return Row(path, kind, value if kind < ERASED else None, 0, writer)


ROWS = st.lists(
    st.builds(
        _row,
        st.one_of(PLACES.map(path_text), st.sampled_from(PRESENCE)),
        st.sampled_from([REGISTER, REGISTER, COUNTER, ERASED, FORGOTTEN]),
        st.sampled_from(VALUES),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=600)
@given(
    st.lists(st.tuples(LOOKS, st.integers(0, 2**16 - 1)), min_size=1, max_size=3),
    st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=10),
)
def test_the_answer_that_is_kept_is_the_answer_there_is(
    predicates: list[tuple[list[Look], int]], deltas: list[tuple[list[Row], bool]]
) -> None:
    """No change that matters is missed: after each delta nobody would say anything else."""
    answers: dict[int, bool | None] = {}

    def asks(live: Any) -> Any:
        for at in range(len(predicates)):
            yield sometimes(partial(remember, at, live), "never seen")

    def remember(at: int, live: Live) -> bool:
        looks, bits = predicates[at]
        answers[at] = None
        answers[at] = predicate(live, looks, bits)
        return False

    run = Run(("", asks)).begin()
    for number, (rows, is_whole) in enumerate(deltas, 1):
        stamped = [restamp(row, ns(number)) for row in rows]
        changes = Changes(WRITERS, stamped)
        run.happens(Whole(ns(number), (changes,)) if is_whole else Moved(ns(number), changes))
        glance = Glance(run.engine.world)
        glance.begin(ns(number))
        live = Live(run.engine.world.root, glance)
        for at, (looks, bits) in enumerate(predicates):
            try:
                fresh: bool | None = predicate(live, looks, bits)
            except Undefined:
                fresh = None
            assert answers[at] == fresh, (at, looks)


def restamp(row: Row, stamp: int) -> Row:
    """The same, written then."""
    return Row(row.path, row.kind, row.value, stamp, row.writer)


def test_who_adds_up_is_judged_again_when_a_count_grows() -> None:
    """No key comes or goes then."""

    def enough(live: Any) -> Any:
        return eventually(lambda: total(live, "a/*/n") >= 5, within=20)

    run = Run(("", enough)).begin().count(1, "a/x/n", 2).count(2, "a/y/n", 1).count(3, "a/x/n", 4)
    assert run.verdict("enough").name == "PASS"
