"""Recording rules, alerts, the autoscalers' measures and the dashboard, by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import K8S, of_kind, rendered, the

MONITORING = K8S / "components" / "monitoring"
EXAMPLES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))
RUNBOOK = K8S.parent / "docs" / "runbook.md"
NAMES = re.compile(r"\b(?:nv|tritonrec)[_:][a-z0-9_:]+\b")

EXPORTED = {
    "nv_gpu_memory_used_bytes",
    "nv_gpu_utilization",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_pending_request_count",
    "nv_inference_request_failure",
    "nv_inference_request_success",
    "tritonrec_pages_total",
    "tritonrec_release_created_seconds",
    "tritonrec_requests_total",
    "tritonrec_stage_seconds_bucket",
    "tritonrec_stage_seconds_count",
}
"""What a server tells: test_executed.py asks one, which has no GPU."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on the PATH; Debian's package prometheus has it")
    return found


def groups() -> list[dict[str, Any]]:
    rule = yaml.safe_load((MONITORING / "triton-prometheusrule.yaml").read_text())
    found: list[dict[str, Any]] = rule["spec"]["groups"]
    return found


def adapter() -> dict[str, Any]:
    rules = yaml.safe_load((MONITORING / "adapter-rules.yaml").read_text())["rules"]["custom"]
    assert len(rules) == 1
    found: dict[str, Any] = rules[0]
    return found


def adapter_query() -> str:
    """As the adapter asks for the pods of a namespace."""
    query: str = adapter()["metricsQuery"]
    series = adapter()["seriesQuery"].partition("{")[0]
    for part, text in (
        ("<<.Series>>", series),
        ("<<.LabelMatchers>>", 'namespace="tritonrec",pod=~"one|two"'),
        ("<<.GroupBy>>", "pod"),
    ):
        query = query.replace(part, text)
    assert "<<" not in query
    return query


def panels() -> Iterator[str]:
    for panel in json.loads((MONITORING / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            text: str = target["expr"]
            for name, value in (("$namespace", "tritonrec"), ("$stage", "rank"), ("$__rate_interval", "1m")):
                text = text.replace(name, value)
            yield text


def run(promtool: str, folder: Path, *words: str) -> None:
    done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_expression_is_one(promtool: str, tmp_path: Path) -> None:
    asked = [*panels(), adapter_query(), *(each["query"] for each in scaled_by())]
    extra = {
        "name": "asked",
        "rules": [{"record": f"asked:{n}", "expr": text} for n, text in enumerate(asked)],
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [*groups(), extra]}))

    run(promtool, tmp_path, "check", "rules", "rules.yaml")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_rules_and_alerts_do_as_the_examples_say(promtool: str, tmp_path: Path, path: Path) -> None:
    measure = {"record": "adapter:tritonrec_pending_requests", "expr": adapter_query()}
    all_groups = [*groups(), {"name": "adapter", "interval": "15s", "rules": [measure]}]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": all_groups}))
    shutil.copy(path, tmp_path / "examples.yaml")

    run(promtool, tmp_path, "test", "rules", "examples.yaml")


def test_every_alert_has_an_example_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires: set[str] = set()
    rests: set[str] = set()
    for path in EXAMPLES:
        for test in yaml.safe_load(path.read_text())["tests"]:
            for each in test.get("alert_rule_test", []):
                (fires if each.get("exp_alerts") else rests).add(each["alertname"])
    alerts = {rule["alert"] for group in groups() for rule in group["rules"] if "alert" in rule}

    assert fires == alerts
    assert rests == alerts


def test_alerts_say_how_bad_they_are_and_where_to_read_on() -> None:
    for rule in (rule for group in groups() for rule in group["rules"] if "alert" in rule):
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].endswith(f"docs/runbook.md#{rule['alert'].lower()}")
        assert re.search(rf"^#+ {rule['alert']}$", RUNBOOK.read_text(), re.MULTILINE), rule["alert"]


def test_everything_that_is_asked_for_exists() -> None:
    recorded = {rule["record"] for group in groups() for rule in group["rules"] if "record" in rule}
    expressions = [rule["expr"] for group in groups() for rule in group["rules"]]
    asked = {name for text in (*expressions, *panels(), adapter_query()) for name in NAMES.findall(text)}
    asked |= {name for each in scaled_by() for name in NAMES.findall(each["query"])}

    assert asked <= recorded | EXPORTED


def scaled_by() -> list[dict[str, str]]:
    scaled = of_kind(rendered("cpu", ("keda",)), "ScaledObject")
    return [trigger["metadata"] for each in scaled for trigger in each["spec"]["triggers"]]


def test_both_autoscalers_go_by_the_same_measure_to_the_same_ends() -> None:
    hpa = the(rendered("gpu"), "HorizontalPodAutoscaler", "tritonrec")["spec"]
    keda = of_kind(rendered("cpu", ("keda",)), "ScaledObject")[0]["spec"]
    metric = hpa["metrics"][0]["pods"]

    assert metric["metric"]["name"] == adapter()["name"]["as"]
    assert metric["target"]["averageValue"] == keda["triggers"][0]["metadata"]["threshold"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (keda["minReplicaCount"], keda["maxReplicaCount"])


def test_the_dashboard_shows_the_time_of_each_stage() -> None:
    assert any("tritonrec:stage_seconds:p99" in text for text in panels())
    assert any("tritonrec_stage_seconds_bucket" in text for text in panels())
