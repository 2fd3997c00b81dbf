"""Profiles are an optional part of a bundle, and must be about its clusters."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from browsing.bundle import Bundle, BundleError, seal
from browsing.profiles import PROFILES, Journey, Profiles
from tests import tiny
from tests.training.report.stories import profiles


def test_a_bundle_without_profiles_loads(tmp_path: Path) -> None:
    tiny.bundle(tmp_path)
    assert Bundle.load(tmp_path).profiles is None


def test_profiles_come_back_as_they_were_written(tmp_path: Path) -> None:
    manifest = tiny.bundle(tmp_path)
    (tmp_path / PROFILES).write_text(profiles().model_dump_json())
    seal(tmp_path, manifest)
    assert Bundle.load(tmp_path).profiles == profiles()


@pytest.mark.parametrize("content", [profiles().model_dump_json(), "{}", "no json"])
def test_profiles_of_other_clusters_are_refused(tmp_path: Path, content: str) -> None:
    manifest = tiny.bundle(tmp_path, clusters=3)
    (tmp_path / PROFILES).write_text(content)
    with pytest.raises(BundleError, match=r"profiles\.json"):
        seal(tmp_path, manifest)


def test_a_name_has_at_most_forty_characters() -> None:
    document = profiles().model_dump()
    document["clusters"][0]["built_name"] = "x" * 41
    with pytest.raises(ValidationError, match="at most 40 characters"):
        Profiles.model_validate(document)


def test_a_journey_has_a_page() -> None:
    with pytest.raises(ValidationError):
        Journey(pages=(), weight=1.0)
