"""The page: self-contained, escaped, well-formed, and complete."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from browsing.bundle import verify
from tests.training.report.conftest import Place
from tests.training.report.stories import EVIL, RECORDS
from training.report.render import SECTIONS, render
from training.report.story import Story, read_results

VOID = {"meta", "br", "hr", "img", "path", "use", "rect", "link"}


class Reader(HTMLParser):
    """Checks that elements close in order; collects tags, attributes, ids and text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    reader.text = " ".join(reader.text.split())
    return reader


@pytest.fixture(scope="module")
def story(place: Place) -> Story:
    manifest = verify(place.bundle)
    measured, timings = read_results([place.own, place.shared], manifest)
    return replace(Story.of(place.bundle, manifest), measured=measured, timings=timings)


@pytest.fixture(scope="module")
def page(story: Story) -> str:
    return render(story)


def test_nothing_is_fetched_and_nothing_can_run(page: str) -> None:
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    reader = read(page)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(reader.tags)
    names = {name for name, _ in reader.attributes}
    assert not {name for name in names if name.startswith("on") or name in ("src", "srcset")}
    assert all(value and value.startswith("#") for name, value in reader.attributes if name in ("href", "xlink:href"))
    assert not re.search(r"@import|url\((?!#)", page)


def test_names_from_a_log_are_text(page: str, story: Story) -> None:
    assert EVIL not in page
    assert EVIL in read(page).text
    clusters = tuple(c.model_copy(update={"name": f"<b>{c.id}</b>"}) for c in story.manifest.clusters)
    hostile = replace(story, manifest=story.manifest.model_copy(update={"clusters": clusters}), measured=())
    assert "<b>" not in render(hostile)


def test_headings_tables_and_drawings_are_accessible(page: str) -> None:
    reader = read(page)
    assert reader.tags.count("h1") == 1
    assert '<html lang="en">' in page
    assert reader.tags.count("caption") == reader.tags.count("table")
    assert 'scope="col"' in page
    assert 'scope="row"' in page
    assert all(re.search(r'role="img" aria-label="[^"]+"', svg) for svg in re.findall(r"<svg[^>]*>", page))
    assert "prefers-color-scheme:dark" in page
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))


def test_it_says_first_what_a_probability_is_conditional_on(page: str) -> None:
    condition = page.index("Every probability is given that the visitor returns")
    assert condition < page.index('<section id="controls"')


def test_every_section_is_told_where_there_is_data(page: str) -> None:
    for key in ("controls", "clusters", "by-cluster", "reliability", "propensity", "returning", "users", "bought"):
        assert f'<section id="{key}"' in page
    for key in ("losses", "sizes", "warm", "times", "paper", "data", "making"):
        assert f'<section id="{key}"' in page
    assert len(SECTIONS) == 16


def test_a_bundle_alone_says_how_to_get_the_rest(place: Place) -> None:
    alone = render(Story.of(place.bundle, verify(place.bundle)))
    text = read(alone).text
    assert '<section id="absent"' in alone
    assert '<section id="reliability"' not in alone
    for section in ("Against the controls", "Do the probabilities hold?", "Inference times"):
        assert section in text
    assert "hetlm evaluate BUNDLE DATASET --out RUN.json" in text
    assert "On the selection users the model loses 1.750 nats per page" in text


def test_an_old_bundle_without_log_or_profiles_has_a_report(story: Story) -> None:
    text = read(render(Story(story.manifest))).text
    assert "kind 0" in text
    assert "hetlm train DATASET --out BUNDLE" in text


def test_a_run_without_tuning_or_warm_start_has_a_report(story: Story) -> None:
    for stages in ((), ("pretrain",), ("start",), ("tune",), ("rules",), ("warm",)):
        records = [record for record in RECORDS if record["stage"] in stages]
        read(render(replace(story, records=records)))
