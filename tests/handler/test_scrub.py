"""Secrets do not leave the process; other words do."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from urllib.parse import quote
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardlog.handler.scrub import SCRUBBED, Scrub

SECRET = "hunter2Xy"
PYDANTIC = """\
1 validation error for TokenSettings
{}
  Input should be something else [type=some_type, input_value={}, input_type=some]
    For further information visit https://errors.pydantic.dev/2.7/v/some_type"""


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
        f"mysql --password 'correct {SECRET}' -h db",
        f"mysql --password='it'\"'\"'s {SECRET}' -h db",
        f"INSERT INTO spiders SET password = 'it''s {SECRET}'",
        f"{{'password': SecretStr({SECRET!r})}}",
        f"{{'password': vault.Secret(1, value=b'{SECRET}', of=(2, 3))}}",
        f"{{'password': <Secret {SECRET!r}>}}",
        f"Password=correct(horse){SECRET};Server=x",
        f"Password=correct,{SECRET};Server=x",
        f"Password=correct),]{SECRET};Server=x",
        f"Password=<correct>{SECRET};Server=x",
        f"fetch(token=x,password={SECRET!r})",
        f"fetch(token=x,password=SecretStr({SECRET!r}))",
        f"fetch(token=x),password: {SECRET}",
        f"api_key: str = {SECRET!r}",
        f"api_key: Final[dict[str, str]] = {{'x': {SECRET!r}}}",
        f"def fetch(api_key: str | None={SECRET!r}, page: int = 1)",
        f'api_key: "SecretStr" = {SECRET!r}',
        f'password = """{SECRET}"""',
        f"assert password == {SECRET!r}",
        f"assert password != {SECRET!r}",
        f"if (password := {SECRET!r}):",
        f"<password>{SECRET}</password>",
        f"<db:Password type='x'><![CDATA[correct {SECRET}]]></db:Password>",
        f"client_secret%3D{SECRET}%26page%3D3",
        f"%7B%22client_secret%22%3a%22{SECRET}%22%7D",
        f"next=https%253A%252F%252Fpages.local%253Ftoken%253D{SECRET}",
        PYDANTIC.format("db.password", f"'{SECRET}'"),
        PYDANTIC.format("page", f"{{'user': 'spider', 'passwo...: '{SECRET}'}}"),
        f"-----BEGIN PRIVATE KEY-----\nMII{SECRET}",
        f"-----BEGIN PRIVATE KEY----- MII{SECRET} -----END PRIVATE KEY-----",
        repr(f"-----BEGIN RSA PRIVATE KEY-----\nMII+/=\n{SECRET}\n-----END RSA PRIVATE KEY-----"),
        f"private_key=-----BEGIN PRIVATE KEY-----\nMII\n{SECRET}\n-----END PRIVATE KEY-----",
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
        "usage: login <user> <password> <host>",
        "the field <password> is missing, see <a>the form</a>",
        "<tokens>512</tokens>",
        "a password > 8 characters, a secret < 9",
        "page%3D3%26tokens%3D512",
        PYDANTIC.format("page", "'x'"),
        PYDANTIC.format("page", "'What is said is long enough ...hat it is cut here'"),
        "expected -----BEGIN PRIVATE KEY----- in pages.pem, line 1",
        "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
    ],
)
def test_other_words_stay(text: str) -> None:
    """What only looks a little like a secret is left as it is."""
    assert Scrub().text(text) == text


def test_rest_of_the_text_stays() -> None:
    """A secret does not take its neighbours along."""
    assert Scrub().text("password=x, page=7") == f"password={SCRUBBED}, page=7"
    assert Scrub().text("{'password': 'x', 'page': 7}") == f"{{'password': {SCRUBBED}, 'page': 7}}"
    assert Scrub().text("fetch(password=x), page=7") == f"fetch(password={SCRUBBED}), page=7"
    assert Scrub().text('{"token":5,"page":7}') == f'{{"token":{SCRUBBED},"page":7}}'
    assert Scrub().text("Password=x;Server=y") == f"Password={SCRUBBED};Server=y"
    assert Scrub().text("psql --password 'a b' -v") == f"psql --password {SCRUBBED} -v"
    assert Scrub().text("psql --password isn't -v") == f"psql --password {SCRUBBED} -v"
    assert Scrub().text("{'token': Secret('x'), 7: 8}") == f"{{'token': {SCRUBBED}, 7: 8}}"
    assert Scrub().text("{'token': <Secret>, 7: 8}") == f"{{'token': {SCRUBBED}, 7: 8}}"
    assert Scrub().text("(token: str = 'x', n: int = 1)") == f"(token: {SCRUBBED}, n: int = 1)"
    assert Scrub().text("token=QUJD= page=7") == f"token={SCRUBBED} page=7"
    assert Scrub().text("<token>x</token> 7") == f"<token>{SCRUBBED}</token> 7"
    assert Scrub().text(PYDANTIC.format("token", "7")) == PYDANTIC.format("token", SCRUBBED)
    cut = "{'page': 7, 'user': 'spid...y', 'x': 'y'}"
    assert Scrub().text(PYDANTIC.format("n", cut)) == PYDANTIC.format("n", SCRUBBED)
    key = "-----BEGIN PRIVATE KEY-----{}-----END PRIVATE KEY-----, page=7"
    assert Scrub().text(key.format("\nMII\n")) == key.format(SCRUBBED)


def test_traceback_behind_an_open_call_stays() -> None:
    """Of a call that goes over several lines a traceback shows the first one."""
    below = '\n  File "pages.py", line 7, in fetch\nValueError: page 7 (of 9)'

    assert Scrub().text(f"token = self.fetch({below}") == f"token = {SCRUBBED}{below}"
    assert Scrub().text(f"token = self.fetch(page,{below}") == f"token = {SCRUBBED}{below}"
    assert Scrub().text(f"self.fetch(token=token,{below}") == f"self.fetch(token={SCRUBBED},{below}"


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


@given(st.text(max_size=30))
def test_any_secret_is_taken_out_of_a_command_line(secret: str) -> None:
    """As a shell would read it."""
    quoted = shlex.quote(f"<{secret}hunter2>")

    assert "hunter2" not in Scrub().text(f"mysql --password {quoted} -h db")
    assert "hunter2" not in Scrub().text(f"mysql --password={quoted} -h db")


@given(st.text(min_size=1, max_size=30))
def test_any_secret_is_taken_out_of_an_element(secret: str) -> None:
    """As it stands in one: escaped."""
    assert Scrub().text(f"<password>{escape(secret)}</password>") == (
        f"<password>{SCRUBBED}</password>"
    )


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
        ("", "token=a("),
        ("token=a(", "'\\"),
        ("token=a", ",)"),
        ("", "token=a,"),
        ("", "token=<a "),
        ("token:a", "|a "),
        ("", "token:a[]|"),
        ("token:a[", "]|a"),
        ("token%", "25"),
        ("", "token%25"),
        ("", "token\n"),
        ("", "token\ninput_value="),
        ("", "<token"),
        ("", "<token>"),
        ("<token>", "a "),
        ("", "input_value=..."),
        ("", "-----BEGIN PRIVATE KEY-----"),
        ("", "-----BEGIN PRIVATE KEY-----\n"),
        ("-----BEGIN PRIVATE KEY-----", "a-"),
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
