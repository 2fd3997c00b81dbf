"""What a section of the report is made of. Texts are plain: the template escapes every one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from markupsafe import Markup

from browsing.profiles import ClusterProfile

NONE = "–"


@dataclass(frozen=True, slots=True)
class Words:
    """Paragraphs. `strong`: the page's main message."""

    kind: ClassVar[str] = "words"
    paragraphs: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The first column names its row; the others are numbers, right-aligned, unless they are among `texts`.

    `marked`: rows to stand out. `folded`: shown on demand.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = ()
    marked: tuple[int, ...] = ()
    note: str = ""
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing. `alt`: what it shows, for who cannot see it. `legend`: (number of the series' colour, its name)."""

    kind: ClassVar[str] = "figure"
    svg: Markup
    caption: str
    legend: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not shown, and the command that would provide it."""

    kind: ClassVar[str] = "missing"
    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Clusters:
    """Profile cards. `names`: what each cluster is called, in the profiles' order."""

    kind: ClassVar[str] = "clusters"
    names: tuple[str, ...]
    profiles: tuple[ClusterProfile, ...]


Block = Words | Table | Figure | Missing | Clusters


@dataclass(frozen=True, slots=True)
class Section:
    """`key`: its anchor."""

    key: str
    title: str
    blocks: tuple[Block, ...]


def number(value: float | None, digits: int = 3) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def count(value: int | float) -> str:
    return f"{value:,.0f}"


def percent(value: float | None, digits: int = 1) -> str:
    return NONE if value is None else f"{100 * value:.{digits}f}%"


def interval(bounds: Sequence[float] | None, digits: int = 3) -> str:
    """ " [0.21, 0.25]", or nothing where there is none."""
    return "" if bounds is None else f" [{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def percents(bounds: Sequence[float] | None) -> str:
    """ " [21 to 25]", of shares, or nothing where there is none."""
    return "" if bounds is None else f" [{100 * bounds[0]:.0f} to {100 * bounds[1]:.0f}]"


def between(value: float | None, bounds: Sequence[float] | None, digits: int = 3) -> str:
    return number(value, digits) + interval(bounds, digits)
