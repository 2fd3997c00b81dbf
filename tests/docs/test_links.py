"""Every link between the documents leads to a file, and to a heading of it where it names one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.docs.blocks import ROOT, documents


def tokens(document: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text()):
        yield token
        yield from token.children or ()


def links(document: str) -> Iterator[str]:
    for token in tokens(document):
        found = token.attrs.get("href" if token.type == "link_open" else "src")
        if isinstance(found, str) and "://" not in found:
            yield found


def anchors(document: str) -> set[str]:
    """Of its headings, as a forge makes them: lower case, dashes for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document: str) -> None:
    for link in links(document):
        name, _, anchor = link.partition("#")
        target = ((ROOT / document).parent / name).resolve() if name else ROOT / document
        assert target.exists(), f"{document}: {link} is not there"
        assert not anchor or anchor in anchors(str(target.relative_to(ROOT))), f"{document}: {link}: no such heading"


def test_the_readme_leads_to_every_document() -> None:
    led = {link.partition("#")[0] for link in links("README.md")}
    assert {document for document in documents() if document != "README.md"} <= led


def test_no_line_of_the_readme_leads_to_a_place_twice() -> None:
    for line in (ROOT / "README.md").read_text().splitlines():
        found = re.findall(r"\]\(([^)]+)\)", line)
        assert len(found) == len(set(found)), line
