"""The rooms: who may import whom, and that nothing pickled is read or written."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "browsing": {"training", "service", "loadtest", "deploy", "tests"},
    "training": {"service", "loadtest", "deploy", "tests"},
    "service": {"training", "loadtest", "deploy", "tests"},
    "loadtest": {"training", "service", "deploy", "tests"},
    "deploy": {"training", "loadtest", "tests"},
}
PICKLING = {"pickle", "joblib", "dill", "cloudpickle", "shelve"}


def imports(path: Path) -> set[str]:
    """The top-level names of everything that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_only_what_it_may(room: str) -> None:
    modules = list((ROOT / room).rglob("*.py"))
    assert modules
    for module in modules:
        assert not imports(module) & (FORBIDDEN[room] | PICKLING), module.relative_to(ROOT)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_call_unpickles(room: str) -> None:
    for module in (ROOT / room).rglob("*.py"):
        text = module.read_text()
        for call in ("torch.load(", "torch.save(", "np.load(", "allow_pickle"):
            assert call not in text, f"{module.relative_to(ROOT)}: {call}"
