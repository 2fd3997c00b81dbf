"""The forecast: what to ask an engine about one visitor, and what its paths say.

Evaluation and the service both run this code, so that what is measured is what is served.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from browsing.bundle import Reference
from browsing.decode import consensus
from browsing.engine import MAX_WATCHED, Engine, GenerateRequest, Path
from browsing.estimate import outcome_estimate, page_estimates, visit_shares
from browsing.propensity import Propensity
from browsing.vocabulary import SPECIALS, Vocabulary

WATCHED = 120
"""Pages watched in one request: the outcomes', the visitor's own and the cluster's likeliest, in this order."""


@dataclass(frozen=True, slots=True)
class Options:
    """`samples`: paths per set. `top_pages`: pages answered. `seed`: equal questions with equal options have equal
    answers."""

    samples: int = 16
    top_pages: int = 20
    decode: Literal["consensus", "greedy"] = "consensus"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """`prompt`: token ids, ending in `[BOS]`. `history`: the pages asked with, oldest session first."""

    cluster: int
    prompt: tuple[int, ...]
    history: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Draws:
    """An engine's answers: `free` paths, watching `watched`; per outcome, paths `without` its tokens, watching these;
    the `greedy` path."""

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
class Forecast:
    """`pages`: the likeliest first. `outcomes`: those with a token in the vocabulary. `unfinished_paths`: share of the
    free paths that reached T pages without ending."""

    next_session: tuple[str, ...]
    pages: tuple[PageForecast, ...]
    outcomes: dict[str, OutcomeForecast]
    unfinished_paths: float


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

    async def draw(self, engine: Engine, question: Question, options: Options, deadline: float) -> Draws:
        """Ask everything at once; `deadline`: seconds from now. Raises what `engine.generate` raises, the first of it,
        and asks no further."""
        watched = self.watched(question)
        requests = [self._request(question, options, deadline, "free", watched=watched)]
        requests += [
            self._request(question, options, deadline, f"without {name}", watched=ids, forbidden=ids)
            for name, ids in self.outcomes.items()
        ]
        requests.append(
            GenerateRequest(question.cluster, question.prompt, 1, self.max_steps, greedy=True, deadline=deadline)
        )
        tasks = [asyncio.ensure_future(engine.generate(request)) for request in requests]
        try:
            free, *without, greedy = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return Draws(free, dict(zip(self.outcomes, without, strict=True)), greedy[0], watched)

    def _request(
        self,
        question: Question,
        options: Options,
        deadline: float,
        label: str,
        *,
        watched: tuple[int, ...],
        forbidden: tuple[int, ...] = (),
    ) -> GenerateRequest:
        return GenerateRequest(
            cluster=question.cluster,
            prompt=question.prompt,
            samples=options.samples,
            max_steps=self.max_steps,
            watched=watched,
            forbidden=forbidden,
            seed=_seed(options.seed, label, question),
            deadline=deadline,
        )

    def summarise(self, question: Question, draws: Draws, options: Options) -> Forecast:
        """Decode and estimate. Pure: equal arguments give equal forecasts."""
        outcomes = {}
        evidence = {} if self._propensity is None else self._propensity.logits(question.history)
        for name, paths in draws.without.items():
            estimate = outcome_estimate(paths)
            outcomes[name] = OutcomeForecast(estimate.probability, estimate.interval, evidence.get(name))
        chances, followed = self._chances(draws)
        return Forecast(
            next_session=self._decode(question, draws, options, chances),
            pages=self._pages(question, chances, followed, options.top_pages),
            outcomes=outcomes,
            unfinished_paths=sum(not path.finished for path in draws.free) / len(draws.free),
        )

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


def _seed(seed: int, label: str, question: Question) -> int:
    """A 63-bit seed of its own for every set of paths and every question: were it the same for all visitors, their
    sampling errors would not average out over them."""
    material = repr((seed, label, question.cluster, question.prompt)).encode()
    return int.from_bytes(hashlib.blake2b(material, digest_size=8).digest(), "big") >> 1
