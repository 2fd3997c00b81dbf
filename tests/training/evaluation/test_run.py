"""A whole evaluation on real files: a bundle's predictors through the embedded engine, and its Markov mixture."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from browsing.bundle import Bundle, BundleError
from browsing.encoder import Vectors, pool
from browsing.engine import GenerateRequest
from browsing.engine import Path as Drawn
from browsing.engines.local import LocalEngine
from browsing.engines.sampling import walk
from browsing.forecast import Forecaster, Options
from browsing.markov import MarkovMixture
from browsing.pages import PageRules
from tests.tiny import TinyEncoder
from tests.training.evaluation.site import sample, write_dataset
from training import embeddings
from training.dataset import Dataset, Sample
from training.evaluation import run
from training.evaluation.result import Evaluation
from training.evaluation.routing import pooled, questions, route
from training.evaluation.rows import Site
from training.evaluation.validation import choose

OPTIONS = Options(samples=4, decode="consensus", seed=1)


def stable(evaluation: Evaluation) -> dict[str, object]:
    return evaluation.model_dump(exclude={"seconds", "machine", "peak_memory_mib"})


@pytest.fixture(scope="module")
def evaluation(bundle: Bundle, dataset: Dataset) -> Evaluation:
    return run.evaluate(bundle, dataset, TinyEncoder(), options=OPTIONS)


def test_the_document_says_what_was_evaluated(evaluation: Evaluation, bundle: Bundle, dataset: Dataset) -> None:
    assert evaluation.bundle_version == bundle.manifest.version
    assert evaluation.dataset_sha256 == run.fingerprint(dataset.info)
    assert evaluation.method == "hetlm"
    assert evaluation.settings.model_dump() == {
        "split": "test",
        "model": "bundle",
        "users": 21,
        "of_users": 21,
        "decode": "consensus",
        "samples": 4,
        "seed": 1,
        "max_steps": 8,
        "prompt_tokens": 56,
        "resamples": 1000,
        "validation_users": 0,  # nobody is in the other splits
        "calibration_users": 0,
        "return_users": 0,
    }
    assert evaluation.returns is None, "the bundle has no model of returning"
    assert list(evaluation.seconds) == ["read", "route", "loss", "generate", "judge"]
    assert evaluation.dataset == "dataset"
    assert evaluation.seed == bundle.manifest.training.seed
    assert evaluation.machine is not None
    assert evaluation.machine.cores >= 1
    assert evaluation.peak_memory_mib is not None
    assert evaluation.peak_memory_mib > 50
    assert Evaluation.model_validate_json(evaluation.model_dump_json()) == evaluation


def test_rows_cover_all_users(evaluation: Evaluation) -> None:
    assert {row.cluster for row in evaluation.clusters} == {0, 1}
    assert sum(row.n for row in evaluation.clusters) == evaluation.combined.n == 21
    assert list(evaluation.combined.outcomes) == ["cart", "purchase", "cart_or_purchase"]
    assert evaluation.combined.loss is not None
    assert evaluation.combined.loss.cut_sessions == 1
    cart = evaluation.combined.probabilities["cart"]
    assert cart.calibrated is not None
    assert cart.calibrated.mean != cart.raw.mean


def test_equal_settings_give_equal_results_and_another_seed_others(
    evaluation: Evaluation, bundle: Bundle, dataset: Dataset
) -> None:
    assert stable(run.evaluate(bundle, dataset, TinyEncoder(), options=OPTIONS)) == stable(evaluation)
    other = run.evaluate(bundle, dataset, TinyEncoder(), options=Options(samples=4, decode="consensus", seed=2))
    assert other.combined.probabilities != evaluation.combined.probabilities
    assert other.combined.loss == evaluation.combined.loss


def test_the_bundles_decode_is_the_default(evaluation: Evaluation, bundle: Bundle, dataset: Dataset) -> None:
    assert run.evaluate(bundle, dataset, TinyEncoder()).settings.decode == bundle.manifest.decode
    greedy = run.evaluate(bundle, dataset, TinyEncoder(), options=Options(samples=4, decode="greedy", seed=1))
    assert greedy.settings.decode == "greedy"
    assert greedy.combined.pages != evaluation.combined.pages
    assert greedy.combined.probabilities == evaluation.combined.probabilities
    # Both stand in either, from the same paths.
    assert greedy.combined.pages == evaluation.combined.others["greedy"].pages
    assert greedy.combined.others["consensus"].pages == evaluation.combined.pages
    assert greedy.combined.others["consensus"].intervals["pages.iou"] == evaluation.combined.intervals["pages.iou"]


def test_batch_equals_single(evaluation: Evaluation, bundle: Bundle, people: list[Sample]) -> None:
    """One visitor after the other, in one engine call at a time, comes to the same metrics."""
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), bundle.reference, bundle.manifest.limits.max_steps)
    asked = route(bundle, people, TinyEncoder())
    site = Site(bundle.vocabulary, frozenset(bundle.vocabulary.pages), bundle.rules.outcome_pages())
    names = [cluster.name for cluster in bundle.manifest.clusters]
    clusters, combined = asyncio.run(
        run.evaluate_samples(
            OneByOne(bundle.predictors()),
            forecaster,
            people,
            asked,
            OPTIONS,
            site,
            names,
            calibration=bundle.calibration,
            concurrency=1,
        )
    )
    for single, batched in zip((*clusters, combined), (*evaluation.clusters, evaluation.combined), strict=True):
        assert single.pages == batched.pages
        assert single.outcomes == batched.outcomes
        assert single.lengths == batched.lengths
        assert single.ranking is not None
        assert batched.ranking is not None
        assert single.ranking.mrr == pytest.approx(batched.ranking.mrr, abs=1e-6)
        for outcome, quality in single.probabilities.items():
            assert quality.raw.brier == pytest.approx(batched.probabilities[outcome].raw.brier, abs=1e-6)


class OneByOne(LocalEngine):
    """Every request is a batch of its own."""

    async def generate(self, request: GenerateRequest) -> list[Drawn]:
        return self.generate_batch([request])[0]


def test_visitors_are_routed_as_alone(bundle: Bundle, people: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "PART", 5)  # several batches
    encoder = TinyEncoder()
    for person, question in zip(people, route(bundle, people, encoder), strict=True):
        stored = np.stack([encoder.encode([session])[0].astype(np.float16) for session in person.history])
        z = pool(stored.astype(np.float32), bundle.manifest.encoder.decay)
        assert question.cluster == int(bundle.selector.probabilities(torch.from_numpy(z)[None]).argmax())
        assert question.prompt == bundle.vocabulary.prompt(person.history, 56).ids
        assert question.history == person.history


class Counting(TinyEncoder):
    def __init__(self) -> None:
        self.seen: list[tuple[str, ...]] = []

    def encode(self, sessions: Sequence[Sequence[str]]) -> Vectors:
        self.seen += map(tuple, sessions)
        return super().encode(sessions)


def test_each_distinct_session_is_encoded_once(bundle: Bundle, people: list[Sample]) -> None:
    encoder = Counting()
    route(bundle, [*people, *people], encoder)
    assert len(encoder.seen) == len(set(encoder.seen))
    assert set(encoder.seen) == {session for person in people for session in person.history}


def test_the_markov_mixture_answers_in_the_predictors_place(
    evaluation: Evaluation, bundle: Bundle, dataset: Dataset, people: list[Sample]
) -> None:
    markov = run.evaluate(bundle, dataset, TinyEncoder(), model="fallback", options=OPTIONS)
    assert markov.method == "fallback"
    assert [(row.cluster, row.n) for row in markov.clusters] == [(row.cluster, row.n) for row in evaluation.clusters]
    alone = run.evaluate(bundle, dataset, None, model="fallback", options=OPTIONS)
    assert alone.clusters == ()
    assert alone.combined == markov.combined
    # The mixture was fitted on such visitors, the predictors are random.
    assert markov.combined.loss is not None
    assert evaluation.combined.loss is not None
    assert markov.combined.loss.nats_per_page < 1.8 < evaluation.combined.loss.nats_per_page
    assert markov.combined.probabilities["cart"].calibrated is None

    class Plain:
        async def start(self) -> None: ...

        async def healthy(self) -> dict[int, bool]:
            return {}

        async def stop(self) -> None: ...

        async def generate(self, request: GenerateRequest) -> list[Drawn]:
            return walk(request, MarkovMixture.load(bundle.root / "fallback").distribution)

    limits = bundle.manifest.limits
    forecaster = Forecaster(bundle.vocabulary, bundle.outcome_ids(), pooled(bundle.reference), limits.max_steps)
    asked = questions(bundle, people, [0] * len(people))
    site = Site(bundle.vocabulary, frozenset(bundle.vocabulary.pages), bundle.rules.outcome_pages())
    _, combined = asyncio.run(
        run.evaluate_samples(Plain(), forecaster, people, asked, OPTIONS, site, ["", ""], concurrency=3)
    )
    assert combined.pages == markov.combined.pages
    assert combined.outcomes == markov.combined.outcomes


def test_some_users_are_drawn_by_the_seed(people: list[Sample], bundle: Bundle, dataset: Dataset) -> None:
    first, again, other = choose(people, 8, 0), choose(people, 8, 0), choose(people, 8, 1)
    assert first == again != other
    places = [people.index(person) for person in first]
    assert places == sorted(set(places))
    assert len(first) == 8
    assert choose(people, None, 0) == choose(people, 1000, 0) == people
    few = run.evaluate(bundle, dataset, TinyEncoder(), users=8, options=OPTIONS)
    assert (few.combined.n, few.settings.users, few.settings.of_users) == (8, 8, 21)


def test_an_outcome_that_the_bundle_cannot_predict_counts_where_it_happens(bundle: Bundle, tmp_path: Path) -> None:
    rules = bundle.rules
    assert "purchase" in bundle.manifest.outcomes
    blind = bundle.manifest.model_copy(update={"outcomes": {"cart": bundle.manifest.outcomes["cart"]}})
    lame = Bundle(**{name: getattr(bundle, name) for name in Bundle.__slots__} | {"manifest": blind})
    buyers = write_dataset(tmp_path / "buyers", [sample("u", [["/"], ["/purchase"]])], rules)
    result = run.evaluate(lame, buyers, TinyEncoder(), options=OPTIONS)
    assert result.combined.outcomes["purchase"].happened == 1
    assert "purchase" not in result.combined.probabilities
    lookers = write_dataset(tmp_path / "lookers", [sample("u", [["/"], ["/bags"]])], rules)
    assert list(run.evaluate(lame, lookers, TinyEncoder(), options=OPTIONS).combined.outcomes) == ["cart"]


def test_what_does_not_belong_together_is_refused(
    bundle: Bundle, dataset: Dataset, people: list[Sample], tmp_path: Path
) -> None:
    other = write_dataset(tmp_path / "other", people, PageRules(session_gap_minutes=10))
    with pytest.raises(run.EvaluationError, match=r"pages\.json is not the page rules"):
        run.evaluate(bundle, other, TinyEncoder())
    encoder = TinyEncoder()
    encoder.weights_sha256 = "0" * 64
    with pytest.raises(BundleError, match="trained with the encoder tiny"):
        run.evaluate(bundle, dataset, encoder)
    with pytest.raises(run.EvaluationError, match="without an encoder"):
        run.evaluate(bundle, dataset, None)
    with pytest.raises(run.EvaluationError, match="no model 'other': it is one of bundle, shared, fallback, "):
        run.evaluate(bundle, dataset, None, model="other")
    with pytest.raises(run.EvaluationError, match="nobody is in the split 'select'"):
        run.evaluate(bundle, dataset, TinyEncoder(), split="select")


def test_the_fingerprint_covers_every_file(dataset: Dataset) -> None:
    hashes = dict(dataset.info.hashes)
    changed = {**hashes, "test.parquet": "0" * 64}
    swapped = dict(reversed(hashes.items()))
    own = run.fingerprint(dataset.info)
    assert run.fingerprint(dataset.info.model_copy(update={"hashes": changed})) != own
    assert run.fingerprint(dataset.info.model_copy(update={"hashes": swapped})) == own
