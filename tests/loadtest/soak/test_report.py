from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtest.result import Answers, Machine
from loadtest.soak.mixed import DAILY, flat
from loadtest.soak.report import Figure, Section, share, table, write
from loadtest.soak.scrape import parse, risen
from loadtest.trends import QUANTITIES, trend

MACHINE = Machine(cores=2, load_before=0.0, load_after=0.0)
HELD = Figure(figure="rows lost", measured="0 of 9", gate="0", passed=True)


def section(*figures: Figure, complaints: tuple[str, ...] = ()) -> Section:
    return Section(
        section="kills",
        command="python -m loadtest.soak kills",
        figures=figures,
        complaints=complaints,
        answers=None,
        machine=MACHINE,
        seconds=1.0,
        details={},
    )


def test_a_section_passes_with_its_figures_and_without_complaints(tmp_path: Path) -> None:
    assert section(HELD).passed
    assert not section(HELD, HELD.model_copy(update={"passed": False})).passed
    assert not section(HELD, complaints=("something",)).passed
    write(section(HELD), tmp_path)
    assert Section.model_validate_json((tmp_path / "kills.json").read_bytes()) == section(HELD)


def test_the_table() -> None:
    failed = HELD.model_copy(update={"passed": False})
    assert table([section(HELD), section(failed)]).splitlines()[2:] == [
        "| rows lost | 0 of 9 | 0 | yes |",
        "| rows lost | 0 of 9 | 0 | **no** |",
    ]


@pytest.mark.parametrize(
    ("accepted", "honest", "words"), [(7, 7, "100 % (7"), (2000, 1999, "99.950 %"), (0, 0, "nothing")]
)
def test_a_share_is_whole_only_where_nothing_is_missing(accepted: int, honest: int, words: str) -> None:
    rest = dict.fromkeys(("correct", "refused", "wrong", "lost", "unreachable", "dropped", "left", "unsteady"), 0)
    assert share(Answers(accepted=accepted, honest=honest, reasons={}, **rest)).startswith(words)


def test_samples_are_read_and_compared() -> None:
    before = parse('# HELP a b\nx_total{a="1"} 3.0\nx_total{a="2"} 1.0\ny 7\n')
    after = parse('x_total{a="1"} 5.0\nx_total{a="2"} 1.0\nx_total{a="3"} 4.0\ny 9\n')
    assert risen(before, after, ("x_total",)) == 6.0
    assert risen(before, after, ('x_total{a="2"}',)) == 0.0
    assert risen(before, after, ()) == 0.0


def test_flat_over_a_day() -> None:
    memory, seconds = QUANTITIES[0], np.arange(180, dtype=np.float64) * 10.0
    noise = np.random.default_rng(0).normal(0, 2, len(seconds)).astype(np.float64)

    def judged(daily: float, wobble: float) -> bool:
        return flat(trend(memory, seconds, 700.0 + daily / 86_400 * seconds + wobble * noise))

    assert judged(0.0, 1.0)
    assert not judged(1.5 * DAILY["memory"], 0.01)
    assert judged(0.7 * DAILY["memory"], 0.01), "significant, and no matter"
    assert judged(-1_000.0, 0.01), "falling is no leak"
