"""The workload: the same for everybody, no two requests equal, no user id in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest.bench import workload
from loadtest.bench.workload import Workload, WorkloadError


def test_a_visitor_comes_again_with_another_seed(work: Workload) -> None:
    first, again = (json.loads(work.question(n).body) for n in (3, 3 + len(work.visitors)))
    assert first["sessions"] == again["sessions"]
    assert first["options"]["seed"] != again["options"]["seed"]
    assert first["options"]["samples"] == work.samples
    assert first["options"]["strict"], "what is answered by a fallback is not measured"


def test_it_can_be_read_again(work: Workload, tmp_path: Path) -> None:
    work.write(tmp_path / "workload.json")
    assert "secret" not in (tmp_path / "workload.json").read_text()
    again = Workload.read(tmp_path / "workload.json")
    assert again == work
    assert again.sha256 == work.sha256
    assert again.question(5).body == work.question(5).body


def test_what_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workload.json").write_text("{}")
    with pytest.raises(WorkloadError, match=r"workload\.json: no workload"):
        Workload.read(tmp_path / "workload.json")


def test_visitors_are_spread_over_the_split(data: Path, work: Workload) -> None:
    everybody = workload.of_dataset(data, 1_000)
    assert len(everybody.visitors) == 24
    assert work.visitors == everybody.visitors[::2]


def test_without_a_dataset_they_walk(bundle: object, data: Path) -> None:
    walking = workload.of_walks(data.parent / "two", 5)
    assert walking.source == "walks"
    assert len(walking.visitors) == 5
