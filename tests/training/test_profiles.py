"""What a bundle says of its clusters, against counts done by hand; and the pages for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browsing.bundle import ClusterInfo, EncoderInfo, Limits, Manifest, TrainingInfo
from browsing.vocabulary import Vocabulary
from tests.training.datasets import MONDAY, write
from training.card import Story, model_card, report
from training.dataset import Sample
from training.profiles import clusters_of, prior_of, reference_of
from training.settings import settings_of

WORDS = Vocabulary(["/cart", "/", "/bags", "/bags/tote-mini", "/shoes", "/shoes/boot"])
OUTCOMES = {"cart": ("/cart",)}


def person(history: list[tuple[str, ...]], following: tuple[str, ...]) -> Sample:
    """Somebody of their own: equal samples are one user's."""
    return Sample(repr((history, following)), tuple(history), (MONDAY,) * len(history), following, MONDAY)


PEOPLE = [
    person([("/bags", "/bags/tote-mini")], ("/bags", "/cart")),
    person([("/bags", "/bags/tote-mini"), ("/",)], ("/bags",)),
    person([("/", "/shoes", "/nowhere")], ("/shoes", "/shoes/boot")),
]
OWN = np.array([0, 0, 1])


def test_names_and_typical_pages_come_from_lift() -> None:
    bags, shoes = clusters_of(PEOPLE, OWN, 2, WORDS, ["/cart"])
    assert (bags.name, shoes.name) == ("bags, tote mini", "shoes, boot")
    assert bags.typical_pages == ("/bags", "/bags/tote-mini")
    assert [bags.share, shoes.share] == pytest.approx([2 / 3, 1 / 3])


def test_names_are_short_and_distinct() -> None:
    pages = [f"/{letter * 60}" for letter in "ab"] + ["/x"]
    words = Vocabulary(pages)
    people = [person([(pages[0],)], (pages[0],)), person([(pages[1],)], (pages[1],)), *([person([], ("/x",))] * 2)]
    infos = clusters_of(people, np.array([0, 1, 2, 3]), 4, words, [])
    assert len({i.name for i in infos}) == 4
    assert all(0 < len(i.name) <= 40 for i in infos)
    assert [i.name for i in infos[2:]] == ["x", "x 2"]


def test_the_reference_holds_shares() -> None:
    reference = reference_of(PEOPLE, OWN, 2, WORDS, OUTCOMES)
    assert reference.pages[1] == {"/shoes": 0.5, "/": 0.25, "/shoes/boot": 0.25}
    assert reference.outcome_rates == {"cart": pytest.approx(1 / 3)}
    assert list(reference.cluster_shares) == pytest.approx([2 / 3, 1 / 3])


def test_the_prior_counts_first_sessions() -> None:
    prior = prior_of([*PEOPLE, PEOPLE[0]], WORDS, OUTCOMES)
    assert prior.sessions == 3, "a user with two samples counts once"
    assert prior.next_session == ("/bags", "/bags/tote-mini")
    assert {p.page: p.probability for p in prior.pages} == {
        "/bags": pytest.approx(2 / 3),
        "/bags/tote-mini": pytest.approx(2 / 3),
        "/": pytest.approx(1 / 3),
        "/shoes": pytest.approx(1 / 3),
    }
    assert prior.outcomes == {"cart": 0.0}


def test_a_page_name_cannot_become_markup(tmp_path: Path) -> None:
    evil = "/<script>alert(1)</script>|x"
    manifest = Manifest(
        clusters=(ClusterInfo(id=0, name="<b>bold</b>", share=1, typical_pages=(evil,)),),
        encoder=EncoderInfo(name="e", weights_sha256="0", tokenizer_sha256="0", dimension=8, decay=0.8),
        rule_version="0",
        vocabulary_sha256="0",
        vocabulary_size=5,
        outcomes={},
        limits=Limits(context=64, max_steps=8),
        training=TrainingInfo(
            method="hetlm",
            seed=0,
            users=1,
            samples=1,
            window_start="2026-03-02",
            window_end="2026-03-03",
            settings=settings_of("demo").model_dump(mode="json"),
        ),
        metrics={"validation_loss_kept": 1.5},
    )
    records = [
        {"stage": "pretrain", "epoch": e, "train_loss": 3 - e / 2, "validation_loss": 3 - e / 3} for e in (1, 2, 3)
    ]
    story = Story(manifest, write(tmp_path / "shop", 10, 4).info, records)
    page, card = report(story), model_card(story)
    for text in (page, card):
        assert "<script>" not in text
        assert "<b>" not in text
    assert "\\|x" in card
    assert page.count("<polyline") == 2
    assert page.count("<circle") == 6
    assert 'points="56.0,' in page
    assert "2.667" in page  # the axis ends at the largest and the smallest loss
    assert "1.500" in page
