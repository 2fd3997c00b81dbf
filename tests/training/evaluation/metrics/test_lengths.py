"""Pages at equal length: against the page metrics themselves, against copies, and on methods whose order is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from browsing.vocabulary import Vocabulary
from tests.training.evaluation.compare.test_paired import document
from training.evaluation.compare.paired import Result, compare, longer_than_ranked
from training.evaluation.metrics.figures import Figures
from training.evaluation.metrics.lengths import ACTUAL, HITS, MOST, RANKED, SCORES, Likeliest
from training.evaluation.metrics.pages import page_scores
from training.evaluation.run import write

PAGES = [f"/p{i}" for i in range(30)]
WORDS = Vocabulary(PAGES)


def drawn(generator: np.random.Generator) -> tuple[list[str], list[str]]:
    """(a ranking of up to 25 pages, an actual session, which may hold a page without a token)."""
    ranked = generator.permutation(PAGES)[: int(generator.integers(0, 26))].tolist()
    actual = generator.choice([*PAGES, "/unheard-of"], int(generator.integers(1, 9))).tolist()
    return ranked, actual


def test_every_length_scores_as_a_session_of_these_pages() -> None:
    generator = np.random.default_rng(0)
    cases = [drawn(generator) for _ in range(60)]
    likeliest = Likeliest.of([ranked for ranked, _ in cases], [actual for _, actual in cases], WORDS)
    for place, (ranked, actual) in enumerate(cases):
        for n in range(MOST + 1):
            expected = page_scores(ranked[:n], actual, frozenset(), WORDS, frozenset(PAGES))
            assert likeliest.lengths[place, n] == min(n, len(ranked))
            for name in SCORES:
                assert likeliest.scores[name][place, n] == pytest.approx(getattr(expected, name)), (place, n, name)


def test_the_values_per_user_hold_it_in_a_few_bytes(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    cases = [drawn(generator) for _ in range(2000)]
    likeliest = Likeliest.of([ranked for ranked, _ in cases], [actual for _, actual in cases], WORDS)
    frame = pl.DataFrame(likeliest.columns())
    assert frame.schema == {HITS: pl.UInt32, RANKED: pl.UInt8, ACTUAL: pl.UInt32}
    frame.write_parquet(tmp_path / "u.parquet", compression="zstd")
    assert (tmp_path / "u.parquet").stat().st_size < 2000 * 8
    again = Likeliest.read(pl.read_parquet(tmp_path / "u.parquet"))
    assert again is not None
    for name in SCORES:
        assert (again.scores[name] == likeliest.scores[name]).all()
    assert Likeliest.read(frame.drop(ACTUAL)) is None


def curve(lengths: list[list[int]], values: list[list[float]], at: list[float]) -> Figures:
    figures = Figures(len(at))
    figures.curve("c", np.array(lengths), np.array(values), np.array(at))
    return figures


def test_between_two_lengths_the_users_are_shared_out() -> None:
    # One page for all: (0.5 + 0) / 2; two for all: (1 + 0.25) / 2. A mean of 1.25 pages is a quarter of the way.
    lengths, values = [[0, 1, 2], [0, 1, 2]], [[0.0, 0.5, 1.0], [0.0, 0.0, 0.25]]
    assert curve(lengths, values, [1.0, 1.5]).point()["c"] == pytest.approx(0.25 + 0.25 * (0.625 - 0.25))
    assert curve(lengths, values, [2.0, 2.0]).point()["c"] == 0.625
    assert curve(lengths, values, [0.0, 0.0]).point()["c"] == 0.0
    assert np.isnan(curve(lengths, values, [2.0, 2.5]).point()["c"]), "nobody ranks so many"
    # The second user ranks one page alone: two for all are 1.5 on average.
    assert curve([[0, 1, 2], [0, 1, 1]], [[0.0, 0.5, 1.0], [0.0, 0.0, 0.0]], [1.5, 1.5]).point()["c"] == 0.5


@given(st.integers(0, 10_000))
def test_the_mixture_has_the_wanted_length_and_its_mean_score(seed: int) -> None:
    """Against drawing it: a share of the users, whoever they are, has a page more than the others."""
    generator = np.random.default_rng(seed)
    cases = [drawn(generator) for _ in range(12)]
    likeliest = Likeliest.of([ranked for ranked, _ in cases], [actual for _, actual in cases], WORDS)
    n, share = int(generator.integers(0, MOST)), float(generator.random())
    wanted = (1 - share) * likeliest.lengths[:, n].mean() + share * likeliest.lengths[:, n + 1].mean()
    figures = Figures(12)
    figures.curve("iou", likeliest.lengths, likeliest.scores["iou"], np.full(12, wanted))
    figures.curve("pages", likeliest.lengths, likeliest.lengths.astype(np.float64), np.full(12, wanted))
    values = likeliest.scores["iou"].mean(0)
    point = figures.point()
    assert point["pages"] == pytest.approx(wanted)
    if likeliest.lengths[:, n].mean() < likeliest.lengths[:, n + 1].mean():
        assert point["iou"] == pytest.approx((1 - share) * values[n] + share * values[n + 1])


def test_a_curve_under_weights_is_that_of_copies() -> None:
    generator = np.random.default_rng(3)
    cases = [drawn(generator) for _ in range(30)]
    likeliest = Likeliest.of([ranked for ranked, _ in cases], [actual for _, actual in cases], WORDS)
    at = generator.integers(1, 6, 30).astype(np.float64)
    weights = generator.integers(0, 4, (1, 30))
    copies = np.repeat(np.arange(30), weights[0])

    def made(places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Figures:
        figures = Figures(len(places))
        figures.curve("c", likeliest.lengths[places], likeliest.scores["iou"][places], at[places])
        return figures

    weighed = made(np.arange(30)).under(weights.astype(np.float64))["c"]
    assert float(weighed[0]) == pytest.approx(made(copies).point()["c"])


N = 600


def frame(ranked: list[list[str]], sessions: list[list[str]], actual: list[list[str]]) -> pl.DataFrame:
    """Values per user of a method that ranks and decodes so."""
    scores = [
        page_scores(own, truth, frozenset(), WORDS, frozenset(PAGES))
        for own, truth in zip(sessions, actual, strict=True)
    ]
    return pl.DataFrame(
        {
            "user": [f"{i:04d}" for i in range(N)],
            "sample": 0,
            "cluster": 0,
            **{f"consensus.{name}": [getattr(s, name) for s in scores] for name in SCORES},
            "consensus.pages": [float(len(set(own))) for own in sessions],
            **{f"ranking.{name}": 0.0 for name in ("recall_10", "ndcg_10", "mrr")},
            **Likeliest.of(ranked, actual, WORDS).columns(),
        }
    )


def result(path: Path, users: pl.DataFrame) -> Result:
    write(document(), users, path)
    return Result.read(path)


@pytest.fixture(scope="module")
def actual() -> list[list[str]]:
    generator = np.random.default_rng(7)
    return [generator.choice(PAGES[:10], 4, replace=False).tolist() for _ in range(N)]


def test_a_method_that_only_says_more_gains_nothing_at_equal_length(tmp_path: Path, actual: list[list[str]]) -> None:
    """Both rank at random among the same pages; the second names six of them, the first two."""
    generator = np.random.default_rng(8)
    first, second = ([generator.permutation(PAGES[:10]).tolist() for _ in range(N)] for _ in range(2))
    short = result(tmp_path / "short.json", frame(first, [own[:2] for own in first], actual))
    long = result(tmp_path / "long.json", frame(second, [own[:6] for own in second], actual))
    (compared,) = compare(short, [long], resamples=300, seed=0, equal_length=True).others
    own = compared.differences
    for name in ("hr", "ioa", "iou"):
        assert own[f"pages.{name}"].verdict == "better"
        for part in ("equal_mean", "equal_each"):
            assert own[f"{part}.{name}"].verdict == "not distinguishable"
            assert own[f"{part}.{name}"].reference == pytest.approx(own[f"pages.{name}"].reference)
    # Two of ten pages at random against four of ten: the share of right ones is 0.4.
    assert own["equal_mean.iop"].other == pytest.approx(0.4, abs=0.05)
    for part in ("equal_mean", "equal_each"):
        length = own[f"{part}.generated"]
        assert (length.reference, length.verdict) == (2.0, None)
        assert length.other == pytest.approx(2.0)
        assert length.interval == pytest.approx((0.0, 0.0))
    assert "equal_mean.iou" not in compare(short, [long], resamples=100, seed=0).others[0].differences


def test_a_better_ranking_is_better_at_equal_length_though_its_sessions_are_not(
    tmp_path: Path, actual: list[list[str]]
) -> None:
    """The second puts the actual pages first, but names one; the first names four, half of the time the right ones."""
    generator = np.random.default_rng(9)
    rest = [[page for page in PAGES if page not in own] for own in actual]
    lengths = generator.integers(2, 7, N)
    sessions = [[*own[:2], *others[: n - 2]] for own, others, n in zip(actual, rest, lengths.tolist(), strict=True)]
    repeat = result(tmp_path / "repeat.json", frame(sessions, sessions, actual))
    ranked = [[*own, *others] for own, others in zip(actual, rest, strict=True)]
    ours = result(tmp_path / "ours.json", frame(ranked, [own[:1] for own in ranked], actual))
    (compared,) = compare(repeat, [ours], resamples=300, seed=0, equal_length=True).others
    own = compared.differences
    assert own["pages.iou"].verdict == "worse"
    assert own["equal_mean.iou"].verdict == own["equal_each.iou"].verdict == "better"
    mean = lengths.mean()
    low = int(mean)
    by_length = [min(n, 4) / max(n, 4) for n in range(8)]  # n pages, all of them right as far as there are
    share = mean - low
    expected = (1 - share) * by_length[low] + share * by_length[low + 1]
    assert own["equal_mean.iou"].other == pytest.approx(expected)
    assert own["equal_mean.generated"].other == pytest.approx(mean)
    assert own["equal_each.iou"].other == pytest.approx(np.mean([by_length[n] for n in lengths]))
    assert own["equal_each.generated"].other == pytest.approx(mean)


def test_where_too_few_pages_are_ranked_nothing_is_said_and_why(tmp_path: Path, actual: list[list[str]]) -> None:
    ranked = [PAGES[:8]] * N
    long = result(tmp_path / "long.json", frame(ranked, ranked, actual))
    few = result(tmp_path / "few.json", frame([PAGES[:3]] * N, [PAGES[:3]] * N, actual))
    old = result(tmp_path / "old.json", frame(ranked, ranked, actual).drop(HITS, RANKED, ACTUAL))
    first, second = compare(long, [few, old], resamples=100, seed=0, equal_length=True).others
    assert "equal_mean.iou" not in first.differences
    assert first.differences["equal_each.generated"].other == 3, "as many as there are"
    assert not any(name.startswith("equal") for name in second.differences)
    assert longer_than_ranked(few, long, None) == ""
    assert "long.json has 8.00 pages per session" in longer_than_ranked(long, few, None)
    assert "few.json ranks 3.00 on average" in longer_than_ranked(long, few, None)
    assert "evaluate again" in longer_than_ranked(long, old, None)
