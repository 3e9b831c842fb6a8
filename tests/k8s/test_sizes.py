"""Memory that is counted, and pods that fit on the nodes that they are meant for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from manifests import Json, containers, of_kind, pods, quantity, rendered, server, settings, the
from variants import BARE, OVERLAYS, Variant, words

from tools.serving.model_files import read_config
from tools.serving.repository import SOURCE

MIB = 2**20

LAUNCHER_AND_SERVER = 300 * MIB
"""Measured: serve_pod.py 75 MiB, Triton 55 MiB at rest; a probe takes 35 MiB, and two may run at once."""
PROCESS = 256 * MIB
"""A process of a stage. Measured on MovieLens-100K with its graphs loaded: 205 MiB, 40 of them shared."""
MODEL = 64 * MIB
"""What a release's arrays and graphs may take in each process that uses them. MovieLens-100K's are 9 MiB."""
SHARED = 32 * MIB
"""Shared memory of a process: 1 MiB at rest, and room for the tensors of 16 full batches (64 rows, 1 MiB)."""


def processes(profile: str) -> int:
    """How many processes of stages a server in `profile` starts, as the committed models say."""
    config = read_config(_config_of("recommend", profile))
    models = {step.model_name for step in config.ensemble_scheduling.step} | {"record_event", "forget_user"}
    configs = [read_config(_config_of(model, profile)) for model in models]
    # TensorRT's plans run in the server's own process.
    groups = [group for each in configs if each.backend == "python" for group in each.instance_group]
    return sum(max(1, group.count) for group in groups)


def _config_of(model: str, profile: str) -> Path:
    """What Triton takes for `model` in `profile`."""
    own = SOURCE / model / "configs" / f"{profile}.pbtxt"
    return own if own.exists() else SOURCE / model / "config.pbtxt"


def test_the_profiles_have_as_many_processes_as_the_comments_say() -> None:
    assert processes("local") < processes("staged")
    assert processes("gpu") < processes("staged")


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_memory_is_enough_for_server_processes_models_and_what_they_share(variant: Variant) -> None:
    objects = rendered(*variant)
    pod = the(objects, "Deployment", "tritonrec")["spec"]["template"]["spec"]
    count = processes(settings(objects)["TRITONREC_PROFILE"])
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")["emptyDir"]
    limit = quantity(server(objects)["resources"]["limits"]["memory"])

    assert shm["medium"] == "Memory"
    assert quantity(shm["sizeLimit"]) >= SHARED * count
    # What lies in memory-backed folders counts as the container's.
    in_memory = sum(
        quantity(volume["emptyDir"]["sizeLimit"])
        for volume in pod["volumes"]
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    )
    assert limit >= LAUNCHER_AND_SERVER + count * (PROCESS + MODEL) + in_memory


@pytest.mark.parametrize("variant", BARE, ids=words)
def test_memory_is_asked_for_in_full_and_processors_are_not_limited(variant: Variant) -> None:
    resources = server(rendered(*variant))["resources"]

    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert "cpu" not in resources["limits"]


@pytest.mark.parametrize("overlay", ["gpu", "cpu"])
def test_redis_is_full_before_its_memory_is(overlay: str) -> None:
    objects = rendered(overlay)
    text = the(objects, "ConfigMap", "tritonrec-redis")["data"]["redis.conf"]
    full = re.search(r"^maxmemory (\d+)gb$", text, re.MULTILINE)
    assert full is not None
    container = the(objects, "StatefulSet", "tritonrec-redis")["spec"]["template"]["spec"]["containers"][0]

    # A rewrite of the log copies what is written meanwhile.
    assert quantity(container["resources"]["limits"]["memory"]) >= 1.9 * int(full[1]) * 2**30


def needs(pod: Json) -> dict[str, float]:
    """What a pod asks the scheduler for."""
    found: dict[str, float] = {}
    for each in pod["spec"]["containers"]:
        for name, amount in each["resources"]["requests"].items():
            found[name] = found.get(name, 0) + quantity(amount)
    for each in pod["spec"].get("initContainers", []):
        for name, amount in each["resources"]["requests"].items():
            found[name] = max(found.get(name, 0), quantity(amount))
    return found


def place(wanted: list[dict[str, float]], nodes: list[dict[str, float]]) -> bool:
    """Whether all pods find a node, the greatest first, each on the node with the most memory left."""
    for need in sorted(
        wanted, key=lambda each: (each.get("nvidia.com/gpu", 0), each["memory"]), reverse=True
    ):
        fitting = [
            node for node in nodes if all(node.get(name, 0) >= amount for name, amount in need.items())
        ]
        if not fitting:
            return False
        chosen = max(fitting, key=lambda node: node["memory"])
        for name, amount in need.items():
            chosen[name] -= amount
    return True


def all_at_once(objects: tuple[Json, ...]) -> list[dict[str, float]]:
    """Every pod that there may be at once while the server's pods are rolled: its own, one more, all jobs."""
    wanted = []
    for name, pod in pods(objects):
        scalers = of_kind(objects, "HorizontalPodAutoscaler")
        count = 1
        if name == "Deployment/tritonrec":
            count = 1 + (scalers[0]["spec"]["minReplicas"] if scalers else 1)
        wanted += [needs(pod)] * count
    return wanted


NODE = {"cpu": 8.0 - 0.5, "memory": (32.0 - 2) * 2**30, "nvidia.com/gpu": 1.0}
"""A node with a GPU, 8 processors and 32 GiB, without what it keeps for itself."""


@pytest.mark.parametrize("overlay", ["gpu", "cpu"])
def test_all_replicas_and_one_more_fit_on_three_nodes(overlay: str) -> None:
    assert place(all_at_once(rendered(overlay)), [dict(NODE) for _ in range(3)])


def test_two_nodes_would_not_be_enough_for_the_gpus() -> None:
    assert not place(all_at_once(rendered("gpu")), [dict(NODE) for _ in range(2)])


def test_the_edge_overlay_fits_on_one_small_node() -> None:
    # Once the first release is there; nobody rolls or refreshes before.
    objects = tuple(
        each for each in rendered("edge") if each["metadata"]["name"] != "tritonrec-first-release"
    )

    assert place(all_at_once(objects), [{"cpu": 4.0 - 0.3, "memory": (8.0 - 1) * 2**30}])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_only_the_gpu_overlay_asks_for_a_gpu(overlay: str) -> None:
    asking = [
        name
        for name, pod in pods(rendered(overlay))
        if any("nvidia.com/gpu" in each["resources"]["limits"] for each in containers(pod))
    ]

    assert asking == (["Deployment/tritonrec"] if overlay == "gpu" else [])


def test_the_container_that_makes_plans_shares_the_card_with_the_server() -> None:
    pod = dict(pods(rendered("gpu")))["Deployment/tritonrec"]
    alone = {"spec": {**pod["spec"], "initContainers": []}}

    assert needs(pod) == needs(alone)
    assert needs(pod)["nvidia.com/gpu"] == 1


def test_plans_are_made_after_the_release_was_verified_and_before_the_server_starts() -> None:
    spec = dict(pods(rendered("gpu")))["Deployment/tritonrec"]["spec"]
    verify, plans = (each for each in spec["initContainers"])
    server_mounts = {each["mountPath"]: each for each in spec["containers"][0]["volumeMounts"]}
    maker_mounts = {each["mountPath"]: each for each in plans["volumeMounts"]}

    assert (verify["name"], plans["name"]) == ("verify", "plans")
    assert f"--release-file={verify['args'][-1].removeprefix('--note=')}" in plans["args"]
    assert "readOnly" not in maker_mounts["/plans"]
    assert server_mounts["/plans"] == {"name": "plans", "mountPath": "/plans", "readOnly": True}
    assert plans["image"] == spec["containers"][0]["image"]
