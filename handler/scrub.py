r"""Secrets are taken out of what errors say, before it leaves the process. Pure.

Known by its name is what stands behind a word such as `password` or `token`: in a dict, its repr,
JSON, a header, a query, a command line, a line of Python, an XML element or what pydantic refuses.
Known by its form is what stands between `://` and `@`, what follows `Bearer`, and a private key in
PEM. Rather too much is taken than too little.

>>> scrub = Scrub()
>>> scrub.text("GET https://spider:hunter2@pages.local/?page=3&api_key=hunter2")
'GET https://[scrubbed]@pages.local/?page=3&api_key=[scrubbed]'
>>> scrub.text("{'Authorization': 'Bearer hunter2', 'Accept': '*/*'}")
"{'Authorization': [scrubbed], 'Accept': '*/*'}"

Time. Nothing here backtracks far: what may repeat without a bound never has to match behind that.
So a quote that is not closed goes on to the end.

Known anomalies. What is neither named nor of such a form cannot be known: `hunter2 was refused`.
Of several words without quotes the first is taken.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shardlog.crdt.delta import Value

SECRETS = (
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "authorization",
    "cookie",
    "api_key",
    "access_key",
    "private_key",
    "credential",
)
"""The words by which a secret is known; `_` stands for `-`, and for nothing, too."""
SCRUBBED = "[scrubbed]"

_NOT_THESE = {"token": "(?!s|i[sz])"}
"""Tokens are counted, and tokenizers named."""
_BEHIND = r"""(?:
    [\w-]{0,30} (?: \\*["']\s*[,:=] | \s*(?:[:!=]?=|:) | (?:%(?:25)*2[27])?%(?:25)*3[ad] ) >?\s*
  | [^\n]{0,100}\n[^\n]{0,500}?input_value=
)"""
_QUOTED = r"""(?:"(?:\\.?|[^"\\])*(?:"|\Z)|'(?:\\.?|[^'\\])*(?:'|\Z))"""
_ANNOTATION = r"""
    (?P<mark>["']?) [\w.]{1,60} (?:\[[^=\n]{0,60}\])? (?:\s?\|\s?[\w.]+)* (?P=mark)
    (?:\s=\s|=(?=\S))
"""
_IN_URL = re.compile(r"""://[^\s/?#@:"'<>]{0,500}(?::[^\s"'<>]{0,500})?@""")
_BEARER = re.compile(r"\b(bearer\s+)(?=[A-Za-z_.~+/-]{0,200}[0-9])[\w.~+/=-]+", re.IGNORECASE)
_HEADER = re.compile(r"((?:authorization|cookie)2?\s*:\s*)[^\r\n\"'\s][^\r\n]*", re.IGNORECASE)
_PEM = re.compile(
    r"""
    (-----BEGIN\ [A-Z0-9 ]{0,30}PRIVATE\ KEY[A-Z ]{0,9}-----)
    (?: [^-]*(?:-(?!----)[^-]*)*(?=-----END) | (?=[\\\r\n])[\w\s+/=\\:,.-]+ )
    """,
    re.VERBOSE,
)
_CUT = re.compile(r"""(input_value=)(?!["'])(?=[^\n]{0,60}\.\.\.)[^\n]*?(?=, input_type=|\n|\Z)""")
"""Of a dict that pydantic cuts to 50 characters the key may be lost, and the secret be left."""


def _value(any_word: str) -> str:
    part = r"""[^\s,;&)\]}"']"""
    # A comma or bracket ends it only before a space, a quote or what may be the next secret.
    bare = rf"{part}+ (?: [,)\]}}]+ (?!{part}{{0,60}}(?:{any_word})) {part}+ )*"
    return rf"""
        (?:{_ANNOTATION})? [bBuU]?(?:
            {_QUOTED}+
          | (?P<escaped>\\{{1,63}}["']) (?: (?!(?P=escaped)). )* (?: (?P=escaped) | \Z )
          | [\[({{] (?: {_QUOTED} | [^\])}}"'] )* [\])}}]?
          | [\w.]{{1,60}}\( (?: {_QUOTED} | [^)"'\n] )* \)? (?:{bare})?
          | <[^>\n]{{0,200}}> (?:{bare})?
          | (?: (?:bearer|basic|digest|negotiate|token)\s+ )? {bare}
        )
    """


class Scrub:
    """Knows secrets by these words, in any case; none at all if there are no words."""

    __slots__ = ("_element", "_flag", "_key", "_named")

    def __init__(self, words: Sequence[str] = SECRETS) -> None:
        any_word = "|".join(
            re.escape(word).replace("_", "[_-]?") + _NOT_THESE.get(word, "") for word in words
        )
        self._key = re.compile(any_word, re.IGNORECASE) if words else None
        self._flag = re.compile(
            rf"(--[\w-]{{0,30}}(?:{any_word})[\w-]{{0,30}}\s+)(?:{_QUOTED}+\S*|\S+)",
            re.IGNORECASE,
        )
        self._element = re.compile(
            rf"(<[\w:.-]{{0,30}}(?:{any_word})[^<>]{{0,200}}>)(?:<!\[CDATA\[)?[^<]+(?=</)",
            re.IGNORECASE,
        )
        self._named = re.compile(
            f"((?:{any_word}){_BEHIND})(?:{_value(any_word)})",
            re.IGNORECASE | re.DOTALL | re.VERBOSE,
        )

    def is_secret(self, key: str) -> bool:
        """Whether what is called so is a secret. O(len).

        >>> [Scrub().is_secret(key) for key in ("Set-Cookie", "dbPassword", "max_tokens")]
        [True, True, False]
        """
        return self._key is not None and self._key.search(key) is not None

    def text(self, text: str) -> str:
        """The text without secrets. O(len)."""
        if self._key is None:
            return text
        if "://" in text:
            text = _IN_URL.sub(f"://{SCRUBBED}@", text)
        if "-----BEGIN " in text:
            text = _PEM.sub(rf"\1{SCRUBBED}", text)
        if "input_value=" in text:
            text = _CUT.sub(rf"\1{SCRUBBED}", text)
        if self._key.search(text) is not None:
            text = _HEADER.sub(rf"\1{SCRUBBED}", text)
            text = self._flag.sub(rf"\1{SCRUBBED}", text)
            if "</" in text:
                text = self._element.sub(rf"\1{SCRUBBED}", text)
            text = self._named.sub(rf"\1{SCRUBBED}", text)
        return _BEARER.sub(rf"\1{SCRUBBED}", text)

    def value(self, value: Value) -> Value:
        """The same of a value, with all that is in it. O(size)."""
        if type(value) is str:
            return self.text(value)
        if type(value) is bytes:
            text = value.decode("latin-1")
            scrubbed = self.text(text)
            return value if scrubbed == text else scrubbed.encode("latin-1")
        if type(value) is list:
            return [self.value(each) for each in value]
        return value
