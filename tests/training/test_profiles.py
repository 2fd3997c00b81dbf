"""What a bundle says of its clusters, against counts done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from browsing.profiles import Journey
from browsing.vocabulary import Vocabulary
from tests.training.datasets import MONDAY
from training.dataset import Sample
from training.profiles import clusters_of, prior_of, profiles_of, reference_of, shown_pages

WORDS = Vocabulary(["/cart", "/", "/bags", "/bags/tote-mini", "/shoes", "/shoes/boot"])
OUTCOMES = {"cart": ("/cart",)}
NO_JOURNEYS: list[tuple[Journey, ...]] = [(), ()]


def person(history: list[tuple[str, ...]], following: tuple[str, ...]) -> Sample:
    """Somebody of their own: equal samples are one user's."""
    times = tuple(MONDAY.replace(day=3 + day) for day in range(len(history) + 1))
    return Sample(repr((history, following)), tuple(history), times[:-1], following, times[-1])


PEOPLE = [
    person([("/bags", "/bags/tote-mini")], ("/bags", "/cart")),
    person([("/bags", "/bags/tote-mini"), ("/",)], ("/bags",)),
    person([("/", "/shoes", "/nowhere")], ("/shoes", "/shoes/boot")),
]
OWN = np.array([0, 0, 1])


def test_a_profile_by_hand() -> None:
    profiles = profiles_of(PEOPLE, OWN, WORDS, OUTCOMES, NO_JOURNEYS, min_users=1)
    bags = profiles.clusters[0]
    assert bags.share == pytest.approx(2 / 3)
    assert (bags.visits.users, bags.visits.sessions, bags.visits.sessions_per_user) == (2, 5, 2.5)
    length = bags.visits.length
    assert length.mean == pytest.approx(8 / 5)
    assert (length.lower_quartile, length.median, length.upper_quartile) == (1, 2, 2)
    # Of the views after the first sessions (/bags /cart, and / /bags) two were of pages seen before.
    assert bags.visits.repeated == pytest.approx(2 / 4)
    assert bags.outcomes["cart"].rate == 0.5
    assert bags.outcomes["cart"].everybody == pytest.approx(1 / 3)
    shares = {page.page: (page.share, page.lift) for page in bags.typical}
    assert shares["/bags"] == pytest.approx((4 / 5, (4 / 5) / (4 / 7)))
    assert shares["/"] == pytest.approx((1 / 5, (1 / 5) / (2 / 7)))
    assert bags.typical[0].page == "/bags"
    assert "/nowhere" not in {page.page for cluster in profiles.clusters for page in cluster.typical}
    assert all(page.lift > 1 for page in bags.distinctive)
    assert "/" not in {page.page for page in bags.distinctive}
    lifts = [page.lift for page in bags.distinctive]
    assert lifts == sorted(lifts, reverse=True)


def test_a_page_of_too_few_users_is_not_shown() -> None:
    profiles = profiles_of(PEOPLE, OWN, WORDS, OUTCOMES, NO_JOURNEYS, min_users=2)
    assert {page.page for page in profiles.clusters[0].typical} == {"/bags", "/bags/tote-mini"}
    assert profiles.clusters[1].typical == ()
    assert profiles.min_users == 2


def test_journeys_are_those_of_the_cluster() -> None:
    journeys = [(Journey(pages=("/bags",), weight=1.0),), ()]
    profiles = profiles_of(PEOPLE, OWN, WORDS, OUTCOMES, journeys)
    assert [cluster.journeys for cluster in profiles.clusters] == journeys


def test_the_manifests_clusters_have_the_profiles_names() -> None:
    # Enough of them that their tastes are no accident.
    people = [replace(sample, user_id=f"{sample.user_id} {copy}") for copy in range(6) for sample in PEOPLE]
    own = np.tile(OWN, 6)
    profiles = profiles_of(people, own, WORDS, OUTCOMES, NO_JOURNEYS)
    bags, shoes = clusters_of(profiles, people, own, WORDS, OUTCOMES)
    assert (bags.name, shoes.name) == tuple(c.built_name for c in profiles.clusters)
    assert [name.split(":")[0] for name in (bags.name, shoes.name)] == ["bags", "shoes"]
    assert bags.typical_pages == ("/bags", "/bags/tote-mini")
    assert [bags.share, shoes.share] == pytest.approx([2 / 3, 1 / 3])


def secretive(few: int) -> tuple[list[Sample], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Two clusters of 12; `few` of the second spend their visits on two pages that the first knows well."""
    known, rare = ("/bags", "/bags/tote-mini"), ("/shoes", "/shoes/boot")
    people, own = [], []
    for kind, sessions in ((0, [known, rare]), (1, [("/", "/"), ("/",)])):
        for user in range(12):
            first, second = [rare, rare * 2] if kind and user < few else sessions
            people.append(replace(person([first], second), user_id=f"{kind}-{user}"))
            own.append(kind)
    return people, np.array(own)


@pytest.mark.parametrize(("few", "told"), [(4, False), (5, True)])
def test_nothing_tells_of_a_page_that_too_few_of_the_clusters_own_users_saw(few: int, told: bool) -> None:
    """All users together saw it often enough: it is in the vocabulary."""
    people, own = secretive(few)
    profiles = profiles_of(people, own, WORDS, OUTCOMES, NO_JOURNEYS, min_users=5)
    _, other = clusters_of(profiles, people, own, WORDS, OUTCOMES)
    profile = profiles.clusters[1]
    pages = {page.page for page in (*profile.typical, *profile.distinctive)}
    assert ({"/shoes", "/shoes/boot"} <= pages) is told
    assert ("/shoes" in other.typical_pages) is told
    assert pages | set(other.typical_pages) <= shown_pages(people, own, 2, 5)[1]
    assert shown_pages(people, own, 2, 5)[0] == {"/bags", "/bags/tote-mini", "/shoes", "/shoes/boot"}


def test_a_first_session_of_few_users_is_not_the_priors_journey() -> None:
    often, rare = ("/", "/bags"), ("/", "/bags", "/shoes")
    for users, expected in ((4, often), (5, rare)):
        people = [
            replace(person([session], ("/",)), user_id=f"{session}-{user}")
            for session, count in ((rare, users), (often, 3))
            for user in range(count)
        ]
        assert prior_of(people, WORDS, OUTCOMES, min_users=5).next_session == expected
    assert prior_of(people[:4], WORDS, OUTCOMES, min_users=5).next_session == ()


def test_a_cluster_without_users_has_an_empty_profile() -> None:
    profiles = profiles_of(PEOPLE, np.array([0, 0, 0]), WORDS, OUTCOMES, NO_JOURNEYS)
    empty = profiles.clusters[1]
    assert (empty.share, empty.visits.users, empty.visits.length.mean, empty.typical) == (0, 0, 0, ())
    assert empty.outcomes["cart"].rate == 0
    assert empty.built_name


def test_the_reference_holds_shares() -> None:
    reference = reference_of(PEOPLE, OWN, 2, WORDS, OUTCOMES)
    assert reference.pages[1] == {"/shoes": 0.5, "/": 0.25, "/shoes/boot": 0.25}
    assert reference.outcome_rates == {"cart": pytest.approx(1 / 3)}
    assert list(reference.cluster_shares) == pytest.approx([2 / 3, 1 / 3])


def test_the_prior_counts_first_sessions() -> None:
    prior = prior_of([*PEOPLE, PEOPLE[0]], WORDS, OUTCOMES)
    assert prior.sessions == 3, "a user with two samples counts once"
    assert prior.next_session == ("/bags", "/bags/tote-mini")
    assert {p.page: p.probability for p in prior.pages} == {
        "/bags": pytest.approx(2 / 3),
        "/bags/tote-mini": pytest.approx(2 / 3),
        "/": pytest.approx(1 / 3),
        "/shoes": pytest.approx(1 / 3),
    }
    assert prior.outcomes == {"cart": 0.0}
