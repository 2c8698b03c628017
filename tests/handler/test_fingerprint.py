"""Which errors are the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.handler.fingerprint import (
    LIBRARY,
    OWN,
    STANDARD,
    Call,
    Group,
    Said,
    Thrown,
    group_of,
    without_arguments,
)

SAID = Said("blade", "pages:fetch", "page %s", True)
NAMES = st.text(min_size=1, max_size=5)
CALLS = st.lists(st.builds(Call, NAMES, NAMES, st.sampled_from((OWN, LIBRARY, STANDARD))))


def own(*functions: str) -> list[Call]:
    return [Call("pages", function, OWN) for function in functions]


def group(*chain: Thrown, said: Said = SAID, words: Sequence[str] = ()) -> Group:
    return group_of(said, chain, words)


def test_type_and_functions_tell_errors_apart() -> None:
    """Two types in one function are two groups, as are two functions with one type."""
    errors = [
        Thrown("KeyError", own("run", "fetch")),
        Thrown("ValueError", own("run", "fetch")),
        Thrown("KeyError", own("run", "parse")),
        Thrown("KeyError", own("run")),
    ]

    assert len({group(error).id for error in errors}) == len(errors)
    assert {group(error).id for error in errors} == {group(error).id for error in errors}


def test_what_an_exception_came_from_tells_it_apart() -> None:
    """The whole chain counts, each exception of it once, as those of a retry are many."""
    error, cause = Thrown("KeyError", own("fetch")), Thrown("OSError", own("open"))

    assert group(error, cause).id != group(error).id
    assert group(error, cause, cause, cause).id == group(error, cause).id
    assert group(error, cause).why == "KeyError in pages:fetch, behind OSError in pages:open"
    assert group(error, cause).culprit == "pages:fetch"


def test_frames_of_libraries_do_not_count_beside_ones_own() -> None:
    """What the standard library does within itself changes from version to version."""
    library = [Call("requests", "get", LIBRARY), Call("socket", "connect", STANDARD)]

    assert group(Thrown("E", [*own("f"), *library])).id == group(Thrown("E", own("f"))).id


def test_an_installed_application_is_not_lost_behind_its_entry_point() -> None:
    """A script that only starts it is no function of the application by which errors differ."""
    script = Call("__main__", "<module>", OWN)
    one, other = (
        Thrown("E", [script, Call("scraper", name, LIBRARY), Call("json", "loads", STANDARD)])
        for name in ("fetch", "parse")
    )

    assert group(one).id != group(other).id
    assert group(one).culprit == "scraper:fetch"


def test_depth_of_a_recursion_is_chance() -> None:
    """As is the function in which it ended."""
    base = own("run", "f", "g")
    shallow = Thrown("RecursionError", [*base, *own("f", "g") * 20])
    deep = Thrown("RecursionError", [*base, *own("f", "g") * 29, *own("f", "helper")])

    assert group(shallow).id == group(deep).id


def test_members_of_a_group_are_a_set() -> None:
    """Neither their order counts nor how many of a kind there are."""
    one, other = [Thrown("KeyError", own("f"))], [Thrown("OSError", own("g"))]

    assert group(Thrown("ExceptionGroup", own("run"), [one, other])).id == (
        group(Thrown("ExceptionGroup", own("run"), [other, one, other])).id
    )
    assert group(Thrown("ExceptionGroup", own("run"), [one])).id != (
        group(Thrown("ExceptionGroup", own("run"), [other])).id
    )


def test_comprehensions_do_not_count() -> None:
    """Python 3.12 has no frames of lists, dicts and sets any more."""
    inner = Call("pages", "fetch.<locals>.<listcomp>", OWN)

    assert group(Thrown("E", [*own("fetch"), inner])).id == group(Thrown("E", own("fetch"))).id


def test_messages_are_the_same_before_their_arguments_are_put_in() -> None:
    """The template counts, with logger and function."""
    assert group(said=SAID).id != group(said=SAID._replace(template="pages %s")).id
    assert group(said=SAID).id != group(said=SAID._replace(logger="other")).id
    assert group(said=SAID).id != group(said=SAID._replace(function="pages:parse")).id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("page 7 failed after 0.21 s", "page 12 failed after 3 s"),
        ("no 'a' in http://pages.local/7", "no 'b' in https://x.local/q?y"),
        ("<Spider at 0x7f12ab>", "<Spider at 0x7faa00>"),
        ("job 6fa459ea-ee8a-3ca4-894e-db77e160355e", "job 16fd2706-8baf-433b-82eb-8c7fada847da"),
        ("commit 4c1634f49fd1", "commit 7b25c2c8c0dc"),
    ],
)
def test_what_looks_like_an_argument_is_taken_out_where_there_were_none(
    one: str, other: str
) -> None:
    """Of an f-string no template is left."""
    assert without_arguments(one) == without_arguments(other)
    assert (
        group(said=Said("b", "f", one, has_arguments=False)).id
        == group(said=Said("b", "f", other, has_arguments=False)).id
    )


def test_log_call_says_itself_what_is_the_same() -> None:
    """Its words are all that counts, unless it asks for what would count without."""
    one, other = Thrown("KeyError", own("f")), Thrown("OSError", own("g"))

    assert group(one, words=["quota"]).id == group(other, words=["quota"]).id
    assert group(one, words=["quota", "{{default}}"]).id != (
        group(other, words=["quota", "{{default}}"]).id
    )
    assert group(one, words=["a", "b"]).id != group(one, words=["a, b"]).id
    assert group(one, words=["quota"]).why == "as the log call says: quota"


@given(NAMES, CALLS, CALLS)
def test_any_chain_has_a_group_that_depends_on_itself_alone(
    kind: str, calls: list[Call], inner: list[Call]
) -> None:
    """12 hexadecimal digits, the same each time, and a reason."""
    error = Thrown(kind, calls, [[Thrown(kind, inner)]])
    found = group(error)

    assert found == group(error)
    assert len(found.id) == 12
    assert int(found.id, 16) >= 0
    assert found.why
