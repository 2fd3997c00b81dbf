"""The peer that a good engineer writes in a day: FastAPI around `transformers.generate`, with dynamic batching.

    python -m loadtest.bench.peers.transformers_app BUNDLE SAMPLES THREADS

It reads the same bundle and answers the same `POST /predict` with the same fields, by the same estimators. What it
lacks is no part of a comparison of speed: deadlines, fallbacks, limits, metrics, checks of a request. The number of
samples is fixed, and a seed is ignored: `generate` has one random state for a whole batch.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import transformers
import uvicorn
from fastapi import FastAPI, Header
from pydantic import BaseModel

from browsing.bundle import Bundle
from browsing.encoder import Encoder, Vectors, pool, rounded
from browsing.encoders.of_bundle import encoder_of
from browsing.engine import GenerateRequest
from browsing.engine import Path as Sampled
from browsing.forecast import Forecast, Options, Question
from browsing.returns import visits_of
from loadtest.bench.asking import forecaster
from loadtest.bench.peers.batching import Batcher
from loadtest.bench.peers.transformers_batch import Generator
from loadtest.bench.workload import DEADLINE_MS

WINDOW = 0.005
"""Seconds that the first request of a batch waits for company."""
MOST = 4
"""Requests to `generate` in a batch: with two outcomes those of one visitor, at 16 samples 49 rows. More make each of
them slower: with 1.9 million parameters on two cores 0.5 s a visitor, with four in a call 0.9 s, with 16 1.3 s."""
Pages = tuple[str, ...]


class Session(BaseModel):
    started_at: datetime
    pages: Pages


class Chosen(BaseModel):
    top_pages: int = 20


class Asked(BaseModel):
    """The part of a request that this application reads."""

    user_id: str | None = None
    sessions: list[Session]
    options: Chosen = Chosen()


class BatchedGenerate:
    """`browsing.engine.Engine`, as far as a forecast needs one."""

    def __init__(self, predictors: Sequence[Path], executor: Executor) -> None:
        turn = asyncio.Lock()
        self._clusters = [
            Batcher(Generator(path).generate, executor, turn, window=WINDOW, most=MOST) for path in predictors
        ]

    async def start(self) -> None:
        """It is ready once it is made."""

    async def generate(self, request: GenerateRequest) -> list[Sampled]:
        return await self._clusters[request.cluster].ask(request)

    async def healthy(self) -> dict[int, bool]:
        return dict.fromkeys(range(len(self._clusters)), True)

    async def stop(self) -> None:
        """It ends with its process."""


class Predictor:
    """Embed (cached), select, generate in batches, estimate."""

    def __init__(self, bundle: Bundle, encoder: Encoder, samples: int, threads: int) -> None:
        self.bundle = bundle
        self._encoder = encoder
        self._samples = samples
        self._forecaster = forecaster(bundle)
        self._vectors: dict[Pages, Vectors] = {}
        self._one = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
        self._engine = BatchedGenerate(bundle.predictors(), self._one)

    async def answer(self, asked: Asked, request_id: str) -> dict[str, Any]:
        """As `POST /predict` of the service answers."""
        bundle, began = self.bundle, time.perf_counter()
        sessions = tuple(session.pages for session in asked.sessions)
        cached = sum(pages in self._vectors for pages in sessions)
        z = pool(await self._embed(sessions), bundle.manifest.encoder.decay)
        embedded = time.perf_counter()
        chances = bundle.selector.probabilities(torch.from_numpy(z)[None])[0]
        cluster = int(chances.argmax())
        prompt = bundle.vocabulary.prompt(sessions, bundle.manifest.limits.prompt)
        question = Question(cluster, prompt.ids, sessions)
        selected = time.perf_counter()
        options = Options(self._samples, asked.options.top_pages, bundle.manifest.decode)
        draws = await self._forecaster.draw(self._engine, question, options, DEADLINE_MS / 1000)
        generated = time.perf_counter()
        forecast = self._forecaster.summarise(question, draws, options)
        returns = self._returns(asked)
        outcomes = self._outcomes(forecast, returns)
        ended = time.perf_counter()
        return {
            "request_id": request_id,
            "bundle_version": bundle.manifest.version,
            "user_id": asked.user_id,
            "condition": "next_session",
            "cluster": {
                "id": cluster,
                "name": bundle.manifest.clusters[cluster].name,
                "probability": min(float(chances[cluster]), 1.0),
            },
            "next_session": forecast.next_session,
            "pages": [
                {
                    "page": page.page,
                    "probability": page.probability,
                    "seen_before": page.seen_before,
                    "estimator": page.estimator,
                }
                for page in forecast.pages
            ],
            "outcomes": outcomes,
            "return_within_7_days": returns,
            "unknown_pages": list(
                dict.fromkeys(page for pages in sessions for page in pages if page not in bundle.vocabulary)
            ),
            "truncated": {"sessions_dropped": prompt.sessions_dropped},
            "unfinished_paths": forecast.unfinished_paths,
            "fallback": None,
            "embedding": {"sessions": len(sessions), "cached": cached},
            "took_ms": {
                "total": (ended - began) * 1000,
                "embed": (embedded - began) * 1000,
                "select": (selected - embedded) * 1000,
                "generate": (generated - selected) * 1000,
                "estimate": (ended - generated) * 1000,
            },
        }

    async def _embed(self, sessions: Sequence[Pages]) -> Vectors:
        new = [pages for pages in dict.fromkeys(sessions) if pages not in self._vectors]
        if new:
            encoded = await asyncio.get_running_loop().run_in_executor(self._one, self._encoder.encode, new)
            self._vectors.update(zip(new, rounded(encoded), strict=True))
        return np.stack([self._vectors[pages] for pages in sessions])

    def _returns(self, asked: Asked) -> float | None:
        model = self.bundle.returns
        if model is None:
            return None
        pages = {name: own for name, own in self.bundle.rules.outcome_pages().items() if name in model.outcomes}
        times = [session.started_at for session in asked.sessions]
        return model.probability(visits_of(times, [session.pages for session in asked.sessions], pages), times[-1])

    def _outcomes(self, forecast: Forecast, returns: float | None) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = {}
        for name, outcome in forecast.outcomes.items():
            raw, evidence = outcome.probability, outcome.evidence
            probability, calibrated = self.bundle.calibration.apply(name, raw, evidence)
            found[name] = {
                "probability": probability,
                "raw": raw,
                "calibrated": calibrated,
                "interval": self.bundle.calibration.interval(name, raw, outcome.interval, evidence),
                "within_7_days": None if returns is None else returns * probability,
            }
        return found


def application(predictor: Predictor) -> FastAPI:
    app = FastAPI()

    @app.post("/predict")
    async def predict(asked: Asked, x_request_id: Annotated[str, Header()] = "") -> dict[str, Any]:
        return await predictor.answer(asked, x_request_id)

    return app


def _end_with_parent() -> None:
    """The end of stdin is the end of whoever started this."""
    while os.read(0, 4096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


def main(bundle: str, samples: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    transformers.utils.logging.disable_progress_bar()
    loaded = Bundle.load(Path(bundle))
    app = application(Predictor(loaded, encoder_of(loaded), int(samples), int(threads)))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    own = socket.socket(proto=socket.IPPROTO_TCP)  # as the service: without Nagle's algorithm
    own.bind(("127.0.0.1", 0))
    own.listen(1024)  # whoever comes before the server waits
    print(f"http://127.0.0.1:{own.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[own])


if __name__ == "__main__":
    main(*sys.argv[1:])
