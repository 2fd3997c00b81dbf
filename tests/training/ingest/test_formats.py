"""Each format on a tiny file of its schema: which pages, sessions and outcomes come out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from tests.training.ingest.logs import run
from training.dataset import SPLITS, Dataset, Sample
from training.ingest.wikispeedia import articles


def ingest(log: Path, form: str, *more: str) -> Dataset:
    out = log.parent / f"dataset-{form}{len(more)}"
    result = run(log, "--format", form, "--out", out, "--min-users", "1", *more)
    assert result.exit_code == 0, result.output
    return Dataset.load(out)


def journeys(dataset: Dataset) -> dict[str, list[tuple[str, ...]]]:
    """Every user's sessions, oldest first."""
    samples: list[Sample] = [s for split in SPLITS for s in dataset.samples(split)]
    return {s.user_id: [*s.history, s.next_session] for s in samples}


MANY = range(30)  # enough for someone to fall into the training split


def test_globo(tmp_path: Path) -> None:
    rows = []
    for user in MANY:
        for session, clicks in ((7, [11, 12]), (9, [13, 11])):
            for n, article in enumerate(clicks):
                click = (session * 3600 + n * 4000) * 1000  # more than the gap: sessions are given
                rows.append((user, 1000 * user + session, session, article, click, 3, 1, 2))
    names = ("user_id", "session_id", "session_start", "click_article_id", "click_timestamp", "click_deviceGroup",
             "click_country", "click_referrer_type")  # fmt: skip
    path = tmp_path / "clicks.parquet"
    pl.DataFrame(rows, schema=names, orient="row").write_parquet(path)
    dataset = ingest(path, "globo")
    expected = [("/article/11", "/article/12"), ("/article/13", "/article/11")]
    assert journeys(dataset) == {str(user): expected for user in MANY}
    assert dataset.outcomes() == {}
    stored = pl.read_parquet(dataset.root / "train.parquet").row(0, named=True)
    assert (stored["device"], stored["country"], stored["referrer"]) == (["3"], ["1"], ["2"])
    assert dataset.info.window_start == "1970-01-01T07:00:00+00:00"


def test_taobao(tmp_path: Path) -> None:
    visits = [
        (0, 2520771, "pv"),
        (10, 2520771, "fav"),
        (20, 2520771, "cart"),
        (30, 2520771, "pv"),
        (9000, 30, "pv"),
        (9010, 30, "buy"),
    ]
    rows = [(user, 1, category, kind, 1511544070 + t) for user in MANY for t, category, kind in visits]
    path = tmp_path / "events.parquet"
    pl.DataFrame(
        rows, schema=("user_id", "item_id", "category_id", "behavior", "timestamp"), orient="row"
    ).write_parquet(path)
    dataset = ingest(path, "taobao")
    bag = "/category/2520771"
    assert journeys(dataset)["0"] == [(bag, "/cart", bag), ("/category/30", "/purchase")]
    assert dataset.outcomes() == {"cart": ("/cart",), "purchase": ("/purchase",)}
    assert dataset.info.counts.not_views == 30
    assert dataset.vocabulary().pages[:2] == ("/cart", "/purchase")


def test_rees46(tmp_path: Path) -> None:
    lines = ["event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"]
    for user in MANY:
        lines += [
            f"2019-10-01 00:00:00 UTC,view,1,205301,electronics.smartphone,apple,1.0,{user},a{user}",
            f"2019-10-01 02:00:00 UTC,cart,1,205301,electronics.smartphone,apple,1.0,{user},a{user}",
            f"2019-10-01 02:10:00 UTC,remove_from_cart,1,205301,electronics.smartphone,apple,1.0,{user},a{user}",
            f"2019-10-02 00:00:00 UTC,view,2,2053013554415534427,,,1.0,{user},b{user}",
            f"2019-10-02 00:00:05 UTC,purchase,2,2053013554415534427,,,1.0,{user},b{user}",
        ]
    path = tmp_path / "2019-Oct.csv"
    path.write_text("\n".join(lines))
    dataset = ingest(path, "rees46")
    expected = [("/electronics/smartphone", "/cart"), ("/category/2053013554415534427", "/purchase")]
    assert journeys(dataset) == {str(user): expected for user in MANY}
    assert dataset.info.counts.not_views == 30


def test_retailrocket(tmp_path: Path) -> None:
    lines = ["timestamp,visitorid,event,itemid,transactionid"]
    for user in MANY:
        lines += [
            f"1433221332117,{user},view,355908,",
            f"1433221333117,{user},addtocart,355908,",
            f"1433231333117,{user},view,5,",
            f"1433231334117,{user},transaction,5,4000",
        ]
    path = tmp_path / "events.csv"
    path.write_text("\n".join(lines))
    dataset = ingest(path, "retailrocket")
    assert journeys(dataset)["3"] == [("/item/355908", "/cart"), ("/item/5", "/purchase")]


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("Bee;Honey;<;Flower", ["Bee", "Honey", "Bee", "Flower"]),
        ("A;B;C;<;<;D", ["A", "B", "C", "B", "A", "D"]),
        ("A;<;B", ["A", "A", "B"]),
        ("<;A", ["A"]),
        ("%C3%89cole;14th_century", ["École", "14th_century"]),
        ("", []),
    ],
)
def test_wikispeedia_back_clicks(path: str, seen: list[str]) -> None:
    assert articles(path) == seen


def test_wikispeedia(tmp_path: Path) -> None:
    lines = ["# Unfinished paths.", "# FORMAT: hashedIpAddress timestamp durationInSec path target type", ""]
    for user in MANY:
        lines.append(f"{user:016x}\t1297054935\t1804\tBee;Honey;<\tMicrosoft\ttimeout")
        lines.append(f'{user:016x}\t1297054940\t18\t%C3%89cole;"B"\tBee\trestart')  # no pause: games are sessions
    path = tmp_path / "paths_unfinished.tsv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    dataset = ingest(path, "wikispeedia")
    assert journeys(dataset)[f"{3:016x}"] == [("Bee", "Honey", "Bee"), ("École", '"B"')]
    assert dataset.outcomes() == {}
    assert (dataset.info.counts.rows, dataset.info.counts.events) == (60, 150)

    dataset = ingest(path, "wikispeedia", "--endings")
    assert journeys(dataset)[f"{3:016x}"] == [("Bee", "Honey", "Bee", "/timeout"), ("École", '"B"', "/restart")]
    assert dataset.outcomes() == {"purchase": ("/timeout",), "cart": ("/restart",)}


def test_finished_games_have_no_ending(tmp_path: Path) -> None:
    path = tmp_path / "paths_finished.tsv"
    rows = [f"{user:016x}\t{t}\t166\tBee;Honey\tNULL" for user in MANY for t in (1297054935, 1297064935)]
    path.write_text("# comment\n" + "\n".join(rows))
    assert journeys(ingest(path, "wikispeedia"))[f"{0:016x}"] == [("Bee", "Honey")] * 2


def test_all_kinds_of_files_give_one_dataset(tmp_path: Path) -> None:
    rows = [
        {"user_id": f"u{user}", "timestamp": 1_700_000_000 + 10_000 * visit + n, "page": page}
        for user in MANY
        for visit in range(3)
        for n, page in enumerate(("/", "/bags", "/cart"))
    ]
    frame = pl.DataFrame(rows)
    frame.write_parquet(tmp_path / "log.parquet")
    frame.write_csv(tmp_path / "log.csv")
    frame.write_csv(tmp_path / "log.tsv", separator="\t")
    (tmp_path / "log.ndjson").write_text("\n".join(json.dumps(row) for row in rows))
    seconds = pl.from_epoch("timestamp", time_unit="s")
    frame.with_columns(seconds).write_parquet(tmp_path / "stamps.parquet")
    frame.with_columns(seconds.dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(tmp_path / "iso.csv")
    datasets = []
    for log in sorted(tmp_path.glob("*.*")):
        out = tmp_path / f"out-{log.name.replace('.', '-')}"
        assert run(log, "--out", out).exit_code == 0
        datasets.append(Dataset.load(out))
    assert len(datasets) == 6
    assert all(journeys(d) == journeys(datasets[0]) for d in datasets)
    assert all(d.info.counts == datasets[0].info.counts for d in datasets)
    assert all(d.vocabulary() == datasets[0].vocabulary() for d in datasets)
