"""Traffic whose every answer is known: what goes through a fault is accounted for, one by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from browsing.bundle import Bundle
from browsing.encoder import pool, rounded
from browsing.engine import Engine, GenerateRequest, Path
from browsing.engines.markov import MarkovEngine
from browsing.engines.table import TableEngine
from browsing.forecast import Forecast, Forecaster, Options, Question
from service.engines.completions import spread
from tests.service.faults.fake_vllm import sample, table
from tests.tiny import TinyEncoder

Kind = Literal["model", "fallback", "strict", "overloaded", "ended"]


class Fakes(TableEngine):
    """What one `FakeVllm` per cluster answers, behind the adapter, which spreads seeds."""

    async def generate(self, request: GenerateRequest) -> list[Path]:
        self.requests.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return sample(replace(request, seed=spread(request.seed)), self.tables[request.cluster])


def tables(bundle: Bundle) -> list[NDArray[np.float64]]:
    return [table(len(bundle.vocabulary), seed) for seed in range(bundle.clusters)]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A history, the cluster it belongs to, and both answers that are right: its model's and the fallback's."""

    user: str
    sessions: tuple[tuple[str, ...], ...]
    cluster: int
    seed: int
    model: Forecast
    fallback: Forecast

    def body(self, **options: object) -> dict[str, Any]:
        return {
            "user_id": self.user,
            "sessions": [
                {"started_at": f"2026-11-{day:02}T10:00:00Z", "pages": list(pages)}
                for day, pages in enumerate(self.sessions, 1)
            ],
            "options": {"seed": self.seed, **options},
        }


def visitors(bundle: Bundle, count: int, engine: Engine | None = None) -> list[Visitor]:
    """As many of each cluster as of any other; all histories differ. `engine`: by default one `FakeVllm` each."""
    generator = np.random.default_rng(17)
    limits = bundle.manifest.limits
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, limits.max_steps)
    engine = engine or Fakes(tables(bundle))
    per_cluster: Counter[int] = Counter()
    made: dict[tuple[tuple[str, ...], ...], Visitor] = {}

    async def forecasts(question: Question, options: Options) -> list[Forecast]:
        return [
            forecaster.summarise(question, await forecaster.draw(asked, question, options, 30.0), options)
            for asked in (engine, MarkovEngine(bundle.fallback))
        ]

    while len(made) < count:
        sessions = tuple(
            tuple(bundle.vocabulary.pages[i] for i in generator.integers(len(bundle.vocabulary.pages), size=length))
            for length in generator.integers(1, 5, size=generator.integers(1, 4))
        )
        z = pool(rounded(TinyEncoder().encode(sessions)), bundle.manifest.encoder.decay)
        cluster = int(bundle.selector.probabilities(torch.from_numpy(z)[None])[0].argmax())
        if sessions in made or per_cluster[cluster] >= -(-count // bundle.clusters):
            continue
        per_cluster[cluster] += 1
        seed = int(generator.integers(2**32))
        question = Question(cluster, bundle.vocabulary.prompt(sessions, limits.prompt).ids, sessions)
        model, fallback = asyncio.run(forecasts(question, Options(seed=seed)))
        made[sessions] = Visitor(f"visitor-{len(made)}", sessions, cluster, seed, model, fallback)
    return list(made.values())


def kind_of(visitor: Visitor, response: httpx.Response, *, strict: bool = False) -> Kind:
    """What kind of answer it is. Fails for one that is neither right nor an honest refusal."""
    if response.status_code == 200:
        answer = response.json()
        assert answer["user_id"] == visitor.user, "another visitor's answer"
        assert answer["cluster"]["id"] == visitor.cluster
        assert answer["fallback"] in (None, "engine_down")
        right = visitor.model if answer["fallback"] is None else visitor.fallback
        assert answer["next_session"] == list(right.next_session)
        assert {p["page"]: p["probability"] for p in answer["pages"]} == pytest.approx(
            {p.page: p.probability for p in right.pages}, abs=1e-5
        )
        for name, outcome in right.outcomes.items():
            assert answer["outcomes"][name]["raw"] == pytest.approx(outcome.probability, abs=1e-5)
        assert not (strict and answer["fallback"])
        return "model" if answer["fallback"] is None else "fallback"
    kinds: dict[tuple[int, str], Kind] = {
        (429, "overloaded"): "overloaded",
        (503, "engine-down"): "strict",
        (503, "not-ready"): "ended",
    }
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()["type"].removeprefix("urn:hetlm:problem:")
    assert (response.status_code, problem) in kinds, response.text
    kind = kinds[response.status_code, problem]
    assert int(response.headers["retry-after"]) >= 1
    assert strict or kind != "strict", "a refusal for lack of an engine, and nobody asked for it"
    return kind


@dataclass
class Account:
    """Of everything that was asked: how often which kind of answer came, over all and per cluster."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    per_cluster: dict[int, Counter[Kind]] = field(default_factory=dict)
    asked: int = 0

    def enter(self, cluster: int, kind: Kind) -> None:
        self.kinds[kind] += 1
        self.per_cluster.setdefault(cluster, Counter())[kind] += 1

    def of(self, cluster: int) -> set[Kind]:
        return set(self.per_cluster.get(cluster, ()))


async def drive(
    client: httpx.AsyncClient,
    people: Sequence[Visitor],
    *,
    rounds: int = 1,
    width: int = 8,
    until: Callable[[], bool] | None = None,
    options: Mapping[str, object] | None = None,
) -> Account:
    """Ask for everybody, `rounds` times or until `until` says so, `width` at a time; every answer is looked at."""
    account = Account()
    asked = dict(options or {})
    queue: Iterator[Visitor] = cycle(people) if until is not None else iter([*people] * rounds)

    async def worker() -> None:
        while until is None or not until():
            visitor = next(queue, None)
            if visitor is None:
                return
            account.asked += 1
            response = await client.post("/predict", json=visitor.body(**asked))
            account.enter(visitor.cluster, kind_of(visitor, response, strict=bool(asked.get("strict"))))

    await asyncio.gather(*(worker() for _ in range(width)))
    assert sum(account.kinds.values()) == account.asked
    return account
