"""Every model that can be evaluated, on one dataset with all splits; and their comparison on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from browsing.bundle import Bundle, Reference
from browsing.forecast import Options
from tests import tiny
from tests.training import datasets
from training.dataset import Dataset
from training.evaluation import run, validation
from training.evaluation.compare.command import compare
from training.evaluation.compare.comparison import Comparison
from training.evaluation.metrics import text
from training.evaluation.metrics.bleu import Bleu, Overlaps
from training.evaluation.metrics.loss import pairs, predictor_nats
from training.evaluation.metrics.pages import Floats
from training.evaluation.result import Evaluation
from training.evaluation.routing import pooled, questions
from training.evaluation.users import users_path

OPTIONS = Options(samples=8, seed=1)
MODELS = ("bundle", "shared", "fallback", "markov", "popularity")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return datasets.write(tmp_path_factory.mktemp("models") / "shop", train=60, held=40)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("models") / "bundle"
    tiny.bundle(root, pages=datasets.PAGES)
    return Bundle.load(root)


@pytest.fixture(scope="module")
def results(own: Bundle, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("results")
    paths = {}
    for model in MODELS:
        encoder = tiny.TinyEncoder() if model == "bundle" else None
        plan = run.Plan(model=model, options=OPTIONS, resamples=50)
        paths[model] = root / f"{model}.json"
        run.write(*run.evaluation(own, data, encoder, plan), paths[model])
    return paths


def read(path: Path) -> Evaluation:
    return Evaluation.model_validate_json(path.read_text())


def test_every_model_is_about_the_same_users(results: dict[str, Path], data: Dataset) -> None:
    documents = {name: read(path) for name, path in results.items()}
    assert len({document.dataset_sha256 for document in documents.values()}) == 1
    assert len({document.vocabulary_sha256 for document in documents.values()}) == 1
    frames = {name: pl.read_parquet(users_path(path)) for name, path in results.items()}
    keys = [frame.select("user", "sample") for frame in frames.values()]
    assert all(other.equals(keys[0]) for other in keys)
    ids = {sample.user_id for sample in data.samples("test")}
    assert ids.isdisjoint(keys[0]["user"].to_list())
    for name, document in documents.items():
        frame, combined = frames[name], document.combined
        decode = document.settings.decode
        assert combined.n == frame.height == len(data.samples("test"))
        assert frame[f"{decode}.iou"].mean() == pytest.approx(combined.pages.iou)
        assert frame["ranking.ndcg_10"].mean() == pytest.approx(combined.ranking.ndcg_10 if combined.ranking else None)
        if combined.loss:
            nats, tokens = frame["nats"].to_numpy().sum(), frame["tokens"].to_numpy().sum()
            assert nats / tokens == pytest.approx(combined.loss.nats_per_page)
        assert ((frame["cart.raw"] - frame["cart.happened"].cast(pl.Float64)) ** 2).mean() == pytest.approx(
            combined.probabilities["cart"].raw.brier
        )


def test_methods_seeds_and_decodes(results: dict[str, Path], own: Bundle) -> None:
    documents = {name: read(path) for name, path in results.items()}
    assert [document.method for document in documents.values()] == ["hetlm", *MODELS[1:]]
    assert documents["bundle"].training == own.manifest.training.settings
    assert {documents[name].seed for name in ("markov", "popularity")} == {OPTIONS.seed}
    for name in MODELS:
        expected = "own" if name in ("markov", "popularity") else own.manifest.decode
        assert documents[name].settings.decode == expected
        assert len(documents[name].combined.others) == (0 if expected == "own" else 1)
    assert documents["bundle"].clusters
    assert not documents["shared"].clusters
    assert documents["popularity"].combined.text is not None


def test_the_bundles_calibration_is_the_bundles_and_the_others_get_their_own(
    results: dict[str, Path], data: Dataset
) -> None:
    for name, path in results.items():
        settings, combined = read(path).settings, read(path).combined
        assert settings.validation_users == len(data.samples("select"))
        assert settings.calibration_users == (0 if name == "bundle" else len(data.samples("calibrate")))
        assert combined.probabilities["purchase"].calibrated is not None
        decision = combined.decisions["cart_or_purchase"]
        assert decision.users == settings.validation_users
        assert decision.metrics is not None
        assert decision.kind == "calibrated"


def test_the_shared_predictor_scores_everybody(results: dict[str, Path], own: Bundle, data: Dataset) -> None:
    samples = data.samples("test")
    asked = questions(own, samples, [0] * len(samples))
    scored, _ = pairs(
        [q.prompt for q in asked],
        [s.next_session for s in samples],
        own.vocabulary,
        own.manifest.limits.context,
    )
    nats, tokens = predictor_nats([own.root / "shared"], [0] * len(samples), scored, lambda n: None)
    loss = read(results["shared"]).combined.loss
    assert loss is not None
    assert loss.nats_per_page == pytest.approx(nats.sum() / tokens.sum())
    assert loss != read(results["bundle"]).combined.loss


def test_the_pooled_reference_weighs_clusters_by_their_share() -> None:
    reference = Reference(
        cluster_shares=(0.25, 0.75), pages=({"/": 1.0}, {"/": 0.2, "/bags": 0.8}), outcome_rates={"cart": 0.1}
    )
    one = pooled(reference)
    assert one.cluster_shares == (1.0,)
    assert one.pages[0] == pytest.approx({"/": 0.25 + 0.15, "/bags": 0.6})
    assert one.outcome_rates == {"cart": 0.1}


def test_validation_users_are_never_the_evaluated_ones(own: Bundle, data: Dataset) -> None:
    plan = run.Plan(split="select", model="popularity", options=OPTIONS, resamples=0, validation=7)
    document, _ = run.evaluation(own, data, None, plan)
    assert document.settings.validation_users == 7
    assert document.combined.intervals == {}
    calibrating = validation.held(data, ("select", "calibrate"), "select", 100, 0)
    assert {s.user_id for s in calibrating} == {s.user_id for s in data.samples("calibrate")}
    assert validation.held(data, ("calibrate",), "calibrate", 100, 0) == []
    none = run.Plan(model="popularity", options=OPTIONS, resamples=0, validation=0)
    document, _ = run.evaluation(own, data, None, none)
    assert document.combined.decisions == {}
    assert document.settings.calibration_users == 0
    assert document.combined.probabilities["cart"].calibrated is None


def test_text_metrics_are_measured_on_the_decoded_sessions(
    own: Bundle, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Sequence[Sequence[str]], Sequence[Sequence[str]]]] = []

    def score(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]], encoder: object) -> Floats:
        asked.append((generated, actual))
        return np.tile([0.125, 0.25, 0.375], (len(actual), 1))

    monkeypatch.setattr(text, "bert_score", score)
    monkeypatch.setattr(run, "SbertEncoder", tiny.TinyEncoder)
    plan = run.Plan(model="fallback", options=OPTIONS, resamples=20, validation=0, bert=True)
    document, frame = run.evaluation(own, data, None, plan)
    combined = document.combined
    assert combined.text is not None
    assert (combined.text.bert_precision, combined.text.bert_recall, combined.text.bert_f1) == (0.125, 0.25, 0.375)
    actual = [sample.next_session for sample in data.samples("test")]
    assert combined.text.bleu == bleu(*asked[0])
    assert [truth for _, truth in asked] == [actual, actual]  # one per decode
    assert asked[0][0] != asked[1][0]
    other = combined.others["greedy"].text
    assert other is not None
    assert other.bleu == bleu(*asked[1]) != combined.text.bleu
    for row in (combined, combined.others["greedy"]):
        assert row.text is not None
        low, high = row.intervals["text.bleu"]
        assert low <= row.text.bleu <= high
        assert row.intervals["text.bert_f1"] == (0.375, 0.375)
    for decode in ("consensus", "greedy"):  # and all of it stands in the values per user
        assert Overlaps.read(frame, decode) is not None
        assert frame[f"{decode}.bert_f1"].to_list() == [0.375] * frame.height
        assert (
            frame[f"{decode}.cart.predicted"].sum()
            == (combined if decode == "consensus" else combined.others["greedy"]).outcomes["cart"].predicted
        )


def bleu(generated: Sequence[Sequence[str]], actual: Sequence[Sequence[str]]) -> float:
    return float(Bleu.of(Overlaps.of(generated, actual)).under(np.ones((1, len(actual))))[0])


def hetlm_compare(*arguments: str | Path) -> Result:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare)
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [str(argument) for argument in arguments])


def test_compare_prints_a_table_per_result_and_writes_the_document(results: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison.json"
    paths = [results[name] for name in ("bundle", "shared", "popularity")]
    shown = hetlm_compare(*paths, "--resamples", "100", "--out", out)
    assert shown.exit_code == 0, shown.stderr
    written = Comparison.model_validate_json(out.read_text())
    assert [other.side.name for other in written.others] == ["shared", "popularity"]
    iou = written.others[0].differences["pages.iou"]
    assert np.isclose(iou.difference, iou.other - iou.reference)
    (line,) = [line for line in shown.stdout.splitlines() if "Pages: IoU" in line and f"{iou.other:.4f}" in line][:1]
    assert f"{iou.difference:+.4f}" in line
    assert f"[{iou.interval[0]:+.4f}, {iou.interval[1]:+.4f}]" in line
    assert iou.verdict is not None
    assert iou.verdict in line
    assert "popularity (popularity, seed 1, own) against bundle" in shown.stdout
    assert list(tmp_path.iterdir()) == [out]


def test_compare_as_json_is_one_line(results: dict[str, Path]) -> None:
    shown = hetlm_compare(results["bundle"], results["fallback"], "--resamples", "100", "--decode", "greedy", "--json")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.count("\n") == 1
    document = Comparison.model_validate(json.loads(shown.stdout))
    assert document.reference.decode == document.others[0].side.decode == "greedy"


def test_compare_at_equal_length(results: dict[str, Path]) -> None:
    shown = hetlm_compare(results["popularity"], results["bundle"], "--resamples", "100", "--equal-length")
    assert shown.exit_code == 0, shown.stderr
    rows = [row for row in shown.stdout.splitlines() if "Equal mean length: distinct pages generated" in row]
    reference, other, difference = rows[0].split(":")[1].split()[3:6]
    assert (reference, difference) == (other, "+0.0000")
    assert "Equal length for each: IoU" in shown.stdout
    frame = pl.read_parquet(users_path(results["bundle"]))
    for hits, actual, mrr, recall in frame.select(
        "likeliest.hits", "actual.pages", "ranking.mrr", "ranking.recall_5"
    ).iter_rows():
        assert mrr == (1 / (hits & -hits).bit_length() if hits else 0.0)
        assert recall == pytest.approx((hits & 0b11111).bit_count() / actual)


def test_compare_says_why_not_at_equal_length(results: dict[str, Path], tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    document = read(results["shared"])
    run.write(document, pl.read_parquet(users_path(results["shared"])).drop("likeliest.hits"), old)
    shown = hetlm_compare(results["bundle"], old, "--resamples", "100", "--equal-length")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "evaluate again" in shown.stderr.replace("\n", " ")
    assert hetlm_compare(results["bundle"], old, "--resamples", "100").exit_code == 0


def test_mistakes_of_compare(results: dict[str, Path], tmp_path: Path) -> None:
    alone = hetlm_compare(results["bundle"])
    assert (alone.exit_code, alone.stdout) == (2, "")
    assert "nothing to compare" in alone.stderr
    missing = hetlm_compare(results["bundle"], tmp_path / "none.json")
    assert missing.exit_code == 2
    assert "none.json" in missing.stderr
    nowhere = hetlm_compare(results["bundle"], results["shared"], "--out", tmp_path / "no" / "c.json")
    assert "does not exist" in nowhere.stderr
    folder = hetlm_compare(results["bundle"], results["shared"], "--out", tmp_path)
    assert "is a directory" in folder.stderr
