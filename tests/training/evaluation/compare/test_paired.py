"""Paired comparisons: what is compared, what is refused, and that pairing pays."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.training.evaluation.site import sample
from training.evaluation.compare.paired import ComparisonError, Result, compare
from training.evaluation.result import Evaluation, LengthMetrics, PageMetrics, Row, Settings, VarianceMetrics
from training.evaluation.run import write
from training.evaluation.users import pseudonyms, users_path

N = 400


def document(**changes: object) -> Evaluation:
    """A result about nobody in particular: a comparison reads the per-user values."""
    row = Row(
        cluster=None,
        name="Combined",
        n=N,
        pages=PageMetrics(hr=0, ioa=0, iop=0, iou=0, new_p=0, val_p=0),
        variance=VarianceMetrics(hr=0, ioa=0, iog=0, iou=0),
        outcomes={},
        lengths=LengthMetrics(**dict.fromkeys(LengthMetrics.model_fields, 0.0)),
        probabilities={},
        loss=None,
    )
    settings = Settings(
        split="test",
        model="bundle",
        users=N,
        of_users=N,
        decode="consensus",
        samples=16,
        seed=0,
        max_steps=20,
        prompt_tokens=200,
    )
    own = Evaluation(
        bundle_version="b" * 64,
        dataset="shop",
        dataset_sha256="d" * 64,
        vocabulary_sha256="v" * 64,
        method="hetlm",
        settings=settings,
        clusters=(),
        combined=row,
        seconds={},
    )
    return own.model_copy(update=changes)


def values(seed: int = 0, better: float = 0.0, sessions: int = 1) -> pl.DataFrame:
    """`better`: how much likelier every page and surer every outcome is than with 0, for the same users."""
    generator = np.random.default_rng(42)
    own = np.random.default_rng(seed)
    ease = np.repeat(generator.random(N // sessions) * 0.5, sessions)  # users differ far more than methods
    iou = np.clip(ease + better + 0.02 * own.standard_normal(N), 0, 1)
    happened = generator.random(N) < 0.3
    p = np.clip(0.3 + (0.1 + better) * (2 * happened - 1) + 0.05 * own.standard_normal(N), 0.01, 0.99)
    tokens = generator.integers(2, 9, N)
    return pl.DataFrame(
        {
            "user": [f"{i // sessions:04d}" for i in range(N)],
            "sample": [i % sessions for i in range(N)],
            "cluster": 0,
            **{f"{decode}.{name}": iou for name in ("hr", "ioa", "iop", "iou") for decode in ("consensus",)},
            **{f"greedy.{name}": iou / 2 for name in ("hr", "ioa", "iop", "iou")},
            "consensus.pages": 3.0,
            "greedy.pages": 2.0,
            **{f"ranking.{name}": iou for name in ("recall_10", "ndcg_10", "mrr")},
            "nats": tokens * (3.0 - ease - better),
            "tokens": tokens,
            "cart.happened": happened,
            "cart.raw": p,
            "cart.calibrated": p,
        }
    )


def written(path: Path, frame: pl.DataFrame | None = None, **changes: object) -> Result:
    write(document(**changes), values() if frame is None else frame, path)
    return Result.read(path)


def test_a_difference_far_smaller_than_the_users_is_seen(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    other = written(tmp_path / "b.json", values(seed=1, better=0.03), method="mixture")
    comparison = compare(base, [other], resamples=500, seed=0)
    assert (comparison.n, comparison.users, comparison.dataset) == (N, N, "shop")
    (compared,) = comparison.others
    assert (compared.side.name, compared.side.method, compared.side.decode) == ("b", "mixture", "consensus")
    iou = compared.differences["pages.iou"]
    assert iou.difference == pytest.approx(iou.other - iou.reference)
    assert iou.difference == pytest.approx(0.03, abs=0.005)
    users = float(base.frame["consensus.iou"].std()) / N**0.5  # type: ignore[arg-type]
    assert iou.standard_error < users / 3
    own = other.frame["consensus.iou"].to_numpy() - base.frame["consensus.iou"].to_numpy()
    assert iou.standard_error == pytest.approx(own.std(ddof=1) / N**0.5, rel=0.1)
    assert iou.interval[0] < iou.difference < iou.interval[1]
    assert iou.verdict == "better"
    for name in ("loss.nats_per_page", "loss.user_mean", "cart.log_loss", "cart.raw.brier"):
        assert compared.differences[name].better == "lower"
        assert compared.differences[name].verdict == "better"
    assert compared.differences["loss.user_mean"].difference == pytest.approx(-0.03)
    assert compared.differences["cart.auc"].better == "higher"
    assert compared.differences["pages.generated"].verdict is None


def test_a_result_does_not_differ_from_itself(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    (compared,) = compare(base, [base], resamples=100, seed=0).others
    for own in compared.differences.values():
        assert (own.difference, own.standard_error, own.interval) == (0.0, 0.0, (0.0, 0.0))
        assert own.verdict in ("not distinguishable", None)


def test_noise_alone_is_not_distinguishable_and_worse_is_worse(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    noise, worse = written(tmp_path / "n.json", values(seed=5)), written(tmp_path / "w.json", values(better=-0.03))
    first, second = compare(base, [noise, worse], resamples=300, seed=0).others
    assert first.differences["pages.iou"].verdict == "not distinguishable"
    assert second.differences["pages.iou"].verdict == "worse"
    assert second.differences["loss.nats_per_page"].verdict == "worse"


def test_the_worst_decile_is_of_users_not_of_sessions(tmp_path: Path) -> None:
    frame = values(sessions=4)
    base, other = written(tmp_path / "a.json", frame), written(tmp_path / "b.json", values(better=0.02, sessions=4))
    comparison = compare(base, [other], resamples=200, seed=0)
    assert (comparison.n, comparison.users) == (N, N // 4)
    own = comparison.others[0].differences
    per_user = frame.group_by("user").agg(pl.col("consensus.iou").mean(), pl.col("nats", "tokens").sum())
    iou = np.sort(per_user["consensus.iou"].to_numpy())
    loss = np.sort((per_user["nats"] / per_user["tokens"]).to_numpy())
    assert own["worst_decile.iou"].reference == pytest.approx(iou[: N // 40].mean())
    assert own["worst_decile.nats_per_page"].reference == pytest.approx(loss[-N // 40 :].mean())
    assert own["worst_decile.nats_per_page"].better == "lower"


def test_another_decode_is_compared_where_there_is_one(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    renamed = values().rename({c: c.replace("consensus", "own") for c in values().columns if c.startswith("consensus")})
    settings = document().settings.model_copy(update={"decode": "own"})
    baseline = written(tmp_path / "p.json", renamed, method="popularity", settings=settings)
    comparison = compare(base, [base, baseline], resamples=100, seed=0, decode="greedy")
    assert comparison.reference.decode == "greedy"
    assert [other.side.decode for other in comparison.others] == ["greedy", "own"]
    iou = comparison.others[1].differences["pages.iou"]
    assert iou.reference == pytest.approx(iou.other / 2)


def test_what_one_side_lacks_is_left_out(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    other = written(tmp_path / "b.json", values().drop("nats", "tokens", "cart.raw", "cart.calibrated"))
    (compared,) = compare(base, [other], resamples=100, seed=0).others
    assert "pages.iou" in compared.differences
    assert not any(name.startswith(("loss", "cart", "worst_decile.nats")) for name in compared.differences)


def test_results_about_other_things_are_refused(tmp_path: Path) -> None:
    base = written(tmp_path / "a.json")
    train = document().settings.model_copy(update={"split": "train"})
    for changes, message in (
        ({"dataset_sha256": "e" * 64}, "two datasets"),
        ({"settings": train}, r"two splits \(test, train\)"),
        ({"vocabulary_sha256": "w" * 64}, "two vocabularies"),
    ):
        with pytest.raises(ComparisonError, match=message):
            compare(base, [written(tmp_path / "b.json", None, **changes)], resamples=100, seed=0)
    few = written(tmp_path / "few.json", values().head(N - 1))
    with pytest.raises(ComparisonError, match=r"different users \(400 and 399 next sessions, 399 in both\)"):
        compare(base, [few], resamples=100, seed=0)


def test_what_is_no_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComparisonError, match=r"missing\.json: No such file"):
        Result.read(tmp_path / "missing.json")
    (tmp_path / "old.json").write_text('{"schema_version": 1}')
    with pytest.raises(
        ComparisonError, match=r"old\.json is no result of this version of `hetlm evaluate`: schema_ver"
    ):
        Result.read(tmp_path / "old.json")
    base = tmp_path / "a.json"
    written(base)
    values(seed=9).write_parquet(users_path(base))
    with pytest.raises(ComparisonError, match=r"a\.users\.parquet does not belong to a\.json"):
        Result.read(base)
    users_path(base).unlink()
    with pytest.raises(ComparisonError, match=r"a\.users\.parquet: missing"):
        Result.read(base)


def test_users_pair_up_within_a_dataset_and_not_across_two() -> None:
    later = sample("anna", [["/"], ["/bags"], ["/shoes"]])
    earlier = sample("anna", [["/"], ["/bags"]])
    other = sample("bert", [["/"], ["/bags"]])
    names, numbers = pseudonyms([later, other, earlier], "d" * 64)
    assert later.next_started_at - earlier.next_started_at == timedelta(days=1)
    assert names[0] == names[2] != names[1]
    assert numbers == [1, 0, 0]  # by the time, not by the place
    assert pseudonyms([other], "d" * 64)[0] == [names[1]]
    assert pseudonyms([other], "e" * 64)[0] != [names[1]]
    assert all("anna" not in name and len(name) == 32 for name in names)
