"""docs/security.md names a test for every promise, and the test is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from service.schemas import MAX_ITEMS, MAX_PAGES, MAX_SESSION_PAGES, MAX_SESSIONS
from service.security.admin import PORT
from service.security.values import MAX_BATCH_VALUES, MAX_VALUES
from service.security.wire import HEAD_BYTES, HEAD_SECONDS
from service.settings import Settings

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "security.md").read_text()


def promises() -> list[tuple[str, str, str]]:
    """The table's rows: to whom, what, and the cell that names the test."""
    table = PAGE.split("## Promises")[1].split("\n## ")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines() if "|" in line]
    return [(row[0], row[1], row[2]) for row in rows[2:]]


def test_every_promise_is_to_somebody_and_has_a_test() -> None:
    assert len(promises()) > 20
    for to_whom, promise, test in promises():
        assert to_whom in ("visitors", "callers", "operators")
        assert promise
        assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", test), test


def limits_of_batches() -> list[tuple[str, str, str]]:
    """What, the limit, and the cell that names the test."""
    table = PAGE.split("\nOf `/batches`,")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return [(what.strip(), limit.strip(), test.strip()) for what, limit, test in rows[2:]]


def test_the_limits_of_batches_are_those_of_the_settings() -> None:
    said = dict(re.findall(r"`(HETLM_\w+)`, ([\d,]+)", " ".join(limit for _, limit, _ in limits_of_batches())))
    assert len(said) == 8
    for name, default in said.items():
        assert float(default.replace(",", "")) == Settings.model_fields[name.removeprefix("HETLM_").lower()].default
    every = {f"HETLM_{name.upper()}" for name in Settings.model_fields if re.fullmatch(r"batch_(upload|max)_\w+", name)}
    assert every <= said.keys()


NAMED = sorted({test.strip("`") for _, _, test in (*promises(), *limits_of_batches())})


@pytest.mark.parametrize("test", NAMED)
def test_the_test_exists(test: str) -> None:
    path, _, name = test.partition("::")
    functions = [node for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in {function.name for function in functions}


def test_the_limits_are_those_of_the_code() -> None:
    limits = PAGE.split("## Limits")[1].split("\n## ")[0]
    assert f"{HEAD_BYTES // 1024} KiB, within {HEAD_SECONDS:.0f} seconds" in limits
    assert f"{MAX_VALUES:,} per visitor, {MAX_BATCH_VALUES:,} together" in limits
    assert f"| {MAX_ITEMS:,} |" in limits
    assert f"{MAX_PAGES:,} (the newest {MAX_SESSIONS} sessions are read); {MAX_PAGES:,}; {MAX_SESSION_PAGES}" in limits
    assert f"`HETLM_ADMIN_PORT`, {PORT}" in PAGE
