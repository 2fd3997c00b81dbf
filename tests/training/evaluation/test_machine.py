"""What the evaluation ran on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from training.evaluation.machine import Stages, machine, peak_memory_mib


def test_stages_add_up_by_name() -> None:
    stages = Stages()
    for _ in range(2):
        with stages("sleep"):
            time.sleep(0.02)
    with stages("nothing"):
        pass
    assert 0.04 <= stages.seconds["sleep"] < 2
    assert list(stages.seconds) == ["sleep", "nothing"]


def test_the_machine_says_what_it_is() -> None:
    own = machine()
    assert own.cpu
    assert own.cores >= 1
    assert own.threads >= 1
    assert own.memory_gib > 0.5
    assert own.python.startswith("3.")
    assert own.torch


def test_peak_memory_is_the_kernels_high_water_mark() -> None:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert peak_memory_mib() == pytest.approx(int(status["VmHWM"].split()[0]) / 1024, rel=0.02)
