"""promtool reads the rules, and its tests of them hold: every alert fires, and ends again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from service.deploying.written import document
from tests.deploy.prometheus.reading import PROMETHEUS, alerts, groups, promtool_files, records

pytestmark = pytest.mark.system


def promtool(*words: str) -> str:
    program = shutil.which("promtool")
    assert program is not None, "deploy/system-packages.sh installs it"
    done = subprocess.run([program, *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=300)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


def test_the_configuration_is_accepted_and_finds_the_rules() -> None:
    told = promtool("check", "config", "prometheus.yml")
    assert told.count("rules found") == len(groups())


def test_the_rules_are_accepted() -> None:
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", *(f"rules/{name}.yml" for name in groups()))
    found = sum(int(line.split()[1]) for line in told.splitlines() if line.strip().startswith("SUCCESS"))
    assert found == len(records()) + len(alerts())


def test_the_rules_are_accepted_as_the_operator_is_given_them(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(document("kubernetes", {"groups": list(groups().values())}))
    promtool("check", "rules", "--lint-fatal", str(rules))


@pytest.mark.parametrize("name", promtool_files())
def test_alerts_fire_and_end_and_records_have_their_values(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", f"tests/{name}.yml")
