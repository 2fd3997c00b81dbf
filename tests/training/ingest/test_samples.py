"""Which sessions become targets, how histories are cut, and how users are split, against plain Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from browsing.vocabulary import Vocabulary
from training.dataset import SPLITS, Split
from training.ingest.samples import Part, draw
from training.ingest.settings import Filters

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
VOCABULARY = Vocabulary([f"/{n}" for n in range(40)])


def frame(users: dict[str, list[int]]) -> pl.DataFrame:
    """Sessions of the given lengths, a day apart; every page of a user is another one."""
    rows = []
    for user, lengths in sorted(users.items()):
        page = 0
        for day, length in enumerate(lengths):
            rows.append((user, day * 86_400_000_000, [f"/{page + n}" for n in range(length)], length, f"d{day}"))
            page += length
    schema: dict[str, type[pl.DataType] | pl.DataType] = {
        "user": pl.String,
        "started": pl.Int64,
        "pages": pl.List(pl.String),
        "length": pl.Int64,
        "device": pl.String,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_splits_have_their_shares_and_depend_on_the_user_alone() -> None:
    users = [f"u{n}" for n in range(20_000)]
    draws = draw(users, Filters(seed=0))
    share = {split: float((draws.split == number).mean()) for number, split in enumerate(SPLITS)}
    expected: dict[Split, float] = {"test": 0.1, "select": 0.09, "calibrate": 0.045, "train": 0.765}
    for split, p in expected.items():
        assert abs(share[split] - p) < 4 * (p * (1 - p) / len(users)) ** 0.5
    folds = [draw(users, Filters(test_share=0.2, test_fold=fold)).split == SPLITS.index("test") for fold in range(5)]
    assert np.stack(folds).sum(0).tolist() == [1] * len(users)  # five folds test everybody once
    some = draw(users[100:200], Filters(seed=0))
    assert (some.split == draws.split[100:200]).all()
    assert (some.lot == draws.lot[100:200]).all()
    assert (draw(users, Filters(seed=1)).split != draws.split).mean() > 0.2
    # Sampling is independent of the split: the smallest half has the same shares.
    half = draws.lot < 2**63
    assert abs(float((draws.split[half] == SPLITS.index("test")).mean()) - 0.1) < 0.015


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"u{n}" for n in range(12)]), st.lists(st.integers(1, 6), min_size=1, max_size=6), min_size=1
    ),
    st.integers(1, 3),
    st.integers(4, 20),
    st.sampled_from([(None, None), (0, None), (1, None), (2, None), (3, None), (2, 1), (3, 1), (4, 2)]),
)
def test_equal_to_plain_python(
    users: dict[str, list[int]], samples_per_user: int, max_tokens: int, days: tuple[int | None, int | None]
) -> None:
    split_day, select_day = days
    at, since = (None if day is None else EPOCH + timedelta(days=day) for day in days)
    filters = Filters(
        samples_per_user=samples_per_user,
        max_history_tokens=max_tokens,
        split="user" if at is None else "time",
        split_at=at,
        select_at=since,
    )
    sessions = frame(users)
    part = Part(sessions, filters)
    expected: dict[Split, list[tuple[str, list[int], int]]] = {split: [] for split in SPLITS}
    viewed: dict[str, tuple[int, int]] = {}
    names = sorted(users)
    for user, number in zip(names, draw(names, Filters()).split, strict=True):
        split = SPLITS[number]
        allowed = [
            day
            for day in range(1, len(users[user]))
            if split_day is None or (day >= split_day if split == "test" else day < split_day)
            if select_day is None or split == "test" or (day < select_day if split == "train" else day >= select_day)
        ]
        pages = sessions.filter(pl.col("user") == user)["pages"].to_list()
        held: set[int] = set()
        for day in allowed[-samples_per_user:]:
            prompt = VOCABULARY.prompt(pages[:day], max_tokens)
            expected[split].append((user, list(prompt.ids), day))
            held |= {*range(prompt.sessions_dropped, day), day}
        if split == "train" or (split != "test" and select_day is None):
            for day in held:
                for page in pages[day]:
                    views, people = viewed.get(page, (0, 0))
                    viewed[page] = (views + 1, people + 1)  # a user sees a page once
    got = part.samples()
    for split in SPLITS:
        rows = got[split]
        assert [
            (user, list(VOCABULARY.prompt(history, max_tokens).ids), (moment - EPOCH).days)
            for user, history, moment in rows.select("user_id", "history", "next_started_at").iter_rows()
        ] == expected[split]
        for history, started, device, moment in rows.select(
            "history", "history_started_at", "device", "next_started_at"
        ).iter_rows():
            last = (moment - EPOCH).days
            earlier = list(range(last - len(history), last))
            assert [(s - EPOCH).days for s in started] == earlier
            assert device == [f"d{day}" for day in earlier]
            # What is stored is what the prompt holds, not more.
            assert sum(len(s) + 2 for s in history) < max_tokens
    counts = part.page_counts(0)
    assert {page: (v, u) for page, v, u in counts.select("page", "views", "users").iter_rows()} == viewed
    assert counts["fresh"].to_list() == counts["views"].to_list(), "no half-life: every view weighs the same"
    assert part.users == len({user for rows in expected.values() for user, _, _ in rows})


def test_a_sample_of_users() -> None:
    sessions = frame({f"u{n}": [1, 1, 1] for n in range(50)} | {"single": [3]})
    part = Part(sessions, Filters(samples_per_user=2))
    lots = sorted(part.lots())
    assert len(lots) == 50
    part.keep(int(lots[9]))
    assert part.users == 10
    assert sum(rows.height for rows in part.samples().values()) == 20


def test_views_lose_weight_with_their_age() -> None:
    """A page a day on days 0 to 3, half-life two days, counted from day 2."""
    part = Part(frame({"u": [1, 1, 1, 1]}), Filters(max_pages=9, page_half_life=2, test_share=0.001))
    counts = part.page_counts(2 * 86_400_000_000).sort("page")
    assert counts["page"].to_list() == ["/0", "/1", "/2", "/3"]
    np.testing.assert_allclose(counts["fresh"], [0.5, 0.5**0.5, 1.0, 1.0])  # what comes later weighs no more


def test_a_half_life_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="give both, or neither"):
        Filters(page_half_life=1)


def test_no_session_at_all() -> None:
    part = Part(frame({}), Filters())
    assert part.users == 0
    assert part.page_counts(0).is_empty()
    assert all(rows.is_empty() for rows in part.samples().values())
