"""What every baseline promises, whatever it is made of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from browsing.vocabulary import SPECIALS, Vocabulary
from tests.browsing import exact
from tests.training.baselines.people import OUTCOMES, VOCABULARY, simulated, visitor
from training.baselines.markov import Markov
from training.baselines.popularity import Popularity
from training.baselines.port import Baseline, BaselineError
from training.baselines.registry import BASELINES

TRAIN, SELECT, TEST = simulated(200, 0), simulated(50, 1), simulated(20, 2)

NEXT_TOKENS: dict[str, Callable[[Baseline], exact.NextTokens]] = {
    "popularity": lambda own: lambda prefixes: np.stack([_popularity(own).unigram for _ in prefixes]),
    "markov": lambda own: lambda prefixes: np.stack([_markov(own).mixture.distribution(p) for p in prefixes]),
    "markov_mixture": lambda own: lambda prefixes: np.stack([_markov(own).mixture.distribution(p) for p in prefixes]),
}
"""The next token's distribution of those that are language models."""


def _popularity(own: Baseline) -> Popularity:
    assert isinstance(own, Popularity)
    return own


def _markov(own: Baseline) -> Markov:
    assert isinstance(own, Markov)
    return own


def fit(name: str) -> Baseline:
    baseline = BASELINES[name]()
    baseline.fit(TRAIN, SELECT, VOCABULARY, OUTCOMES, 7)
    return baseline


@pytest.fixture(scope="module", params=list(BASELINES))
def baseline(request: pytest.FixtureRequest) -> Baseline:
    return fit(request.param)


def test_the_names_are_listed_in_order_without_anything_heavy() -> None:
    code = (
        "import sys; from training.baselines.registry import BASELINES; print(*BASELINES); "
        "print({'torch', 'lightgbm', 'sklearn'} & set(sys.modules) or 'light')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "markov_mixture popularity repeat markov covisit vmis_knn lightgbm",
        "light",
    ]


@pytest.mark.parametrize("name", BASELINES)
def test_it_bears_its_name(name: str) -> None:
    assert BASELINES[name]().name == name


@pytest.mark.parametrize("name", BASELINES)
def test_it_says_nothing_before_it_has_learnt(name: str) -> None:
    fresh = BASELINES[name]()
    with pytest.raises(BaselineError, match=f"{name!r} has learnt nothing yet: call fit first"):
        fresh.forecast(TEST)
    with pytest.raises(BaselineError, match="call fit first"):
        fresh.nats(TEST)


@pytest.mark.parametrize("name", BASELINES)
def test_it_needs_somebody_to_learn_from_and_to_choose_on(name: str) -> None:
    with pytest.raises(BaselineError, match="no training user"):
        BASELINES[name]().fit([], SELECT, VOCABULARY, OUTCOMES, 0)
    if name == "repeat":  # it chooses nothing
        fresh = BASELINES[name]()
        fresh.fit(TRAIN, [], VOCABULARY, OUTCOMES, 0)
        assert len(fresh.forecast(TEST)) == len(TEST)
    else:
        with pytest.raises(BaselineError, match="--select-share"):
            BASELINES[name]().fit(TRAIN, [], VOCABULARY, OUTCOMES, 0)


def test_a_forecast_holds_pages_and_probabilities(baseline: Baseline) -> None:
    done: list[float] = []
    answers = baseline.forecast(TEST, done.append)
    assert sum(done) == len(answers) == len(TEST)
    for sample, forecast in zip(TEST, answers, strict=True):
        assert forecast.next_session
        assert all(page in VOCABULARY for page in forecast.next_session)
        pages = [own.page for own in forecast.pages]
        assert 0 < len(pages) <= 20
        assert len(set(pages)) == len(pages)
        assert all(page in VOCABULARY for page in pages)
        chances = [own.probability for own in forecast.pages]
        assert chances == sorted(chances, reverse=True)
        assert all(0 < p <= 1 for p in chances)
        seen = {page for session in sample.history for page in session}
        assert [own.seen_before for own in forecast.pages] == [page in seen for page in pages]
        assert forecast.outcomes.keys() == OUTCOMES.keys()
        for outcome in forecast.outcomes.values():
            lower, upper = outcome.interval
            assert 0 <= lower <= outcome.probability <= upper <= 1
        assert 0 <= forecast.unfinished_paths <= 1


def test_its_probabilities_are_about_right(baseline: Baseline) -> None:
    """Over all test users, what is expected is what happens, within the noise of 100 sessions."""
    many = simulated(100, 3)
    answers = baseline.forecast(many)
    expected = np.mean([sum(own.probability for own in forecast.pages) for forecast in answers])
    happened = np.mean(
        [len({own.page for own in f.pages} & set(s.next_session)) for f, s in zip(answers, many, strict=True)]
    )
    assert expected == pytest.approx(happened, rel=0.2)
    for name, (page,) in OUTCOMES.items():
        rate = np.mean([page in sample.next_session for sample in many])
        assert np.mean([f.outcomes[name].probability for f in answers]) == pytest.approx(rate, abs=0.1)


def test_the_same_data_give_the_same_answers(baseline: Baseline) -> None:
    assert fit(baseline.name).forecast(TEST) == baseline.forecast(TEST)


def test_a_batch_equals_its_parts(baseline: Baseline) -> None:
    whole = baseline.forecast(TEST)
    assert [baseline.forecast([sample])[0] for sample in TEST] == whole
    assert baseline.forecast(TEST[::-1]) == whole[::-1]
    assert baseline.forecast([]) == []


def test_the_future_is_not_read(baseline: Baseline) -> None:
    other = [
        replace(s, next_session=("/cart", "/bought"), next_started_at=s.next_started_at + timedelta(days=99))
        for s in TEST
    ]
    assert baseline.forecast(other) == baseline.forecast(TEST)


@pytest.mark.parametrize("history", [[["/never", "/heard"]], [["/never"], ["/"], ["/of"]], [["[UNK]", "[EOS]"]]])
def test_unknown_pages_do_no_harm(baseline: Baseline, history: list[list[str]]) -> None:
    (forecast,) = baseline.forecast([visitor("stranger", history, ["/cart"])])
    assert all(page in VOCABULARY for page in forecast.next_session)
    assert forecast.outcomes.keys() == OUTCOMES.keys()
    assert all(0 <= own.probability <= 1 and own.page in VOCABULARY for own in forecast.pages)


def test_the_loss_is_that_of_its_sessions(baseline: Baseline) -> None:
    """Nats against the probability of each session, by enumeration."""
    name = baseline.name
    if baseline.nats(TEST) is None:
        assert name not in NEXT_TOKENS
        return
    few = Vocabulary(["/cart", "/bought", "/", "/search"])
    small = BASELINES[name]()
    train = [visitor(s.user_id, [_known(h, few) for h in s.history], _known(s.next_session, few)) for s in TRAIN]
    small.fit(train, train[:40], few, OUTCOMES, 0)
    history = (("/", "/cart"), ("/search", "/elsewhere"))
    every = exact.sessions(NEXT_TOKENS[name](small), few.prompt(history, 100).ids, 4)
    assert sum(p for _, p in every) == pytest.approx(1)
    ended = [(tokens, p) for tokens, p in every if tokens[-1] == 2]
    samples = [
        visitor("u", history, [few.tokens[i] if i not in SPECIALS else "/elsewhere" for i in tokens[:-1]])
        for tokens, _ in ended
    ]
    losses = small.nats(samples)
    assert losses is not None
    nats, tokens = losses
    assert nats == pytest.approx([-np.log(p) for _, p in ended])
    assert tokens.tolist() == [len(own) for own, _ in ended]


def _known(session: tuple[str, ...], vocabulary: Vocabulary) -> list[str]:
    return [page for page in session if page in vocabulary] or ["/"]
