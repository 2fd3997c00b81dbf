"""Who comes back within a week and with what, measured against counts by hand and against the truth."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browsing.bundle import Bundle, Manifest, seal
from browsing.engines.local import LocalEngine
from browsing.forecast import Forecast, Forecaster, Options, OutcomeForecast
from tests.tiny import TinyEncoder
from tests.training.evaluation.site import AS_OF, return_model, visitor, write_dataset
from training.dataset import Dataset, Sample
from training.evaluation import run
from training.evaluation.forecasts import decoded_forecasts
from training.evaluation.result import Evaluation
from training.evaluation.returning import Followed, measure
from training.evaluation.routing import route
from training.evaluation.summary import Sampling
from training.returns import return_quality


def answer(cart: float, purchase: float = 0.1) -> Forecast:
    outcomes = {"cart": cart, "purchase": purchase}
    return Forecast((), (), {name: OutcomeForecast(p, (p, p)) for name, p in outcomes.items()}, 0.0)


VISITORS = [
    visitor([["/", "/bags"], ["/bags"]], ["/bags", "/cart"]),
    visitor([["/"]], ["/"], ["/cart", "/purchase"]),
    visitor([["/cart"], ["/bags"], ["/"]]),
    visitor([["/bags", "/", "/bags"]], ["/bags"]),
]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, people: list[Sample]) -> Dataset:
    return write_dataset(tmp_path_factory.mktemp("returning") / "d", people, returns=VISITORS * 5)


@pytest.fixture(scope="module")
def returning(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with a model of returning."""
    root = Path(shutil.copytree(bundle.root, tmp_path_factory.mktemp("returning") / "b"))
    return_model().save(root / "returns.json")
    seal(root, Manifest.model_validate_json((root / "manifest.json").read_text()))
    return Bundle.load(root)


def chance(visits: int, pages: int) -> float:
    """`return_model` by hand: `visits` visits, the last of so many pages."""
    return 1 / (1 + math.exp(-(-0.6 + 1.2 * math.log(visits) - 0.4 * math.log1p(pages))))


def test_an_outcome_is_foreseen_if_the_first_session_after_holds_it(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", [], returns=VISITORS)
    followed = Followed.of(dataset, return_model(), "test", users=10, seed=0)
    assert followed.cases[0].history == (("/", "/bags"), ("/bags",))
    p = [chance(2, 1), chance(1, 1), chance(3, 1), chance(1, 3)]
    assert followed.returning == pytest.approx(p)
    answers = [answer(0.5), answer(0.25), answer(1.0), answer(0.0)]
    measured = measure(dataset, return_model(), "test", followed, answers, None, Sampling(50, 0))
    assert measured is not None
    assert (measured.horizon_days, measured.as_of) == (7, AS_OF.isoformat())
    back = measured.returned
    assert (back.users, back.rate) == (4, 0.75)
    assert back.base_brier == pytest.approx(0.75 * 0.25)
    assert back.quality.mean == pytest.approx(np.mean(p))
    assert back.quality.brier == pytest.approx(np.mean([(1 - p[0]) ** 2, (1 - p[1]) ** 2, p[2] ** 2, (1 - p[3]) ** 2]))
    assert back.quality.auc == 0.0, "the one who stayed away had the highest chance"
    cart = measured.outcomes["cart"]
    product = [p[0] / 2, p[1] / 4, p[2], 0.0]
    assert (cart.users, cart.rate, cart.any_rate) == (4, 0.25, 0.5)
    assert cart.quality.mean == pytest.approx(np.mean(product))
    wrong = [(1 - product[0]) ** 2, *(q**2 for q in product[1:])]
    assert cart.quality.brier == pytest.approx(np.mean(wrong))
    assert cart.quality.auc == pytest.approx(2 / 3)
    assert cart.base_log_loss == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert sum(one.n for one in cart.quality.reliability) == sum(one.n for one in cart.quality.buckets) == 4
    assert cart.intervals["quality.brier"][0] < cart.quality.brier < cart.intervals["quality.brier"][1]
    assert measured.outcomes["purchase"].rate == 0
    assert measured.outcomes["purchase"].quality.auc is None
    assert measured.outcomes["purchase"].any_rate == 0.25


def test_the_models_quality_is_that_which_training_measures(known: Dataset) -> None:
    measured = measure(known, return_model(), "test", Followed(), [], None, Sampling(0, 0))
    theirs = return_quality(return_model(), known, ("test",), 0)
    assert measured is not None
    assert theirs is not None
    own = measured.returned
    assert (own.users, own.rate) == (theirs.users, theirs.rate) == (20, 0.75)
    for name in ("mean", "auc", "log_loss", "brier", "ece"):
        assert getattr(own.quality, name) == pytest.approx(getattr(theirs, name))
    assert own.base_log_loss == pytest.approx(theirs.base_log_loss)
    assert measured.outcomes == {}
    assert own.intervals == {}


def test_right_factors_make_a_calibrated_product() -> None:
    """Where visitors' own chances are known, and when they come does not matter to what they do."""
    generator = np.random.default_rng(0)
    n = 4000
    returning, given = generator.random(n), generator.random(n) * 0.4
    back = generator.random(n) < returning
    held = [frozenset(["cart"] * int(x)) for x in back & (generator.random(n) < given)]
    followed = Followed([Sample("", (), (), (), AS_OF)] * n, returning.tolist(), held, held)
    right = followed.outcomes([answer(p) for p in given.tolist()], None, Sampling())["cart"]
    assert right.quality.ece is not None
    assert right.quality.ece_null is not None
    assert right.quality.ece < right.quality.ece_null
    assert right.quality.mean == pytest.approx(right.rate, abs=0.01)
    assert right.quality.log_loss < right.base_log_loss - 0.02
    shuffled = replace(followed, returning=generator.permutation(returning).tolist())
    wrong = shuffled.outcomes([answer(p) for p in given.tolist()], None, Sampling())["cart"]
    assert wrong.quality.ece is not None
    assert wrong.quality.ece > 2 * right.quality.ece
    assert wrong.quality.log_loss > right.quality.log_loss


def test_an_evaluation_measures_the_bundles_answers_about_time(returning: Bundle, known: Dataset) -> None:
    options = Options(samples=4, decode="consensus", seed=1)
    result = run.evaluate(returning, known, TinyEncoder(), options=options)
    assert result.settings.return_users == 20
    assert result.returns is not None
    assert result.returns.returned.rate == 0.75
    assert set(result.returns.outcomes) == {"cart", "purchase"}
    assert Evaluation.model_validate_json(result.model_dump_json()) == result
    # The same by asking the engine about each of them as the service would.
    followed = Followed.of(known, return_model(), "test", 20, 1)
    forecaster = Forecaster(returning.vocabulary, returning.outcome_ids(), returning.reference, 8)
    asked = route(returning, followed.cases, TinyEncoder())
    engine = LocalEngine(returning.predictors(), threads=1)

    async def ask() -> Sequence[Forecast]:
        await engine.start()
        try:
            return (await decoded_forecasts(engine, forecaster, asked, options, concurrency=1))["consensus"]
        finally:
            await engine.stop()

    answers = asyncio.run(ask())
    calibrated = [returning.calibration.apply("cart", a.outcomes["cart"].probability)[0] for a in answers]
    products = np.array(calibrated) * followed.returning
    cart = result.returns.outcomes["cart"]
    assert cart.quality.mean == pytest.approx(np.mean(products), abs=1e-6)
    assert cart.quality.mean != pytest.approx(np.mean(calibrated), abs=1e-3)


def test_some_are_drawn_and_nobody_where_it_is_not_asked_for(
    returning: Bundle, bundle: Bundle, known: Dataset, dataset: Dataset, tmp_path: Path
) -> None:
    few, again, other = (Followed.of(known, return_model(), "test", 8, seed) for seed in (0, 0, 1))
    assert few.cases == again.cases
    assert few.returning != other.returning
    assert len(few.cases) == len(few.first) == 8
    assert (
        Followed.of(known, return_model(), "test", 0, 0).cases
        == Followed.of(known, return_model(), "select", 8, 0).cases
        == ()
    )
    plan = run.Plan(options=Options(samples=2), resamples=0, validation=0, returning=0)
    alone = run.evaluation(returning, known, TinyEncoder(), plan)[0]
    assert alone.settings.return_users == 0
    assert alone.returns is not None
    assert (alone.returns.returned.users, alone.returns.outcomes) == (20, {})
    for own, data, encoder, model_name in (
        (bundle, known, TinyEncoder(), "bundle"),  # no model of returning
        (returning, dataset, TinyEncoder(), "bundle"),  # a log too short to know
        (returning, known, None, "fallback"),  # the answers are not its own
    ):
        assert run.evaluation(own, data, encoder, replace(plan, model=model_name))[0].returns is None


def test_results_from_before_are_still_read() -> None:
    runs = Path(__file__).parents[3] / "docs" / "results" / "runs"
    documents = [json.loads(path.read_text()) for path in sorted(runs.glob("*.json"))]
    evaluations = [document for document in documents if "combined" in document]
    assert evaluations
    for document in evaluations:
        assert Evaluation.model_validate(document).method == document["method"]
