"""What every baseline promises, whatever it is made of."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from browsing.vocabulary import SPECIALS, Vocabulary
from tests import tiny
from tests.browsing import exact
from tests.training.baselines.people import OUTCOMES, VOCABULARY, simulated, visitor
from tests.training.baselines.text.fake import URL, Fake
from training.baselines.markov import Markov
from training.baselines.popularity import Popularity
from training.baselines.port import Baseline, BaselineError
from training.baselines.registry import BASELINES
from training.baselines.text.baseline import TextBaseline
from training.baselines.text.endpoint import Endpoint

TRAIN, SELECT, TEST = simulated(200, 0), simulated(50, 1), simulated(20, 2)

SHOTS: Mapping[str, int] = MappingProxyType({"text_zero_shot": 0, "text_few_shot": 3})
"""The prompted language model's names, and examples per prompt. It is asked at an endpoint, so that `hetlm prompt`
makes it and no registry does."""
NAMES = (*BASELINES, *SHOTS)

NEEDS_NOBODY: Mapping[str, str] = MappingProxyType({"text_zero_shot": "a prompt is about its own visitor alone"})
CHOOSES_NOTHING: Mapping[str, str] = MappingProxyType(
    {
        "repeat": "a visit is repeated as it was",
        "text_zero_shot": "the prompt is the paper's",
        "text_few_shot": "the prompt is the paper's, the number of examples is given",
    }
)
RANKS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(SHOTS, "one answer does not say how sure the model is: a page's probability is made of its rank")
)
"""Who is exempt from a promise, and why; the tests say what holds instead. The fake endpoint answers with pages of the
site. What a real one invents is kept, to be punished, and is tested beside the parser."""

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


def one_of_its_sessions(prompt: str) -> str:
    """One of the prompt's sessions with pages of the site, drawn by a hash of the whole prompt: each letter of it
    matters, as it does to a language model."""
    sessions = [[page for page in line.split() if page in VOCABULARY.pages] for line in prompt.splitlines()]
    known = [session for session in sessions if session] or [["/cart"]]
    drawn = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big") % len(known)
    return f"[BOS] {' '.join(known[drawn])} [EOS]"


Make = Callable[[str], Baseline]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A new baseline by its name; a prompted one with a fake endpoint, and without answers that others kept."""

    def made(name: str) -> Baseline:
        if name in BASELINES:
            return BASELINES[name]()
        folder: Path = tmp_path_factory.mktemp(name)
        return TextBaseline(
            Endpoint(URL, "small"),
            folder / "answers.jsonl",
            shots=SHOTS[name],
            encoder=tiny.TinyEncoder,
            embeddings=folder / "embeddings",
            transport=Fake(text=one_of_its_sessions).transport,
        )

    return made


def fit(name: str, make: Make) -> Baseline:
    baseline = make(name)
    baseline.fit(TRAIN, SELECT, VOCABULARY, OUTCOMES, 7)
    return baseline


@pytest.fixture(scope="module", params=NAMES)
def baseline(request: pytest.FixtureRequest, make: Make) -> Baseline:
    return fit(request.param, make)


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


@pytest.mark.parametrize("name", NAMES)
def test_it_bears_its_name(name: str, make: Make) -> None:
    assert make(name).name == name


@pytest.mark.parametrize("name", NAMES)
def test_it_says_nothing_before_it_has_learnt(name: str, make: Make) -> None:
    fresh = make(name)
    with pytest.raises(BaselineError, match=f"{name!r} has learnt nothing yet: call fit first"):
        fresh.forecast(TEST)
    with pytest.raises(BaselineError, match="call fit first"):
        fresh.nats(TEST)


@pytest.mark.parametrize("name", NAMES)
def test_it_needs_somebody_to_learn_from_and_to_choose_on(name: str, make: Make) -> None:
    fresh = make(name)
    if name in NEEDS_NOBODY:
        fresh.fit([], SELECT, VOCABULARY, OUTCOMES, 0)
        assert len(fresh.forecast(TEST)) == len(TEST)
    else:
        with pytest.raises(BaselineError, match="no training user"):
            fresh.fit([], SELECT, VOCABULARY, OUTCOMES, 0)
    fresh = make(name)
    if name in CHOOSES_NOTHING:
        fresh.fit(TRAIN, [], VOCABULARY, OUTCOMES, 0)
        assert len(fresh.forecast(TEST)) == len(TEST)
    else:
        with pytest.raises(BaselineError, match="--select-share"):
            fresh.fit(TRAIN, [], VOCABULARY, OUTCOMES, 0)


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
    if baseline.name in RANKS:
        for forecast in answers:
            assert [own.page for own in forecast.pages] == list(dict.fromkeys(forecast.next_session))
            assert [own.probability for own in forecast.pages] == [1 / (i + 2) for i in range(len(forecast.pages))]
            assert all(
                forecast.outcomes[name].probability == (page in forecast.next_session)
                for name, (page,) in OUTCOMES.items()
            )
        return
    expected = np.mean([sum(own.probability for own in forecast.pages) for forecast in answers])
    happened = np.mean(
        [len({own.page for own in f.pages} & set(s.next_session)) for f, s in zip(answers, many, strict=True)]
    )
    assert expected == pytest.approx(happened, rel=0.2)
    for name, (page,) in OUTCOMES.items():
        rate = np.mean([page in sample.next_session for sample in many])
        assert np.mean([f.outcomes[name].probability for f in answers]) == pytest.approx(rate, abs=0.1)


def test_the_same_data_give_the_same_answers(baseline: Baseline, make: Make) -> None:
    assert fit(baseline.name, make).forecast(TEST) == baseline.forecast(TEST)


def test_a_batch_equals_its_parts(baseline: Baseline, make: Make) -> None:
    whole = baseline.forecast(TEST)
    apart = fit(baseline.name, make) if baseline.name in SHOTS else baseline  # one that has kept no answer yet
    assert [apart.forecast([sample])[0] for sample in TEST] == whole
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


def test_the_loss_is_that_of_its_sessions(baseline: Baseline, make: Make) -> None:
    """Nats against the probability of each session, by enumeration."""
    name = baseline.name
    if baseline.nats(TEST) is None:
        assert name not in NEXT_TOKENS
        return
    few = Vocabulary(["/cart", "/bought", "/", "/search"])
    small = make(name)
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
