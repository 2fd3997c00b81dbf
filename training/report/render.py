"""A story as one HTML page: no script, no font, no address; every text from data is escaped."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from browsing.bundle import Manifest
from training.report.about import clusters, data, making, timings
from training.report.blocks import Missing, Section, Table, number, percent
from training.report.chances import propensity, reliability
from training.report.learnt import bought, losses, sizes, warm
from training.report.measured import by_cluster, controls, over_users, paper
from training.report.returning import returning
from training.report.story import Story
from training.report.summary import summary

SECTIONS = (
    summary,
    controls,
    clusters,
    by_cluster,
    reliability,
    propensity,
    returning,
    over_users,
    bought,
    losses,
    sizes,
    warm,
    timings,
    paper,
    data,
    making,
)
"""In the reader's order: what a marketing manager asks first, what a reviewer asks later."""


def sections(story: Story) -> tuple[Section, ...]:
    """All that there is to tell; what is not there at all is listed at the end, with the command that provides it."""
    every = [section(story) for section in SECTIONS]
    told = [section for section in every if any(not isinstance(block, Missing) for block in section.blocks)]
    absent = tuple(
        (section.title, block.what, block.command)
        for section in every
        if section not in told
        for block in section.blocks
        if isinstance(block, Missing)
    )
    if absent:
        table = Table("Sections without data", ("section", "what is missing", "how to get it"), absent, texts=(1, 2))
        told.append(Section("absent", "Not in this report", (table,)))
    return tuple(told)


def render(story: Story) -> str:
    """The whole page of a bundle."""
    return page(story.manifest, sections(story))


def page(manifest: Manifest, parts: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("training.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "number": number}
    template = environment.get_template("page.html.j2")
    return template.render(manifest=manifest, sections=parts)
