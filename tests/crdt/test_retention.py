"""Which record a path belongs to, and how long it is kept."""

from __future__ import annotations

import pytest

from shardlog.crdt.config import Config, override, parse_config
from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import path_text
from shardlog.crdt.retention import FOREVER, Retention, collapsed, is_collapsed, parse_duration

HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)]
)
def test_durations(text: str, seconds: int) -> None:
    """A whole number and a unit."""
    assert parse_duration(text) == seconds * 10**9


@pytest.mark.parametrize(
    "text", ["", "24", "h", "24 h", "1.5h", "-1h", "0s", "1w", "Forever", "24h\n", "٢h"]
)
def test_what_is_no_duration_is_refused_in_one_line(text: str) -> None:
    """And the line says what to write."""
    with pytest.raises(ConfigError, match="is no duration") as error:
        parse_duration(text)
    assert "\n" not in str(error.value)


def test_a_duration_beyond_all_clocks_is_forever() -> None:
    """It does not overflow what a stamp may be."""
    assert parse_duration("999999999d") == parse_duration("forever") == FOREVER


@pytest.mark.parametrize(
    ("path", "record", "hours"),
    [
        ("intents/42/host", "intents/42", 1),
        ("intents/42", "intents/42", 1),
        ("intents/7/pin/x", "intents/7/pin", 2),
        ("intents/8/pin", "intents/8", 1),
        (r"intents/\i7/pin", r"intents/\i7/pin", 2),
        ("other/a/b", "other/a", 24),
        (r"a\/b/c/d", r"a\/b/c", 24),
        ("shardlog/presence/b/p/status", "shardlog/presence/b/p", 24),
        ("shardlog/health/blade/b/refused/key", "shardlog/health/blade/b", 24),
        ("shardlog/errors/abc/n", "shardlog/errors/abc", 24 * 7),
        ("shardlog/live/answered/intents\\/42/verdict", "shardlog/live/answered/intents\\/42", 24),
    ],
)
def test_the_most_specific_pattern_names_the_record(path: str, record: str, hours: int) -> None:
    """A literal before `*`, from the left; then the longer one."""
    table = Retention({"intents/*": "1h", "intents/7/*": "2h"})
    found = table.record_of(path)
    assert found is not None
    assert (found.path, found.duration_ns) == (record, hours * HOUR)
    assert not found.keeps_counters


@pytest.mark.parametrize("path", ["last", "~", "intents/~", "intents/~/n", "shardlog/presence/~/n"])
def test_what_no_pattern_names_and_what_is_collapsed_is_no_record(path: str) -> None:
    """A single key, unless there is a pattern for it, and `~` anywhere."""
    assert Retention().record_of(path) is None


def test_the_defaults_may_be_said_otherwise() -> None:
    """Also for ever, and for single keys, which keep their counters."""
    table = Retention({"*/*": "forever", "last": "1h"})
    found = table.record_of("a/b/c")
    assert found is not None
    assert found.duration_ns == FOREVER
    last = table.record_of("last")
    assert last is not None
    assert last.keeps_counters


def test_a_literal_star_is_no_pattern() -> None:
    r"""`\*` is that key only."""
    table = Retention({r"a/\*": "1h"})
    for key, hours in (("*", 1), ("b", 24)):
        found = table.record_of(path_text(("a", key)))
        assert found is not None
        assert found.duration_ns == hours * HOUR


@pytest.mark.parametrize("pattern", ["", "a//b", "**", "a/**", "intents/~", r"a\x", "a/"])
def test_what_is_no_pattern_is_refused_in_one_line(pattern: str) -> None:
    """And the line names it."""
    with pytest.raises(ConfigError) as error:
        Retention({pattern: "1h"})
    assert "\n" not in str(error.value)


def test_counts_go_on_beside_the_record() -> None:
    """The record's last key becomes `~`."""
    assert collapsed("a/b/n", "a/b") == "a/~/n"
    assert collapsed("a/b", "a/b") == "a/~"
    assert collapsed(r"a/x\/y/n", r"a/x\/y") == "a/~/n"
    assert collapsed("shardlog/health/blade/b/refused/x", "shardlog/health/blade/b") == (
        "shardlog/health/blade/~/refused/x"
    )
    assert is_collapsed("a/~/n")
    assert not is_collapsed("a/~x/n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[retention]\n"a/*" = "soon"', "a.toml: \\[retention\\] 'soon' is no duration"),
        ('[retention]\n"a/*" = 24', "a.toml: \\[retention\\] '24' is no duration"),
        ('[retention]\n"a/**" = "1h"', "a.toml: \\[retention\\] '\\*\\*' is in no pattern"),
        ('retention = "1h"', "a.toml: retention is a table"),
    ],
)
def test_a_table_that_says_nonsense_is_refused(text: str, says: str) -> None:
    """With the file's name, in one line."""
    with pytest.raises(ConfigError, match=says):
        parse_config(text, "a.toml")


def test_variables_leave_the_table_alone() -> None:
    """There is none for it."""
    config = Config(retention={"a/*": "1h"})
    assert override(config, {"SHARDLOG_HOST": "h"}).retention == {"a/*": "1h"}
