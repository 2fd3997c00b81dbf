"""The rules of deploy/prometheus, for a cluster whose Prometheus is run by an operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RULES = Path("..") / "prometheus" / "rules"
"""Beside deploy/kubernetes."""


class RulesError(ValueError):
    """Rules that are not there, or none; the message names the place and the remedy."""


def rule_groups(folder: Path) -> tuple[dict[str, Any], ...]:
    """The groups of all files in `folder`, in the order of their names. Raises `RulesError`, `OSError`."""
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.yml")):
        document = yaml.safe_load(path.read_text())
        groups = document.get("groups") if isinstance(document, dict) else None
        if not isinstance(groups, list):
            raise RulesError(f"{path}: has no list named groups, as a file of Prometheus' rules has")
        found += groups
    if not found:
        raise RulesError(f"{folder}: no rules; take the whole folder deploy along, or leave --monitoring out")
    return tuple(found)


def prometheus_rule(namespace: str, groups: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The operator's resource, with the groups as they are."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "hetlm-rules", "namespace": namespace},
        "spec": {"groups": list(groups)},
    }
