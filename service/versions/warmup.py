"""The first forecasts of a bundle, before anybody asks: what is slow once is over, and what cannot answer shows it."""

from __future__ import annotations

import math

import torch

from browsing.bundle import Bundle
from browsing.encoder import pool
from browsing.engine import Engine
from browsing.forecast import Forecaster, Options, Question
from service.cache.embedder import Embedder

SECONDS = 60.0
"""One forecast may take this long; the first one may have to compile."""
PAGES = 4


class WarmupError(RuntimeError):
    """A bundle gave no forecast that can be used."""


async def warm_up(bundle: Bundle, embedder: Embedder, forecaster: Forecaster, engine: Engine) -> None:
    """The whole way, for every cluster: encode and select a visit to its typical pages, forecast from it.

    Raises `WarmupError`, and what encoder, engine and estimators raise.
    """
    for cluster in bundle.manifest.clusters:
        known = [page for page in cluster.typical_pages if page in bundle.vocabulary][:PAGES]
        history = (tuple(known or bundle.vocabulary.pages[:1]),)
        embedded = await embedder.embed(history)
        z = torch.from_numpy(pool(embedded.vectors, bundle.manifest.encoder.decay))[None]
        selected = bundle.selector.probabilities(z)[0]
        if not bool(selected.isfinite().all()):
            raise WarmupError(f"cluster {cluster.id}: the selector gives no probabilities")
        prompt = bundle.vocabulary.prompt(history, bundle.manifest.limits.prompt)
        question, options = Question(cluster.id, prompt.ids, history), Options(decode=bundle.manifest.decode)
        forecast = forecaster.summarise(question, await forecaster.draw(engine, question, options, SECONDS), options)
        chances = [*(page.probability for page in forecast.pages), *(o.probability for o in forecast.outcomes.values())]
        if not all(map(math.isfinite, chances)):
            raise WarmupError(f"cluster {cluster.id}: the forecast holds no probabilities")
