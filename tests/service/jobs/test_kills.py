"""SIGKILL at chosen and at random steps: the result holds every row exactly once, as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow.parquet as pq
import pytest

from tests.service.jobs.life import CHUNK_ROWS, Step, live
from tests.service.scoring.building import BAD, Document, dataset, documents, ndjson

SOAK = bool(os.environ.get("HETLM_SOAK"))
PATIENCE = 300.0
MOST_ROWS = 4 * CHUNK_ROWS
"""That one life gets on, so that a kill always meets it at work."""
KINDS: tuple[Step, ...] = get_args(Step)


class Lives:
    """The lives of one service, one after another, over the same folders."""

    def __init__(self, root: Path, rows: Sequence[Document], write: Callable[..., Path] = ndjson) -> None:
        self.root = root / "batches"
        self.told = root / "steps"
        self.folder = root / "in"
        self.rows = rows
        self.folder.mkdir(parents=True)
        write(self.folder / "input", rows)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.service.jobs.life"])

    def live(self, kind: Step | None = None, at: int = 0) -> bool:
        """Whether it was killed; else it has done all its work."""
        process = self._context.Process(target=live, args=(str(self.root), str(self.folder), kind, at, str(self.told)))
        process.start()
        process.join(PATIENCE)
        assert process.exitcode in (0, -signal.SIGKILL), "it ends by itself or is killed by itself"
        return process.exitcode != 0

    def steps(self) -> dict[str, int]:
        """Of a life that was not killed."""
        words = self.told.read_text().split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=True))

    def results(self) -> list[Path]:
        return list(self.root.glob("jobs/*/result.parquet"))

    def check(self) -> list[dict[str, Any]]:
        """The result: every row once, in order, and nothing beside it."""
        (path,) = self.results()
        found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        assert [row["row"] for row in found] == list(range(len(self.rows)))
        assert [row["user_id"] for row in found] == [row["user_id"] for row in self.rows]
        assert [row["row"] for row in found if row["problem"]] == [i for i, row in enumerate(self.rows) if row is BAD]
        assert [entry.name for entry in (self.root / "jobs").iterdir()] == [path.parent.name], (
            "one batch over all lives"
        )
        assert [entry.name for entry in path.parent.iterdir()] == ["result.parquet"]
        assert not any((self.root / "incoming").iterdir())
        return [{**row, "problem": row["problem"] is not None} for row in found]  # a problem names its batch


def survives(root: Path, kills: int, draw: random.Random) -> None:
    """`kills` at random steps of a batch under way, then a life without: no row is lost, none is doubled, and the
    result is that of a batch that was never disturbed."""
    rows = documents((kills + 1) * MOST_ROWS + 3, seed=1)
    for number in draw.sample(range(len(rows)), 9):
        rows[number] = BAD
    lives = Lives(root / "struck", rows)
    struck = 0
    while struck < kills:
        kind = draw.choice(KINDS)
        # A chunk is three changes of the disk and two of the book; the first life begins with some more.
        most = {"row": MOST_ROWS, "disk": 3 * MOST_ROWS // CHUNK_ROWS, "book": 2 * MOST_ROWS // CHUNK_ROWS}[kind]
        struck += lives.live(kind, draw.randrange(most))
        assert not lives.results(), "each kill meets it at work"
    assert not lives.live()
    quiet = Lives(root / "quiet", rows)
    assert not quiet.live()
    assert lives.check() == quiet.check()


@pytest.mark.soak
def test_no_row_is_lost_or_doubled_over_random_kills(tmp_path: Path) -> None:
    kills = 50 if SOAK else 6
    survives(tmp_path, kills, random.Random(kills))


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_any_step_it_ends_as_if_it_had_not_been(tmp_path: Path, kind: Step) -> None:
    """Before every single one; a few of them where time is short, the first and the last among them."""
    rows = documents(2 * CHUNK_ROWS + 3)
    rows[11] = BAD
    quiet = Lives(tmp_path / "quiet", rows)
    assert not quiet.live()
    wanted, count = quiet.check(), quiet.steps()[kind]
    assert count >= {"row": 22, "disk": 12, "book": 12}[kind]
    for at in range(count) if SOAK else sorted({0, count // 3, 2 * count // 3, count - 1}):
        lives = Lives(tmp_path / f"{at}", rows)
        assert lives.live(kind, at), f"{kind} {at}"
        assert not lives.live(), f"{kind} {at}"
        assert lives.check() == wanted, f"{kind} {at}"


def test_a_parquet_input_goes_on_in_the_middle_of_a_row_group(tmp_path: Path) -> None:
    lives = Lives(tmp_path, documents(75), lambda path, rows: dataset(path, rows, row_group=32))
    assert lives.live("row", 41)
    assert len(list(lives.root.glob("jobs/*/parts/*.parquet"))) == 4
    assert not lives.live()
    assert lives.steps()["row"] == 35, "what was finished is not asked again"
    lives.check()


def test_a_line_that_is_too_large_is_one_row_through_kills(tmp_path: Path) -> None:
    """Before it, at it, and in chunks after it."""
    rows = documents(35)
    for number in (11, 12, 30):
        rows[number] = {"user_id": f"u{number}", "x": "y" * 2**21}
    lives = Lives(tmp_path, rows)
    for at in (4, 9, 12):
        assert lives.live("row", at)
    assert not lives.live()
    (path,) = lives.results()
    found = pq.read_table(path).to_pylist()
    assert [row["row"] for row in found] == list(range(35))
    assert [row["user_id"] for row in found] == [f"u{i}" for i in range(35)]
    kinds = {row["row"]: json.loads(row["problem"])["type"] for row in found if row["problem"]}
    assert kinds == dict.fromkeys((11, 12, 30), "urn:hetlm:problem:row-too-large")
