"""The queries of docs/batch.md, run as they stand there, against the same audiences cut in Python."""

from __future__ import annotations

import asyncio
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from service.logs import logger
from service.schemas import PredictOptions
from service.scoring.inputs import Limits, open_input
from service.scoring.parts import Parts
from service.scoring.results import Tally, schema
from service.scoring.rows import defaults_of
from service.scoring.scorer import Scorer, Terms, Work
from tests.service.scoring.building import OUTCOMES, VERSION, Answering, dataset, documents, served

PAGE = Path(__file__).parents[3] / "docs" / "batch.md"
QUERIES = {found[1]: found[0] for found in re.findall(r"```sql\n(-- (\w+)\n.*?)```", PAGE.read_text(), re.DOTALL)}


def test_the_readme_shows_queries_of_the_page() -> None:
    shown = re.findall(r"```sql\n(.*?)```", (PAGE.parents[1] / "README.md").read_text(), re.DOTALL)
    assert shown
    assert set(shown) <= set(QUERIES.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`histories.parquet` with a few buyers and a few wrong rows, and `scored.parquet` of it."""
    root = tmp_path_factory.mktemp("audiences")
    rows = documents(120, seed=8)
    for number, row in enumerate(rows):
        if row["sessions"] and number % 7 == 0:
            row["sessions"][0]["pages"].append("/purchase")
        if number % 40 == 11:
            row["sessions"] = [{"started_at": "2026-11-01T10:00:00Z", "pages": []}]
    path = dataset(root / "histories.parquet", rows, row_group=50)
    source = open_input(path, Limits())
    parts = Parts(root / "parts", schema(OUTCOMES), 50, source.count, VERSION)
    options = defaults_of(PredictOptions(), datetime(2026, 12, 1, tzinfo=UTC))
    work = Work(source, parts, Terms(served(Answering()), options, "t"))

    async def kept(_: Tally) -> None:
        """Nothing to note down."""

    scorer = Scorer(logger("error", io.StringIO()), width=4)
    assert asyncio.run(scorer.score(work, lambda _: None, kept)) == Tally(120, 3, 0)
    parts.assemble(root / "scored.parquet", "parquet")
    parts.assemble(root / "scored.ndjson", "ndjson")
    return root


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "scored.parquet").to_pylist()
    return found


def run(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    monkeypatch.chdir(folder)
    with duckdb.connect() as connection:
        return connection.sql(QUERIES[name]).fetchall()


def fine(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["problem"] is None]


def test_the_page_has_these_queries() -> None:
    assert list(QUERIES) == ["targeting", "buyers", "journey", "segments", "recommendation", "problems"]


def test_who_is_likely_to_visit_these_pages(
    folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = []
    for row in fine(rows):
        chances = [p["probability"] for p in row["pages"] if p["page"] in ("/bags/tote", "/shoes")]
        if chances and max(chances) >= 0.5:
            wanted.append((row["user_id"], max(chances), row["row"]))
    found = run(folder, "targeting", monkeypatch)
    assert found == [(user, chance) for user, chance, _ in sorted(wanted, key=lambda w: (-w[1], w[2]))]
    assert 0 < len(found) < 117


def test_who_is_likely_to_buy_and_has_not(
    folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = pq.read_table(folder / "histories.parquet").column("history").to_pylist()
    likely = [row for row in fine(rows) if row["outcome_purchase"]["probability"] >= 0.5]
    new = [row for row in likely if "/purchase" not in [page for pages in histories[row["row"]] for page in pages]]
    assert 0 < len(new) < len(likely)
    new.sort(key=lambda row: (-row["outcome_purchase"]["probability"], row["row"]))
    assert run(folder, "buyers", monkeypatch) == [
        (row["user_id"], row["outcome_purchase"]["probability"], row["outcome_purchase"]["low"]) for row in new
    ]


def test_whose_journey_ends_at_the_cart(
    folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {row["user_id"] for row in fine(rows) if row["next_session"][-1] == "/cart"}
    found = run(folder, "journey", monkeypatch)
    assert {user for user, *_ in found} == wanted
    assert 0 < len(wanted) < 117
    gaps = [cart - purchase for _, _, cart, purchase in found]
    assert gaps == sorted(gaps, reverse=True)


def test_what_kinds_there_are(folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(folder, "segments", monkeypatch)
    assert {name: visitors for name, visitors, *_ in found} == {
        name: sum(row["cluster_name"] == name for row in rows) for name in ("kind 0", "kind 1")
    }
    for name, _, mean, likely in found:
        chances = [row["outcome_purchase"]["probability"] for row in fine(rows) if row["cluster_name"] == name]
        assert mean == pytest.approx(sum(chances) / len(chances))
        assert likely == sum(chance >= 0.5 for chance in chances)


def test_what_to_recommend(folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    found = run(folder, "recommendation", monkeypatch)
    wanted = []
    for row in fine(rows):
        new = [p["page"] for p in row["pages"] if not p["seen_before"] and p["page"] not in ("/cart", "/purchase")]
        wanted.append((row["user_id"], new[:3]))
    assert found == wanted
    assert {len(pages) for _, pages in found} >= {1, 3}


def test_what_went_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(folder, "problems", monkeypatch) == [
        ("The request is not valid", "/sessions/0/pages: must have at least 1 item: leave empty ones out", 3, 11)
    ]


def test_json_lines_hold_the_same(folder: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with duckdb.connect() as connection:
        found = connection.sql(
            "SELECT row, user_id, outcome_cart.probability FROM 'scored.ndjson' ORDER BY row"
        ).fetchall()
    assert [row for row, *_ in found] == list(range(120))
    for (_, user, chance), row in zip(found, rows, strict=True):
        assert user == row["user_id"]
        assert chance == (row["outcome_cart"] or {}).get("probability")
    problems = [json.loads(line)["problem"] for line in (folder / "scored.ndjson").read_text().splitlines()]
    assert [number for number, problem in enumerate(problems) if problem] == [11, 51, 91]
