"""Completion against the plain definition of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.console.completion import Completion

PAGES = ("/cart", "/", "/bags", "/bags/tote", "/shoes/tote-mini", "/Bags/Größe", "/a/cart")

names = st.text(st.characters(exclude_categories=["Z", "C"]) | st.sampled_from("/abAB"), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("/bags", ["/bags", "/bags/tote", "/Bags/Größe"]),
        ("/BAGS/g", ["/Bags/Größe"]),
        ("tote", ["/bags/tote", "/shoes/tote-mini"]),
        ("cart", ["/cart", "/a/cart"]),
        (" cart ", ["/cart", "/a/cart"]),
        ("grösse", ["/Bags/Größe"]),
        ("", list(PAGES)),
        ("/bags /cart", []),
        ("tote\n/shoes", []),
        ("nothing", []),
    ],
)
def test_pages_that_begin_so_come_before_those_that_hold_it(typed: str, expected: list[str]) -> None:
    assert Completion(PAGES).find(typed, 50) == expected
    assert Completion(PAGES).find(typed, 1) == expected[:1]


def test_a_vocabulary_without_pages() -> None:
    assert Completion(()).find("", 5) == Completion(()).find("a", 5) == []


@given(st.lists(names, max_size=30, unique=True), names | st.just(""), st.integers(1, 10))
@settings(deadline=None, max_examples=200)
def test_as_the_definition_says(pages: list[str], typed: str, limit: int) -> None:
    pages = [page for page in pages if not any(letter.isspace() for letter in page)]
    text = typed.strip().casefold()
    first = [page for page in pages if page.casefold().startswith(text)]
    others = [page for page in pages if text in page.casefold() and page not in first]
    expected = [] if any(letter.isspace() for letter in text) else [*first, *others][:limit]
    assert Completion(pages).find(typed, limit) == expected
