"""Which users and visits `returns.parquet` holds, against plain Python, and in which logs there is one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from browsing.hashing import file_sha256
from browsing.vocabulary import Prompt, Vocabulary
from tests.training.datasets import visitors, write
from tests.training.ingest.logs import at, csv_text, run
from training.dataset import (
    INFO,
    RETURNS,
    RETURNS_SCHEMA,
    SPLITS,
    VISITS_COLUMNS,
    Dataset,
    DatasetError,
    DatasetInfo,
)
from training.ingest.returns import Windows, learnt_until, returns, windows
from training.ingest.samples import Part, draw
from training.ingest.settings import Filters
from training.ingest.times import DAY, HOUR

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CART = {"cart": ("/cart", "/basket"), "purchase": ("/thanks",)}
Visits = list[tuple[int, list[str]]]


def frame(users: dict[str, Visits]) -> pl.DataFrame:
    """Sessions at the given microseconds."""
    rows = [
        (user, started, pages, len(pages))
        for user, visits in sorted(users.items())
        for started, pages in sorted(visits, key=lambda visit: visit[0])
    ]
    schema: dict[str, type[pl.DataType] | pl.DataType] = {
        "user": pl.String,
        "started": pl.Int64,
        "pages": pl.List(pl.String),
        "length": pl.Int64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def random_users(count: int = 300, days: int = 20) -> dict[str, Visits]:
    generator = np.random.default_rng(0)
    users: dict[str, Visits] = {}
    for user in range(count):
        starts = np.sort(generator.integers(0, days * DAY, int(generator.integers(1, 6))))
        pages = np.array(["/", "/bags", "/cart", "/basket", "/thanks"])
        users[f"u{user}"] = [
            (int(start), generator.choice(pages, int(generator.integers(1, 4))).tolist()) for start in starts
        ]
    return users


def test_equal_to_plain_python() -> None:
    users, filters = random_users(), Filters()
    sessions = frame(users)
    times = Windows({"train": 10 * DAY, "select": 10 * DAY, "test": 12 * DAY}, 4 * DAY)
    got = returns(sessions, Part(sessions, filters).whose(), 2**64 - 1, times, CART, 256)
    expected = []
    names = sorted(users)
    for user, number in zip(names, draw(names, filters).split, strict=True):
        split = SPLITS[number]
        if split not in times.as_of:
            continue
        reference = times.as_of[split]
        before = [(s, pages) for s, pages in users[user] if reference - times.lookback <= s < reference]
        came = any(reference <= s < reference + 7 * DAY for s, _ in users[user])
        if before:
            held = [[name for name, own in CART.items() if set(own) & set(pages)] for _, pages in before]
            expected.append((split, reference, [s for s, _ in before], [len(p) for _, p in before], held, came))
    assert len({row[0] for row in expected}) == 3
    assert 20 < sum(row[-1] for row in expected) < len(expected) - 20
    assert [
        (split, _micros(as_of), [_micros(s) for s in started], pages, held, came)
        for split, as_of, started, pages, held, came in got.select(VISITS_COLUMNS).iter_rows()
    ] == expected
    assert set(got.columns) == set(RETURNS_SCHEMA.names), "nobody is named"


@pytest.mark.parametrize("tokens", [256, 9, 5])
def test_of_test_users_it_holds_what_they_saw_and_what_they_then_did(tokens: int) -> None:
    users, filters = random_users(), Filters()
    sessions = frame(users)
    times = Windows(dict.fromkeys(SPLITS, 12 * DAY), 8 * DAY)
    got = returns(sessions, Part(sessions, filters).whose(), 2**64 - 1, times, CART, tokens)
    assert got.filter(pl.col("split") != "test")["sessions"].null_count() == (got["split"] != "test").sum() > 0
    expected, several, whole = [], 0, 0
    names = sorted(users)
    for user, number in zip(names, draw(names, filters).split, strict=True):
        before = [pages for start, pages in users[user] if 4 * DAY <= start < 12 * DAY]
        after = [pages for start, pages in users[user] if 12 * DAY <= start < 19 * DAY]
        if not before:
            continue
        held = [{name for name, own in CART.items() if set(own) & set(pages)} for pages in after]
        several += len(held) > 1 and held[0] != set().union(*held)
        read: list[list[str]] | None = None
        if SPLITS[number] == "test":
            words = Vocabulary(["/", "/bags", "/cart", "/basket", "/thanks"])
            prompt = words.prompt(before, tokens)
            read = before[prompt.sessions_dropped :]
            read = [read[0][-(tokens - 3) :], *read[1:]]
            assert words.prompt(read, tokens) == Prompt(prompt.ids, 0)
            whole += prompt.sessions_dropped == 0
        expected.append((read, held[0] if held else set(), set().union(*held)))
    assert several > 3
    assert (whole < sum(read is not None for read, _, _ in expected)) is (tokens < 256)
    columns = got.select("sessions", "first_outcomes", "any_outcomes").iter_rows()
    assert [(read, set(first), set(every)) for read, first, every in columns] == expected
    assert got["any_outcomes"].list.len().max() == 2, "each outcome once"


def test_a_sample_is_drawn_from_all_users() -> None:
    """The users of the smallest sampling numbers, of those that never return as of those that do."""
    users = random_users()
    sessions = frame(users)
    whose = Part(sessions, Filters()).whose()
    times = Windows(dict.fromkeys(SPLITS, 12 * DAY), 12 * DAY)
    everybody = returns(sessions, whose, 2**64 - 1, times, {}, 256)
    half = returns(sessions, whose, 2**63, times, {}, 256)
    assert everybody["outcomes"].list.explode().list.len().sum() == 0
    lots = draw(sorted(users), Filters()).lot
    allowed = {user for user, lot in zip(sorted(users), lots, strict=True) if lot <= 2**63}
    assert half.height == sum(any(start < 12 * DAY for start, _ in users[user]) for user in allowed)
    assert 0.4 < half.height / everybody.height < 0.6


def test_the_week_is_the_last_one_and_stragglers_do_not_move_it() -> None:
    steady = Counter(dict.fromkeys(range(480, 480 + 24 * 20), 100))
    times = windows(steady, Filters())
    assert times is not None
    last = 480 + 24 * 20 - 5  # a hundredth of the sessions is later
    assert set(times.as_of) == set(SPLITS)
    assert times.as_of["train"] == (last - 24 * 7) * HOUR
    assert times.as_of["train"] - times.lookback == (480 + 4) * HOUR
    weeks_later = Counter({**steady, 480 + 24 * 60: 90, 0: 40})
    again = windows(weeks_later, Filters())
    assert again is not None
    assert abs(again.as_of["train"] - times.as_of["train"]) <= 2 * HOUR
    assert abs(again.lookback - times.lookback) <= 4 * HOUR
    described, lookback = times.described()
    assert described["train"] == (EPOCH + timedelta(hours=last - 24 * 7)).isoformat()
    assert lookback == times.lookback / DAY


@pytest.mark.parametrize(("days", "there"), [(5, False), (10, False), (11, True)])
def test_a_short_log_has_none(days: int, there: bool) -> None:
    assert (windows(Counter(dict.fromkeys(range(24 * days), 1)), Filters()) is not None) is there
    assert windows({}, Filters()) is None


@pytest.mark.parametrize(("split_day", "tested"), [(20, True), (22, True), (23, False), (27, False)])
def test_with_a_split_by_time_nobody_trains_on_what_comes_later(split_day: int, tested: bool) -> None:
    hours = Counter(dict.fromkeys(range(24 * 30), 1))
    split_at = EPOCH + timedelta(days=split_day)
    times = windows(hours, Filters(split="time", split_at=split_at))
    assert times is not None
    assert times.as_of["train"] == times.as_of["select"] == times.as_of["calibrate"]
    assert times.as_of["train"] + 7 * DAY <= split_day * DAY
    assert ("test" in times.as_of) is tested
    assert all(at >= split_day * DAY for split, at in times.as_of.items() if split == "test")
    assert windows(hours, Filters(split="time", split_at=EPOCH + timedelta(days=9))) is None


def test_training_users_week_ends_where_training_does() -> None:
    hours = Counter(dict.fromkeys(range(24 * 30), 1))
    filters = Filters(split="time", split_at=EPOCH + timedelta(days=22), select_at=EPOCH + timedelta(days=20))
    times = windows(hours, filters)
    assert times is not None
    assert times.as_of["train"] + 7 * DAY == 20 * DAY == learnt_until(hours, filters)
    assert times.as_of["select"] + 7 * DAY == times.as_of["calibrate"] + 7 * DAY == 22 * DAY


def test_ingest_writes_those_that_never_came_back_as_well(tmp_path: Path) -> None:
    rows = []
    for user in range(200):
        days = [user % 20] if user % 2 else [user % 20, user % 20 + 5, 19 - user % 3]
        rows += [(f"u{user}", page, at(24.0 * day + user / 100)) for day in days for page in ("/", "/cart")]
    log = tmp_path / "log.csv"
    log.write_text(csv_text(("user", "page", "time"), rows))
    out = tmp_path / "d"
    assert run(log, "--out", out).exit_code == 0
    dataset = Dataset.load(out)
    about = dataset.info.returns
    assert about is not None
    known = dataset.returns(SPLITS)
    assert known is not None
    assert known.height == about.users > dataset.info.counts.eligible_users
    assert int(known["returned"].sum()) == about.returned
    assert 0 < about.returned < about.users
    train = dataset.returns(("train",))
    assert train is not None
    assert train["split"].unique().to_list() == ["train"]
    assert set(train["as_of"].dt.strftime("%Y-%m-%dT%H:%M:%S+00:00")) == {about.as_of["train"]}
    followed = dataset.followed()
    assert followed is not None
    assert followed.height == (known["split"] == "test").sum() > 0
    assert {page for pages in followed["sessions"] for session in pages for page in session} == {"/", "/cart"}
    assert followed["first_outcomes"].to_list() == [["cart"] * back for back in followed["returned"]]
    assert {"cart"} == {name for held in known["outcomes"] for session in held for name in session}
    assert pl.read_parquet_schema(out / RETURNS).keys() == set(RETURNS_SCHEMA.names)
    before = (out / RETURNS).read_bytes()
    assert "already there" in run(log, "--out", out).stderr
    (out / RETURNS).write_bytes(before[:-9])
    assert "damaged" in run(log, "--out", out).stderr
    (out / RETURNS).unlink()
    assert run(log, "--out", out, "--overwrite").exit_code == 0
    assert (out / RETURNS).read_bytes() == before


def test_a_log_of_a_week_has_no_such_file(tmp_path: Path) -> None:
    rows = [(f"u{n}", "/", at(30.0 * s)) for n in range(40) for s in range(3)]
    log = tmp_path / "log.csv"
    log.write_text(csv_text(("user", "page", "time"), rows))
    assert run(log, "--out", tmp_path / "d").exit_code == 0
    dataset = Dataset.load(tmp_path / "d")
    assert dataset.info.returns is None
    assert dataset.returns(SPLITS) is None
    assert dataset.followed() is None
    assert not (tmp_path / "d" / RETURNS).exists()


def test_a_dataset_from_before_it_held_what_followed_is_still_read(tmp_path: Path) -> None:
    visits = visitors({"train": 30, "test": 20})[0]
    write(tmp_path / "d", returns=visits)
    old = tmp_path / "d" / RETURNS
    pl.read_parquet(old).select(VISITS_COLUMNS).write_parquet(old)
    info = DatasetInfo.model_validate_json((tmp_path / "d" / INFO).read_text())
    hashes = {**info.hashes, RETURNS: file_sha256(old)}
    (tmp_path / "d" / INFO).write_text(info.model_copy(update={"hashes": hashes}).model_dump_json())
    dataset = Dataset.load(tmp_path / "d")
    known = dataset.returns(("test",))
    assert known is not None
    assert known.height == 20
    assert dataset.followed() is None
    hashes = {**hashes, RETURNS: "0" * 64}
    (tmp_path / "d" / INFO).write_text(info.model_copy(update={"hashes": hashes}).model_dump_json())
    with pytest.raises(DatasetError, match=r"returns\.parquet: changed"):
        Dataset.load(tmp_path / "d").followed()


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
