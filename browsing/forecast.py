"""The forecast: what to ask an engine about one visitor, and what its paths say.

Evaluation and the service both run this code, so that what is measured is what is served.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from browsing.bundle import Reference
from browsing.decode import consensus
from browsing.engine import MAX_WATCHED, Engine, EngineError, GenerateRequest, Path
from browsing.estimate import (
    OutcomeEstimate,
    Seen,
    guided_estimate,
    outcome_estimate,
    page_estimates,
    visit_shares,
    worth,
)
from browsing.propensity import Propensity
from browsing.vocabulary import EOS, SPECIALS, Vocabulary

WATCHED = 120
"""Pages watched in one request: the outcomes', the visitor's own and the cluster's likeliest, in this order."""
FIRST_ROUND = 8
"""Paths per set before it is first asked whether they suffice; each further round doubles them."""


@dataclass(frozen=True, slots=True)
class Options:
    """`samples`: paths per set, at most. `top_pages`: pages answered. `seed`: equal questions with equal options have
    equal answers. `tolerance`: sampling for an outcome stops where its interval reaches no further than this to
    either side (see `Forecaster.draw`); by default every set has `samples` paths."""

    samples: int = 16
    top_pages: int = 20
    decode: Literal["consensus", "greedy"] = "consensus"
    seed: int = 0
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """`prompt`: token ids, ending in `[BOS]`. `history`: the pages asked with, oldest session first."""

    cluster: int
    prompt: tuple[int, ...]
    history: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Draws:
    """An engine's answers: `free` paths, watching `watched`; per outcome, paths `without` its tokens, watching what
    `Forecaster.watched_without` names; the `greedy` path."""

    free: list[Path]
    without: dict[str, list[Path]]
    greedy: Path
    watched: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PageForecast:
    """`probability`: of a visit within T pages. `estimator`: hazard sums and counting combined, or counting alone."""

    page: str
    probability: float
    seen_before: bool
    estimator: Literal["hazard", "count"]


@dataclass(frozen=True, slots=True)
class OutcomeForecast:
    """Raw, before calibration; `interval`: 95 %, over the paths (see `browsing.estimate`). `evidence`: what the history
    alone says, a logit for the calibration to weigh; None where nobody was asked."""

    probability: float
    interval: tuple[float, float]
    evidence: float | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many paths a forecast rests on: those for the `pages` and the next session, and those for each outcome."""

    pages: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Forecast:
    """`pages`: the likeliest first. `outcomes`: those with a token in the vocabulary. `unfinished_paths`: share of the
    free paths that reached T pages without ending."""

    next_session: tuple[str, ...]
    pages: tuple[PageForecast, ...]
    outcomes: dict[str, OutcomeForecast]
    unfinished_paths: float
    drawn: Drawn = Drawn()


class Forecaster:
    """Asks engines and reads their answers. Holds no state between questions."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        outcomes: Mapping[str, tuple[int, ...]],
        reference: Reference,
        max_steps: int,
        propensity: Propensity | None = None,
    ) -> None:
        """`outcomes`: each outcome's token ids; special ids are left out, and so is an outcome left with none.
        `max_steps`: T. `propensity`: gives outcomes their evidence. Raises `ValueError` for an outcome of more tokens
        than an engine can watch."""
        own = {name: tuple(dict.fromkeys(i for i in ids if i not in SPECIALS)) for name, ids in outcomes.items()}
        self.outcomes = {name: ids for name, ids in own.items() if ids}
        for name, ids in self.outcomes.items():
            if len(ids) > MAX_WATCHED:
                raise ValueError(f"outcome {name!r} has {len(ids)} tokens: at most {MAX_WATCHED} can be watched")
        self.vocabulary = vocabulary
        self.max_steps = max_steps
        self._propensity = propensity
        self.worth = {name: worth(name, self.outcomes, reference.outcome_rates) for name in self.outcomes}
        self._likely = [
            [vocabulary.id(page) for page in sorted(pages, key=lambda p: (-pages[p], p)) if page in vocabulary]
            for pages in reference.pages
        ]

    def watched(self, question: Question) -> tuple[int, ...]:
        """Ids of the pages whose probabilities are followed along the free paths; at most `WATCHED`."""
        chosen: dict[int, None] = {}
        for token in self._candidates(question):
            if len(chosen) == WATCHED:
                break
            chosen[token] = None
        return tuple(chosen)

    def _candidates(self, question: Question) -> Iterator[int]:
        for ids in self.outcomes.values():
            yield from ids
        for pages in reversed(question.history):
            yield from (self.vocabulary.id(page) for page in reversed(pages) if page in self.vocabulary)
        yield from self._likely[question.cluster]

    def watched_without(self, outcome: str) -> tuple[int, ...]:
        """Ids followed along the paths without `outcome`: its own, then the signals of `guided_estimate` (the other
        outcomes') and `[EOS]`; its own alone where all together are more than an engine can watch."""
        own = self.outcomes[outcome]
        every = (*own, *self._signals(outcome), EOS)
        return every if len(every) <= MAX_WATCHED else own

    def _signals(self, outcome: str) -> tuple[int, ...]:
        own = self.outcomes[outcome]
        return tuple(dict.fromkeys(i for ids in self.outcomes.values() for i in ids if i not in own))

    async def draw(self, engine: Engine, question: Question, options: Options, deadline: float) -> Draws:
        """Ask everything at once; `deadline`: seconds from now. Raises what `engine.generate` raises, the first of it,
        and asks no further.

        With a tolerance, in rounds: `FIRST_ROUND` paths per set, then as many again as there are, up to
        `options.samples`; free paths and those of the outcomes whose interval still reaches further than that. A round
        for which the deadline leaves no time is not begun, and one that it cuts short, or that fails, is left out:
        what was drawn before is the answer. Few paths that met nothing rare stop sooner than few that did, so that rare
        outcomes come out a little too low, by less than the tolerance.
        """
        most = options.samples
        first = most if options.tolerance is None else min(FIRST_ROUND, most)
        clock = asyncio.get_running_loop().time
        began = clock()
        requests = self._requests(question, options, deadline, 0, first, self.outcomes)
        requests.append(
            GenerateRequest(question.cluster, question.prompt, 1, self.max_steps, greedy=True, deadline=deadline)
        )
        free, *without, greedy = await _all(engine, requests)
        draws = Draws(free, dict(zip(self.outcomes, without, strict=True)), greedy[0], requests[0].watched)
        number = 0
        while options.tolerance is not None and (drawn := len(draws.free)) < most:
            wide = [name for name in draws.without if self._estimate(draws, name).reach > options.tolerance]
            took = clock() - began
            if not wide or 2 * took > deadline:
                break
            number, more = number + 1, min(drawn, most - drawn)
            requests = self._requests(question, options, deadline - took, number, more, wide)
            try:
                free, *without = await _all(engine, requests)
            except EngineError:
                break
            further = dict(zip(wide, without, strict=True))
            draws = replace(
                draws,
                free=draws.free + free,
                without={name: paths + further.get(name, []) for name, paths in draws.without.items()},
            )
        return draws

    def _requests(
        self,
        question: Question,
        options: Options,
        deadline: float,
        number: int,
        samples: int,
        outcomes: Iterable[str],
    ) -> list[GenerateRequest]:
        """Round `number`'s: `samples` free paths, and as many without each of `outcomes`.

        All sets of a round have one seed, so that their paths are the same until an outcome would be drawn: the
        embedded engine computes them once until then.
        """
        seed = _seed(options.seed, number, question)

        def sampled(watched: tuple[int, ...], forbidden: tuple[int, ...] = ()) -> GenerateRequest:
            return GenerateRequest(
                cluster=question.cluster,
                prompt=question.prompt,
                samples=samples,
                max_steps=self.max_steps,
                watched=watched,
                forbidden=forbidden,
                seed=seed,
                deadline=deadline,
            )

        without = [sampled(self.watched_without(name), self.outcomes[name]) for name in outcomes]
        return [sampled(self.watched(question)), *without]

    def summarise(self, question: Question, draws: Draws, options: Options) -> Forecast:
        """Decode and estimate. Pure: equal arguments give equal forecasts."""
        outcomes = {}
        evidence = {} if self._propensity is None else self._propensity.logits(question.history)
        for name in draws.without:
            estimate = self._estimate(draws, name)
            outcomes[name] = OutcomeForecast(estimate.probability, estimate.interval, evidence.get(name))
        chances, followed = self._chances(draws)
        return Forecast(
            next_session=self._decode(question, draws, options, chances),
            pages=self._pages(question, chances, followed, options.top_pages),
            outcomes=outcomes,
            unfinished_paths=sum(not path.finished for path in draws.free) / len(draws.free),
            drawn=Drawn(len(draws.free), {name: len(paths) for name, paths in draws.without.items()}),
        )

    def _estimate(self, draws: Draws, name: str) -> OutcomeEstimate:
        paths, own, watched = draws.without[name], self.outcomes[name], self.watched_without(name)
        if EOS not in watched:
            return outcome_estimate(paths)
        free = Seen(draws.free, draws.watched) if set(own) <= set(draws.watched) else None
        return guided_estimate(Seen(paths, watched), own, self._signals(name), free, self.worth[name])

    def decode(self, question: Question, draws: Draws, options: Options) -> tuple[str, ...]:
        """The one next session that `options.decode` makes of the draws."""
        return self._decode(question, draws, options, self._chances(draws)[0])

    def _decode(
        self, question: Question, draws: Draws, options: Options, chances: Mapping[int, float]
    ) -> tuple[str, ...]:
        greedy = tuple(self.vocabulary.decode(draws.greedy.tokens))
        if options.decode == "greedy":
            return greedy
        samples = [tuple(self.vocabulary.decode(path.tokens)) for path in draws.free]
        last = question.history[-1] if question.history else ()
        known = tuple(page for page in last if page in self.vocabulary)[: self.max_steps]
        return consensus(samples, greedy, known, {self.vocabulary.tokens[i]: p for i, p in chances.items()})

    def _chances(self, draws: Draws) -> tuple[dict[int, float], frozenset[int]]:
        """Every page's probability above 0, by token, and the tokens that hazards were followed for."""
        followed = page_estimates(draws.free, draws.watched) if len(draws.free) > 1 else ()
        hazard = dict(zip(draws.watched, map(float, followed), strict=False))
        chances = {**visit_shares(draws.free), **hazard}
        return {token: p for token, p in chances.items() if p > 0 and token not in SPECIALS}, frozenset(hazard)

    def _pages(
        self, question: Question, chances: Mapping[int, float], followed: frozenset[int], top: int
    ) -> tuple[PageForecast, ...]:
        seen = {page for pages in question.history for page in pages}
        ranked = sorted(chances, key=lambda token: (-chances[token], token))
        return tuple(
            PageForecast(
                page=self.vocabulary.tokens[token],
                probability=chances[token],
                seen_before=self.vocabulary.tokens[token] in seen,
                estimator="hazard" if token in followed else "count",
            )
            for token in ranked[:top]
        )


async def _all(engine: Engine, requests: Sequence[GenerateRequest]) -> list[list[Path]]:
    """The first error ends all, and is raised."""
    tasks = [asyncio.ensure_future(engine.generate(request)) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _seed(seed: int, number: int, question: Question) -> int:
    """A 63-bit seed of its own for every round and every question: were it the same for all visitors, their sampling
    errors would not average out over them."""
    material = repr((seed, number, question.cluster, question.prompt)).encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big") >> 1
