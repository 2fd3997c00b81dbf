"""The rules, promtool's tests of them, and the runbook, as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).parents[3]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expectation:
    """Of one alert at one time of one test: the labels of those that fire."""

    file: str
    test: str
    alert: str
    at: timedelta
    firing: tuple[Document, ...]


def groups() -> dict[str, Document]:
    """The group of every file of rules, by the file's name."""
    found = {}
    for path in sorted((PROMETHEUS / "rules").glob("*.yml")):
        (group,) = yaml.safe_load(path.read_text())["groups"]
        found[path.stem] = group
    return found


def alerts() -> list[Document]:
    return [rule for group in groups().values() for rule in group["rules"] if "alert" in rule]


def records() -> list[Document]:
    return [rule for group in groups().values() for rule in group["rules"] if "record" in rule]


def promtool_files() -> dict[str, Document]:
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "tests").glob("*.yml"))}


def scenarios() -> Iterator[tuple[str, Document]]:
    """Every test, with its file's name."""
    for name, file in promtool_files().items():
        for test in file["tests"]:
            yield name, test


def expectations() -> list[Expectation]:
    return [
        Expectation(
            name,
            test["name"],
            one["alertname"],
            promql_parser.parse_duration(one["eval_time"]),
            tuple(alert["exp_labels"] for alert in one["exp_alerts"]),
        )
        for name, test in scenarios()
        for one in test.get("alert_rule_test", ())
    ]


def sections() -> dict[str, str]:
    """Of the runbook, by the alert's name."""
    parts = re.split(r"^### (.+)$|^## .+$", RUNBOOK.read_text(), flags=re.M)
    return {str(name): text for name, text in zip(parts[1::2], parts[2::2], strict=True) if name}
