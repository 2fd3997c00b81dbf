"""The table and the drawing."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest.bench.show import draw, sides, table
from tests.loadtest.bench.reports import KINDS, figure, report, side, study


def test_the_table_says_what_held() -> None:
    figures = [
        figure("a", (3.0, 3.0)),
        figure("b", (1.0, 1.0)),
        figure("c", (3.0, 3.0), better="lower"),
        figure("d", ()),
    ]
    assert table(figures).splitlines()[2:] == [
        "| figure a | 3 [3, 3] | 2 | yes |",
        "| figure b | 1 [1, 1] | 2 | **no** |",
        "| figure c | 3 [3, 3] | at most 2 | **no** |",
        "| figure d | not measured | 2 | - |",
    ]


def test_sides_are_medians_over_rounds() -> None:
    played = [side("clusters", "K=3", number, per_second=rate) for number, rate in enumerate((10.0, 30.0, 20.0))]
    assert sides(report([], played)).splitlines()[-1] == (
        "| clusters | 64 | K=3 | 20.0 | 10.0 | 20.0 | 30.0 | another 0.5, python 0.5 | 0.10 |"
    )


def test_the_drawing_is_svg(tmp_path: Path) -> None:
    played = [side("curve", "K=3", concurrency=count, per_second=10.0 * count) for count in (1, 2, 4)]
    document = report([figure("one/transformers", (3.0, 3.5)), figure("flat", (1.2, 1.3), better="lower")], played)
    draw(document, tmp_path / "bench.svg")
    draw(document, tmp_path / "again.svg")
    text = (tmp_path / "bench.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for word in ("one/transformers", "flat", "K=3", "predictions per second"):
        assert word in text
    assert text == (tmp_path / "again.svg").read_text()


def test_a_short_scale_has_numbers_too(tmp_path: Path) -> None:
    near = [figure("one", (2.1, 2.3)), figure("two", (2.5, 2.6))]
    draw(study(KINDS[0], near), tmp_path / "study.svg")
    numbers = re.findall(r">(\d(?:\.\d+)?)</text>", (tmp_path / "study.svg").read_text())
    assert len(numbers) >= 3


@pytest.mark.parametrize("kind", KINDS)
def test_other_commands_draw_their_ratios(kind: str, tmp_path: Path) -> None:
    beside = figure("shown in the table alone", (3.0, 3.5)).model_copy(update={"limit": None})
    figures = [figure("served/shop-1", (3.0, 3.5)), figure("start", (0.1,), better="lower"), beside]
    draw(study(kind, figures), tmp_path / "study.svg")
    draw(study(kind, figures), tmp_path / "again.svg")
    text = (tmp_path / "study.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    for word in ("served/shop-1", "start", "times what is asked for"):
        assert word in text
    assert beside.key not in text
    assert text == (tmp_path / "again.svg").read_text()
