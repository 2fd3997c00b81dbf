"""What the names of pages say: how a session reads as words, and whether there are words at all."""

from __future__ import annotations

import re
from collections.abc import Sequence

from browsing.pages import SPECIAL_TOKENS

OPAQUE_SHARE = 0.5
"""Where more of the pages than this have opaque names, an encoder that reads names is warned about."""

_CODE = re.compile(r"(?=.*[0-9])[0-9a-fA-F]{6,}|.*[0-9][^0-9]+[0-9].*")
"""A hash, or letters between digits."""


def words(page: str) -> list[str]:
    """`/bags/tote-mini` has the words bags, tote and mini."""
    return re.findall(r"[^\W_]+", page)


def read(pages: Sequence[str]) -> str:
    """A session as words: `/bags/tote-mini` reads "bags tote mini"; pages are parted by commas; `/` reads "home"."""
    return ", ".join(" ".join(words(page)) or "home" for page in pages if page not in SPECIAL_TOKENS)


def opaque(page: str) -> bool:
    """Whether at least half of a page's words are numbers or hashes: `/item/4711` is opaque, `/bags/tote-2` is not.

    A word counts as one if at least half of its characters are digits, if it is hexadecimal with a digit in it and at
    least six characters long, or if letters stand between digits (`B00X4WHP5E`).
    """
    found = words(page)
    codes = sum(2 * sum(map(str.isdigit, word)) >= len(word) or bool(_CODE.fullmatch(word)) for word in found)
    return bool(found) and 2 * codes >= len(found)


def opaque_share(pages: Sequence[str]) -> float:
    """The share of the pages whose names are opaque, in [0, 1]; 0 for no page. Special tokens are no pages."""
    real = [page for page in pages if page not in SPECIAL_TOKENS]
    return sum(map(opaque, real)) / len(real) if real else 0.0


def opaque_warning(pages: Sequence[str]) -> str | None:
    """What to tell someone who lets SBERT alone encode these pages, or None where their names can be read."""
    share = opaque_share(pages)
    if share <= OPAQUE_SHARE:
        return None
    return (
        f"{share:.0%} of the pages have names made of numbers or hashes, which say nothing to a sentence encoder: "
        "clusters from --encoder sbert will mean little; use --encoder predictor or markov, which know the pages from "
        "the sessions that they stand in, or auto, which finds out"
    )
