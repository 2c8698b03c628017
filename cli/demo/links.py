"""The scraper's parser: the title of a page and the pages it links to, from the standard library's
`html.parser`.
"""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser


class ParseError(ValueError):
    """The page is no page: it cannot be decoded, or has no title."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the scraper takes from one page."""

    title: str
    links: tuple[str, ...]
    """Names of the linked pages, each once, in the order of the page."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: str | None = None
        self.links: dict[str, None] = {}
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title" and self.title is None:
            self._in_title = True
            self.title = ""
        elif tag == "a":
            target = dict(attrs).get("href")
            if target is None or ":" in target:
                return
            name = target.partition("#")[0]
            if name.endswith(".html"):
                self.links[name] = None

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title and self.title is not None:
            self.title += data


def parse_page(body: bytes) -> Page:
    """Read a page's title and its links to other pages of the site.

    Links within the page, to other schemes and to anything that is not a page are left out.
    Raises `ParseError`, and nothing else, when the bytes are not a page.

    >>> parse_page(b"<title>Python: json</title><a href='json.html#dump'>dump</a>")
    Page(title='Python: json', links=('json.html',))
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ParseError(f"not UTF-8 at byte {error.start}") from error
    reader = _Reader()
    try:
        reader.feed(text)
        reader.close()
    except AssertionError as error:  # html.parser asserts on some malformed declarations
        raise ParseError(f"malformed page: {error}") from error
    if not reader.title:
        raise ParseError("a page without a title")
    return Page(title=" ".join(reader.title.split()), links=tuple(reader.links))
