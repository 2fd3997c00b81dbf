"""What is spilled comes back by user, in order, however it was cut into pieces."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from training.ingest import spill as module
from training.ingest.spill import Spill, parts_for, taken


@pytest.mark.parametrize("rows", [1, 7, 1_000])
def test_a_part_has_all_of_its_users_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    frame = pl.DataFrame({"user": [f"u{n * n % 37}" for n in range(300)], "n": range(300)}).with_columns(
        pl.when(pl.col("n") % 3 > 0).then("user").alias("session")
    )
    with Spill(tmp_path / "views", 5) as spill:
        for start in range(0, 300, 11):
            spill.write(frame[start : start + 11])
        paths = spill.parts()
        parts = [taken(path) for path in paths]
    assert not any(path.exists() for path in paths)
    assert 1 < len(parts) <= 5
    owners = [set(part["user"]) for part in parts]
    assert sum(map(len, owners)) == frame["user"].n_unique()
    for part, users in zip(parts, owners, strict=True):
        assert part.equals(frame.filter(pl.col("user").is_in(users)))


def test_one_part_and_none(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": ["b", "a"], "n": [1, 2]})
    with Spill(tmp_path / "one", 1) as spill:
        spill.write(frame)
        assert [taken(part).rows() for part in spill.parts()] == [frame.rows()]
    with Spill(tmp_path / "none", 3) as spill:
        spill.write(frame.clear())
        assert spill.parts() == []


@pytest.mark.parametrize("rows", [1, 100])
def test_what_cannot_be_written_is_told_no_later_than_the_parts_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(module, "ROWS", rows)
    frame = pl.DataFrame({"user": ["b", "a"], "n": [1, 2]})

    def spilled(spill: Spill) -> list[Path]:
        for _ in range(5):
            spill.write(frame)
        return spill.parts()

    with Spill(tmp_path / "views", 2) as spill:
        (tmp_path / "views").rmdir()
        with pytest.raises(OSError, match="No such file"):
            spilled(spill)


def test_parts_follow_the_log() -> None:
    assert [parts_for(n) for n in (0, 1, 16 << 20, (16 << 20) + 1, 1 << 60)] == [1, 1, 1, 2, 400]
