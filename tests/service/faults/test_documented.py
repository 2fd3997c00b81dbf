"""`docs/faults.md` names tests that exist, and every test of a fault."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
ROOMS = HERE.parent
ELSEWHERE = {
    "test_the_log_goes_on_when_there_is_room_again",
    "test_kinds_of_answers_are_told_apart",
}
"""Tests of the tools, and of what the table says in other words."""


def defined_in(path: Path) -> set[str]:
    body = ast.parse(path.read_text()).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_the_tables_name_every_test_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (ROOT / "docs" / "faults.md").read_text()))
    for file, test in named:
        assert any(test in defined_in(place) for place in ROOMS.rglob(file)), f"{file}::{test}"
    own = {test for path in HERE.glob("test_*.py") if path.name != Path(__file__).name for test in defined_in(path)}
    assert own - {test for _, test in named} == ELSEWHERE


def test_the_metrics_exist() -> None:
    source = (ROOT / "service" / "metrics.py").read_text()
    for metric in set(re.findall(r"`(hetlm_\w+)", (ROOT / "docs" / "faults.md").read_text())):
        assert f'"{metric}"' in source, metric
