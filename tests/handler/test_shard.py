"""What becomes a shard: whose extras, which attributes, the message, by value."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from benchmarks.torture_values import HOSTILE
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import path_text
from shardlog.handler.shard import Shard, ShardReader
from shardlog.handler.words import count, erase
from tests.handler.reading import READER, log, written


def test_extra_is_a_shard_at_the_root() -> None:
    """Dicts are paths, other values leaves; the formatted message is the blade's."""
    extra: dict[str, Any] = {"intents": {"42": {"host": "scraper-1", 1: {}}}, "load": 0.5}

    assert log(extra, "asked %d", 42) == Shard(
        7,
        [
            ("blade/msg", "asked 42"),
            ("intents/42/host", "scraper-1"),
            ("intents/42/\\i1", {}),
            ("load", 0.5),
        ],
        [],
        [],
        {},
        112,
    )


def test_count_and_erase_are_no_values() -> None:
    """Counts and erases go their own ways."""
    shard = log({"a": {"n": count(2), "s": count(0.5), "old": erase}, "b": erase})

    assert shard.counts == [("a/n", 2), ("a/s", (0, 500_000_000, 0, 0))]
    assert shard.erases == ["a/old", "b"]
    assert written(shard) == {}


def test_shard_is_taken_by_value() -> None:
    """What the caller changes after the call does not show."""
    extra: dict[str, Any] = {"a": {"list": [1, [2]], "bytes": bytearray(b"x")}}
    shard = log(extra)
    extra["a"]["list"][1].append(3)
    extra["a"]["bytes"].extend(b"y")
    extra["a"]["more"] = 1

    assert written(shard) == {"a/list": [1, [2]], "a/bytes": b"x"}


def test_record_is_left_as_it_was() -> None:
    """Other handlers find the record unchanged."""
    record = logging.makeLogRecord({"msg": "m %s", "args": ("a",), "a": {"b": [1]}})
    before = dict(record.__dict__)
    READER.read(record, 1)

    assert record.__dict__ == before


def test_formatter_of_another_handler_adds_nothing() -> None:
    """`message` and `asctime`, which formatters put into a record, are no extras."""
    record = logging.makeLogRecord({"msg": "m"})
    logging.Formatter("%(asctime)s %(message)s").format(record)

    assert READER.read(record, 1).writes == [("blade/msg", "m")]


def test_record_factory_adds_nothing() -> None:
    """What the application's record factory gives to each record is no extra."""

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        record.__dict__["request"] = "none"
        return record

    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        shard = log({"a": 1}, reader=ShardReader("blade"))
    finally:
        logging.setLogRecordFactory(before)

    assert written(shard) == {"a": 1}


@pytest.mark.parametrize(
    ("logger", "is_taken"),
    [
        ("app", True),
        ("app.part", True),
        ("application", False),
        ("lib", True),
        ("urllib3", False),
        ("root", False),
    ],
)
def test_scope_covers_the_named_loggers_and_their_children(logger: str, is_taken: bool) -> None:
    """From other loggers only the message counts, and what `shard` says."""
    reader = ShardReader("blade", ["app", "lib"])
    shard = log({"a": 1, "shard": {"name": 2}}, logger=logger, reader=reader)

    assert ("a" in written(shard)) is is_taken
    assert written(shard)["name"] == 2
    assert shard.writes[0] == ("blade/msg", "said")
    assert shard.refused == {}


@pytest.mark.parametrize("loggers", [None, ["root"], ["x", ""]])
def test_root_logger_covers_all(loggers: list[str] | None) -> None:
    """All loggers are children of the root logger."""
    assert written(log({"a": 1}, logger="y", reader=ShardReader("blade", loggers))) == {"a": 1}


def test_one_name_is_a_sequence_of_one() -> None:
    """In a configuration file the brackets are easily forgotten."""
    assert written(log({"a": 1}, reader=ShardReader("blade", "app"))) == {"a": 1}
    assert written(log({"a": 1}, reader=ShardReader("blade", "p"))) == {}


def test_no_loggers_are_none() -> None:
    """An empty list names nobody."""
    assert written(log({"a": 1}, reader=ShardReader("blade", []))) == {}


def test_shard_is_merged_at_the_root() -> None:
    """It reaches keys that a LogRecord reserves, and goes beside other extras."""
    shard = log({"a": 1, "shard": {"name": {"first": 1}, "args": [2], "n": count()}})

    assert written(shard) == {"a": 1, "name/first": 1, "args": [2]}
    assert shard.counts == [("n", 1)]


@pytest.mark.parametrize("value", [None, 5, "text", [1], object(), erase, count()])
def test_shard_that_is_no_dict_is_refused(value: Any) -> None:
    """There is no place for it."""
    shard = log({"a": 1, "shard": value})

    assert written(shard) == {"a": 1}
    assert shard.refused["shard"][0] == 1


@pytest.mark.parametrize("extra", [{"shardlog": 1}, {"shard": {"shardlog": {"x": 1}}}])
def test_root_key_shardlog_is_reserved(extra: dict[str, Any]) -> None:
    """What shardlog keeps in the state is its own; elsewhere the key is like others."""
    shard = log({**extra, "a": {"shardlog": 2}})

    assert written(shard) == {"a/shardlog": 2}
    assert shard.refused["reserved"][0] == 1
    again = log({**extra, "a": 1})
    assert again.refused["reserved"][0] == 1


OPEN: dict[str, Any] = {"live": {"answered": {"intents/7": {"verdict": "fail"}}}}


def test_below_shardlog_only_live_and_errors_are_open() -> None:
    """Whoever tests may publish; everything else there is refused leaf by leaf, and counted."""
    own = {"presence": {"b": 1}, "health": {"x": count(2), "y": erase}, "live": OPEN["live"]}
    shard = log({"shardlog": own, "a": 1})

    assert written(shard) == {"shardlog/live/answered/intents\\/7/verdict": "fail", "a": 1}
    assert (shard.counts, shard.erases) == ([], [])
    assert shard.refused["reserved"][0] == 3
    shard = log({"shard": {"shardlog": {"errors": {"E7": {"n": count(), "old": erase}}}}})
    assert shard.counts == [("shardlog/errors/E7/n", 1)]
    assert shard.erases == ["shardlog/errors/E7/old"]
    assert shard.refused == {}


@pytest.mark.parametrize("value", [1, {}, erase, count()])
@pytest.mark.parametrize("key", ["live", "errors"])
def test_what_is_open_is_not_hidden_as_a_whole(key: str, value: Any) -> None:
    """A value or an erase at `shardlog/live` itself would take the words of all others away."""
    shard = log({"shardlog": {key: value}, "a": 1})

    assert written(shard) == {"a": 1}
    assert (shard.counts, shard.erases) == ([], [])
    assert shard.refused["reserved"][0] == 1


@pytest.mark.parametrize(
    ("msg", "args", "expected"),
    [
        ("%d items", ("many",), "<unformattable: '%d items'>"),
        ("%s %s", (1,), "<unformattable: '%s %s'>"),
        (HOSTILE["repr that raises"]()["value"], (), "<unformattable: '<"),
    ],
)
def test_message_that_cannot_be_formatted_is_marked(
    msg: object, args: tuple[object, ...], expected: str
) -> None:
    """The template shows which call it was; the extras are taken all the same."""
    shard = log({"a": 1}, msg, *args)

    assert str(shard.writes[0][1]).startswith(expected)
    assert written(shard) == {"a": 1}
    assert shard.refused["message"][0] == 1


def test_message_is_cut_and_whole() -> None:
    """The message is a value like others."""
    assert len(str(log(None, "x" * 100_000).writes[0][1]).encode()) <= 64 << 10
    assert log(None, "a\ud800").writes[0][1] == "a\ufffd"
    assert log(None, object).refused == {}


@pytest.mark.parametrize("blade", ["", "~", "shardlog", "b" * 257, 5])
def test_impossible_name_of_a_blade_is_refused(blade: Any) -> None:
    """Configuration is where one may raise."""
    with pytest.raises(ConfigError):
        ShardReader(blade)


def test_name_of_a_blade_is_one_key() -> None:
    """Also if it looks like a path."""
    assert log(None, reader=ShardReader("a/b")).writes == [("a\\/b/msg", "said")]


def test_path_of_the_message_is_canonical() -> None:
    """The blade's path is made by the one escaping rule."""
    assert log(None, reader=ShardReader("*")).writes[0][0] == path_text(("*", "msg"))
