"""Paths as texts: injective, invertible, subtrees as ranges; patterns against a naive matcher."""

from __future__ import annotations

import re
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardlog.crdt.errors import ConfigError
from shardlog.crdt.path import (
    Key,
    Keys,
    Pattern,
    ancestors,
    is_within,
    key_text,
    path_keys,
    path_text,
    resolve,
    root_key,
)
from shardlog.crdt.path_index import PathIndex

ODD = st.text(alphabet="a/\\*i0!-~.42é\U0001f600", max_size=5)
"""Escapes, what they escape, what sorts next to `/`, and texts that look like integers."""
KEY: st.SearchStrategy[Key] = st.one_of(
    ODD, st.sampled_from(["", "42", "-1", "*", "**", "~", "\\i42"]), st.integers(-50, 50)
)
KEYS = st.lists(KEY, min_size=1, max_size=4).map(tuple)


@given(st.lists(st.one_of(st.text(max_size=6), KEY, st.integers()), min_size=1).map(tuple))
def test_keys_survive_their_text(keys: Keys) -> None:
    """`path_keys` is the inverse of `path_text`, the types of the keys included."""
    again = path_keys(path_text(keys))

    assert again == keys
    assert [type(key) for key in again] == [type(key) for key in keys]


@given(st.lists(KEYS, min_size=2, max_size=6))
def test_texts_are_equal_iff_the_keys_are(paths: list[Keys]) -> None:
    """Two paths share a text only if they are the same path: int 1 and str "1" are not."""
    for a in paths:
        for b in paths:
            same = a == b and [type(k) for k in a] == [type(k) for k in b]
            assert (path_text(a) == path_text(b)) == same


@given(st.text(alphabet="a/\\*i0-9", max_size=8))
def test_a_text_means_keys_or_is_refused(text: str) -> None:
    """Any text is read as some keys, or is a ConfigError; what was canonical stays as it is."""
    try:
        keys = path_keys(text)
    except ConfigError:
        return

    assert path_keys(path_text(keys)) == keys


@pytest.mark.parametrize(
    "text",
    ["\\", "a/\\", "\\x", "\\i", "\\i/a", "\\ix", "\\i1.5", "\\i01", "\\i-0", "\\i+1", "\\i١"],
)
def test_escapes_that_do_not_exist_are_refused(text: str) -> None:
    """A lone backslash, an unknown escape and an integer that is none are ConfigErrors."""
    with pytest.raises(ConfigError):
        path_keys(text)


@pytest.mark.parametrize("text", ["\\i" + "9" * 5000, "a/\\i-" + "9" * 100_000])
def test_an_integer_of_thousands_of_digits_is_refused(text: str) -> None:
    """What Python itself would refuse to read as an integer is a ConfigError like any other."""
    with pytest.raises(ConfigError):
        path_keys(text)


def test_a_bare_integer_of_thousands_of_digits_is_a_str_key() -> None:
    """As a str key it is as good as any: in paths, in patterns, and for people."""
    text = "9" * 5000

    assert path_keys(text) == (text,)
    assert Pattern(text).matches(text)
    assert resolve(text, lambda path: False) == text


@given(KEYS)
def test_ancestors_are_the_strict_prefixes(keys: Keys) -> None:
    """Nearest first, and cut only where a key ends."""
    expected = [path_text(keys[:end]) for end in range(len(keys) - 1, 0, -1)]

    assert list(ancestors(path_text(keys))) == expected
    assert root_key(path_text(keys)) == key_text(keys[0])


def test_little_is_kept_of_the_prefixes_of_the_largest_paths() -> None:
    """Of 64 keys and 32,768 wide characters, the most that is let in, all prefixes are 8 MB: what
    is remembered of the last ones stays below 40 MB, however many came."""
    tracemalloc.start()
    try:
        for number in range(20):
            ancestors(f"\U0001f600{number:02}" + "a" * 32_600 + "/a" * 63)
        assert tracemalloc.get_traced_memory()[0] < 40 << 20
    finally:
        tracemalloc.stop()


@given(KEYS, KEYS)
def test_is_within_compares_keys(a: Keys, b: Keys) -> None:
    """A path lies within another iff its keys begin with the other's."""
    for keys, top in [(a, b), (a + b, a), (a, a), (a, a + b)]:
        begins = path_text(keys[: len(top)]) == path_text(top)
        assert is_within(path_text(keys), path_text(top)) == begins


@given(st.lists(KEYS, max_size=12), KEYS, KEYS)
def test_a_subtree_is_one_range_of_the_sorted_texts(
    others: list[Keys], top: Keys, more: Keys
) -> None:
    """[p + "/", p + "0") holds what lies strictly below p and nothing else, contiguous."""
    text = path_text(top)
    paths = sorted({path_text(keys) for keys in [*others, top, top + more, (*top, "!"), top + top]})
    below = [path for path in paths if path != text and is_within(path, text)]
    places = [paths.index(path) for path in below]

    assert below == [path for path in paths if f"{text}/" <= path < f"{text}0"]
    assert all(b == a + 1 for a, b in pairwise(places))


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.lists(st.sampled_from(["", "a", "a!", "a-", 0]), min_size=1, max_size=3),
        )
    )
)
def test_the_index_is_a_sorted_set_that_knows_what_lies_below(
    steps: list[tuple[bool, list[Key]]],
) -> None:
    """After any additions and removals it says what a plain set says."""
    index, paths = PathIndex(), set[str]()
    for is_added, keys in steps:
        path = path_text(keys)
        if is_added and path not in paths:
            index.add(path)
            paths.add(path)
        elif not is_added and path in paths:
            index.remove(path)
            paths.remove(path)

        assert list(index) == sorted(paths)
        assert len(index) == len(paths)
        for top in [path, *ancestors(path), "zzz"]:
            below = sorted(p for p in paths if p != top and is_within(p, top))
            assert list(index.below(top)) == below
            assert index.has_below(top) == bool(below)
            assert list(index.after(top)) == [p for p in sorted(paths) if p > top]
        assert list(index.after(None)) == sorted(paths)


def naive_match(parts: list[str], keys: Keys, collapsed: bool) -> bool:
    """The rule as it is written: `*` one key, `**` any number, a bare integer both kinds."""
    if not parts:
        return not keys
    if parts[0] == "**":
        return any(naive_match(parts[1:], keys[at:], collapsed) for at in range(len(keys) + 1))
    if not keys:
        return False
    if parts[0] == "*":
        fits = collapsed or keys[0] != "~"
    elif parts[0].startswith("\\"):
        fits = path_text(keys[:1]) == parts[0]
    else:
        fits = str(keys[0]) == parts[0]
    return fits and naive_match(parts[1:], keys[1:], collapsed)


PART = st.sampled_from(["*", "*", "**", "a", "b", "42", "\\i42", "\\*", "~", "-1", ""])
MATCHED = st.sampled_from(["a", "b", "42", 42, "*", "~", -1, "-1", ""])


@given(
    st.lists(PART, min_size=1, max_size=5),
    st.lists(MATCHED, min_size=1, max_size=5).map(tuple),
    st.booleans(),
)
@example(parts=["**", "a"], keys=("a",), collapsed=False)
@example(parts=["a", "*"], keys=("a",), collapsed=False)
@example(parts=["a", "*"], keys=("a", "~"), collapsed=False)
def test_patterns_match_as_the_naive_matcher(parts: list[str], keys: Keys, collapsed: bool) -> None:
    """Same verdict as the rule in words; what matches begins with the literal start."""
    if parts == [""]:
        return
    pattern = Pattern("/".join(parts), collapsed=collapsed)

    assert pattern.matches(path_text(keys)) == naive_match(parts, keys, collapsed)
    if pattern.matches(path_text(keys)) and pattern.prefix:
        assert is_within(path_text(keys), pattern.prefix)


@given(KEYS)
def test_a_canonical_text_as_a_pattern_matches_its_path(keys: Keys) -> None:
    """Escapes make any path a pattern of itself."""
    if path_text(keys) != "":
        assert Pattern(path_text(keys)).matches(path_text(keys))


@pytest.mark.parametrize("text", ["a/\\x", "\\", "\\i1x/*"])
def test_a_pattern_with_a_bad_escape_is_refused(text: str) -> None:
    """What is no pattern is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=re.escape(repr(text.split("/")[0])) + "|is not a key"):
        Pattern(text)


@pytest.mark.parametrize("text", ["scraper-*", "a/*x/b", "***", "\\**"])
def test_a_star_within_a_key_is_refused(text: str) -> None:
    """It would match nothing, silently; the error says how the character is written."""
    with pytest.raises(ConfigError, match=r"whole key"):
        Pattern(text)


@given(st.lists(MATCHED, min_size=1, max_size=3).map(tuple), st.sets(st.tuples(MATCHED, MATCHED)))
def test_resolve_prefers_what_exists(keys: Keys, existing: set[Keys]) -> None:
    """A bare integer is the str key where that exists or neither does, else the int key."""
    paths = {path_text(keys[:end]) for keys in existing for end in range(1, len(keys) + 1)}
    resolved = path_keys(resolve("/".join(str(key) for key in keys), paths.__contains__))

    assert [str(key) for key in resolved] == [str(key) for key in keys]
    for end, key in enumerate(resolved):
        as_str = path_text((*resolved[:end], str(key)))
        as_int = path_text((*resolved[:end], int(key))) if str(key) in ("42", "-1") else None
        assert (type(key) is int) == (as_int in paths and as_str not in paths)


def test_resolve_keeps_marked_integers_and_escapes() -> None:
    r"""`\i42` is the int key whether it exists or not; `\*` and a bare `*` are the key `*`."""
    assert resolve("a/\\i42", lambda path: False) == "a/\\i42"
    assert resolve("a/*", lambda path: False) == "a/\\*"
    assert resolve("a\\/b/\\*", lambda path: False) == "a\\/b/\\*"


def test_a_pattern_of_many_double_stars_is_no_trap() -> None:
    """Twenty of them over sixty keys take no longer than their product."""
    pattern = Pattern("/".join(["**", "a"] * 20 + ["b"]))
    assert not pattern.matches("/".join(["a"] * 60))
    assert pattern.matches("/".join(["a"] * 60 + ["b"]))
