"""Secrets do not leave the process; other words do."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.handler.scrub import SCRUBBED, Scrub

SECRET = "hunter2Xy"


@pytest.mark.parametrize(
    "text",
    [
        f"postgres://spider:{SECRET}@db.local/pages",
        f"postgres://spider:p@{SECRET}@db.local/pages",
        f"https://{SECRET}@forge.local/x.git",
        f"GET /?page=3&access_token={SECRET}&x=1",
        f"password={SECRET}",
        f"PGPASSWORD={SECRET} psql",
        f"psql --db-password {SECRET} -v",
        f"Password: {SECRET}, user: spider",
        f"Authorization: Bearer {SECRET}",
        f"Authorization: Basic {SECRET} {SECRET}\r\nAccept: */*",
        f"Set-Cookie: a={SECRET}; b={SECRET}; HttpOnly",
        repr({"Authorization": f"Bearer {SECRET}", "Accept": "*/*"}),
        repr({b"Authorization": [f"Bearer {SECRET}".encode()], b"Accept": [b"*/*"]}),
        repr([("Cookie", f"a={SECRET}"), ("Accept", "*/*")]),
        repr({"password": f'it\'s "{SECRET}"'}),
        repr({"password": ["x", SECRET]}),
        repr({"apiKey": SECRET}),
        json.dumps({"api-key": f'"{SECRET}"'}),
        json.dumps(json.dumps({"secret": SECRET})),
        repr(json.dumps({"secret": f"a'{SECRET}"})),
        f"got Bearer {SECRET}",
        f"Credentials(credential={SECRET!r}, n=1)",
    ],
)
def test_secret_is_taken_out(text: str) -> None:
    """By its name, or by its form, in whatever a library may render it."""
    scrubbed = Scrub().text(text)

    assert "hunter2" not in scrubbed
    assert SCRUBBED in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "page 7 of pages.local was not found",
        "unexpected token '}' at 3",
        "max_tokens: 512, tokenizer=bpe",
        "https://pages.local:8080/a?b=c, mail x@pages.local",
        "the bearer of this letter",
    ],
)
def test_other_words_stay(text: str) -> None:
    """What only looks a little like a secret is left as it is."""
    assert Scrub().text(text) == text


def test_rest_of_the_text_stays() -> None:
    """A secret does not take its neighbours along."""
    assert Scrub().text("password=x, page=7") == f"password={SCRUBBED}, page=7"
    assert Scrub().text("{'password': 'x', 'page': 7}") == f"{{'password': {SCRUBBED}, 'page': 7}}"


def test_words_may_be_others_or_none() -> None:
    """Those that are given are all; without any nothing is looked for."""
    assert Scrub(["ssn"]).text("ssn=1 password=2") == f"ssn={SCRUBBED} password=2"
    assert Scrub([]).text("password=2 http://a:b@c") == "password=2 http://a:b@c"
    assert not Scrub([]).is_secret("password")


@given(
    st.text(min_size=6, max_size=30).filter(lambda text: "scrubbed" not in text),
    st.sampled_from((repr, json.dumps)),
)
def test_any_secret_is_taken_out_of_a_dict(secret: str, render: Callable[[object], str]) -> None:
    """Whatever quotes and backslashes it has."""
    secret = f"<{secret}>"
    scrubbed = Scrub().text(f"headers {render({'password': secret, 'n': 1})} were sent")

    assert render(secret)[1:-1] not in scrubbed
    assert scrubbed.startswith("headers {")
    assert scrubbed.endswith("1} were sent")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=6, max_size=30))
def test_any_secret_is_taken_out_of_a_url(secret: str) -> None:
    """As it stands in one: quoted."""
    assert quote(f"<{secret}>", safe="") not in (
        Scrub().text(f"GET http://spider:{quote(f'<{secret}>', safe='')}@pages.local/x failed")
    )


@given(st.text(alphabet="token:=\"'\\ [({/@&-", max_size=200))
def test_nothing_makes_it_raise(text: str) -> None:
    """Nor says it more than it was told."""
    assert isinstance(Scrub().text(text), str)
    assert Scrub().value([text, text.encode(), 7, None])


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        ("", "token "),
        ("", "token:"),
        ("", "token=["),
        ("", "token=['"),
        ("", "token='"),
        ("token", " "),
        ("token", "\\"),
        ("token=", "\\"),
        ("token=[", '"['),
        ("token=[", "'\\"),
        ("token=[", '"\\'),
        ("token=bearer", " "),
        ("", "--token "),
        ("", "--token '"),
        ("", "-"),
        ("", "cookie: "),
        ("", "bearer "),
        ("", "://"),
        ("", "://a:"),
    ],
)
def test_hostile_text_takes_linear_time(begin: str, again: str) -> None:
    """Sixteen times the text takes some sixteen times as long; a square would be 256 times."""
    _check_time_is_linear(*(begin + again * (size // len(again)) for size in (4 << 10, 64 << 10)))


def test_deep_escapes_take_linear_time() -> None:
    """So do a quote behind many backslashes, and many more behind that."""
    _check_time_is_linear(
        *(f'token={chr(92) * size}"{chr(92) * size}' for size in (2 << 10, 32 << 10))
    )


def _check_time_is_linear(small: str, large: str) -> None:
    scrub = Scrub()
    scrub.text(small)
    assert _least_ns(scrub, large) < 64 * _least_ns(scrub, small)


def _least_ns(scrub: Scrub, text: str) -> int:
    """Of this thread only, and the best of some: whatever else runs adds nothing."""
    took_ns: list[int] = []
    for _ in range(5):
        started_ns = time.thread_time_ns()
        scrub.text(text)
        took_ns.append(time.thread_time_ns() - started_ns)
    return min(took_ns)
