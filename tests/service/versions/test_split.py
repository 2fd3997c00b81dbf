"""The share of a canary: as large as it should be, always the same users, and others for every experiment."""

from __future__ import annotations

import math

import pytest

from service.settings import Settings
from service.versions.split import chosen, position, split_of

USERS = [f"user-{i}" for i in range(20_000)]
SALT = "a" * 64


def chosen_of(share: float, salt: str = SALT) -> set[str]:
    return {user for user in USERS if chosen(user, salt, share)}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_the_share_is_as_large_as_chance_allows(share: float) -> None:
    """Within four standard deviations of the binomial."""
    deviation = math.sqrt(len(USERS) * share * (1 - share))
    assert abs(len(chosen_of(share)) - share * len(USERS)) < 4 * deviation


def test_nobody_and_everybody() -> None:
    assert chosen_of(0.0) == set()
    assert chosen_of(1.0) == set(USERS)


def test_a_larger_share_keeps_those_of_a_smaller_one() -> None:
    assert chosen_of(0.05) < chosen_of(0.1) < chosen_of(0.6)


def test_two_experiments_are_independent() -> None:
    """The second canary's users are no selection of the first one's."""
    first, second = chosen_of(0.5), chosen_of(0.5, "b" * 64)
    assert abs(len(first & second) - 5_000) < 4 * math.sqrt(20_000 * 0.25 * 0.75)


def test_positions_are_uniform() -> None:
    counts = [0] * 20
    for user in USERS:
        counts[int(position(user, SALT) * 20)] += 1
    assert sum((count - 1_000) ** 2 / 1_000 for count in counts) < 43.8, "chi-squared, 19 degrees, p = 0.001"


def test_the_same_in_every_process_and_release() -> None:
    """Were this to change, every running experiment would be mixed anew by an update."""
    assert position("u-17", SALT) == pytest.approx(KNOWN["u-17"], abs=1e-12)
    assert position("ü \ud800", SALT) == pytest.approx(KNOWN["ü \ud800"], abs=1e-12)


KNOWN = {"u-17": 0.8877049540113732, "ü \ud800": 0.8558293789880228}


def test_who_has_no_name_is_never_the_canarys() -> None:
    assert not chosen(None, SALT, 1.0)


def test_how_a_canary_is_written() -> None:
    assert split_of("2026-11=0.1") == ("2026-11", 0.1)
    assert split_of("v2=1") == ("v2", 1.0)
    for wrong in ("v2", "v2=", "=0.1", "v2=0", "v2=1.5", "v2=-0.1", "v2=nan", "v2=half", "../v2=0.1", "v2=x=0.1"):
        with pytest.raises(ValueError, match="letters" if "/" in wrong or "x=" in wrong else "share"):
            split_of(wrong)


def test_a_canary_needs_a_folder_and_engines_of_its_own() -> None:
    with pytest.raises(ValueError, match="HETLM_BUNDLES"):
        Settings(canary="v2=0.1")
    with pytest.raises(ValueError, match="vllm-server"):
        Settings.model_validate(
            {"bundles": ".", "canary": "v2=0.1", "engine": "vllm-server", "engine_urls": "http://a:1"}
        )
    with pytest.raises(ValueError, match="both named"):
        Settings.model_validate({"bundles": ".", "bundle": "v1"})
    assert Settings.model_validate({"bundles": ".", "canary": "v2=0.25"}).canary == "v2=0.25"
