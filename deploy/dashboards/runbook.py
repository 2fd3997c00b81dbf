"""The runbook, readable where the figures are: a panel per section, which panels of the other dashboards link to."""

from __future__ import annotations

import re
from pathlib import Path

from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy.dashboards.board import board
from deploy.dashboards.panels import RUNBOOK, page

FILE = Path(__file__).parents[2] / "docs" / "runbook.md"


def runbook() -> Dashboard:
    about = "docs/runbook.md: what to do when an alert fires."
    rows = [
        (chapter, [page(title, text, span=24 if title == chapter else 12) for title, text in sections.items()])
        for chapter, sections in chapters(FILE.read_text()).items()
    ]
    return board("Runbook", RUNBOOK, about, (), rows)


def chapters(text: str) -> dict[str, dict[str, str]]:
    """By chapter (`#`, `##`) its sections (`###`), and under its own name what stands before the first of them. Links
    to other documents become their words: Grafana does not have these."""
    parts = re.split(r"^(#{1,3}) +(.+)$", text, flags=re.M)
    words = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")
    found: dict[str, dict[str, str]] = {}
    for depth, heading, content in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        title = heading.strip()
        if len(depth) < 3:
            found[title] = {}
        if told := words.sub(r"\1", content).strip():
            list(found.values())[-1][title] = told
    return found
