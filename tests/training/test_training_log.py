"""The run's log, and what of it a bundle keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.training_log import TRAINING_LOG, TrainingLog, read_log

RECORDS = [
    {"stage": "tune", "epoch": 2, "train_loss": 1.5, "seconds": 3.0},
    {"stage": "tune", "epoch": 1, "train_loss": 2.0, "seconds": 4.0},
    {"stage": "warm choice", "epoch": 0, "seconds": 7.0, "probe_seconds": 1.0, "chosen": 1},
]


def test_order_and_time_leave_no_trace(tmp_path: Path) -> None:
    log = TrainingLog.of(RECORDS, "abc")
    slower = [{**record, "seconds": 99.0} for record in reversed(RECORDS)]
    assert TrainingLog.of(slower, "abc") == log
    (tmp_path / TRAINING_LOG).write_text(log.model_dump_json())
    assert TrainingLog.load(tmp_path) == log
    assert "seconds" not in (tmp_path / TRAINING_LOG).read_text()
    assert TrainingLog.load(tmp_path / "none") is None


def test_times_are_found_again_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "abc").mkdir(parents=True)
    (tmp_path / "runs" / "abc" / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    log = TrainingLog.of(RECORDS, "abc")
    assert sorted(log.timed(tmp_path / "runs"), key=str) == sorted(RECORDS, key=str)
    for other in (TrainingLog.of(RECORDS, "def"), TrainingLog.of(RECORDS)):
        assert other.timed(tmp_path / "runs") == other.records
    assert TrainingLog.of(RECORDS, "../runs/abc").timed(tmp_path / "runs") == log.timed(tmp_path / "runs")
    assert TrainingLog.of(RECORDS, "../abc").timed(tmp_path / "runs" / "x") == log.records


@pytest.mark.parametrize("text", ["{", "[1]\n", '{"epoch": 1}\n'])
def test_what_is_no_log_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"log\.jsonl is not the log of a training run"):
        read_log(path)
