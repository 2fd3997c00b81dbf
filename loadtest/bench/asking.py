"""The workload as questions to an engine: embedded and routed before anything is measured."""

from __future__ import annotations

from browsing.bundle import Bundle
from browsing.encoder import pool, rounded
from browsing.encoders.of_bundle import encoder_of
from browsing.forecast import Forecaster, Options, Question
from loadtest.bench.workload import Workload


def forecaster(bundle: Bundle) -> Forecaster:
    return Forecaster(
        bundle.vocabulary,
        bundle.outcome_ids(),
        bundle.reference,
        bundle.manifest.limits.max_steps,
        bundle.calibration.propensity,
    )


def questions(bundle: Bundle, workload: Workload) -> list[Question]:
    """One per visitor, in their order; each as the service would ask it. Raises `BundleError` without the encoder."""
    import torch

    encoder = encoder_of(bundle)
    found = []
    for person in workload.people:
        z = pool(rounded(encoder.encode(person.sessions)), bundle.manifest.encoder.decay)
        cluster = int(bundle.selector.probabilities(torch.from_numpy(z)[None])[0].argmax())
        prompt = bundle.vocabulary.prompt(person.sessions, bundle.manifest.limits.prompt)
        found.append(Question(cluster, prompt.ids, person.sessions))
    return found


def options(workload: Workload, bundle: Bundle, number: int) -> Options:
    """Of request `number`."""
    return Options(workload.samples, workload.top_pages, bundle.manifest.decode, seed=number)
