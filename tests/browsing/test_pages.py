from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from browsing.pages import MAX_PAGE_LENGTH, SPECIAL_TOKENS, OutcomeRule, PageError, PageRules


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://shop.example/bags/tote-mini?utm_source=mail&gclid=1#top", "/bags/tote-mini"),
        ("https://shop.example/bags/", "/bags"),
        ("https://shop.example", "/"),
        ("/bags//tote", "/bags/tote"),
        ("https://shop.example/orders/1234567", "/orders/:id"),
        ("https://shop.example/u/9f1c2d3e-0000-4000-8000-123456789abc/edit", "/u/:uuid/edit"),
        ("https://shop.example/s/0123456789abcdef0123", "/s/:hash"),
        ("https://shop.example/2026/sale", "/2026/sale"),
        ("https://shop.example/caf%C3%A9/tote%20mini", "/café/tote_mini"),
        ("https://shop.example/basket", "/cart"),
        ("https://shop.example/checkout/thank-you", "/purchase"),
        ("Obi-Wan Kenobi", "Obi-Wan_Kenobi"),
    ],
)
def test_a_url_becomes_a_readable_page(url: str, page: str) -> None:
    assert PageRules().page(url) == page


def test_an_outcome_event_wins_over_its_url() -> None:
    assert PageRules().page("https://shop.example/bags/tote", "product_added_to_cart") == "/cart"
    assert PageRules().page(None, "checkout_completed") == "/purchase"


def test_events_that_are_no_view() -> None:
    rules = PageRules(ignore_events=("scroll",), view_events=None)
    assert rules.page("/a", "scroll") is None
    assert rules.page("/a", "page_viewed") == "/a"
    only = PageRules(view_events=("page_viewed",))
    assert only.page("/a", "click") is None
    assert only.page("/a", "product_added_to_cart") == "/cart"
    assert only.page("/a", None) == "/a"


@pytest.mark.parametrize(
    ("url", "reason"),
    [(None, "no page"), ("  ", "no page"), ("http://[::1/x", "malformed URL"), ("[PAD]", "reserved page name")],
)
def test_an_event_that_names_no_page_says_why(url: str | None, reason: str) -> None:
    with pytest.raises(PageError) as caught:
        PageRules().page(url)
    assert caught.value.reason == reason


def test_what_is_kept_of_a_url_can_be_chosen() -> None:
    rules = PageRules(keep_host=True, keep_query=("q",), lowercase=True, max_depth=1, fold=())
    assert rules.page("https://Shop.example/Search/All?q=Bag&utm=1") == "shop.example/search?q=bag"


@given(st.text(max_size=300))
def test_whatever_the_url_the_page_is_one_token(url: str) -> None:
    try:
        page = PageRules().page(url)
    except PageError:
        return
    assert page is not None
    assert 0 < len(page) <= MAX_PAGE_LENGTH
    assert page not in SPECIAL_TOKENS
    assert not any(c.isspace() for c in page)


@given(st.text(alphabet="ab/%20?#:é", max_size=30))
def test_a_page_of_a_page_is_itself(url: str) -> None:
    """Requests may carry pages that already went through the rules."""
    rules = PageRules(source="url")
    try:
        page = rules.page(url)
    except PageError:
        return
    if page is not None and not set("%?#:") & set(page):
        assert rules.page(page) == page


def test_rules_survive_their_file_and_have_an_identity(tmp_path: Path) -> None:
    rules = PageRules(keep_query=("id",), outcomes={"cart": OutcomeRule(page="/bag", events=("add",))})
    rules.save(tmp_path / "pages.json")
    loaded = PageRules.load(tmp_path / "pages.json")
    assert loaded == rules
    assert loaded.version == rules.version != PageRules().version


@pytest.mark.parametrize(
    "wrong",
    [
        {"fold": [{"pattern": "(", "placeholder": "x"}]},
        {"outcomes": {"refund": {"page": "/refund"}}},
        {"outcomes": {"cart": {"page": "[EOS]"}}},
        {"outcomes": {"cart": {"page": "my cart"}}},
        {"outcomes": {"cart": {"page": "/c", "events": ["x"]}, "purchase": {"page": "/p", "events": ["x"]}}},
        {"session_gap_minutes": 0},
        {"min_session_pages": 5, "max_session_pages": 4},
        {"typo": 1},
    ],
)
def test_contradictory_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PageRules.model_validate(wrong)
