"""The baseline as a whole against a fake endpoint: forecasts, examples, resuming, and what it came to."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import numpy as np
import pytest

from browsing.vocabulary import Vocabulary
from tests import tiny
from tests.training.baselines.text.fake import URL, Fake, completion, error
from tests.training.datasets import MONDAY, PAGES, write
from training.baselines.port import Baseline
from training.baselines.text.baseline import Limits, Tally, TextBaseline
from training.baselines.text.endpoint import Endpoint, EndpointError
from training.baselines.text.examples import Neighbours
from training.dataset import Dataset, Sample

OUTCOMES = {"cart": ("/cart",), "purchase": ("/purchase",)}
ENDPOINT = Endpoint(URL, "small", attempts=2)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("text") / "shop", train=30, held=6)


def made(fake: Fake, folder: Path, dataset: Dataset, shots: int = 0, limits: Limits | None = None) -> TextBaseline:
    baseline = TextBaseline(
        ENDPOINT,
        folder / "answers.jsonl",
        shots=shots,
        encoder=tiny.TinyEncoder if shots else None,
        embeddings=folder / "embeddings",
        limits=limits,
        transport=fake.transport,
    )
    baseline.fit(dataset.samples("train"), (), Vocabulary(PAGES), OUTCOMES, 0)
    return baseline


def test_an_answer_becomes_a_forecast(dataset: Dataset, tmp_path: Path) -> None:
    sample = Sample("u", (("/bags",),), (MONDAY,), ("/",), MONDAY)
    baseline: Baseline = made(Fake(text="/bags -> /nowhere -> /bags -> /cart"), tmp_path, dataset)
    forecast = baseline.forecast([sample])[0]
    assert forecast.next_session == ("/bags", "/nowhere", "/bags", "/cart")
    assert [(p.page, p.probability, p.seen_before) for p in forecast.pages] == [
        ("/bags", 1 / 2, True),
        ("/nowhere", 1 / 3, False),
        ("/cart", 1 / 4, False),
    ]
    assert {name: o.probability for name, o in forecast.outcomes.items()} == {"cart": 1.0, "purchase": 0.0}
    assert baseline.nats([sample]) is None
    assert baseline.name == "text_zero_shot"


def test_every_user_gets_the_answer_to_his_own_prompt(dataset: Dataset, tmp_path: Path) -> None:
    def last_session(prompt: str) -> str:
        return [line for line in prompt.splitlines() if line.startswith("[BOS] /")][-1]

    samples = dataset.samples("select")
    ticks: list[float] = []
    answers = made(Fake(text=last_session), tmp_path, dataset).forecast(samples, ticks.append)
    assert [a.next_session for a in answers] == [sample.history[-1] for sample in samples]
    assert sum(ticks) == len(samples)


def test_only_what_was_not_answered_is_asked_again(dataset: Dataset, tmp_path: Path) -> None:
    samples = dataset.samples("select")
    first = Fake(*[completion(f"[BOS] {page} [EOS]") for page in PAGES[:4]], *[httpx.ConnectError("gone")] * 99)
    impatient = Endpoint(URL, "small", attempts=1, concurrency=1)
    interrupted = TextBaseline(impatient, tmp_path / "answers.jsonl", transport=first.transport)
    interrupted.fit((), (), Vocabulary(PAGES), OUTCOMES, 0)
    with pytest.raises(EndpointError, match="ConnectError"):
        interrupted.forecast(samples)
    second = Fake(text="[BOS] /shoes [EOS]")
    baseline = made(second, tmp_path, dataset)
    answers = baseline.forecast(samples)
    assert [a.next_session for a in answers[:4]] == [(page,) for page in PAGES[:4]]
    assert [a.next_session for a in answers[4:]] == [("/shoes",)] * 2
    assert len(second.requests) == 2
    assert baseline.tally is not None
    assert (baseline.tally.prompts, baseline.tally.asked, baseline.tally.kept) == (6, 2, 4)


def test_the_tally_counts_everything(dataset: Dataset, tmp_path: Path) -> None:
    fake = Fake(
        completion("[BOS] /bags /nowhere [EOS]"),
        error(400, code="context_length_exceeded"),
        completion("/bags, /car", finish="length"),
        completion("I do not know.", usage=False),
    )
    baseline = TextBaseline(
        Endpoint(URL, "small", concurrency=1), tmp_path / "a", limits=Limits(history=1), transport=fake.transport
    )
    baseline.fit((), (), Vocabulary(PAGES), OUTCOMES, 0)
    answers = baseline.forecast(dataset.samples("select")[:4])
    assert [a.next_session for a in answers] == [("/bags", "/nowhere"), (), ("/bags", "/car"), ()]
    shortened = sum(sum(map(len, sample.history)) > 1 for sample in dataset.samples("select")[:4])
    assert shortened > 0
    assert baseline.tally == Tally(4, 4, 0, 1, 2, 1, shortened, 4, 2, 200, 14)


def test_an_endpoint_that_refuses_everything_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match=r"refuses every prompt.*--history-pages"):
        made(Fake(*[error(422)] * 6), tmp_path, dataset).forecast(dataset.samples("select"))


def test_the_examples_are_the_most_similar_users(dataset: Dataset, tmp_path: Path) -> None:
    train = dataset.samples("train")
    encoder = tiny.TinyEncoder()
    stranger = Sample("stranger", train[7].history, train[7].history_started_at, ("/",), MONDAY)
    found = Neighbours(train, encoder, tmp_path).of([stranger, train[7]], 3)
    assert found[0][0] == train[7]
    assert train[7] not in found[1]

    def likeness(one: Sample, other: Sample) -> float:
        a, b = (
            np.average(encoder.encode(s.history), axis=0, weights=0.8 ** np.arange(len(s.history))[::-1])
            for s in (one, other)
        )
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    likenesses = sorted((likeness(stranger, own) for own in train), reverse=True)
    assert [likeness(stranger, own) for own in found[0]] == pytest.approx(likenesses[:3], abs=1e-3)


def test_few_shot_prompts_hold_examples_and_nothing_of_the_future(dataset: Dataset, tmp_path: Path) -> None:
    samples = dataset.samples("select")
    fake = Fake()
    baseline = made(fake, tmp_path, dataset, shots=3)
    baseline.forecast(samples)
    assert baseline.name == "text_few_shot"
    following = {" ".join(sample.next_session) for sample in dataset.samples("train")}
    for prompt in fake.prompts:
        outputs = re.findall(r"^Output: \[BOS\] (.*) \[EOS\]$", prompt, re.MULTILINE)
        assert len(outputs) == 3
        assert set(outputs) <= following
    blind = [Sample(s.user_id, s.history, s.history_started_at, ("/else",), MONDAY) for s in samples]
    assert baseline.prompts(blind) == baseline.prompts(samples)


def test_examples_need_an_encoder_and_somebody(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="an encoder and a folder are needed"):
        TextBaseline(ENDPOINT, tmp_path / "a", shots=3)
    with pytest.raises(ValueError, match="no training user"):
        Neighbours([], tiny.TinyEncoder(), tmp_path)
