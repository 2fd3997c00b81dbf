"""What Grafana and Prometheus are given, as they read it: dashboards, and rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.prometheus.reading import Document, groups

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
INTERVALS = {"$__rate_interval": "1m"}
"""What Grafana makes of it where Prometheus asks every 15 seconds: four times that."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One expression, and where it stands."""

    where: str
    expression: str


@dataclass(frozen=True, slots=True)
class Rule:
    """`kind`: record or alert."""

    name: str
    kind: str
    expression: str


def dashboards() -> dict[str, Document]:
    """By their files' names."""
    return {path.name: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: Document) -> list[Document]:
    """Without the rows' headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def asked() -> Iterator[Asked]:
    """Every expression of every panel, with the variables that it is first shown with."""
    for dashboard in dashboards().values():
        for panel in panels(dashboard):
            for target in panel.get("targets", ()):
                where = f"{dashboard['title']} / {panel['title']} / {target['refId']}"
                yield Asked(where, substituted(target["expr"], dashboard))


def substituted(expression: str, dashboard: Document) -> str:
    """As Grafana would: what is no variable of the dashboard stays as it is."""
    values = {f"${one['name']}": _value(one) for one in dashboard["templating"].get("list", ())} | INTERVALS
    return re.sub(r"\$\w+", lambda match: values.get(match[0], match[0]), expression)


def _value(variable: Document) -> str:
    value = variable["current"]["value"]
    return str(variable["allValue"] if value in ("$__all", ["$__all"]) else value)


def rules() -> list[Rule]:
    """In the order in which Prometheus evaluates those of a file."""
    found = []
    for group in groups().values():
        for rule in group["rules"]:
            kind = "alert" if "alert" in rule else "record"
            found.append(Rule(rule[kind], kind, rule["expr"]))
    return found
