r"""Which errors are the same: a fingerprint, and in words why it is that. Pure.

    with an exception     the types of its chain, and of each the functions of the application
                          that it came through, as module:function, without line numbers
    without               the message before its arguments were put in, the logger, the function
    fingerprint=[...]     what the log call says itself; "{{default}}" stands for the above

So the same bug has one fingerprint on all hosts and in all versions in which its functions are
called the same; and two bugs in one function have two if their types differ.

- Frames of the standard library, and of site-packages, are left out where there are others: what
  is called by what matters, not how a library calls itself. An application that is installed is in
  site-packages; then `__main__` is all that is left, and does not count as another.
- A function counts once, however often it is called in itself: how deep a recursion went is chance.
  So is where it ended, so of a RecursionError only the outer frames count.
- The same exception that comes several times in a chain, as of a retry, counts once.
- Members of an exception group are a set: which of them came first is chance.
- Comprehensions are functions in one version of Python and not in the next.
- Where no arguments were put into a message, they may be in it already: numbers, addresses, and
  what is quoted are taken out.

The version of these rules is a part of the fingerprint: where they change, groups begin anew, and
none is merged with another silently.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = 1
OWN, LIBRARY, STANDARD = range(3)
"""How near to the application a function is."""
DEFAULT = "{{default}}"
WHY_CHARACTERS = 1000
TEMPLATE_CHARACTERS = 300
HEAD_CALLS = 16
"""So many outer calls count where a recursion was too deep."""

_COMPREHENSIONS = ("<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>")
_ARGUMENTS = re.compile(
    r"""(?P<url>\b\w{1,20}://[^\s"']+)"""
    r"""|(?P<text>"[^"]{0,200}"|'[^']{0,200}')"""
    r"""|(?P<hex>\b(?:0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]{20,}|(?=[a-f]*[0-9])[0-9a-f]{7,})\b)"""
    r"""|(?P<number>\d+(?:[.:,-]\d+)*)""",
    re.IGNORECASE,
)


class Call(NamedTuple):
    """A function that an exception came through."""

    module: str
    function: str
    nearness: int


class Thrown(NamedTuple):
    """An exception as far as it tells one bug from another. `parts`: chains of a group's members.

    `place` is what else does: of a SyntaxError, the file.
    """

    kind: str
    calls: Sequence[Call]
    parts: Sequence[Sequence[Thrown]] = ()
    place: str = ""


class Said(NamedTuple):
    """A log call as far as it tells one error from another."""

    logger: str
    function: str
    template: str
    has_arguments: bool


class Group(NamedTuple):
    """Which errors are the same: `id`, 12 hexadecimal digits, why, and where the culprit is."""

    id: str
    why: str
    culprit: str


def group_of(said: Said, chain: Sequence[Thrown], own: Sequence[str] | None = None) -> Group:
    """The group of an error; `chain` begins with the exception that was logged. O(size).

    >>> calls = [Call("__main__", "<module>", OWN), Call("pages", "fetch", OWN)]
    >>> said = Said("blade", "pages:fetch", "page %s", True)
    >>> group_of(said, [Thrown("KeyError", calls)]).why
    'KeyError in __main__:<module> > pages:fetch'
    >>> group_of(said, []).why
    "message 'page %s' of logger blade in pages:fetch"
    >>> group_of(said, [], ["pages", "{{default}}"]).why
    "as the log call says: pages, message 'page %s' of logger blade in pages:fetch"
    """
    calls = _calls(chain[0]) if chain else []
    if chain:
        why = _chain(chain)
        if not calls:
            why += f", of logger {said.logger} in {said.function}"
    else:
        template = said.template if said.has_arguments else without_arguments(said.template)
        why = f"message {template[:TEMPLATE_CHARACTERS]!r} of logger {said.logger}"
        why += f" in {said.function}"
    if own:
        # The words of the log call are apart: ["a, b"] is not ["a", "b"].
        told = "\0".join(why if word == DEFAULT else word for word in own)
        shown = ", ".join(why if word == DEFAULT else word for word in own)
        why = f"as the log call says: {shown}"
    else:
        told = why
    digest = hashlib.blake2b(f"{VERSION}\n{bool(own)}\n{told}".encode(errors="replace"))
    culprit = calls[-1] if calls else said.function
    return Group(digest.hexdigest()[:12], why[:WHY_CHARACTERS], culprit)


def without_arguments(message: str) -> str:
    """A message with a mark in the place of what looks as if it had been put in. O(len).

    >>> without_arguments("page 7 of 'pages.local' at 0x7f2a, see http://pages.local/7")
    'page <number> of <text> at <hex>, see <url>'
    """
    return _ARGUMENTS.sub(lambda found: f"<{found.lastgroup}>", message)


def _chain(chain: Sequence[Thrown]) -> str:
    return ", behind ".join(dict.fromkeys(map(_described, chain)))


def _described(thrown: Thrown) -> str:
    text = thrown.kind
    if thrown.place:
        text += f" of {thrown.place}"
    if thrown.parts:
        text += f" of ({'; '.join(sorted({_chain(part) for part in thrown.parts}))})"
    calls = _calls(thrown)
    return f"{text} in {' > '.join(calls)}" if calls else text


def _calls(thrown: Thrown) -> list[str]:
    calls = [call for call in thrown.calls if not call.function.endswith(_COMPREHENSIONS)]
    others = [call for call in calls if (call.module, call.function) != ("__main__", "<module>")]
    nearest = min((call.nearness for call in others), default=OWN)
    chosen: Iterable[Call] = [call for call in calls if call.nearness <= nearest]
    if thrown.kind == "RecursionError":
        chosen = [call for call in calls[:HEAD_CALLS] if call.nearness <= nearest]
    return [*dict.fromkeys(f"{call.module}:{call.function}" for call in chosen)]
