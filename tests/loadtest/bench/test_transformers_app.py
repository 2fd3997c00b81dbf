"""The peer around `transformers.generate`: the same probabilities as the embedded engine, and the same fields."""

from __future__ import annotations

import json

import pytest
from starlette.testclient import TestClient

from browsing.bundle import Bundle
from browsing.encoders.of_bundle import encoder_of
from browsing.engine import GenerateRequest
from browsing.engines.local import LocalEngine
from browsing.vocabulary import BOS, EOS, PAD
from loadtest.answers import Answer
from loadtest.bench.asking import forecaster, questions
from loadtest.bench.peers.transformers_app import Predictor, application
from loadtest.bench.peers.transformers_batch import Generator
from loadtest.bench.workload import Workload
from loadtest.check import wrong

SAMPLES, STEPS = 4, 6


def test_paths_are_the_models_own(bundle: Bundle, work: Workload) -> None:
    asking = forecaster(bundle)
    asked = [question for question in questions(bundle, work) if question.cluster == 0][:3]
    assert len({len(question.prompt) for question in asked}) > 1, "prompts of several lengths share a batch"
    cart = bundle.vocabulary.id("/cart")
    requests = [
        request
        for question in asked
        for request in (
            GenerateRequest(0, question.prompt, SAMPLES, STEPS, asking.watched(question)),
            GenerateRequest(0, question.prompt, SAMPLES, STEPS, (cart, EOS), forbidden=(cart,)),
            GenerateRequest(0, question.prompt, 1, STEPS, greedy=True),
        )
    ]
    drawn = Generator(bundle.predictor(0)).generate(requests)
    engine = LocalEngine(bundle.predictors())
    for request, paths in zip(requests, drawn, strict=True):
        assert len(paths) == request.samples
        if request.greedy:
            (greedy,) = engine.generate_batch([request])
            assert [path.tokens for path in paths] == [path.tokens for path in greedy]
        for path in paths:
            assert path.finished == (path.tokens[-1] == EOS)
            assert not {PAD, BOS, *request.forbidden} & set(path.tokens)
            assert path.watched.shape == (len(path.tokens), len(request.watched))
            before = [(*request.prompt, *path.tokens[:step]) for step in range(len(path.tokens))]
            own = engine.generate_batch([GenerateRequest(0, start, 1, 1, request.watched) for start in before])
            for step, (alone,) in enumerate(own):
                assert path.watched[step] == pytest.approx(alone.watched[0], abs=1e-5), "after the same pages"


def test_it_answers_as_the_service_does(bundle: Bundle, work: Workload) -> None:
    peer = Predictor(bundle, encoder_of(bundle), work.samples, threads=1)
    with TestClient(application(peer)) as client:
        for number in (0, 1, len(work.visitors)):
            question = work.question(number)
            headers = {"X-Request-Id": f"r-{number}", "Content-Type": "application/json"}
            response = client.post("/predict", content=question.body, headers=headers)
            assert response.status_code == 200, response.text
            answer = Answer.model_validate_json(response.content)
            known = frozenset(bundle.vocabulary.pages)
            assert wrong(answer, question, f"r-{number}", (bundle.manifest.version,), known) is None
            assert answer.outcomes.keys() == {"cart", "purchase"}
            assert answer.outcomes["cart"].calibrated
            assert len(answer.pages) <= json.loads(question.body)["options"]["top_pages"]
        assert answer.embedding.cached == answer.embedding.sessions, "who came before is cached"
