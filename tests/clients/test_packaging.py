"""The client stays light: in what it installs, and in what importing it loads."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import tritonrec_client

CLIENTS = Path(__file__).parents[2] / "clients"


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `statement`."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_it_installs_nothing_but_tritonclient_and_numpy() -> None:
    project = tomllib.loads((CLIENTS / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=!~ \[;]", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"numpy", "tritonclient"}
    assert not project.get("optional-dependencies")


def test_its_version_is_said_once_in_words() -> None:
    project = tomllib.loads((CLIENTS / "pyproject.toml").read_text())["project"]
    assert project["version"] == tritonrec_client.__version__


@pytest.mark.parametrize("module", ["contract", "ids", "experiment"])
def test_the_stages_do_not_pay_for_grpc(module: str) -> None:
    loaded = loaded_by(f"import tritonrec_client.{module}")
    assert not loaded & {"grpc", "tritonclient", "google", "asyncio"}


def test_the_contract_alone_does_not_even_need_numpy() -> None:
    assert "numpy" not in loaded_by("import tritonrec_client.contract")


def test_a_name_is_imported_when_it_is_used() -> None:
    assert "tritonclient" in loaded_by("from tritonrec_client import Client")
    assert "tritonclient" not in loaded_by("from tritonrec_client import Page, Timeout, Status, wire_id")


def test_the_client_does_not_load_what_only_builds_and_servers_need() -> None:
    loaded = loaded_by("from tritonrec_client import Client, AsyncClient; import tritonrec_client.cli")
    assert not loaded & {"torch", "pandas", "pyarrow", "onnxruntime", "lmdb", "redis", "pydantic", "scipy"}


def test_every_public_name_is_there() -> None:
    for name in tritonrec_client.__all__:
        assert getattr(tritonrec_client, name) is not None
    assert set(tritonrec_client.__all__) <= set(dir(tritonrec_client))
    assert not hasattr(tritonrec_client, "no_such_name")
