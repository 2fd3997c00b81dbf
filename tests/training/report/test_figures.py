"""Drawings: inline, addressless, in the page's colours, the same every time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from markupsafe import Markup

from training.report import figures
from training.report.figures import Reading

READINGS = [Reading(0.1, 0.2, 0.1, 0.3, 40), Reading(0.3, 0.25, 0.2, 0.4, 10)]
POINTS = [(1.0, 3.0), (2.0, 2.5), (3.0, 2.0)]


def every() -> dict[str, Markup]:
    return {
        "lines": figures.lines("a", {"x": POINTS, "y": POINTS[:2]}, "epoch", "nats"),
        "small": figures.small("b", [("L1", POINTS), ("L2", POINTS)], "epoch"),
        "stacks": figures.stacks("c", [(0, {0: 3, 1: 4}), (1, {0: 5, 9: 2})], "epoch", "users"),
        "steps": figures.steps("d", [(0, 6), (1, 4)], "epoch", "K"),
        "dots": figures.dots("e", [(1.5, 0), (1.5, 1)], "nats", ["one", "two"]),
        "shares": figures.shares("f", (0, 0.5, 1), [(0.25, 0.75), (0.5, 0.5)], "IoU", "share"),
        "reliability": figures.reliability("g", [("uncalibrated", READINGS)]),
        "buckets": figures.buckets("h", READINGS, "bucket", "share"),
    }


@pytest.fixture(scope="module")
def drawn() -> dict[str, Markup]:
    return every()


def test_a_drawing_is_one_svg_without_address_or_metadata(drawn: dict[str, Markup]) -> None:
    for name, svg in drawn.items():
        assert svg.startswith("<svg viewBox="), name
        assert not re.search(r"http|<metadata|<!--|<!DOCTYPE|<style>[^<]*@import", svg), name
        ElementTree.fromstring(svg.replace("xlink:href", "href"))


def test_a_drawing_is_the_same_every_time(drawn: dict[str, Markup]) -> None:
    assert every() == drawn


def test_colours_are_the_style_sheets(drawn: dict[str, Markup]) -> None:
    for name, svg in drawn.items():
        assert "var(--c0)" in svg, name
        assert "var(--ink)" in svg, name
        assert not re.search(r"#f0f00|#f1f1f1|#f2f2f2", svg), name
    assert "var(--c1)" in drawn["stacks"], "series 9 has the second of eight colours"


def test_ids_do_not_meet(drawn: dict[str, Markup]) -> None:
    ids = [own for svg in drawn.values() for own in re.findall(r' id="([^"]*)"', svg)]
    assert len(ids) == len(set(ids))
    for svg in drawn.values():
        used = set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg))
        assert used <= set(re.findall(r' id="([^"]*)"', svg))


def test_an_alternative_text_is_escaped() -> None:
    svg = figures.lines('"><script>', {"x": POINTS}, "x", "y")
    assert "<script>" not in svg
    assert 'aria-label="&#34;&gt;&lt;script&gt;"' in svg


def test_a_line_has_a_mark_per_point(drawn: dict[str, Markup]) -> None:
    assert drawn["lines"].count("<use") >= 5
