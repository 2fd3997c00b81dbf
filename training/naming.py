"""Names for clusters without a language model: what their users look at, and where that is not enough, what they do.

A cluster is first named by the sections or pages it views more than others. Clusters with the same taste are told apart
by the behaviour, or else the page, in which each differs most from the others of that taste (`contrast`, Cohen's d).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from browsing.encoders.names import read
from browsing.profiles import NAME_LENGTH
from training.behaviour import WORDS, Floats, Visitor, behaviours, contrast

LIFT = 1.3
"""A section or page names a cluster if its share of the views is so many times that of the average cluster."""
WEIGHTY = 0.1
"""And at least this share of the cluster's views."""
PREFERENCE = 1.5
"""Behaviours tell more than single pages: their contrast counts so many times."""
STRONG = 0.5 * PREFERENCE
"""The strength (a contrast of a medium 0.5) from which a behaviour is worth a word though the name is distinct."""
PAGE_CANDIDATES = 20
PHRASE = 25

Table = dict[str, Floats]
"""Per trait, a number per visitor."""


def names_of(
    groups: Sequence[Sequence[Visitor]],
    tables: Sequence[Table],
    pages: Iterable[str],
    outcomes: Mapping[str, Sequence[str]],
    min_users: int = 5,
) -> tuple[str, ...]:
    """A distinct name of at most 40 characters for every group. `tables`: what they do (`table_of`); `pages`: those
    that may be named at all; `outcomes`' pages name nothing, since every kind of visitor may reach them. A section or
    page names a group only if at least `min_users` of the group's own users saw it."""
    if len(groups) == 1:
        return ("all visitors",)
    known = frozenset(pages) - {page for own in outcomes.values() for page in own}
    topics = topics_of(groups, known, min_users)
    names = [""] * len(groups)
    for shared in dict.fromkeys(topics):
        places = [k for k, own in enumerate(topics) if own == shared]
        if len(places) == 1 and shared:
            others = [tables[k] for k in range(len(groups)) if k != places[0]]
            strong = [phrase for d, phrase in _phrases(tables[places[0]], others) if d >= STRONG]
            names[places[0]] = _join(shared, strong[0] if strong else "")
            continue
        if len(places) == 1:  # no pages set it apart; what it does may
            others = [tables[k] for k in range(len(groups)) if k != places[0]]
            told = {places[0]: next((phrase for _, phrase in _phrases(tables[places[0]], others)), "")}
        else:
            told = _tell_apart({k: tables[k] | _presence(groups, places, k, known) for k in places}, shared, min_users)
        for k in places:
            names[k] = _join(shared, told[k])
    return _distinct(names)


def strong_behaviours(tables: Sequence[Table]) -> list[list[str]]:
    """Per group, in words, every behaviour in which it differs clearly from the rest, the clearest first."""
    return [
        [phrase for d, phrase in _phrases(own, [t for j, t in enumerate(tables) if j != k]) if d >= STRONG]
        for k, own in enumerate(tables)
    ]


def topics_of(groups: Sequence[Sequence[Visitor]], known: frozenset[str], min_users: int) -> list[str]:
    """Per group, the sections that its visitors favour, at most two, or else the pages; empty where they favour none.

    A section is a page's first folder. What is favoured has a share of the group's views that is `LIFT` times that of
    the average group, and visitors whose own shares differ from the others' by more than chance; the favourites are
    ordered by share times the logarithm of the lift. At least `min_users` of the group saw it.
    """
    topics = [""] * len(groups)
    for unit in (_section, _same):
        own = [[_shares(visitor, known, unit) for visitor in group] for group in groups]
        views = [_views(group, known, unit) for group in groups]
        shares = [{u: n / max(sum(counts.values()), 1) for u, n in counts.items()} for counts in views]
        for k in range(len(groups)):
            others = [visitor for j, group in enumerate(own) if j != k for visitor in group]
            found = []
            for name, share in shares[k].items():
                lift = share / (sum(s.get(name, 0.0) for s in shares) / len(groups))
                if share < WEIGHTY or lift < LIFT or sum(name in visitor for visitor in own[k]) < min_users:
                    continue
                if contrast(_column(own[k], name), _column(others, name)) > 0:
                    found.append((share * math.log(lift), name))
            found.sort(key=lambda item: (-item[0], item[1]))
            if found and not topics[k]:
                topics[k] = _words([name for score, name in found[:2] if score >= found[0][0] / 3], NAME_LENGTH)
    return topics


def _section(page: str) -> str:
    parts = [part for part in page.split("/") if part]
    return parts[0] if parts else page


def _same(page: str) -> str:
    return page


def _views(group: Sequence[Visitor], known: frozenset[str], unit: Callable[[str], str]) -> Counter[str]:
    return Counter(unit(page) for v in group for session in v.sessions for page in session if page in known)


def _shares(visitor: Visitor, known: frozenset[str], unit: Callable[[str], str]) -> dict[str, float]:
    counts = _views([visitor], known, unit)
    return {name: n / counts.total() for name, n in counts.items()}


def _column(visitors: Sequence[Mapping[str, float]], name: str) -> Floats:
    return np.array([shares.get(name, 0.0) for shares in visitors])


def table_of(group: Sequence[Visitor], outcomes: Mapping[str, Sequence[str]]) -> Table:
    """The group's behaviours, [visitors] each."""
    rows = [behaviours(visitor, outcomes) for visitor in group]
    return {name: np.array([row[name] for row in rows], np.float64) for name in WORDS}


def _presence(groups: Sequence[Sequence[Visitor]], places: Sequence[int], k: int, known: frozenset[str]) -> Table:
    """For the pages that the groups at `places` see most, whether each visitor of group k saw them."""
    seen: Counter[str] = Counter()
    for place in places:
        for visitor in groups[place]:
            seen.update({page for session in visitor.sessions for page in session if page in known})
    top = sorted(seen, key=lambda page: (-seen[page], page))[:PAGE_CANDIDATES]
    own = [frozenset(page for session in visitor.sessions for page in session) for visitor in groups[k]]
    return {f"page:{page}": np.array([float(page in pages) for pages in own]) for page in top}


def _phrases(own: Table, others: Sequence[Table], min_users: int = 1) -> list[tuple[float, str]]:
    """(strength, words) for every trait in which `own` differs from all `others` together, strongest first; a page only
    if at least `min_users` saw it."""
    found = []
    for trait, values in own.items():
        d = contrast(values, np.concatenate([table[trait] for table in others])) if others else 0.0
        if trait in WORDS and d:
            found.append((PREFERENCE * abs(d), WORDS[trait][d < 0]))
        elif d > 0 and values.sum() >= min_users:
            words = _words([trait.removeprefix("page:")], PHRASE)
            found.append((d, words))
    return sorted(((d, words) for d, words in found if words), key=lambda item: (-item[0], item[1]))


def _tell_apart(tables: Mapping[int, Table], shared: str, min_users: int) -> dict[int, str]:
    """One phrase per group, none twice: the strongest contrasts of all are given out first."""
    offers = [
        (strength, phrase, k)
        for k, own in tables.items()
        for strength, phrase in _phrases(own, [table for j, table in tables.items() if j != k], min_users)
        if phrase != shared
    ]
    told: dict[int, str] = {}
    for _, phrase, k in sorted(offers, key=lambda offer: (-offer[0], offer[2], offer[1])):
        if k not in told and phrase not in told.values():
            told[k] = phrase
    return {k: told.get(k, "") for k in tables}


def _words(pages: Sequence[str], length: int) -> str:
    """For example "bags, tote mini": the pages' words, each once, as far as they fit; never empty for a page."""
    parts: list[str] = []
    used: set[str] = set()
    for page in pages:
        words = [word for word in read([page]).split() if word not in used]
        text = " ".join(words)
        if text and len(", ".join([*parts, text])) <= length:
            parts.append(text)
            used.update(words)
    return ", ".join(parts) or (_cut(read(pages[:1]), length) if pages else "")


def _join(shared: str, phrase: str) -> str:
    if not shared or not phrase:
        return _cut(shared or phrase, NAME_LENGTH)
    return f"{_cut(shared, NAME_LENGTH - len(phrase) - 2)}: {phrase}"


def _cut(text: str, length: int) -> str:
    """At most `length` characters, between words where there is a space to cut at."""
    if len(text) <= length:
        return text
    head = text[: length + 1].rsplit(" ", 1)[0]
    return (head if len(head) <= length else text[:length]).rstrip(" ,:")


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Empty names become "mixed visits"; a name that is taken gets a number."""
    taken: list[str] = []
    for name in names:
        base = name or "mixed visits"
        candidate, number = base, 1
        while candidate in taken:
            number += 1
            candidate = f"{_cut(base, NAME_LENGTH - 1 - len(str(number)))} {number}"
        taken.append(candidate)
    return tuple(taken)
