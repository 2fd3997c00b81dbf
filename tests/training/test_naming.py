"""Names from pages, and from behaviour where the pages are the same."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.datasets import MONDAY
from training.behaviour import Session, Visitor, visitors
from training.dataset import Sample
from training.naming import names_of, strong_behaviours, table_of, topics_of

OUTCOMES = {"cart": ("/cart",)}


def group(kind: int, *sessions: Session, users: int = 12) -> list[Visitor]:
    """`users` people who all visit alike."""
    return [Visitor(f"{kind}-{u}", sessions, sessions[-1:]) for u in range(users)]


def names(*groups: list[Visitor], min_users: int = 5) -> tuple[str, ...]:
    pages = {page for people in groups for v in people for session in v.sessions for page in session}
    return names_of(groups, [table_of(people, OUTCOMES) for people in groups], pages, OUTCOMES, min_users)


def test_tastes_are_named_by_their_section() -> None:
    bags = group(0, ("/bags", "/bags/tote"), ("/bags", "/bags/mini"))
    shoes = group(1, ("/shoes", "/shoes/boot"), ("/shoes", "/shoes/loafer"))
    assert names(bags, shoes) == ("bags", "shoes")


def test_a_strong_behaviour_is_told_beside_a_taste() -> None:
    bags = group(0, ("/bags", "/bags/tote"), ("/bags", "/bags/mini"))
    shoes = group(1, *[("/shoes", "/shoes/boot", "/shoes/loafer", "/shoes/pump")] * 2)
    first, second = names(bags, shoes)
    assert first.startswith("bags: ")
    assert second.startswith("shoes: ")


def test_the_same_taste_is_told_apart_by_behaviour() -> None:
    brief = group(0, *[("/bags", "/bags/tote")] * 2)
    long = group(1, *[("/bags", "/bags/tote", "/bags", "/bags/tote", "/bags", "/bags/tote")] * 2)
    shoes = group(2, ("/shoes", "/shoes/boot"), ("/shoes", "/shoes/loafer"))
    found = names(brief, long, shoes)
    assert found[0].startswith("bags: ")
    assert found[1].startswith("bags: ")
    assert len(set(found)) == 3


def test_without_any_taste_behaviour_is_the_name() -> None:
    pages = [f"/p{i}/x" for i in range(12)]
    generator = np.random.default_rng(0)

    def people(kind: int, length: int) -> list[Visitor]:
        return [
            Visitor(f"{kind}-{u}", (tuple(generator.choice(pages, length)), tuple(generator.choice(pages, length))), ())
            for u in range(60)
        ]

    assert names(people(0, 2), people(1, 8)) == ("short visits", "long visits")


def test_an_outcome_page_names_nothing() -> None:
    found = names(group(0, ("/cart", "/")), group(1, ("/bags", "/bags/tote")))
    assert "cart" not in found[0].replace("adds to cart", "")


@pytest.mark.parametrize(("users", "named"), [(4, False), (5, True)])
def test_a_section_names_only_whom_enough_of_saw_it(users: int, named: bool) -> None:
    bags = group(0, ("/bags", "/bags/tote"), ("/bags", "/bags/mini"))
    few = group(1, ("/shoes", "/shoes/boot") * 4, users=users) + group(2, ("/bags", "/bags/tote"), users=12 - users)
    known = frozenset({"/bags", "/bags/tote", "/bags/mini", "/shoes", "/shoes/boot"})
    assert topics_of([bags, few], known, min_users=5)[1] == ("shoes" if named else "")
    assert topics_of([bags, few], known, min_users=4)[1] == "shoes"


@pytest.mark.parametrize(("users", "named"), [(4, False), (5, True)])
def test_a_page_tells_apart_only_whom_enough_of_saw_it(users: int, named: bool) -> None:
    """Two groups with one taste that do the same on other pages: nothing else tells the second apart."""
    often, rare = [("/bags", "/bags/tote"), ("/bags", "/bags/tall")], [("/bags", "/bags/tote"), ("/bags", "/bags/mini")]
    first, shoes = group(0, *often), group(1, ("/shoes", "/shoes/boot"), ("/shoes", "/shoes/loafer"))
    second = group(2, *rare, users=users) + group(3, *often, users=6)
    assert names(first, second, shoes)[1] == ("bags: bags mini" if named else "bags")
    assert names(first, second, shoes, min_users=4)[1] == "bags: bags mini"


def test_names_are_short_and_distinct_whatever_the_pages() -> None:
    people = [group(k, (f"/{letter * 60}", f"/{letter * 60}/{letter * 30}")) for k, letter in enumerate("aab")]
    people.append(group(3, ("/x",), users=1))
    people.append(group(4, ("/x",), users=1))
    found = names(*people)
    assert len(set(found)) == len(found) == 5
    assert all(0 < len(name) <= 40 for name in found)


def test_one_cluster_is_all_visitors() -> None:
    assert names(group(0, ("/bags",))) == ("all visitors",)


def test_strong_behaviours_are_told_for_both_sides() -> None:
    tables = [table_of(group(k, *[("/a", "/b", "/c")[: 1 + 2 * k]] * 2), OUTCOMES) for k in (0, 1)]
    brief, long = strong_behaviours(tables)
    assert "short visits" in brief
    assert "long visits" in long


def test_grouping_samples_and_naming_agree() -> None:
    days = (MONDAY, MONDAY.replace(day=3))
    samples = [
        Sample(f"u{u}", ((("/bags", "/bags/tote") if u % 2 else ("/shoes", "/shoes/boot")),), days[:1], ("/",), days[1])
        for u in range(20)
    ]
    groups = visitors(samples, np.array([u % 2 for u in range(20)]), 2)
    found = names(*groups)
    assert found == ("shoes", "bags")
