from __future__ import annotations

import pytest

from browsing.encoders.names import opaque, opaque_share, opaque_warning, read


def test_pages_read_as_words() -> None:
    assert read(["/bags/tote-mini", "/", "/cart"]) == "bags tote mini, home, cart"
    assert read(["[UNK]", "/Obi-Wan_Kenobi"]) == "Obi Wan Kenobi"


@pytest.mark.parametrize(
    "page", ["/item/4711", "/category/982926", "4711", "/p/B00X4WHP5E", "/c1/p17", "/n/9f86d081", "/a1b2c3/d4e5f6"]
)
def test_numbers_and_hashes_are_opaque(page: str) -> None:
    assert opaque(page)


@pytest.mark.parametrize(
    "page",
    ["/", "/bags/tote-mini", "/bags/tote-2", "/facade", "/decade", "/mp3-players", "/größe", "/4711/bags/red"],
)
def test_words_are_not(page: str) -> None:
    assert not opaque(page)


def test_the_share_is_of_the_pages_that_are_real() -> None:
    assert opaque_share(["[UNK]", "/", "/item/1", "/item/2", "/cart"]) == 0.5
    assert opaque_share([]) == 0


def test_only_names_that_mostly_say_nothing_are_warned_about() -> None:
    assert opaque_warning(["/", "/item/1", "/item/2", "/cart"]) is None
    warning = opaque_warning(["/", *(f"/item/{i}" for i in range(19))])
    assert warning is not None
    assert "95%" in warning
    assert "--encoder predictor" in warning
