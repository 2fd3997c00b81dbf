"""The model card: complete, and nothing from a log becomes markup."""

from __future__ import annotations

from dataclasses import replace

import pytest

from browsing.bundle import verify
from browsing.calibration import Calibration, OutcomeCalibration
from tests.training.datasets import write
from tests.training.report.stories import complete, profiles
from training.card import model_card
from training.report.story import Story


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    root = tmp_path_factory.mktemp("card")
    complete(root / "bundle", write(root / "shop", 10, 4))
    return Story.of(root / "bundle", verify(root / "bundle"))


def test_it_has_every_part(story: Story) -> None:
    card = model_card(story)
    for heading in (
        "Intended use",
        "Data",
        "Method",
        "Metrics on held-out users",
        "What a probability means",
        "Limits",
    ):
        assert f"\n## {heading}\n" in card
    assert card.count("conditional on the visitor returning") == 2
    assert "Not intended" in card
    assert "Window: 2026-01-01T00:00:00+00:00 to 2026-02-01T00:00:00+00:00" in card
    assert "- min\\_users: 5" in card
    assert "10 to train" in card
    assert "4 to select" in card
    assert story.manifest.encoder.weights_sha256 in card
    assert "warm start `synthetic`" in card
    assert "| validation\\_loss\\_kept | 1.7500 |" in card
    assert "| validation\\_users | 20 |" in card
    assert "4.0 pages, 3.0 sessions, 25% repeated" in card


def test_it_says_what_is_calibrated(story: Story) -> None:
    fitted = {
        "cart": OutcomeCalibration(method="platt", n=400, positives=80, calibrated=True),
        "purchase": OutcomeCalibration(n=400, positives=3),
    }
    card = model_card(replace(story, calibration=Calibration(outcomes=fitted)))
    assert "| cart | calibrated (platt) | 400 | 80 |" in card
    assert "| purchase | not calibrated: too few cases | 400 | 3 |" in card


def test_it_says_whether_returning_is_predicted(story: Story) -> None:
    assert "Whether the visitor comes back is not predicted" in model_card(story)
    metrics = {**story.manifest.metrics, "return_auc": 0.7}
    told = replace(story, manifest=story.manifest.model_copy(update={"metrics": metrics}))
    assert "a model of its own" in model_card(told)


def test_it_says_who_named_the_clusters(story: Story) -> None:
    assert "named from their pages and behaviours" in model_card(story)
    assert "named by the language model `small\\_llm`" in model_card(replace(story, profiles=profiles("small_llm")))


def test_a_bundle_without_its_dataset_or_profiles_has_a_card(story: Story) -> None:
    card = model_card(Story(story.manifest))
    assert "## Data" in card
    assert "Filters:" not in card
    assert "| 0 | kind 0 |" in card


def test_a_page_name_cannot_become_markup(story: Story) -> None:
    evil = "/<script>alert(1)</script>|x\n## Heading"
    clusters = tuple(
        c.model_copy(update={"name": "<b>bold</b> [x](y)", "typical_pages": (evil,)}) for c in story.manifest.clusters
    )
    card = model_card(replace(story, manifest=story.manifest.model_copy(update={"clusters": clusters})))
    assert "<script>" not in card
    assert "<b>" not in card
    assert "\\|x" in card
    assert "\n## Heading" not in card
    assert "\\[x\\](y)" in card
