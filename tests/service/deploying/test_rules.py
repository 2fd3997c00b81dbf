"""Prometheus' rules on their way to its operator."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from service.deploying.kubernetes import NAMESPACE
from service.deploying.rules import RulesError, rule_groups
from tests.deploy.prometheus.reading import PROMETHEUS, ROOT, groups
from tests.deploy.provisioned import DASHBOARDS
from tests.service.deploying.conftest import Bundles
from tests.service.deploying.test_command import hetlm


def test_the_overlay_has_the_rules_as_they_are(
    bundles: Bundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From wherever the command is called."""
    monkeypatch.chdir(tmp_path)
    base = ROOT / "deploy" / "kubernetes"
    done = hetlm("kubernetes", bundles(1), "--out", "overlay", "--base", base, "--monitoring")
    assert done.exit_code == 0, done.stderr
    out = tmp_path / "overlay"
    kustomization = yaml.safe_load((out / "kustomization.yaml").read_text())
    assert "rules.yaml" in kustomization["resources"]
    rule = yaml.safe_load((out / "rules.yaml").read_text())
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["metadata"] == {"name": "hetlm-rules", "namespace": NAMESPACE}
    assert rule["spec"] == {"groups": list(groups().values())}
    assert "\\n" not in (out / "rules.yaml").read_text(), "people read it"


def test_without_monitoring_there_are_none(bundles: Bundles, tmp_path: Path) -> None:
    base = ROOT / "deploy" / "kubernetes"
    assert hetlm("kubernetes", bundles(1), "--out", tmp_path, "--base", base).exit_code == 0
    assert not (tmp_path / "rules.yaml").exists()
    assert "rules.yaml" not in (tmp_path / "kustomization.yaml").read_text()


def test_a_copy_of_the_manifests_needs_rules_and_dashboards_beside_it(bundles: Bundles, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deploy" / "kubernetes", tmp_path / "deploy" / "kubernetes")
    words = ("kubernetes", bundles(1), "--out", tmp_path / "out", "--base", tmp_path / "deploy" / "kubernetes")
    rules = tmp_path / "deploy" / "prometheus" / "rules"
    done = hetlm(*words, "--monitoring")
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert f"{rules}: no rules" in "".join(done.stderr.split("\n")).replace("  ", " ")
    shutil.copytree(PROMETHEUS / "rules", rules)
    done = hetlm(*words, "--monitoring")
    drawn = tmp_path / "deploy" / "grafana" / "dashboards"
    assert (done.exit_code, (tmp_path / "out").exists()) == (2, False)
    assert f"{drawn}: no dashboards" in "".join(done.stderr.split("\n")).replace("  ", " ")
    shutil.copytree(DASHBOARDS, drawn)
    assert hetlm(*words, "--monitoring").exit_code == 0
    (rules / "slo.yml").write_text("groups: [")
    assert hetlm(*words, "--monitoring").exit_code == 2


@pytest.mark.parametrize("text", ["", "[]", "rules: []", "groups: 3"])
def test_a_file_that_is_none_of_rules_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(text)
    with pytest.raises(RulesError, match=r"own\.yml: has no list named groups"):
        rule_groups(tmp_path)
