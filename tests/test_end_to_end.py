"""A web-pixel export that nobody prepared for goes through ingest, train and serve, and comes out as predictions."""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from browsing.cli import build
from browsing.encoders.of_bundle import encoder_of
from service.app import build as build_service
from service.app import choose_engine, choose_store, load
from service.settings import Settings

HEADER = ["client_id", "page_url", "referrer", "timestamp", "event_name", "event_data"]
Row = dict[str, str]

RULES = """
[columns]
user = ["client_id", "clientId"]
time = "timestamp"
page = "page_url"
event_type = "event_name"

[pages]
outcomes.cart = { page = "/cart", events = ["product_added_to_cart"], pages = ["/cart"] }
outcomes.purchase = { page = "/purchase", events = ["checkout_completed"] }

[filters]
min_users = 5
"""


def visitor(number: int, generator: random.Random) -> list[Row]:
    """A few visits of somebody who likes bags, or somebody who likes shoes."""
    taste = ("bags", "shoes")[number % 2]
    time = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=generator.random() * 200)
    rows: list[Row] = []

    def event(path: str, name: str = "page_viewed") -> None:
        nonlocal time
        time += timedelta(seconds=generator.randint(5, 300))
        rows.append(
            {
                "client_id": f"c-{number:04d}",
                "page_url": f"https://shop.example{path}?utm_source=mail&fbclid={generator.random():.12f}#top",
                "referrer": "https://search.example/?q=bag",
                "timestamp": time.isoformat().replace("+00:00", "Z"),
                "event_name": name,
                "event_data": json.dumps({"products": [{"id": 7, "title": 'Tote, "mini"'}]}),
            }
        )

    for _ in range(generator.randint(3, 5)):
        event("/")
        event(f"/{taste}/")
        for _ in range(generator.randint(1, 3)):
            product = f"/{taste}/{generator.choice(('one', 'two', 'three'))}"
            event(product)
            if generator.random() < 0.4:
                event(product, "product_added_to_cart")
                event("/checkouts/1234567890", "checkout_completed" if generator.random() < 0.5 else "page_viewed")
        event(f"/account/c-{number:04d}")
        time += timedelta(hours=generator.randint(2, 60))
    return rows


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files; the second one's header says clientId."""
    folder = tmp_path_factory.mktemp("export")
    generator = random.Random(5)
    people = [visitor(number, generator) for number in range(120)]
    for name, first, rows in (("a.csv", "client_id", people[:70]), ("b.csv", "clientId", people[70:])):
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([first, *HEADER[1:]])
            writer.writerows([row[column] for column in HEADER] for person in rows for row in person)
    return folder


def hetlm(*arguments: str | Path) -> dict[str, Any]:
    """Run the command line; its last line of JSON."""
    result = CliRunner().invoke(build(), [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.fixture(scope="module")
def dataset(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ingested") / "shop"
    hetlm("ingest", export / "*.csv", "--format", "events", "--out", out, "--user", "client_id,clientId")
    return out


@pytest.fixture(scope="module")
def client(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    root = tmp_path_factory.mktemp("trained")
    quick = ["--preset", "demo", "--context", "128", "--clusters", "2", "--batch-size", "8"]
    quick += ["--epochs", "6", "--tune-epochs", "1", "--warm-users", "200", "--warm-epochs", "1"]
    hetlm("train", dataset, "--out", root / "bundle", "--runs", root / "runs", *quick)
    settings = Settings(bundle=root / "bundle")
    bundle = load(settings)
    service = build_service(
        settings, bundle, choose_engine(settings, bundle), encoder_of(bundle), choose_store(settings)
    )
    with TestClient(service.app) as client:
        until = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:  # until then the fallback answers
            assert time.monotonic() < until, "the engine does not start"
            time.sleep(0.05)
        yield client


def test_a_toml_file_says_the_same_as_flags(export: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULES)
    hetlm("ingest", export / "*.csv", "--out", tmp_path / "shop", "--config", tmp_path / "rules.toml")
    by_flags, by_file = (pl.read_parquet(d / "train.parquet") for d in (dataset, tmp_path / "shop"))
    assert by_file.equals(by_flags)


def test_the_language_holds_no_visitor_s_own_page(dataset: Path) -> None:
    pages = pl.read_parquet(dataset / "pages.parquet")["page"].to_list()
    assert {"/", "/bags", "/bags/one", "/shoes/two", "/cart", "/purchase", "/checkouts/:id"} <= set(pages)
    assert not [page for page in pages if "c-0" in page or "utm" in page or "shop.example" in page]


def test_raw_events_and_ingested_sessions_get_the_same_answer(export: Path, dataset: Path, client: TestClient) -> None:
    frame = pl.read_parquet(dataset / "test.parquet").sort("user_id")
    raw = [row for name in ("a.csv", "b.csv") for row in csv.reader((export / name).read_text().splitlines())]
    for sample in frame.head(5).iter_rows(named=True):
        rows = [row for row in raw if row[0] == sample["user_id"] and row[3] < sample["next_started_at"].isoformat()]
        events = [{"time": row[3], "url": row[1], "event": row[4]} for row in rows]
        sessions = [
            {"started_at": started.isoformat(), "pages": pages}
            for started, pages in zip(sample["history_started_at"], sample["history"], strict=True)
        ]
        answers = []
        for body in ({"events": events}, {"sessions": sessions}):
            response = client.post("/predict", json=body)
            assert response.status_code == 200, response.text
            answers.append(response.json())
            assert answers[-1]["fallback"] is None
        for answer in answers:  # probabilities may differ by the rounding of sums in another batch
            answer["probabilities"] = {page["page"]: page.pop("probability") for page in answer["pages"]}
            answer["probabilities"] |= {name: outcome["raw"] for name, outcome in answer["outcomes"].items()}
        for key in ("next_session", "unknown_pages", "truncated"):
            assert answers[0][key] == answers[1][key], key
        assert answers[0]["cluster"]["id"] == answers[1]["cluster"]["id"]
        assert answers[0]["probabilities"] == pytest.approx(answers[1]["probabilities"], abs=1e-5)


def test_the_prediction_knows_the_taste(client: TestClient) -> None:
    """Six epochs are little, but visitors of this shop keep to one kind of goods."""
    started = [f"2026-05-0{day}T10:00:00Z" for day in (1, 2, 3)]
    for taste, other in (("bags", "shoes"), ("shoes", "bags")):
        pages = ["/", f"/{taste}", f"/{taste}/one", "/cart"]
        answer = client.post("/predict", json={"sessions": [{"started_at": t, "pages": pages} for t in started]}).json()
        chance = {page["page"]: page["probability"] for page in answer["pages"]}
        assert answer["fallback"] is None
        assert chance[f"/{taste}"] > chance.get(f"/{other}", 0.0)
        assert {"cart", "purchase"} == set(answer["outcomes"])
        assert answer["condition"] == "next_session"
