"""The command as a user meets it: a web-pixel export, the answers it must give, and its mistakes."""

from __future__ import annotations

import gzip
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from browsing.sessions import Event, sessions_of
from tests.training.ingest.logs import PIXEL, at, csv_text, pixel, pixel_rows, run
from training.dataset import SPLITS, Dataset
from training.ingest import build as build_module
from training.ingest.vocabulary import PageCounter

FLAGS = ("--user", "client_id,clientId", "--time", "timestamp", "--page", "page_url", "--event-type", "event_name")

RULES = """
[columns]
user = ["client_id", "clientId"]
time = "timestamp"
page = "page_url"
event_type = "event_name"
time_unit = "auto"

[pages]
max_depth = 2
ignore_events = ["product_viewed"]
outcomes.cart.events = ["product_added_to_cart"]
outcomes.purchase = { page = "/order", events = ["checkout_completed"] }

[filters]
min_users = 3
samples_per_user = 2
"""


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("how", ["guess", "flags", "toml"])
def test_a_pixel_export_whose_header_changes(tmp_path: Path, how: str) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    rows = pixel_rows()
    half = len(rows) // 2
    (logs / "a.csv").write_text(csv_text(PIXEL, rows[:half]))
    (logs / "b.csv.gz").write_bytes(gzip.compress(csv_text(("clientId", *PIXEL[1:]), rows[half:]).encode()))
    (tmp_path / "rules.toml").write_text(RULES)
    told = {"guess": (), "flags": FLAGS, "toml": ("--config", tmp_path / "rules.toml")}[how]
    result = run(logs, "--format", "events", "--out", tmp_path / "shop", "--json", *told)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    dataset = Dataset.load(tmp_path / "shop")
    assert answer["counts"] == dataset.info.counts.model_dump()
    assert dataset.info.counts.rows == len(rows)
    assert dataset.info.counts.users == 40
    assert dataset.info.counts.sessions == 160
    assert ("columns guessed: user = client_id" in result.stderr) == (how == "guess")
    assert ("user = clientId" in result.stderr) == (how == "guess")
    if how == "toml":
        assert dataset.outcomes() == {"cart": ("/cart",), "purchase": ("/order",)}
        assert set(dataset.vocabulary().pages) == {"/", "/bags", "/cart", "/order"}
        assert sum(dataset.info.counts.samples.values()) == 80
    else:
        assert dataset.outcomes() == {"cart": ("/cart",), "purchase": ("/purchase",)}
        assert {"/", "/bags", "/bags/tote-0"} < set(dataset.vocabulary().pages)
        (first,) = [s for split in SPLITS for s in dataset.samples(split) if s.user_id == "visitor-000"]
        assert first.history[1] == ("/", "/bags", "/bags/tote-1", "/cart")
        assert first.next_session == ("/", "/bags", "/bags/tote-0", "/cart", "/purchase")


def test_token_ids_are_those_of_the_service(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv", users=60, sessions=6)
    out = tmp_path / "shop"
    told = ("--max-history-tokens", "20", "--max-session-percentile", "90", "--min-users", "20", "--max-depth", "1")
    assert run(log, "--out", out, *told).exit_code == 0
    dataset = Dataset.load(out)
    assert dataset.rules.max_session_pages == 4  # the longest sessions, with cart and purchase, are beyond
    vocabulary = dataset.vocabulary()
    events: dict[str, list[Event]] = {}
    for row in pixel_rows(users=60, sessions=6):
        event = Event(datetime.fromisoformat(row[3]), row[1], row[4])
        events.setdefault(row[0], []).append(event)
    samples = [s for split in SPLITS for s in dataset.samples(split)]
    assert len(samples) == dataset.info.counts.eligible_users > 50
    cut = 0
    for sample in samples:
        sessions = sessions_of(events[sample.user_id], dataset.rules)
        *history, target = [s.pages for s in sessions]
        asked = vocabulary.prompt(history, 20)
        cut += asked.sessions_dropped > 0
        assert vocabulary.prompt(sample.history, 20).ids == asked.ids
        assert vocabulary.session(sample.next_session) == vocabulary.session(target)
        assert sample.next_started_at == sessions[-1].started_at
        kept = len(sample.history)
        assert list(sample.history_started_at) == [s.started_at for s in sessions[-1 - kept : -1]]
    assert cut > 10


def test_personal_pages_do_not_reach_the_vocabulary(tmp_path: Path) -> None:
    rows = [(f"u{n}", page, at(40.0 * s)) for n in range(30) for s in range(3) for page in ("/", f"/account/mail-{n}")]
    log = tmp_path / "log.csv"
    log.write_text(csv_text(("user", "page", "time"), rows))
    assert run(log, "--out", tmp_path / "d").exit_code == 0
    dataset = Dataset.load(tmp_path / "d")
    assert dataset.vocabulary().pages == ("/",)
    assert dataset.info.counts.pages_seen > 20
    assert dataset.info.counts.unknown_share == pytest.approx(0.5)
    # The page itself stays in the sessions: an evaluation must know that it was there, and which it was.
    assert all(s.next_session[1].startswith("/account/mail-") for s in dataset.samples("train"))
    for name in ("pages.parquet", "pages.json", "dataset.json"):
        assert b"/account/" not in (dataset.root / name).read_bytes()


def test_split_by_time_keeps_users_and_times_apart(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv", users=300)
    moment = at(48.0 * 2)
    out = tmp_path / "d"
    assert run(log, "--out", out, "--split", "time", "--split-at", moment, "--samples-per-user", 9).exit_code == 0
    dataset = Dataset.load(out)
    edge = datetime.fromisoformat(moment)
    users = {split: {s.user_id for s in dataset.samples(split)} for split in SPLITS}
    assert all(s.next_started_at >= edge for s in dataset.samples("test"))
    assert all(s.next_started_at < edge for split in SPLITS[:3] for s in dataset.samples(split))
    assert sum(map(len, users.values())) == len(set().union(*users.values())) == 300
    assert all(users.values())
    assert len(dataset.samples("test")) == 2 * len(users["test"])


def test_a_sample_of_users_is_seeded(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv", users=100)
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        result = run(log, "--out", tmp_path / name, "--users", 30, "--seed", seed)
        assert result.exit_code == 0, result.output
        dataset = Dataset.load(tmp_path / name)
        chosen.append({s.user_id for split in SPLITS for s in dataset.samples(split)})
        assert dataset.info.counts.sampled_users == len(chosen[-1]) == 30
        assert dataset.info.counts.eligible_users == 100
    assert chosen[0] == chosen[1] != chosen[2]
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_an_equal_dataset_is_used_again_and_another_refused(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv")
    out = tmp_path / "d"
    assert run(log, "--out", out).exit_code == 0
    before = files(out)
    again = run(log, "--out", out, "--json")
    assert again.exit_code == 0
    assert "already there" in again.stderr
    assert json.loads(again.stdout)["reused"] is True
    other = run(log, "--out", out, "--seed", 1)
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr
    assert files(out) == before
    assert run(log, "--out", out, "--seed", 1, "--overwrite").exit_code == 0
    assert files(out) != before
    with (out / "train.parquet").open("ab") as file:
        file.write(b"x")
    assert "damaged dataset" in run(log, "--out", out, "--seed", 1).stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "log.csv"]


def test_what_is_no_dataset_is_never_replaced(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv")
    out = tmp_path / "photos"
    out.mkdir()
    (out / "cat.jpg").write_text("meow")
    for extra in ((), ("--overwrite",)):
        result = run(log, "--out", out, *extra)
        assert result.exit_code == 2
        assert "not a dataset" in result.stderr
    assert files(out) == {"cat.jpg": b"meow"}
    assert run(log, "--out", log).exit_code == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_half_written(
    tmp_path: Path, error: type[BaseException], overwrite: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = pixel(tmp_path / "log.csv")
    out = tmp_path / "d"
    if overwrite:
        assert run(log, "--out", out, "--seed", 7).exit_code == 0
    before = files(tmp_path)

    def broken(*args: object) -> None:
        assert any("partial" in p.name for p in tmp_path.iterdir())
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(PageCounter, "choose", broken)
        assert run(log, "--out", out, *(["--overwrite"] if overwrite else [])).exit_code != 0
    assert files(tmp_path) == before
    assert run(log, "--out", out, *(["--overwrite"] if overwrite else [])).exit_code == 0


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv")
    dead = tmp_path / f".d.partial-{2**22 + 1}"  # above the largest process id
    (dead / "work").mkdir(parents=True)
    assert run(log, "--out", tmp_path / "d").exit_code == 0
    assert not dead.exists()


def test_many_parts_give_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = pixel(tmp_path / "log.csv", users=80)
    assert run(log, "--out", tmp_path / "one").exit_code == 0
    monkeypatch.setattr(build_module, "parts_for", lambda size: 7)
    assert run(log, "--out", tmp_path / "many").exit_code == 0
    one, many = Dataset.load(tmp_path / "one"), Dataset.load(tmp_path / "many")
    assert one.info.counts == many.info.counts
    assert one.pages.equals(many.pages)
    for split in SPLITS:
        assert sorted(one.samples(split), key=lambda s: s.user_id) == sorted(
            many.samples(split), key=lambda s: s.user_id
        )


def test_page_rule_flags(tmp_path: Path) -> None:
    rows = [
        (f"u{n}", at(48.0 * s + k / 10), url, kind)
        for n in range(20)
        for s in range(2)
        for k, (url, kind) in enumerate(
            [
                ("https://a.example/P/12345678/x?id=7&utm=1", "look"),
                ("https://a.example/P/12345678/x?id=7&utm=2", "look"),
                ("https://a.example/warenkorb", "look"),
                ("https://a.example/danke", "look"),
                ("https://a.example/x", "scroll"),
                ("https://a.example/bag-17/y", "look"),
            ]
        )
    ]
    log = tmp_path / "log.csv"
    log.write_text(csv_text(("user", "time", "url", "event"), rows))
    base = ("--cart-page", "/warenkorb", "--purchase-page", "/danke", "--ignore-event", "scroll")

    def pages(name: str, *flags: str) -> tuple[str, ...]:
        result = run(log, "--out", tmp_path / name, *base, *flags)
        assert result.exit_code == 0, result.output
        return Dataset.load(tmp_path / name).samples("train")[0].next_session

    assert pages("a") == ("/P/:id/x", "/cart", "/purchase", "/bag-17/y")
    assert pages("b", "--no-fold", "--max-depth", "2") == ("/P/12345678", "/cart", "/purchase", "/bag-17/y")
    assert pages("c", "--keep-query", "id", "--lowercase", "--fold", "bag-[0-9]+=:bag") == (
        "/p/:id/x?id=7",
        "/cart",
        "/purchase",
        "/:bag/y",
    )
    assert pages("d", "--keep-repeats")[:2] == ("/P/:id/x", "/P/:id/x")
    assert pages("e", "--session-gap", "5") == ("/bag-17/y",)
    assert pages("f", "--view-event", "look", "--cart-event", "scroll")[3] == "/cart"
    assert pages("g", "--keep-host", "--cart-page", "a.example/warenkorb")[:2] == ("a.example/P/:id/x", "/cart")


MISTAKES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "missing column": ("user,time\na,1\n", (), ("log.csv", "page", "user, time", "--page")),
    "named column missing": ("user,time,page\na,1,/\n", ("--user", "visitor"), ("log.csv", "'visitor'", "--user")),
    "no header": ("ann@mail.example,17,/a\nann,18,/b\n", (), ("log.csv", "does not look like a header")),
    "unparsable time": ("user,time,page\na,1,/\na,soon,/\n", (), ("log.csv", "row 2", "'time'", "'soon'")),
    "empty log": ("user,time,page\n", (), ("log.csv", "empty")),
    "empty file": ("", (), ("log.csv", "empty")),
    "nobody twice": ("user,time,page\na,1,/\nb,1,/\n", (), ("log.csv", "nobody has two sessions")),
    "no views": ("user,time,page,event\na,1,/,x\n", ("--ignore-event", "x"), ("log.csv", "page view")),
    "time split": ("user,time,page\na,1,/\na,9999,/\n", ("--split", "time"), ("split_at",)),
    "select at": ("user,time,page\na,1,/\na,9999,/\n", ("--select-at", "2020-01-01"), ("select_at", "split_at")),
    "bad regex": ("user,time,page\na,1,/\n", ("--cart-page", "("), ("outcomes.cart.pages", "regular expression")),
    "bad fold": ("user,time,page\na,1,/\n", ("--fold", "x"), ("PATTERN=PLACEHOLDER",)),
    "bad filter": ("user,time,page\na,1,/\n", ("--max-session-percentile", "120"), ("max_session_percentile",)),
    "endings": ("user,time,page\na,1,/\n", ("--endings",), ("wikispeedia",)),
    "unknown format": ("user,time,page\na,1,/\n", ("--format", "apache"), ("apache", "retailrocket")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_one_clear_message_for_a_mistake(tmp_path: Path, name: str) -> None:
    text, flags, told = MISTAKES[name]
    log = tmp_path / "log.csv"
    log.write_text(text)
    result = run(log, "--out", tmp_path / "d", *flags)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    for part in told:
        assert part in result.stderr
    assert "Traceback" not in result.stderr
    assert "ann@mail.example" not in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[pages]\nsesion_gap = 3", "[pages] has no key 'sesion_gap'"),
        ("[filters]\nmin_user = 3", "[filters] has no key 'min_user'"),
        ("[columns]\nvisitor = 'x'", "unknown key 'columns.visitor'"),
        ("[colums]\nuser = 'x'", "unknown key 'colums'"),
        ("[filters]\nmin_users = 'many'", "min_users"),
        ("[pages]\noutcomes = 3", "outcomes"),
        ("[pages]\noutcomes.basket.events = ['x']", "unknown outcome 'basket'"),
        ("[pages", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, toml: str, told: str) -> None:
    log = pixel(tmp_path / "log.csv")
    (tmp_path / "rules.toml").write_text(toml)
    result = run(log, "--out", tmp_path / "d", "--config", tmp_path / "rules.toml")
    assert result.exit_code == 2
    assert told in result.stderr
    assert "rules.toml" in result.stderr


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    log = pixel(tmp_path / "log.csv")
    (tmp_path / "rules.toml").write_text(RULES)
    told = ("--config", tmp_path / "rules.toml", "--max-depth", 1, "--min-users", 7, "--cart-event", "product_viewed")
    assert run(log, "--out", tmp_path / "d", *told).exit_code == 0
    dataset = Dataset.load(tmp_path / "d")
    assert dataset.rules.max_depth == 1
    assert dataset.rules.outcomes["cart"].events == ("product_viewed",)
    assert dataset.rules.outcomes["purchase"].page == "/order"
    assert dataset.info.filters["min_users"] == 7
    assert dataset.info.filters["samples_per_user"] == 2


def test_bad_rows_are_tolerated_as_told(tmp_path: Path) -> None:
    rows = pixel_rows()
    rows[10] = ("", *rows[10][1:])
    rows[20] = (*rows[20][:3], "soon", *rows[20][4:])
    log = tmp_path / "log.csv"
    log.write_text(csv_text(PIXEL, rows))
    result = run(log, "--out", tmp_path / "d", "--max-bad-rows", 0.001)
    assert result.exit_code == 2
    assert "row 11" in result.stderr
    result = run(log, "--out", tmp_path / "d")
    assert result.exit_code == 0
    assert Dataset.load(tmp_path / "d").info.counts.bad_rows == {"missing user": 1, "unparsable time": 1}
    assert "missing user" in result.stderr


def test_columns_that_only_some_files_have(tmp_path: Path) -> None:
    rows = pixel_rows()
    frame = pl.DataFrame(rows, schema=PIXEL, orient="row")
    half = len(rows) // 2
    frame[:half].write_parquet(tmp_path / "a.parquet")
    frame[half:].drop("referrer", "event_data").write_parquet(tmp_path / "b.parquet")
    result = run(tmp_path, "--out", tmp_path / "d")
    assert result.exit_code == 0, result.output
    stored = pl.read_parquet(tmp_path / "d" / "train.parquet")
    assert stored["referrer"].list.first().drop_nulls().unique().to_list() == ["www.search.example"]


def test_help_teaches() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for word in ("client_id,clientId", "--cart-event", "rules.toml", "columns.user", "--samples-per-user"):
        assert word in result.stdout
