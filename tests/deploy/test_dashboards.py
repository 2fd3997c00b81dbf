"""The dashboards, without Grafana: in step with the code that writes them, with the metrics, and with the runbook."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
import yaml

from deploy.dashboards.__main__ import FOLDER, files
from deploy.dashboards.board import WITHIN
from deploy.dashboards.panels import RUNBOOK, number
from deploy.dashboards.runbook import FILE, chapters
from tests.deploy.prometheus.reading import Document, groups
from tests.deploy.promql import selectors
from tests.deploy.provisioned import DEPLOY, asked, dashboards, panels, substituted
from tests.deploy.series import checked, known
from tests.service.monitoring.test_documented import rows

FOUR = ("hetlm-batches", "hetlm-clusters", "hetlm-engines", "hetlm-service")
ALL = dashboards()
DRAWN = [(name, panel) for name, dashboard in ALL.items() for panel in panels(dashboard) if panel["type"] != "text"]
EACH = pytest.mark.parametrize(("name", "panel"), DRAWN, ids=[f"{name}-{panel['title']}" for name, panel in DRAWN])
KNOWN = known()


def test_the_files_are_what_the_code_writes() -> None:
    """`python -m deploy.dashboards` writes them anew."""
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == files()


def test_each_has_an_address_that_stays() -> None:
    assert {name: dashboard["uid"] for name, dashboard in ALL.items()} == {
        f"{uid}.json": uid for uid in (*FOUR, RUNBOOK)
    }
    titles = [dashboard["title"] for dashboard in ALL.values()]
    assert len(titles) == len(set(titles))
    for dashboard in ALL.values():
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids))
        assert [panel["id"] for panel in panels(dashboard)] == [number(panel["title"]) for panel in panels(dashboard)]


def test_grafana_is_told_of_them() -> None:
    """The data source that panels name, the folder that is mounted, and no dashboard that somebody can edit in vain."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "hetlm.yml").read_text())["providers"]
    assert not provider["allowUiUpdates"]
    compose = yaml.safe_load((DEPLOY.parent / "docker" / "docker-compose.yml").read_text())
    grafana = compose["services"]["grafana"]
    mounted = {mount["target"]: mount["source"] for mount in grafana["volumes"]}
    folder = provider["options"]["path"]
    assert mounted[folder] == "../deploy/grafana/dashboards"
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in [f"{folder}/{name}" for name in ALL]
    wanted = {"type": source["type"], "uid": source["uid"]}
    for dashboard in ALL.values():
        assert not dashboard["editable"]
        for place in _sources(dashboard):
            assert place == wanted
    interval = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval, "four of them are $__rate_interval"


def _sources(document: object) -> list[object]:
    if isinstance(document, list):
        return [found for inner in document for found in _sources(inner)]
    if isinstance(document, dict):
        own = [document["datasource"]] if "datasource" in document else []
        return own + [found for inner in document.values() for found in _sources(inner)]
    return []


@pytest.mark.parametrize("name", ALL)
def test_panels_do_not_overlap(name: str) -> None:
    places = [panel["gridPos"] for panel in ALL[name]["panels"]]
    for place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        assert place["h"] > 0
    for one, other in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize("uid", FOUR)
def test_the_top_row_says_whether_all_is_well(uid: str) -> None:
    drawn = ALL[f"{uid}.json"]["panels"]
    assert drawn[0]["type"] == "row"
    assert drawn[0]["title"].endswith("?")
    top = [panel for panel in drawn if panel["gridPos"]["y"] == 1]
    assert 4 <= len(top) <= 8
    assert {panel["type"] for panel in top} == {"stat"}
    assert sum(panel["gridPos"]["w"] for panel in top) == 24
    judged = [panel for panel in top if len(panel["fieldConfig"]["defaults"]["thresholds"]["steps"]) > 1]
    assert len(judged) >= len(top) / 2, "colours say it"


@EACH
def test_a_panel_says_what_it_is(name: str, panel: Document) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert len(panel["description"]) > 20
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    if panel["type"] == "stat":
        assert defaults["noValue"], "nothing is no number"
    if panel["type"] == "timeseries":
        assert len(panel["targets"]) <= 4
        assert all(target["legendFormat"] for target in panel["targets"])
        if defaults["unit"] == "percentunit" and "max" in defaults:
            assert defaults["max"] == 1
        if "min" in defaults:
            assert defaults["min"] == 0
        assert "options" in panel
        assert panel["options"]["legend"]["showLegend"]
    steps = defaults.get("thresholds", {}).get("steps", [])
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)
    assert all(step["value"] is None for step in steps[:1])


@EACH
def test_a_panel_asks_for_what_there_is(name: str, panel: Document) -> None:
    dashboard = ALL[name]
    for target in panel["targets"]:
        expression = substituted(target["expr"], dashboard)
        assert not re.search(r"\$(?!1\b)", expression), "a variable that the dashboard does not have"
        labels = checked(expression)
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])


def test_variables_ask_for_what_there_is() -> None:
    for dashboard in ALL.values():
        for variable in dashboard["templating"]["list"]:
            assert f"${variable['name']}" in str(dashboard["panels"]), "it does nothing"
            if variable["type"] == "query":
                match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
                assert match is not None
                assert match[2] in KNOWN[match[1]]


def test_the_objective_is_that_of_the_rules() -> None:
    """Its bound, and what the alerts say of it; the panel counts what the rules do."""
    rules = groups()["slo"]["rules"]
    bounds = {
        matcher.value
        for rule in rules
        for selector in selectors(rule["expr"])
        for matcher in selector.matchers.matchers
        if matcher.name == "le"
    }
    assert bounds == {str(WITHIN)}
    told = [rule["annotations"]["description"] for rule in rules if rule.get("alert", "").startswith("HetlmLatency")]
    assert len(told) == 2
    assert all(f"longer than {WITHIN:g} s;" in one for one in told)


def test_every_colour_of_latency_is_that_of_the_objective() -> None:
    ends = [
        panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        for _, panel in DRAWN
        if panel["fieldConfig"]["defaults"]["unit"] == "s"
        and any("HetlmLatencyBurnsFast" in link["title"] for link in panel["links"])
    ]
    assert len(ends) >= 4
    assert set(ends) == {WITHIN}


def test_nothing_is_drawn_twice_on_a_dashboard() -> None:
    for dashboard in ALL.values():
        drawn = [(target["expr"], panel["type"]) for panel in panels(dashboard) for target in panel.get("targets", ())]
        assert len(drawn) == len(set(drawn))


def test_the_four_show_what_there_is_to_see() -> None:
    """Every family of the service is on a panel, but those that say the same as another, or belong to a rule alone."""
    drawn = {str(selector.name) for one in asked() for selector in selectors(one.expression)}
    missing = {row.name for row in rows() if not any(name.startswith(row.name) for name in drawn)}
    assert missing == {
        "hetlm_api_keys_unusable_seconds",  # an alert
        "hetlm_outcome_probability",  # over all answers, the prior's and the fallback's too
        "hetlm_process_start_time_seconds",  # an alert
        "hetlm_process_virtual_memory_bytes",
        "hetlm_rollouts_total",  # an alert
        "hetlm_shared_predictions_total",
    }


def test_panels_lead_to_the_runbook() -> None:
    there = {panel["id"]: panel["title"] for panel in panels(ALL[f"{RUNBOOK}.json"])}
    assert set(there.values()) == sections()
    linked = 0
    for _, panel in DRAWN:
        for link in panel["links"]:
            match = re.fullmatch(rf"/d/{RUNBOOK}\?viewPanel=panel-(\d+)", link["url"])
            assert match is not None
            assert link["title"] == f"What to do: {there[int(match[1])]}"
            linked += 1
    assert linked > len(DRAWN) / 2


def sections() -> set[str]:
    return {title for chapter in chapters(FILE.read_text()).values() for title in chapter}


def test_the_runbook_loses_no_word_and_its_links_become_words() -> None:
    text = "# Book\n\nHow [this](a.md#b) [works](https://x.example).\n\n## One\n\n### Two\n\nDo.\n\n## Three\n\nNo.\n"
    assert chapters(text) == {
        "Book": {"Book": "How this [works](https://x.example)."},
        "One": {"Two": "Do."},
        "Three": {"Three": "No."},
    }
