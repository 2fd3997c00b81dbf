"""Drift is seen, and what is none is not."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from browsing.bundle import Bundle
from service.monitoring.bins import PageBins
from service.monitoring.observer import Answered, Observer
from service.monitoring.psi import noise, psi, smoothed
from tests.service.monitoring.building import (
    CLUSTERS,
    CONFIDENCE,
    PAGES,
    UNKNOWN,
    USERS,
    Kind,
    Values,
    Watched,
    trained,
)

DISTRIBUTIONS = ("clusters", "confidence", "pages")


def ask(observer: Observer, kind: Kind, count: int, seed: int = 0) -> None:
    for answered in kind.requests(count, seed):
        observer.observe(answered, "online")


def excess(now: Values, distribution: str) -> float:
    """What the alert looks at."""
    key = ("online", distribution)
    return now["hetlm_drift_psi", *key] - now["hetlm_drift_psi_noise", *key]


def test_traffic_as_in_training_has_the_index_of_chance(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    ask(observer, Kind(), 3_000)
    now = watched.values
    for distribution in DISTRIBUTIONS:
        assert now["hetlm_drift_sample_size", "online", distribution] == pytest.approx(3_000)
        index, chance = (now[name, "online", distribution] for name in ("hetlm_drift_psi", "hetlm_drift_psi_noise"))
        assert 0 < index < 3 * chance < 0.02, distribution
    bins = 7  # six pages and the unknown; the vocabulary has no others
    assert now["hetlm_drift_psi_noise", "online", "clusters"] == pytest.approx(noise(2, USERS, 3_000))
    assert now["hetlm_drift_psi_noise", "online", "pages"] == pytest.approx(noise(bins, USERS, 3_000))


@pytest.mark.parametrize(
    ("kind", "distribution"),
    [
        (Kind(pages=(0.05, 0.03, 0.1, 0.25, 0.15, 0.37, 0.05)), "pages"),
        (Kind(pages=(*(0.5 * share for share in PAGES.values()), 0.525)), "pages"),
        (Kind(clusters=(0.3, 0.7)), "clusters"),
        (Kind(confidence=tuple(reversed(CONFIDENCE))), "confidence"),
    ],
)
def test_a_shift_is_a_major_one_and_of_the_right_thing(bundle: Bundle, kind: Kind, distribution: str) -> None:
    watched = Watched.new()
    ask(watched.monitoring.watch(trained(bundle)), kind, 1_000)
    now = watched.values
    assert {d: excess(now, d) > 0.25 for d in DISTRIBUTIONS} == {d: d == distribution for d in DISTRIBUTIONS}


def test_the_index_by_hand(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    for i in range(200):
        observer.observe(Answered(["/"], (int(i < 120), 0.9), {}), "online")
    expected = psi(smoothed(CLUSTERS, USERS), smoothed((0.4, 0.6), 200))
    assert watched.values["hetlm_drift_psi", "online", "clusters"] == pytest.approx(expected)
    assert expected == pytest.approx(0.3 * math.log(0.6 / 0.3) - 0.3 * math.log(0.4 / 0.7), abs=0.01)


def test_a_shift_fills_half_the_window_in_a_half_life(bundle: Bundle) -> None:
    watched = Watched.new(half_life=600.0)
    observer = watched.monitoring.watch(trained(bundle))
    for cluster in (0, 1):
        for _ in range(2_000 * (1 + 9 * (cluster == 0))):  # ten half-lives, then one
            watched.clock.now += 0.3
            observer.observe(Answered(["/"], (cluster, 0.9), {}), "online")
    now = watched.values
    half = psi(CLUSTERS, (0.5, 0.5))
    assert now["hetlm_drift_psi", "online", "clusters"] == pytest.approx(half, rel=0.01)
    assert 2_000 < now["hetlm_drift_sample_size", "online", "clusters"] < 2 * 600 / (0.3 * math.log(2)) * 1.01


def test_too_few_say_nothing(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    ask(observer, Kind(), 99)
    for name in ("hetlm_drift_psi", "hetlm_drift_psi_noise"):
        assert all(math.isnan(watched.values[name, "online", d]) for d in DISTRIBUTIONS)
    assert math.isnan(watched.values["hetlm_outcome_mean_probability", "online", "cart"])
    ask(observer, Kind(), 2, seed=1)
    assert all(watched.values["hetlm_drift_psi", "online", d] > 0 for d in DISTRIBUTIONS)
    assert all(math.isnan(watched.values["hetlm_drift_psi", "batch", d]) for d in DISTRIBUTIONS)


def test_files_do_not_hide_the_visitors(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    ask(observer, Kind(), 500)
    before = watched.values["hetlm_drift_psi", "online", "pages"]
    for answered in Kind(pages=(0, 0, 0, 0, 0, 0, 1), clusters=(0, 1)).requests(5_000):
        observer.observe(answered, "batch")
    assert watched.values["hetlm_drift_psi", "online", "pages"] == before
    assert watched.values["hetlm_drift_psi", "batch", "pages"] > 1


def test_mean_probabilities_stand_beside_the_base_rates(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    for i in range(300):
        outcomes = {"cart": 0.2 if i % 3 else 0.8, "purchase": 0.05}
        observer.observe(Answered(["/"], (0, 0.9), outcomes), "online")
        observer.observe(Answered(["/"], (0, 0.9), {}), "online")
    now = watched.values
    assert now["hetlm_outcome_mean_probability", "online", "cart"] == pytest.approx(0.4)
    assert now["hetlm_outcome_mean_probability", "online", "purchase"] == pytest.approx(0.05)
    assert (now["hetlm_outcome_base_rate", "cart"], now["hetlm_outcome_base_rate", "purchase"]) == (0.3, 0.1)


def test_pages_are_counted_by_whether_they_are_known(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    observer.observe(Answered(["/", "/never/seen", "/bags", "/"], (0, 0.9), {}), "online")
    observer.observe(Answered(["/never/seen"], None, {}), "batch")
    now = watched.values
    assert now["hetlm_visit_pages_total", "online", "known"] == 3
    assert now["hetlm_visit_pages_total", "online", "unknown"] == 1
    assert now["hetlm_visit_pages_total", "batch", "unknown"] == 1
    assert now["hetlm_reference_unknown_page_ratio",] == UNKNOWN


def test_confidence_is_a_histogram(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    for confidence in (0.55, 0.9, 0.91, 1.0):
        observer.observe(Answered(["/"], (1, confidence), {}), "online")
    observer.observe(Answered(["/"], None, {}), "online")
    now = watched.values
    buckets = {le: now["hetlm_selector_confidence_bucket", "online", le] for le in ("0.5", "0.6", "0.9", "0.95", "1.0")}
    assert buckets == {"0.5": 0, "0.6": 1, "0.9": 2, "0.95": 3, "1.0": 4}
    assert now["hetlm_selector_confidence_sum", "online"] == pytest.approx(3.36)
    assert now["hetlm_reference_selector_confidence",] == 0.87
    assert now["hetlm_drift_sample_size", "online", "clusters"] == 4, "the selector was not asked about the fifth"
    assert now["hetlm_drift_sample_size", "online", "pages"] == 5


def test_waiting_times(bundle: Bundle) -> None:
    watched = Watched.new()
    observer = watched.monitoring.watch(trained(bundle))
    observer.waited(0.003, "batch")
    assert watched.values["hetlm_admission_wait_seconds_bucket", "batch", "0.0025"] == 0
    assert watched.values["hetlm_admission_wait_seconds_bucket", "batch", "0.005"] == 1
    assert watched.values["hetlm_admission_wait_seconds_count", "online"] == 0


def test_a_bundle_from_before_has_its_clusters_alone(bundle: Bundle) -> None:
    assert bundle.reference.visits is None is bundle.reference.routing
    watched = Watched.new()
    observer = watched.monitoring.watch(bundle)
    ask(observer, Kind(clusters=(0.5, 0.5)), 1_000)
    now = watched.values
    assert excess(now, "clusters") < 0.01, "the tiny bundle's clusters are of equal share"
    assert now["hetlm_drift_psi_noise", "online", "clusters"] == pytest.approx(noise(2, 60, 1_000))
    assert {key[2] for key in now if key[0] == "hetlm_drift_psi"} == {"clusters"}
    assert now["hetlm_visit_pages_total", "online", "unknown"] > 0
    assert now["hetlm_selector_confidence_count", "online"] == 1_000


def versions(watched: Watched) -> set[str]:
    return {line.split('bundle="')[1][:3] for line in watched.text.splitlines() if 'bundle="' in line}


def test_a_bundle_that_retires_takes_its_series_along(bundle: Bundle) -> None:
    old = trained(bundle)
    new = replace(old, manifest=old.manifest.model_copy(update={"version": "new" + old.manifest.version[3:]}))
    watched = Watched.new()
    first, second = watched.monitoring.watch(old), watched.monitoring.watch(new)
    ask(first, Kind(), 200)
    assert versions(watched) == {old.manifest.version[:3], "new"}
    first.remove()
    assert versions(watched) == {"new"}
    first.observe(Answered(["/"], (0, 0.5), {"cart": 0.1, "purchase": 0.1}), "online")  # was under way
    first.waited(0.1, "online")
    assert versions(watched) == {"new"}
    second.remove()
    second.remove()
    assert versions(watched) == set()


def test_one_version_after_itself(bundle: Bundle) -> None:
    watched = Watched.new()
    first = watched.monitoring.watch(trained(bundle))
    ask(first, Kind(), 200)
    second = watched.monitoring.watch(trained(bundle))
    assert watched.values["hetlm_drift_sample_size", "online", "pages"] == 0
    ask(second, Kind(), 150)
    first.remove()
    assert watched.values["hetlm_drift_sample_size", "online", "pages"] == pytest.approx(150)


def test_no_page_is_in_the_metrics(bundle: Bundle) -> None:
    watched = Watched.new()
    ask(watched.monitoring.watch(trained(bundle)), Kind(), 200)
    assert not any(page in watched.text for page in ("/bags", "/cart", "/never", '"/"'))


def test_visits_vary_less_than_single_pages(bundle: Bundle) -> None:
    """Why the noise of pages counts visits: a visit's pages, each weighing its share, never vary more than one page."""
    reference = trained(bundle).reference.visits
    assert reference is not None
    bins = PageBins(reference, bundle.vocabulary)
    visits = [(bins.views(answered.newest), len(answered.newest)) for answered in Kind().requests(3_000)]
    for place, share in enumerate(bins.expected):
        amounts = [views.get(place, 0) / length for views, length in visits]
        mean = sum(amounts) / len(amounts)
        variance = sum((amount - mean) ** 2 for amount in amounts) / len(amounts)
        assert mean == pytest.approx(share, abs=0.02)
        assert variance <= mean * (1 - mean) + 1e-12
