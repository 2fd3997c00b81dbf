"""Generated files: recognised, and never written over somebody's work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from service.deploying.written import ForeignFileError, document, headed, write


def test_the_same_parts_give_the_same_text() -> None:
    part = {"b": [1, 2], "a": {"x": "y"}}
    text = document("compose", part)
    assert text == document("compose", dict(part))
    assert yaml.safe_load(text) == part
    assert text.index("b:") < text.index("a:"), "in the order given"
    assert [*yaml.safe_load_all(document("compose", part, part))] == [part, part]
    assert "&id" not in document("compose", [part, part])


def test_what_was_written_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.yml"
    write({path: document("compose", {"a": 1})})
    write({path: document("compose", {"a": 2})})
    assert yaml.safe_load(path.read_text()) == {"a": 2}


@pytest.mark.parametrize("change", ["# mine\n", "", "a: 1\n"])
def test_what_somebody_else_wrote_or_changed_stays(tmp_path: Path, change: str) -> None:
    foreign, other = tmp_path / "foreign", tmp_path / "other"
    before = change if change != "# mine\n" else headed("compose", "a: 1\n") + change
    foreign.write_text(before)
    with pytest.raises(ForeignFileError, match="foreign"):
        write({other: headed("compose", "b"), foreign: headed("compose", "b")})
    assert foreign.read_text() == before
    assert not other.exists(), "all or none"
