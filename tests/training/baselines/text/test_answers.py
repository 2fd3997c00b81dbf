"""Kept answers survive crashes, and are private."""

from __future__ import annotations

import stat
from pathlib import Path

from training.baselines.text.answers import Answers
from training.baselines.text.endpoint import Reply

REPLY = Reply("[BOS] /bags [EOS]\n“ok”", True, 10, 2)


def test_what_was_answered_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    answers = Answers(path)
    answers.add("a", REPLY)
    answers.add("b", Reply("", False, 0, 0))
    again = Answers(path)
    assert (again.get("a"), again.get("b"), again.get("c"), len(again)) == (REPLY, Reply("", False, 0, 0), None, 2)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    Answers(path).add("a", REPLY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_line_cut_short_is_asked_again_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers = Answers(path)
    answers.add("a", REPLY)
    answers.add("b", REPLY)
    path.write_bytes(path.read_bytes()[:-9])
    crashed = Answers(path)
    assert crashed.get("a") == REPLY
    assert crashed.get("b") is None
    crashed.add("c", REPLY)
    crashed.add("b", REPLY)
    assert len(Answers(path)) == 3


def test_two_runs_share_a_file(tmp_path: Path) -> None:
    one, two = Answers(tmp_path / "answers.jsonl"), Answers(tmp_path / "answers.jsonl")
    one.add("a", REPLY)
    two.add("b", REPLY)
    one.add("c", REPLY)
    assert len(Answers(tmp_path / "answers.jsonl")) == 3
