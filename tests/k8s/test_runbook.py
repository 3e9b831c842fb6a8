"""docs/runbook.md says what is so: its alerts, objects, sizes and recipes are those of the manifests."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap

import pytest
import yaml
from manifests import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    ROOT,
    Json,
    label,
    pods,
    quantity,
    rendered,
    server,
    settings,
    the,
)

from tools.rollout import _parser

PAGE = (ROOT / "docs" / "runbook.md").read_text()
RULES = yaml.safe_load((K8S / "components" / "monitoring" / "triton-prometheusrule.yaml").read_text())
ALERTS = [rule for group in RULES["spec"]["groups"] for rule in group["rules"] if "alert" in rule]


def cells(text: str, begin: str) -> list[str]:
    """The cells of the row of a table that begins with `begin`."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {begin}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_every_alert_has_a_section_and_links_to_it() -> None:
    sections = re.findall(r"^### (Tritonrec\w+)$", PAGE, re.MULTILINE)
    assert sections == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        url = f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["annotations"]["runbook_url"].endswith(url)


def test_links_within_the_page_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= anchors


def test_every_object_that_it_describes_is_there() -> None:
    objects = {label(each) for each in rendered("gpu")}
    kinds = {"PVC": "PersistentVolumeClaim"}
    table = PAGE.partition("## What there is")[2].partition("\n\nOverlays")[0]
    named = re.findall(r"^\| (\w+) `([\w-]+)`", table, re.MULTILINE)
    assert len(named) == 10
    assert {f"{kinds.get(kind, kind)}/{name}" for kind, name in named} <= objects


def test_every_component_and_program_that_it_names_is_there() -> None:
    named = set(re.findall(r"component `([a-z0-9-]+)`|k8s/components/([a-z0-9-]+)", PAGE))
    assert {"monitoring", "keda", "tls"} <= {"".join(name) for name in named} <= {*COMPONENTS}
    programs = re.findall(r"(?:/opt/tritonrec/)?(tools/\w+\.py)", PAGE)
    assert all((ROOT / program).is_file() for program in programs)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_sizes_are_those_of_the_overlays(overlay: str) -> None:
    objects = rendered(overlay)
    table = PAGE.partition("### Sizes")[2].partition("They are for")[0]
    column = cells(table, "| `gpu`").index(f"`{overlay}`")
    resources = server(objects)["resources"]
    pod = the(objects, "Deployment", "tritonrec")["spec"]["template"]["spec"]
    (shm,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    job = the(objects, "Job", "tritonrec-first-release")["spec"]["template"]["spec"]["containers"][0]
    needed = job["resources"]["requests"]
    claim = the(objects, "PersistentVolumeClaim", "tritonrec-releases")["spec"]["resources"]["requests"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    told = {
        "pods": pods_of(objects),
        "processors": f"{quantity(resources['requests']['cpu']):g}",
        "memory": size(resources["limits"]["memory"]),
        "of it /dev/shm": size(shm["emptyDir"]["sizeLimit"]),
        "GPU": str(resources["limits"].get("nvidia.com/gpu", "–")),
        "volume of releases": size(claim["storage"]),
        "a build": f"{quantity(needed['cpu']):g} processors, {size(needed['memory'])}",
    }
    assert {name: cells(table, name)[column] for name in told} == told


def pods_of(objects: tuple[Json, ...]) -> str:
    scalers = [each for each in objects if each["kind"] == "HorizontalPodAutoscaler"]
    if not scalers:
        return str(the(objects, "Deployment", "tritonrec")["spec"]["replicas"])
    return f"{scalers[0]['spec']['minReplicas']} and {scalers[0]['spec']['maxReplicas']}"


def size(text: str) -> str:
    """As a person would say it."""
    found = quantity(text)
    return f"{found / 2**30:g} GiB" if found >= 2**30 else f"{found / 2**20:g} MiB"


def recipe(heading: str) -> Json:
    """The YAML that stands in the page after some words."""
    block = PAGE.partition(heading)[2].partition("```yaml\n")[2].partition("```")[0]
    found: Json = yaml.safe_load(textwrap.dedent(block))
    return found


def test_the_recipe_for_ones_own_data_puts_them_where_the_jobs_read() -> None:
    own = recipe("**Your data.**")
    (config,) = own["configMapGenerator"]
    assert config.pop("files") == ["build.toml"]
    objects = rendered(
        "cpu", (), json.dumps(own | {"configMapGenerator": [config | {"literals": ["build.toml=mine"]}]})
    )

    assert the(objects, "ConfigMap", "tritonrec-build")["data"] == {"build.toml": "mine"}
    for name, pod in pods(objects):
        if name in ("Job/tritonrec-first-release", "CronJob/tritonrec-refresh"):
            sources = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
            (mount,) = [
                each for each in pod["spec"]["containers"][0]["volumeMounts"] if each["mountPath"] == "/data"
            ]
            assert sources[mount["name"]]["persistentVolumeClaim"]["claimName"] == "events"


def test_the_recipe_for_a_tuning_gives_it_to_the_servers_and_rolls_them_when_it_changes() -> None:
    own = recipe("**Instances, threads, batches:**")
    (config,) = own["configMapGenerator"]
    (file,) = config.pop("files")
    names = set()
    for text in ("one", "another"):
        own = {"configMapGenerator": [{**config, "literals": [f"{file}={text}"]}]}
        objects = rendered("gpu", (), json.dumps(own))
        spec = the(objects, "Deployment", "tritonrec")["spec"]["template"]["spec"]
        (volume,) = [each for each in spec["volumes"] if each["name"] == "tuning"]
        (mount,) = [each for each in server(objects)["volumeMounts"] if each["name"] == "tuning"]
        names.add(volume["configMap"]["name"])
        assert the(objects, "ConfigMap", "tritonrec-tuning")["data"] == {file: text}
        assert settings(objects)["TRITONREC_TUNING"] == f"{mount['mountPath']}/{file}"
    assert len(names) == 2


def test_the_number_that_a_drain_comes_from_is_the_one_that_it_names() -> None:
    assert "TRITONREC_GRACE_SECONDS" in settings(rendered("gpu"))
    assert "half of `TRITONREC_GRACE_SECONDS`" in PAGE


@pytest.mark.parametrize(
    ("recipe", "command", "release"),
    [(r"sed 's/- latest/- \w+/'", "set", "3f9a0c51d2e7"), (r"sed -e .*", "rollback", None)],
)
def test_recipes_that_change_a_job_give_a_command_that_there_is(
    recipe: str, command: str, release: str | None
) -> None:
    found = re.search(rf"\| ({recipe}) \| kubectl apply", PAGE)
    assert found is not None
    job = the(rendered("gpu"), "CronJob", "tritonrec-rollout")["spec"]["jobTemplate"]
    changed = subprocess.run(
        ["sh", "-c", found[1]], input=yaml.safe_dump(job), capture_output=True, text=True, check=True
    )
    (container,) = yaml.safe_load(changed.stdout)["spec"]["template"]["spec"]["containers"]
    program, *words = container["args"]
    assert program.endswith("tools/rollout.py")
    options = _parser().parse_args(words)
    assert words[0] == command
    assert getattr(options, "release", None) == release
    assert str(options.build) == "/releases"
