"""The baseline: every user's history as a prompt, the answers read as next sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from browsing.encoder import Encoder
from browsing.forecast import Forecast
from browsing.vocabulary import Vocabulary
from training.baselines.answers import answer, certain
from training.baselines.port import Advance, Floats, Ints, Outcomes, fitted, ignore
from training.baselines.text.answers import Answers
from training.baselines.text.endpoint import Chat, Endpoint, EndpointError, RefusedError, Reply
from training.baselines.text.examples import Neighbours
from training.baselines.text.parse import Reader
from training.baselines.text.prompts import Pair, newest, prompt
from training.dataset import Sample


@dataclass(frozen=True, slots=True)
class Limits:
    """`history`: newest pages of the user's own history in a prompt; `example`: of each example's history; `session`:
    pages read from an answer."""

    history: int = 200
    example: int = 60
    session: int = 20


@dataclass(frozen=True, slots=True)
class Tally:
    """What asking came to. `asked`: sent now; `kept`: answered by an earlier run; `refused`: the endpoint declined,
    scored as an empty session; `cut`: stopped by `max_tokens`; `shortened`: prompts without the oldest sessions;
    `invented`: pages that the site has not; tokens are those of all answers, as far as the endpoint counts."""

    prompts: int
    asked: int
    kept: int
    refused: int
    empty: int
    cut: int
    shortened: int
    pages: int
    invented: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class _Site:
    """Where answers are read: its pages, and each outcome's."""

    pages: tuple[str, ...]
    outcomes: Outcomes


class TextBaseline:
    """A `Baseline` that asks a language model (HeTLM, A.4.1).

    One answer says nothing about how sure the model is. A page's probability is therefore made of its rank, 1/2 for the
    first distinct page, 1/3, 1/4, ...: an order, not a chance. An outcome has 1 where the session holds its page and 0
    where it does not. There is no test loss.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        answers: Path,
        *,
        shots: int = 0,
        encoder: Callable[[], Encoder] | None = None,
        embeddings: Path | None = None,
        limits: Limits | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`answers`: the file of kept replies. `encoder`, `embeddings`: for `shots` > 0, what finds similar users and
        where it keeps their vectors. Raises `ValueError` where these are missing."""
        if shots and (encoder is None or embeddings is None):
            raise ValueError("examples are chosen by embeddings: an encoder and a folder are needed")
        self.name = "text_few_shot" if shots else "text_zero_shot"
        self.tally: Tally | None = None
        self._endpoint, self._answers, self._transport = endpoint, answers, transport
        self._shots, self._encoder, self._embeddings = shots, encoder, embeddings
        self._limits = limits or Limits()
        self._neighbours: Neighbours | None = None
        self._site: _Site | None = None

    def fit(
        self,
        train: Sequence[Sample],
        select: Sequence[Sample],
        vocabulary: Vocabulary,
        outcomes: Outcomes,
        seed: int,
    ) -> None:
        """Nothing is trained or chosen; `train` is where examples come from, and without `shots` may be empty."""
        if self._shots and self._encoder and self._embeddings:
            self._neighbours = Neighbours(train, self._encoder(), self._embeddings)
        self._site = _Site(vocabulary.pages, outcomes)

    def prompts(self, samples: Sequence[Sample]) -> list[str]:
        """What is sent about each sample. Raises `BaselineError` before `fit`."""
        fitted(self._site, self.name)
        if not samples:
            return []
        similar = self._neighbours.of(samples, self._shots) if self._neighbours else [[] for _ in samples]
        limits = self._limits
        return [
            prompt(
                newest(sample.history, limits.history),
                [Pair(newest(own.history, limits.example), own.next_session) for own in examples],
            )
            for sample, examples in zip(samples, similar, strict=True)
        ]

    def forecast(self, samples: Sequence[Sample], advance: Advance = ignore) -> list[Forecast]:
        """Ask about every sample; `advance(1)` per answer. `tally` says afterwards what it came to.

        Raises `BaselineError` before `fit`, and `EndpointError` where the endpoint answers no more, or refuses
        everything. What was answered is kept.
        """
        site, prompts = fitted(self._site, self.name), self.prompts(samples)
        answers = Answers(self._answers)
        kept = sum(answers.get(self._endpoint.digest(text)) is not None for text in prompts)
        replies = asyncio.run(self._ask(prompts, answers, advance))
        answered = [reply for reply in replies if isinstance(reply, Reply)]
        refusals = [reply for reply in replies if isinstance(reply, RefusedError)]
        if refusals and not answered:
            raise EndpointError(
                f"{refusals[0]}: it refuses every prompt; if they are too long for the model, lower --history-pages"
            )
        reader = Reader(site.pages, self._limits.session)
        sessions = [reader.session(reply.text) if isinstance(reply, Reply) else () for reply in replies]
        known = frozenset(site.pages)
        self.tally = Tally(
            prompts=len(prompts),
            asked=len(prompts) - kept,
            kept=kept,
            refused=len(refusals),
            empty=sum(not session for session in sessions),
            cut=sum(not reply.finished for reply in answered),
            shortened=sum(sum(map(len, sample.history)) > self._limits.history for sample in samples),
            pages=sum(map(len, sessions)),
            invented=sum(page not in known for session in sessions for page in session),
            prompt_tokens=sum(reply.prompt_tokens for reply in answered),
            completion_tokens=sum(reply.completion_tokens for reply in answered),
        )
        return [_read(sample, session, site.outcomes) for sample, session in zip(samples, sessions, strict=True)]

    def nats(self, samples: Sequence[Sample]) -> tuple[Floats, Ints] | None:
        """None: a model of words gives no probability over the site's pages. Raises `BaselineError` before `fit`."""
        fitted(self._site, self.name)
        return None

    async def _ask(self, prompts: Sequence[str], answers: Answers, advance: Advance) -> list[Reply | RefusedError]:
        endpoint = self._endpoint
        async with Chat(endpoint, transport=self._transport) as chat:

            async def one(text: str) -> Reply | RefusedError:
                digest = endpoint.digest(text)
                reply = answers.get(digest)
                if reply is None:
                    try:
                        reply = await chat.ask(text)
                    except RefusedError as error:
                        advance(1)
                        return error
                    answers.add(digest, reply)
                advance(1)
                return reply

            tasks = [asyncio.ensure_future(one(text)) for text in prompts]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _read(sample: Sample, session: tuple[str, ...], outcomes: Outcomes) -> Forecast:
    ranked = [(page, 1 / (place + 2)) for place, page in enumerate(dict.fromkeys(session))]
    happened = {name: certain(float(not set(pages).isdisjoint(session))) for name, pages in outcomes.items()}
    return answer(session, ranked, sample.history, happened)
