"""Whatever a model writes becomes a session, and what it invents is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from browsing.pages import SPECIAL_TOKENS
from training.baselines.text.parse import Reader
from training.baselines.text.prompts import ASKED, GIVEN, written

PAGES = ("/", "/bags", "/bags/tote-mini", "/cart", "/purchase", "/shoes")
READER = Reader(PAGES)


@pytest.mark.parametrize(
    ("answer", "session"),
    [
        ("[BOS] /bags /bags/tote-mini /cart [EOS]", "/bags /bags/tote-mini /cart"),
        ("[BOS] /bags,/cart,/made-up [EOS]\n[BOS] /shoes [EOS]", "/bags /cart /made-up"),
        ("[BOS] /bags -> /cart -> /shoes", "/bags /cart /shoes"),
        ("**Next session:** [BOS] bags/tote-mini BAGS/ overview [EOS] as before", "/bags/tote-mini /bags overview"),
        (f"{ASKED}\n[BOS] /shoes [EOS]", "/shoes"),
        ("[BOS] /bags [EOS]\nPredicted next session: [BOS] /shoes /cart [EOS]", "/shoes /cart"),
        (f"{GIVEN}\n[BOS] /bags [EOS]\n{ASKED}\n\n[BOS] /shoes [EOS]", "/shoes"),
        ("/bags -> /bags/tote-mini → /cart", "/bags /bags/tote-mini /cart"),
        ("/bags\n/made-up\n/cart", "/bags /made-up /cart"),
        ("Next session: /bags, `/shoes`, /cart.", "/bags /shoes /cart"),
        ("Sure, here:\n1. /bags - he likes them, always\n2) /nowhere (a guess)\n3. **/cart**", "/bags /nowhere /cart"),
        ("- Product page: popular\n- Cart", "Product_page /cart"),
        ("Home -> Bags -> Bags Tote Mini -> Checkout Page", "/ /bags /bags/tote-mini Checkout_Page"),
        ("The user will visit /bags, and then maybe (/nowhere) or /cart.", "/bags /nowhere /cart"),
        ("https://shop.example/bags/?x=1, https://shop.example/no", "/bags /no"),
        ('```json\n{"next_session": ["/bags", "[EOS]", "/made/up"]}\n```', "/bags /made/up"),
        ('[{"page": "/bags", "why": "x"}, {"page": "/cart"}]', "/bags /cart"),
        ('[["/bags"], ["/cart"]]', "/bags"),
        ("['/bags', '/nowhere']", "/bags /nowhere"),
        ("<think>/shoes it is, or /shoes/boot</think>\n/cart", "/cart"),
        ("<think>/shoes and no end", ""),
        ("/bags /bags /cart /bags", "/bags /cart /bags"),
        ("I cannot know that.", ""),
        ("Yes, perhaps, certainly", ""),
        ("", ""),
        ("[BOS] [EOS]", ""),
        ("[", ""),
    ],
)
def test_forms_of_answers(answer: str, session: str) -> None:
    assert READER.session(answer) == tuple(session.split())


def test_a_session_ends_somewhere() -> None:
    assert Reader(PAGES, 3).session("/bags /cart " * 50) == ("/bags", "/cart", "/bags")


def test_names_with_punctuation_are_names() -> None:
    reader = Reader(["Jupiter_(planet)", "Washington,_D.C.", "Brazil"])
    expected = ("Jupiter_(planet)", "Washington,_D.C.", "Brazil")
    assert reader.session("[BOS] Jupiter_(planet) Washington,_D.C. Brazil [EOS]") == expected
    assert reader.session("Jupiter_(planet) -> Washington,_D.C. -> brazil") == expected


def test_a_loose_name_that_means_two_pages_means_neither() -> None:
    assert Reader(["/Bags", "/bags"]).session("[BOS] bags /Bags [EOS]") == ("bags", "/Bags")


@given(st.lists(st.sampled_from(PAGES), min_size=1, max_size=20))
def test_the_form_of_the_prompt_is_read_exactly(session: list[str]) -> None:
    once = [page for place, page in enumerate(session) if session[place - 1 : place] != [page]]
    assert READER.session(written(session)) == tuple(once)


@given(st.text(alphabet=st.characters(), max_size=200) | st.text(alphabet='[]{}",:/ BOSE->1.\n', max_size=60))
def test_any_text_gives_a_session_of_names(answer: str) -> None:
    session = READER.session(answer)
    assert len(session) <= 20
    assert all(page and page not in SPECIAL_TOKENS and not any(map(str.isspace, page)) for page in session)
