"""`docs/monitoring.md` names every metric and no other, and names and questions keep Prometheus' conventions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import promql_parser
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from browsing.bundle import Bundle
from browsing.engines.job import Waited
from browsing.engines.table import TableEngine
from service.settings import Settings
from tests.service.building import running, tables
from tests.service.cache.test_embedder import DeadStore
from tests.service.monitoring.building import trained

PAGE = Path(__file__).parents[3] / "docs" / "monitoring.md"
NO_BASE_UNITS = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks", "kilobytes", "megabytes"),
    *("gigabytes", "bits", "percent", "percentage", "celsius", "millis"),
    *("s", "ms", "us", "ns", "sec", "secs", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"),
}
TYPES = {"counter", "gauge", "histogram", "summary"}


@dataclass(frozen=True)
class Row:
    name: str
    kind: str
    labels: frozenset[str]
    meaning: str
    query: str


def rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `hetlm_"):
            name, kind, labels, meaning, query = (cell.strip() for cell in line.strip("|").split("|"))
            names = frozenset(filter(None, (label.strip() for label in labels.split(","))))
            yield Row(name.strip("`"), kind, names, meaning, query.strip("`"))


class Queued(TableEngine):
    """Has a queue of its own, as the embedded engine does."""

    def on_wait(self, tell: Waited) -> None:
        tell(0, 0.001)


@pytest.fixture(scope="module")
def exposed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Metric]:
    """Every family of a service with all that it can have, by the name that is asked for. (`_created` series are
    families to the parser.)"""

    async def scenario() -> str:
        settings = Settings(batch_dir=tmp_path_factory.mktemp("jobs"))
        engine = Queued(tables(len(bundle.vocabulary), bundle.clusters))
        async with running(trained(bundle), engine=engine, store=DeadStore(), settings=settings) as made:
            await made.answer({"sessions": [{"started_at": "2026-11-01T10:00:00Z", "pages": ["/"]}]})
            return await made.metrics()

    families = text_string_to_metric_families(asyncio.run(scenario()))
    return {
        family.name + "_total" * (family.type == "counter"): family
        for family in families
        if not family.name.endswith("_created")
    }


def labels(family: Metric) -> frozenset[str]:
    return frozenset(label for sample in family.samples for label in sample.labels if label != "le")


def test_the_page_names_every_metric_and_no_other(exposed: Mapping[str, Metric]) -> None:
    documented = [row.name for row in rows()]
    assert len(documented) == len(set(documented))
    assert set(documented) == set(exposed)


def test_types_and_labels_are_as_documented(exposed: Mapping[str, Metric]) -> None:
    for row in rows():
        family = exposed[row.name]
        assert family.samples, f"{row.name}: nothing shows its labels"
        assert (row.kind, row.labels) == (family.type, labels(family)), row.name
        assert row.meaning


def names_in(expression: object) -> set[str]:
    """The series that a PromQL expression selects."""
    found = set()
    for name in ("lhs", "rhs", "expr", "vs", "vector_selector"):
        inner = getattr(expression, name, None)
        if inner is not None:
            found |= names_in(inner)
    for inner in getattr(expression, "args", None) or ():
        found |= names_in(inner)
    if isinstance(expression, promql_parser.VectorSelector):
        found.add(str(expression.name))
    return found


def queries() -> list[str]:
    blocks = re.findall(r"```promql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [row.query for row in rows()] + blocks


@pytest.mark.parametrize("query", queries())
def test_a_question_can_be_asked(query: str, exposed: Mapping[str, Metric]) -> None:
    series = {sample.name for family in exposed.values() for sample in family.samples}
    asked = names_in(promql_parser.parse(query))
    assert asked
    assert asked <= series


def test_every_question_is_about_its_metric() -> None:
    for row in rows():
        asked = names_in(promql_parser.parse(row.query))
        assert any(name.startswith(row.name) for name in asked), row.name


def test_label_values_in_questions_exist(exposed: Mapping[str, Metric]) -> None:
    """A question about a value that never comes would be silent for ever."""
    known = {value for family in exposed.values() for sample in family.samples for value in sample.labels.values()}
    asked = [value for query in queries() for value in re.findall(r'[a-z]+!?="([^"]+)"', query)]
    assert asked
    assert set(asked) <= known


def test_names_keep_the_conventions(exposed: Mapping[str, Metric]) -> None:
    """As `promtool check metrics` asks."""
    for name, family in exposed.items():
        assert re.fullmatch(r"hetlm(_[a-z0-9]+)+", name), "no colon, no capital"
        assert family.documentation
        assert name.endswith("_total") == (family.type == "counter")
        assert not name.endswith(("_bucket", "_count", "_sum", "_info")) or name == "hetlm_bundle_info"
        words = name.split("_")
        assert not NO_BASE_UNITS & set(words), name
        assert not TYPES & set(words), name
        assert len({frozenset(sample.labels) for sample in family.samples if sample.name == name}) <= 1
