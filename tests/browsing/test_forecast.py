"""Forecasts: what is asked of an engine, and what its paths are read as."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path as FilePath

import numpy as np
import pytest
from numpy.typing import NDArray

from browsing.bundle import Bundle, Reference
from browsing.engine import MAX_WATCHED, EngineError, EngineTimeout, GenerateRequest, Path
from browsing.engines.local import LocalEngine
from browsing.engines.sampling import allowed
from browsing.engines.table import TableEngine
from browsing.forecast import WATCHED, Draws, Forecast, Forecaster, Options, Question
from browsing.vocabulary import BOS, EOS, UNK, Vocabulary
from tests import tiny
from tests.browsing import exact, forecasts
from tests.browsing.forecasts import HISTORY, OUTCOMES, QUESTION, WORDS


def test_what_is_asked() -> None:
    engine = TableEngine([forecasts.table()])
    forecasts.draw(engine, options=Options(samples=5, seed=3), seconds=7.0)
    assert len(engine.requests) == 4
    free, cart, purchase, greedy = engine.requests
    assert all(r.prompt == QUESTION.prompt and r.max_steps == 4 and r.deadline == 7.0 for r in engine.requests)
    assert (free.forbidden, free.samples, free.greedy) == ((), 5, False)
    assert (cart.forbidden, cart.watched, cart.samples) == ((4,), (4, 5, EOS), 5)
    assert (purchase.forbidden, purchase.watched) == ((5,), (5, 4, EOS))
    assert (greedy.greedy, greedy.samples, greedy.forbidden) == (True, 1, ())
    assert free.seed == cart.seed == purchase.seed, "what all sets have in common is computed once"
    assert all(0 <= r.seed < 2**63 for r in engine.requests)


def test_everything_is_asked_at_once() -> None:
    class Counting(TableEngine):
        running = most = 0

        async def generate(self, request: GenerateRequest) -> list[Path]:
            self.running += 1
            self.most = max(self.most, self.running)
            await asyncio.sleep(0.01)
            self.running -= 1
            return await super().generate(request)

    engine = Counting([forecasts.table()])
    forecasts.draw(engine)
    assert engine.most == 4


def test_watched_are_the_outcomes_then_the_visitors_newest_then_the_likeliest() -> None:
    assert forecasts.forecaster().watched(QUESTION) == (4, 5, 7, 6, 9, 8)
    assert forecasts.forecaster().watched(replace(QUESTION, cluster=1)) == (4, 5, 7, 6, 9)
    assert forecasts.forecaster({}).watched(Question(0, (BOS,), ())) == (8, 6, 9)


def test_the_number_of_watched_pages_is_bounded() -> None:
    words = Vocabulary([f"/p{i}" for i in range(500)])
    pages = {page: 1 / (1 + i) for i, page in enumerate(words.pages)}
    forecaster = Forecaster(words, {"cart": (300,)}, forecasts.reference(pages), 4)
    long = tuple(f"/p{i}" for i in range(400, 500))
    watched = forecaster.watched(Question(0, (BOS,), (long[:50], long[50:])))
    assert len(watched) == WATCHED == len(set(watched)) <= MAX_WATCHED
    assert watched[:3] == (300, words.id("/p499"), words.id("/p498"))
    short = forecaster.watched(Question(0, (BOS,), (("/p9", "/p480"),)))
    assert short[:5] == (300, words.id("/p480"), words.id("/p9"), words.id("/p0"), words.id("/p1"))
    with pytest.raises(ValueError, match="'cart' has 127 tokens"):
        Forecaster(words, {"cart": tuple(range(4, 131))}, forecasts.reference(pages), 4)


def test_equal_questions_have_equal_answers() -> None:
    engine = TableEngine([forecasts.table()])
    once, again = forecasts.draw(engine), forecasts.draw(engine)
    assert forecasts.same(once.free, again.free)
    assert forecasts.forecaster().summarise(QUESTION, once, Options()) == forecasts.forecaster().summarise(
        QUESTION, again, Options()
    )
    assert not forecasts.same(once.free, forecasts.draw(engine, options=Options(seed=1)).free)


def test_visitors_do_not_share_their_noise() -> None:
    """Two visitors of whom the model thinks the same still have samples of their own."""
    engine = TableEngine([forecasts.table()])
    other = replace(QUESTION, prompt=(BOS, 9, EOS, BOS))
    assert [p.tokens for p in forecasts.draw(engine).free] != [p.tokens for p in forecasts.draw(engine, other).free]


@pytest.mark.parametrize("error", [EngineTimeout("late"), EngineError("gone")])
def test_an_engines_error_is_passed_on_and_the_rest_cancelled(error: EngineError) -> None:
    class Slow(TableEngine):
        cancelled = 0

        async def generate(self, request: GenerateRequest) -> list[Path]:
            if request.forbidden == (4,):
                raise error
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return await super().generate(request)

    engine = Slow([forecasts.table()])

    async def ask() -> None:
        with pytest.raises(type(error), match=str(error)):
            await forecasts.forecaster().draw(engine, QUESTION, Options(), 9.0)
        await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert engine.cancelled == 3


def test_a_deadline_reaches_the_engine() -> None:
    with pytest.raises(EngineTimeout):
        forecasts.draw(TableEngine([forecasts.table()]), seconds=0.0)


@pytest.mark.parametrize("last", [127, 129])
def test_an_outcome_of_very_many_tokens(last: int) -> None:
    """With its signals and the end it may be more than an engine can watch; then nothing guides its estimate."""
    words = Vocabulary([f"/p{i}" for i in range(200)])
    outcomes = {"many": tuple(range(4, last)), "one": (150,)}
    forecaster = Forecaster(words, outcomes, forecasts.reference({}), 3)
    guided = len(outcomes["many"]) + 2 <= MAX_WATCHED
    assert guided == (last == 127)
    assert forecaster.watched_without("many") == (*outcomes["many"], *((150, EOS) if guided else ()))
    assert forecaster.watched_without("one") == ((150, *outcomes["many"], EOS) if guided else (150,))
    table = np.random.default_rng(0).dirichlet(np.full(204, 0.1), 204)
    engine, question = TableEngine([table]), Question(0, (BOS,), ())
    draws = asyncio.run(forecaster.draw(engine, question, Options(samples=64), 9.0))
    found = forecaster.summarise(question, draws, Options(samples=64)).outcomes
    for name, ids in outcomes.items():
        assert found[name].probability == pytest.approx(exact_chance(table, ids, 3), abs=0.05)


def exact_chance(table: NDArray[np.float64], ids: Iterable[int], steps: int) -> float:
    """As `exact.visit_probability`, by products of the table."""
    own = list(ids)
    rows = np.array([allowed(row) for row in table])
    at, chance = rows[BOS], 0.0
    for _ in range(steps):
        chance += float(at[own].sum())
        at = at.copy()
        at[[*own, EOS]] = 0.0
        at = at @ rows
    return chance


def test_many_paths_approach_the_exact_answer() -> None:
    table = forecasts.table(4)
    every = exact.sessions(exact.table_next(table), QUESTION.prompt, 4)
    forecast = forecasts.forecast(TableEngine([table]), QUESTION, Options(samples=1500))
    assert {page.page for page in forecast.pages} == set(WORDS.pages)
    for page in forecast.pages:
        assert page.probability == pytest.approx(exact.visit_probability(every, (WORDS.id(page.page),)), abs=0.03)
    for name, ids in OUTCOMES.items():
        truth = exact.visit_probability(every, ids)
        assert forecast.outcomes[name].probability == pytest.approx(truth, abs=0.03)
        low, high = forecast.outcomes[name].interval
        assert high - low < 0.05
    unfinished = sum(probability for tokens, probability in every if tokens[-1] != EOS)
    assert forecast.unfinished_paths == pytest.approx(unfinished, abs=0.04)


def _paths(*sessions: tuple[int, ...], watched: int = 0, probability: float = 0.0) -> list[Path]:
    return [Path(s, np.full((len(s), watched), probability), s[-1] == EOS) for s in sessions]


def test_pages_are_ranked_and_say_how_they_were_estimated() -> None:
    free = _paths((6, 9, EOS), (6, UNK, EOS), (6, 9, EOS), (7, EOS))
    free = [replace(path, watched=np.where(np.arange(len(path.tokens))[:, None] == 0, 0.25, 0.0)) for path in free]
    draws = Draws(free, {}, _paths((6, EOS))[0], watched=(7,))
    forecast = forecasts.forecaster({}).summarise(QUESTION, draws, Options())
    assert [(p.page, p.estimator, p.seen_before) for p in forecast.pages] == [
        ("/", "count", True),
        ("/shoes", "count", True),
        ("/bags", "hazard", True),
    ]
    assert [p.probability for p in forecast.pages] == pytest.approx([0.75, 0.5, 0.25])
    assert len(forecasts.forecaster({}).summarise(QUESTION, draws, Options(top_pages=2)).pages) == 2


def test_equally_likely_pages_keep_the_vocabularys_order() -> None:
    draws = Draws(_paths((9, 7, EOS), (8, 6, EOS)), {}, _paths((EOS,))[0], ())
    pages = forecasts.forecaster({}).summarise(QUESTION, draws, Options()).pages
    assert [p.page for p in pages] == ["/", "/bags", "/bags/tote", "/shoes"]
    assert [p.seen_before for p in pages] == [True, True, False, True]


def test_a_single_path_is_counted() -> None:
    draws = Draws(_paths((6, EOS), watched=1, probability=0.5), {}, _paths((EOS,))[0], (6,))
    (page,) = forecasts.forecaster({}).summarise(QUESTION, draws, Options(samples=1)).pages
    assert (page.page, page.probability, page.estimator) == ("/", 1.0, "count")


def test_an_outcome_that_is_likely_is_among_the_pages_too() -> None:
    table = np.full((10, 10), 0.01)
    table[:, 4] = 0.8
    table /= table.sum(axis=1, keepdims=True)
    forecast = forecasts.forecast(TableEngine([table]), QUESTION, Options())
    assert forecast.pages[0].page == "/cart"
    assert forecast.outcomes["cart"].probability > 0.9


def test_unknown_pages_are_sampled_but_never_shown() -> None:
    table = np.full((10, 10), 1e-9)
    table[:, UNK], table[:, EOS], table[:, 6] = 0.6, 0.3, 0.1
    found = [
        forecasts.forecast(TableEngine([table]), QUESTION, Options(decode=decode, samples=30))
        for decode in ("greedy", "consensus")
    ]
    engine = TableEngine([table])
    assert any(UNK in path.tokens for path in forecasts.draw(engine).free)
    assert found[0].next_session == ()  # the greedy path is [UNK] all along
    for forecast in found:
        assert "[UNK]" not in {*forecast.next_session, *(page.page for page in forecast.pages)}


def test_greedy_answers_the_argmax_path() -> None:
    draws = Draws(_paths((9, EOS), (9, EOS)), {}, _paths((6, 7, EOS))[0], ())
    assert forecasts.forecaster({}).summarise(QUESTION, draws, Options(decode="greedy")).next_session == ("/", "/bags")
    assert forecasts.forecaster({}).summarise(QUESTION, draws, Options()).next_session == ("/shoes",)


def test_the_last_session_is_a_candidate_without_its_unknown_pages() -> None:
    free = _paths((6, 7, 9, EOS), (6, 7, 8, EOS), (6, 7, 4, EOS), (6, 7, 5, EOS))
    draws = Draws(free, {}, _paths((9, EOS))[0], ())
    question = replace(QUESTION, history=(("/bags", "/", "/gone"),))
    # As likely as the same two pages in the samples' order, and a session that took place.
    assert forecasts.forecaster({}).summarise(question, draws, Options()).next_session == ("/bags", "/")
    without = replace(question, history=())
    assert forecasts.forecaster({}).summarise(without, draws, Options()).next_session == ("/", "/bags")


def test_an_outcome_without_a_token_has_no_entry() -> None:
    forecaster = forecasts.forecaster({"cart": (4,), "purchase": (UNK,)})
    assert set(forecaster.outcomes) == {"cart"}
    engine = TableEngine([forecasts.table()])
    draws = asyncio.run(forecaster.draw(engine, QUESTION, Options(), 9.0))
    assert len(engine.requests) == 3
    assert set(forecaster.summarise(QUESTION, draws, Options()).outcomes) == {"cart"}


def test_a_whole_bundle(tmp_path: FilePath) -> None:
    """Manifest, vocabulary, reference and predictors of a bundle on disk, through the embedded engine."""
    tiny.bundle(tmp_path / "bundle")
    bundle = Bundle.load(tmp_path / "bundle")
    limits = bundle.manifest.limits
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, limits.max_steps)
    questions = [
        Question(k % 2, bundle.vocabulary.prompt(history, limits.prompt).ids, history)
        for k, history in enumerate((HISTORY, HISTORY, HISTORY[:1], HISTORY[1:]))
    ]

    async def ask(together: bool) -> list[Forecast]:
        engine = LocalEngine(bundle.predictors())
        await engine.start()
        options = Options(samples=8)
        calls = [forecaster.draw(engine, question, options, 20.0) for question in questions]
        draws = list(await asyncio.gather(*calls)) if together else [await call for call in calls]
        await engine.stop()
        return [forecaster.summarise(q, d, options) for q, d in zip(questions, draws, strict=True)]

    at_once, one_by_one = asyncio.run(ask(True)), asyncio.run(ask(False))
    for left, right in zip(at_once, one_by_one, strict=True):
        assert left.next_session == right.next_session
        assert {p.page: p.probability for p in left.pages} == pytest.approx(
            {p.page: p.probability for p in right.pages}, abs=1e-5
        )
        assert set(left.outcomes) == {"cart", "purchase"}
    assert at_once[0] != at_once[1]


def test_rare_outcomes_are_not_lost_on_visitors_whose_paths_meet_none() -> None:
    """Purchases follow carts, and carts are so rare that 16 paths often hold none. Where a bundle tells how common both
    are, hardly a visitor's purchase is thought next to impossible for that."""
    table = np.zeros((10, 10))
    table[:, 6], table[:, EOS], table[:, 4] = 0.67, 0.30, 0.03
    table[4] = table[5] = 0.0
    table[4, 5], table[4, EOS], table[5, EOS] = 0.4, 0.6, 1.0
    at, truth = np.zeros(10), 0.0
    at[BOS] = 1.0
    for _ in range(8):
        at = at @ table
        truth += at[5]
        at[[EOS, 5]] = 0.0
    engine = TableEngine([table])

    def estimates(rates: dict[str, float]) -> NDArray[np.float64]:
        known = Reference(cluster_shares=(1.0,), pages=({},), outcome_rates=rates)
        made = Forecaster(forecasts.WORDS, forecasts.OUTCOMES, known, 8)

        async def ask() -> list[float]:
            found = []
            for seed in range(150):
                options = Options(seed=seed)
                draws = await made.draw(engine, Question(0, (BOS,), ()), options, 60.0)
                found.append(made.summarise(Question(0, (BOS,), ()), draws, options).outcomes["purchase"].probability)
            return found

        return np.array(asyncio.run(ask()))

    unknown, known = estimates({}), estimates({"cart": 0.08, "purchase": 0.03})
    lost = (unknown < truth / 5).mean()
    assert lost > 0.1, "else this shop shows nothing"
    assert (known < truth / 5).mean() < lost / 4
    assert known.var() < unknown.var() / 2
    assert abs(known.mean() - truth) <= 3 * known.std(ddof=1) / np.sqrt(len(known))


def test_only_a_commoner_outcome_announces_another() -> None:
    known = Reference(cluster_shares=(1.0,), pages=({},), outcome_rates={"cart": 0.2, "purchase": 0.05})
    made = Forecaster(forecasts.WORDS, forecasts.OUTCOMES, known, 8)
    assert made.worth == {"cart": None, "purchase": 0.25}
    without = Forecaster(forecasts.WORDS, forecasts.OUTCOMES, forecasts.reference({}), 8)
    assert without.worth == {"cart": None, "purchase": None}
