"""The rules, without Prometheus: in step with the metrics, with promtool's tests, and with the runbook."""

from __future__ import annotations

import re

import promql_parser
import pytest
import yaml

from service.settings import Settings, variable
from tests.deploy.prometheus.reading import (
    PROMETHEUS,
    ROOT,
    RUNBOOK,
    Document,
    alerts,
    expectations,
    groups,
    promtool_files,
    records,
    scenarios,
    sections,
)
from tests.deploy.promql import selectors
from tests.deploy.series import JOBS, checked, known, words

KNOWN = known()
RULES = [*records(), *alerts()]
NAMES = [alert["alert"] for alert in alerts()]
EXPECTED = expectations()
EVERY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("record") or rule["alert"])
EVERY_ALERT = pytest.mark.parametrize("name", NAMES)


@EVERY_RULE
def test_a_rule_asks_for_what_there_is(rule: Document) -> None:
    assert selectors(rule["expr"])
    checked(rule["expr"])


def test_jobs_are_those_of_both_installations() -> None:
    configured = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in configured["scrape_configs"]}
    service = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "base" / "service.yaml").read_text())
    assert configured["rule_files"] == ["rules/*.yml"]
    for compose, kubernetes in JOBS.values():
        assert compose in jobs
        assert kubernetes.startswith((service["metadata"]["name"], "hetlm-engine-"))


def test_names_are_of_one_rule_each_and_keep_the_conventions() -> None:
    names = [rule.get("record") or rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    for file, group in groups().items():
        assert group["name"] == f"hetlm-{file}"
    for rule in records():
        level, metric, operation = rule["record"].split(":")
        assert re.fullmatch(r"[a-z_]+", metric)
        assert re.fullmatch(r"[a-z_0-9]+", operation)
        if level != "service":
            assert set(level.split("_")) <= KNOWN[rule["record"]], rule["record"]
    for name in NAMES:
        assert re.fullmatch(r"Hetlm([A-Z][a-z]+)+", name)


@pytest.mark.parametrize("alert", alerts(), ids=NAMES)
def test_an_alert_says_how_urgent_it_is_what_it_saw_and_what_to_do(alert: Document) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    told = alert["annotations"]
    assert set(told) == {"summary", "description", "runbook_url"}
    assert "{{" not in told["summary"]
    of_all = alert["alert"] in ("HetlmAbsent", "HetlmNotReady")
    assert ("$" in told["description"]) is not of_all, "whose, or how much"
    path, _, anchor = told["runbook_url"].partition("#")
    assert ROOT / path == RUNBOOK
    assert anchor == alert["alert"].lower(), "as a heading's address is made"


@EVERY_ALERT
def test_promtool_sees_an_alert_fire_and_end(name: str) -> None:
    """In one and the same test, so that it is the series that changed."""
    about = [one for one in EXPECTED if one.alert == name]
    fires = [one for one in about if one.firing]
    assert any(
        over.at > due.at
        for due in fires
        for over in about
        if not over.firing and (due.file, due.test) == (over.file, over.test)
    )
    (severity,) = {alert["labels"]["severity"] for alert in alerts() if alert["alert"] == name}
    assert {labels["severity"] for one in fires for labels in one.firing} == {severity}


def test_promtools_tests_are_about_alerts_that_there_are() -> None:
    assert {one.alert for one in EXPECTED} == set(NAMES)


def test_promtool_computes_every_recording_rule() -> None:
    computed = {
        str(selector.name)
        for _, test in scenarios()
        for one in test.get("promql_expr_test", ())
        if one["exp_samples"]
        for selector in selectors(one["expr"])
    }
    assert {rule["record"] for rule in records()} <= computed


def test_promtools_series_are_ones_that_there_are() -> None:
    for _, test in scenarios():
        for one in test["input_series"]:
            selector = promql_parser.parse(one["series"])
            assert isinstance(selector, promql_parser.VectorSelector)
            labels = {matcher.name for matcher in selector.matchers.matchers}
            targets = {"cluster"} if selector.name == "up" else set()
            assert labels <= KNOWN[str(selector.name)] | targets, one["series"]


def test_promtool_reads_the_rules_of_every_file() -> None:
    read = {rule for file in promtool_files().values() for rule in file["rule_files"]}
    assert read == {f"../rules/{name}.yml" for name in groups()}


def test_every_alert_has_a_section_of_the_runbook_and_every_section_an_alert() -> None:
    assert list(sections()) == [
        alert
        for file in ("slo", "service", "engines", "cache", "drift", "batch", "bundles", "security", "monitoring")
        for alert in (rule["alert"] for rule in groups()[file]["rules"] if "alert" in rule)
    ]


@EVERY_ALERT
def test_a_section_says_everything(name: str) -> None:
    points = re.findall(r"^- \*\*(\w+)\*\*", sections()[name], flags=re.M)
    assert points == ["Means", "Visitors", "Look", "Do", "Wake"]
    assert len(sections()[name].splitlines()) < 20, "somebody reads this at three in the morning"


def spans() -> list[str]:
    """What the runbook shows as it is to be typed or looked for."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", RUNBOOK.read_text())]


def test_the_runbooks_queries_can_be_asked() -> None:
    queries = [
        span for span in spans() if re.search(r"\bhetlm_[a-z]|[a-z]:[a-z]", span) and not span.startswith("curl")
    ]
    assert len(queries) > 40
    for query in queries:
        if not query.startswith(("docker", "kubectl", "hetlm:session")):
            checked(query)


def test_the_runbooks_events_labels_and_settings_exist() -> None:
    labels = {label for had in KNOWN.values() for label in had}
    settings = {variable(field) for field in Settings.model_fields}
    others = {"redis_url", "redis_acl", "deadline_ms", "unknown_pages", "request_id"}
    for span in spans():
        if re.fullmatch(r"HETLM_[A-Z_]+", span):
            assert span in settings, span
        elif re.fullmatch(r"[a-z]+(_[a-z]+)+", span) and not span.startswith("hetlm_"):
            assert span in words() | labels | others, span


def test_sections_name_alerts_that_there_are() -> None:
    assert set(re.findall(r"\bHetlm[A-Z]\w+", RUNBOOK.read_text())) == set(NAMES)


def test_the_page_on_monitoring_names_every_file_and_draws_no_line_of_its_own() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^\| `(\w+)\.yml` \|", page, flags=re.M)) == set(groups())
    for line in page.splitlines():
        if line.startswith("| `hetlm_"):
            assert not re.search(r" (>|<|>=|<=|==) ", line), "when to tell somebody is in the rules alone"
