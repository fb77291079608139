"""Dashboard, alerts and runbooks as files: in step with each other and with what they are written from."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from promql_names import ALERTS, DASHBOARD, ROOT, alert_rules, panel_queries, panels

GRAFANA = ROOT / "deploy/grafana"
PROMETHEUS = ROOT / "deploy/prometheus"
ALERT_NAMES = [rule["alert"] for rule in alert_rules()]


def test_the_dashboard_is_what_its_script_writes(tmp_path: Path) -> None:
    for script in GRAFANA.glob("*.py"):
        shutil.copy(script, tmp_path)
    subprocess.run([sys.executable, "dashboard.py"], cwd=tmp_path, check=True, capture_output=True)
    hint = "run `python deploy/grafana/dashboard.py`"
    assert (tmp_path / "tessera.json").read_text() == DASHBOARD.read_text(), hint


def test_panels_neither_overlap_nor_leave_the_page() -> None:
    every = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    for panel in every:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations((panel["gridPos"] for panel in every), 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below


def test_every_panel_says_what_it_shows_and_asks_the_chosen_source() -> None:
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_queries_use_no_variable_that_the_page_lacks() -> None:
    assert [query for query in panel_queries().values() if "$" in query] == []
    named = {variable["name"] for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]}
    assert named == {"datasource", "instance", "model", "method"}


@pytest.mark.parametrize("rule", alert_rules(), ids=ALERT_NAMES)
def test_an_alert_says_what_is_wrong_how_bad_and_what_to_do(rule: dict) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    notes = rule["annotations"]
    assert notes["summary"] and notes["description"]
    assert notes["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


@pytest.mark.parametrize("rule", alert_rules(), ids=ALERT_NAMES)
def test_every_selector_of_an_alert_is_confined_to_our_job(rule: dict) -> None:
    assert all('job="tessera"' in labels for labels in re.findall(r"\w\{([^}]*)\}", rule["expr"]))


def test_each_alert_has_a_runbook_and_no_runbook_lacks_its_alert() -> None:
    text = (ROOT / "docs/runbooks.md").read_text()
    chapters = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S))
    assert sorted(chapters) == sorted(ALERT_NAMES)
    for name, chapter in chapters.items():
        for part in ("**Cause.**", "**Check.**", "**Do.**"):
            assert part in chapter, f"{name} lacks {part}"


def test_each_alert_is_tested_to_fire_and_to_stay_quiet() -> None:
    fired, quiet = set(), set()
    for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]:
        instances = set(re.findall(r'instance="(\w+)"', str(test["input_series"])))
        for case in test["alert_rule_test"]:
            alerting = {alert["exp_labels"].get("instance") for alert in case["exp_alerts"]}
            if alerting:
                fired.add(case["alertname"])
            # Nothing expected at this time, or nothing of some instance that is there.
            if instances - alerting or not alerting:
                quiet.add(case["alertname"])
    assert fired == quiet == set(ALERT_NAMES)


def test_the_server_is_scraped_under_the_job_that_everything_selects() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == ["tessera"]
    assert config["rule_files"] == [ALERTS.name]


def test_grafana_assumes_the_interval_at_which_prometheus_scrapes() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    sources = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    (source,) = sources["datasources"]
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_files(command: tuple[str, ...]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    done = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
