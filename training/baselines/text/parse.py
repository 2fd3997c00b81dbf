"""From what a language model wrote to a session.

A model may answer with a session, a list, a chain of arrows, JSON, or prose around any of these. What it offers as a
page is kept although the site has no such page: Val-P is there to punish it. Prose is not a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from browsing.encoders.names import read
from browsing.pages import SPECIAL_TOKENS, clean_name
from training.baselines.text.prompts import LEGEND

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_FENCE = re.compile(r"^\s*```.*$", re.MULTILINE)
_SESSION = re.compile(r"\[BOS\](.*?)(?=\[EOS\]|\[BOS\]|\Z)", re.DOTALL)
_CUE = re.compile(r"next session[^\[\]\n]{0,120}\s*(?=\[BOS\])", re.IGNORECASE)
"""A model that first repeats its input says where the answer begins."""
_MARK = re.compile(r"\[(?:BOS|EOS|PAD|UNK)\]")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\(?\d{1,3}[.):])\s+")
_ARROW = re.compile(r"\s*(?:-+>|=+>|→|⇒|➔|➜)\s*|\s+>\s+")
_COMMA = re.compile(r"\s*[,;|]\s*")
_WRAPPING = "\"'`*_“”‘’()<>{}[]"


class Reader:
    """Reads answers about one site. `pages`: its real pages."""

    def __init__(self, pages: Iterable[str], longest: int = 20) -> None:
        """`longest`: pages of a session that are read, at least 1; what follows is dropped."""
        self._pages = frozenset(pages)
        self._longest = longest
        # "/Bags/", "bags" and "bags tote mini" mean a page of the site where no other page is written like that.
        self._variants: dict[str, str | None] = {}
        for page in sorted(self._pages):
            for form in {_loose(page), read([page]).casefold()}:
                self._variants[form] = None if form in self._variants else page

    def session(self, answer: str) -> tuple[str, ...]:
        """The next session that the answer gives; empty where it gives none. A page twice in a row counts once."""
        text = _FENCE.sub("", _THOUGHT.sub("", answer))
        pages: list[str] = []
        for page in self._found(text):
            if len(pages) == self._longest:
                break
            if page not in SPECIAL_TOKENS and pages[-1:] != [page]:
                pages.append(page)
        return tuple(pages)

    def _found(self, text: str) -> list[str]:
        listed = _json_list(text)
        if listed is not None:
            return self._read(listed)
        text = text.replace(LEGEND, "")
        cue = _CUE.search(text)
        if match := _SESSION.search(text, cue.end() if cue else 0):
            return self._inside(match[1])
        return [page for line in _MARK.sub(" ", text).splitlines() for page in self._line(line)]

    def _inside(self, text: str) -> list[str]:
        """The pages between `[BOS]` and `[EOS]`: words, as in the prompt, unless only phrases make sense."""
        words = [word for part in _ARROW.split(text) for item in part.split() for word in self._apart(item)]
        if any(self._known(word) or _path(word) for word in words):
            return self._read(words)
        return self._read(_BULLET.sub("", part) for part in (_parts(text) if len(_parts(text)) > 1 else words))

    def _apart(self, word: str) -> list[str]:
        """A word is cut at commas unless it is a page as it stands."""
        return [word] if self._known(word) else _COMMA.split(word)

    def _line(self, line: str) -> list[str]:
        """The pages of a line of free text: a list's item, a chain, or prose with pages in it."""
        item = _BULLET.sub("", line)
        bulleted = item != line
        chain = [part for part in _parts(item if bulleted else item.rpartition(": ")[2]) if part]
        single = all(" " not in part for part in chain)
        if _ARROW.search(item) or (single and (bulleted or (len(chain) > 1 and any(map(self._likely, chain))))):
            return self._read(part.split()[0] if "/" in part else part for part in chain)
        named = [page for word in item.split() if (page := self._known(word) or _path(word))]
        if bulleted:  # what follows the first page is the reason for it
            return named[:1] or self._read([re.split(r"\s[-–—]\s|:\s", item)[0]])
        return named

    def _likely(self, name: str) -> bool:
        return bool(self._meant(name) or _path(name))

    def _read(self, written: Iterable[str]) -> list[str]:
        return [page for name in written if (page := self._page(name))]

    def _page(self, written: str) -> str | None:
        """The page that is meant; one that the site lacks keeps its name."""
        bare = _bare(written)
        if written.strip() in SPECIAL_TOKENS or (bare != "/" and not any(map(str.isalnum, bare))):
            return None
        return self._meant(written) or _path(bare) or clean_name(bare)

    def _meant(self, written: str) -> str | None:
        """The page of the site that is named, exactly, loosely or in words."""
        bare = _bare(written)
        return (
            self._known(written)
            or self._variants.get(_loose(bare))
            or self._variants.get(read([bare]).casefold() or "/")
        )

    def _known(self, word: str) -> str | None:
        """The page of the site that a word names exactly, or by its address."""
        for name in (word.strip(), _bare(word)):
            if name in self._pages:
                return name
        path = _path(word)
        return path if path in self._pages else None


def _parts(text: str) -> list[str]:
    """Cut at arrows, or at commas, or at line ends: whichever there is."""
    for cut in (_ARROW, _COMMA):
        if cut.search(text):
            return [part.strip() for part in cut.split(text)]
    return [part.strip() for part in text.splitlines()]


def _path(word: str) -> str | None:
    """What is written like a page's address, whether or not the site has a page there."""
    bare = _bare(word)
    if "://" in bare:
        return clean_name(_address(bare))
    return clean_name(bare) if bare.startswith("/") and len(bare) > 1 else None


def _address(url: str) -> str:
    try:
        return urlsplit(url).path.rstrip("/") or "/"
    except ValueError:
        return "/"


def _bare(written: str) -> str:
    """Without what wraps a name in running text."""
    return written.strip().strip(_WRAPPING).rstrip(".,:;!?").strip(_WRAPPING).strip()


def _loose(name: str) -> str:
    return name.casefold().strip("/")


def _json_list(text: str) -> list[str] | None:
    """The first JSON array of strings, in whatever document."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        try:
            document, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        found = _strings(document)
        if found is not None:
            return found
    return None


def _strings(document: object) -> list[str] | None:
    """Depth first; a list of objects counts by the first string of each, such as {"page": ..., "why": ...}."""
    if isinstance(document, dict):
        return next((found for value in document.values() if (found := _strings(value)) is not None), None)
    if not isinstance(document, list) or not document:
        return None
    if isinstance(document[0], list):
        return _strings(document[0])
    items = [
        next((v for v in item.values() if isinstance(v, str)), None) if isinstance(item, dict) else item
        for item in document
    ]
    strings = [item for item in items if isinstance(item, str)]
    return strings if len(strings) == len(items) else None
