"""The dashboards of deploy/grafana, for a cluster whose Grafana has the sidecar that looks for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DASHBOARDS = Path("..") / "grafana" / "dashboards"
"""Beside deploy/kubernetes."""
LABEL = {"grafana_dashboard": "1"}
"""What the sidecar of Grafana's charts looks for, unless it is told otherwise."""
FOLDER = {"grafana_folder": "hetlm"}
"""Grafana's folder, where the sidecar is told to read it (`folderAnnotation`)."""


class DashboardsError(ValueError):
    """Dashboards that are not there, or none; the message names the place and the remedy."""


def dashboards(folder: Path) -> dict[str, str]:
    """The texts of all dashboards in `folder`, by their files' names. Raises `DashboardsError`, `OSError`."""
    found = {path.name: path.read_text() for path in sorted(folder.glob("*.json"))}
    for name, text in found.items():
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if not isinstance(document, dict) or not {"uid", "panels"} <= document.keys():
            raise DashboardsError(f"{folder / name}: is no dashboard; `python -m deploy.dashboards` writes them anew")
    if not found:
        raise DashboardsError(f"{folder}: no dashboards; take the whole folder deploy along, or leave --monitoring out")
    return found


def config_maps(namespace: str, texts: Mapping[str, str]) -> list[dict[str, Any]]:
    """One per dashboard: `kubectl apply` keeps a second copy of each in an annotation, which has its limit."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"dashboard-{name.removesuffix('.json')}",
                "namespace": namespace,
                "labels": dict(LABEL),
                "annotations": dict(FOLDER),
            },
            "data": {name: text},
        }
        for name, text in texts.items()
    ]
