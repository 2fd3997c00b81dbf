"""The dashboards on their way to a Grafana that looks for them in the cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.deploying.dashboards import DashboardsError, dashboards
from service.deploying.kubernetes import NAMESPACE
from tests.deploy.provisioned import DASHBOARDS
from tests.deploy.test_kubernetes import KUBERNETES, VERSIONS
from tests.service.deploying.conftest import Bundles
from tests.service.deploying.test_command import hetlm

APPLIED = 2**18
"""Bytes of all annotations of a resource at most: `kubectl apply` keeps the resource in one of them, as JSON."""


@pytest.fixture
def overlay(bundles: Bundles, tmp_path: Path) -> Path:
    done = hetlm("kubernetes", bundles(1), "--out", tmp_path, "--base", KUBERNETES, "--monitoring")
    assert done.exit_code == 0, done.stderr
    return tmp_path


def maps(overlay: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((overlay / "dashboards.yaml").read_text()))


def test_the_overlay_has_every_dashboard_as_it_is(overlay: Path) -> None:
    found = {name: text for one in maps(overlay) for name, text in one["data"].items()}
    assert found == {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    assert len(found) == len(maps(overlay)) == 5
    assert "dashboards.yaml" in yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
    assert "  hetlm-service.json: |\n    {\n" in (overlay / "dashboards.yaml").read_text(), "people read it"


def test_the_sidecar_finds_them(overlay: Path) -> None:
    names = [one["metadata"]["name"] for one in maps(overlay)]
    assert len(names) == len(set(names))
    for one in maps(overlay):
        for version in VERSIONS:
            kubernetes_validate.validate(one, version, strict=True)
        metadata = one["metadata"]
        assert metadata["namespace"] == NAMESPACE
        assert metadata["labels"] == {"grafana_dashboard": "1"}
        assert metadata["annotations"] == {"grafana_folder": "hetlm"}
        assert len(json.dumps(one)) < APPLIED / 2, "it grows"


def test_without_monitoring_there_are_none(bundles: Bundles, tmp_path: Path) -> None:
    assert hetlm("kubernetes", bundles(1), "--out", tmp_path, "--base", KUBERNETES).exit_code == 0
    assert not (tmp_path / "dashboards.yaml").exists()
    assert "dashboards.yaml" not in (tmp_path / "kustomization.yaml").read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"uid": "a"}', '{"panels": []}'])
def test_a_file_that_is_no_dashboard_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(DashboardsError, match=r"own\.json: is no dashboard; `python -m deploy\.dashboards`"):
        dashboards(tmp_path)


def test_a_folder_without_any_is_named(tmp_path: Path) -> None:
    with pytest.raises(DashboardsError, match="no dashboards; take the whole folder deploy along"):
        dashboards(tmp_path)
