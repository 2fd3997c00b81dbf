"""BLEU against values worked out by hand, and against sacrebleu, of all sessions and of copies of some."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU

from training.evaluation.metrics.bleu import ACTUAL, ORDER, Bleu, Overlaps
from training.evaluation.metrics.figures import Figures

LONG = ("/", "/bags", "/bags/tote", "/cart", "/purchase")
Sessions = Sequence[Sequence[str]]


def bleu(generated: Sessions, actual: Sessions) -> float:
    figures = Figures(len(actual))
    figures.bleu("bleu", Overlaps.of(generated, actual))
    return figures.point()["bleu"]


def theirs(generated: Sessions, actual: Sessions, order: int) -> float:
    """By sacrebleu itself; of pages that are words."""
    metric = BLEU(tokenize="none", max_ngram_order=order, force=True)
    return float(metric.corpus_score([" ".join(s) for s in generated], [[" ".join(s) for s in actual]]).score)


def test_an_equal_session_has_bleu_100() -> None:
    assert bleu([LONG, ("/",)], [LONG, ("/",)]) == pytest.approx(100)


def test_bleu_by_hand() -> None:
    """Five pages against four: 4/5, 3/4, 2/3 and 1/2 of the n-grams match, and longer than the truth is no penalty."""
    assert bleu([LONG], [LONG[:4]]) == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu([LONG[:4]], [LONG]) == pytest.approx(100 * math.exp(1 - 5 / 4))


def test_order_and_repetition_count() -> None:
    assert bleu([LONG[::-1]], [LONG]) < 50
    actual = [("/", "/bags", "/", "/cart")]
    assert bleu([("/",) * 4], actual) < bleu([("/", "/bags", "/", "/")], actual)


def test_a_page_is_one_word_whatever_its_name() -> None:
    """Names that hold white space or punctuation, or begin like one another, are neither split nor confused."""
    odd = ("/a b", "/a, c.", "/a b c", "/e\u2003f .", "/A B")
    assert bleu([odd], [odd]) == pytest.approx(100)
    assert bleu([("/a", "/b", "/c", "/d")], [("/a b", "/b c", "/c d", "/d e")]) == 0


def test_short_visits_are_counted_up_to_their_own_length() -> None:
    """Were four-grams asked of sessions of two pages, all would be 0. The truth sets the order, not the generation."""
    assert bleu([("/", "/bags")], [("/", "/bags")]) == pytest.approx(100)
    assert bleu([("/",), ("/bags",)], [("/",), ("/bags",)]) == pytest.approx(100)
    assert bleu([("/",)], [LONG]) == 0


def test_marks_are_no_pages_and_an_unknown_page_matches_nothing() -> None:
    assert bleu([("[BOS]", *LONG, "[UNK]", "[EOS]")], [("[PAD]", *LONG)]) == pytest.approx(100)
    assert bleu([("[UNK]",)], [("[UNK]",)]) == 0


def test_nothing_generated_is_no_bleu() -> None:
    assert bleu([()], [LONG]) == 0
    assert 0 < bleu([(), LONG], [LONG, LONG]) < 100


def test_there_must_be_a_pair_for_every_session() -> None:
    with pytest.raises(ValueError, match="no session"):
        bleu([], [])
    with pytest.raises(ValueError, match="zip"):
        bleu([LONG], [LONG, LONG])


def test_counts_by_hand() -> None:
    """Of "/ /bags / /" two "/" and one "/bags" are in "/ /bags /", the pair "/ /bags" once, and the pair "/bags /"."""
    overlaps = Overlaps.of([("/", "/bags", "/", "/"), ()], [("/", "/bags", "/"), ("/",)])
    assert overlaps.matches.tolist() == [[3, 2, 1, 0], [0, 0, 0, 0]]
    assert overlaps.generated.tolist() == [4, 0]
    assert overlaps.actual.tolist() == [3, 1]


PAGE = st.sampled_from(["a", "b", "c"])
PAIR = st.tuples(st.lists(PAGE, max_size=7), st.lists(PAGE, min_size=1, max_size=7))


@given(st.lists(PAIR, min_size=1, max_size=12))
def test_bleu_is_sacrebleus(pairs: list[tuple[list[str], list[str]]]) -> None:
    """Also where orders are without a match or without an n-gram, and where the truth is short."""
    generated, actual = [p[0] for p in pairs], [p[1] for p in pairs]
    order = min(ORDER, max(map(len, actual)))
    assert bleu(generated, actual) == pytest.approx(theirs(generated, actual, order), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(PAIR, st.integers(0, 3)), min_size=1, max_size=12).filter(lambda p: any(n for _, n in p)))
def test_weights_stand_for_copies(pairs: list[tuple[tuple[list[str], list[str]], int]]) -> None:
    """The order remains that of all sessions, also where the longest of them is not drawn."""
    overlaps = Overlaps.of([p[0] for p, _ in pairs], [p[1] for p, _ in pairs])
    weights = np.array([[n for _, n in pairs], [1] * len(pairs)], np.float64)
    copies = [p for p, n in pairs for _ in range(n)]
    order = min(ORDER, max(len(p[1]) for p, _ in pairs))
    expected = theirs([p[0] for p in copies], [p[1] for p in copies], order)
    assert Bleu.of(overlaps).under(weights)[0] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_columns_read_back_and_older_files_have_none() -> None:
    overlaps = Overlaps.of([LONG, LONG[:2], ()], [LONG[:4], LONG[::-1], ("/",)])
    columns = overlaps.columns("greedy")
    assert list(columns) == [*(f"greedy.bleu.matches_{n}" for n in (1, 2, 3, 4)), "greedy.bleu.generated", ACTUAL]
    frame = pl.DataFrame(columns)
    read = Overlaps.read(frame, "greedy")
    assert read is not None
    for name in ("matches", "generated", "actual"):
        assert (getattr(read, name) == getattr(overlaps, name)).all()
    assert Overlaps.read(frame, "consensus") is None
    assert Overlaps.read(frame.drop(ACTUAL), "greedy") is None
    some = overlaps.among(np.array([True, False, True]))
    assert (some.matches.tolist(), some.generated.tolist(), some.actual.tolist()) == (
        [[4, 3, 2, 1], [0, 0, 0, 0]],
        [5, 0],
        [4, 1],
    )


def test_the_interval_holds_the_figure_and_is_that_of_copied_users() -> None:
    generator = np.random.default_rng(4)
    actual = [tuple(generator.choice(list("abcd"), generator.integers(2, 7))) for _ in range(60)]
    generated = [session if i % 3 else session[::-1] for i, session in enumerate(actual)]
    figures = Figures(60)
    figures.bleu("bleu", Overlaps.of(generated, actual))
    groups = np.arange(60) // 2  # two sessions per user
    low, high = figures.intervals(groups, 400, seed=1)["bleu"]
    drawn = np.random.default_rng(9).integers(30, size=(400, 30))
    copied = []
    for users in drawn:
        places = [place for user in users for place in (2 * user, 2 * user + 1)]
        copied.append(theirs([generated[i] for i in places], [actual[i] for i in places], ORDER))
    assert low < theirs(generated, actual, ORDER) < high
    assert (low, high) == pytest.approx(tuple(np.quantile(copied, (0.025, 0.975))), abs=1.5)
    assert math.isclose(figures.point()["bleu"], theirs(generated, actual, ORDER), rel_tol=1e-9)
