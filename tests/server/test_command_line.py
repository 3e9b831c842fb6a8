"""The commands that people type: ask a running server, and serve what was built."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import children_of
from tiny import Build, Server
from tritonrec_client import cli, read_items
from tritonrec_client.contract import FEEDBACK

from tools import serve
from tools.serving.server import Ports

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'clients'}"}


def tritonrec(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell would run it."""
    command = [sys.executable, "-m", "tritonrec_client.cli", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=60)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What the command prints with --json."""
    assert cli.main([*arguments, "--timeout", "20", "--json"]) == cli.OK
    return json.loads(capsys.readouterr().out)


def test_a_page_is_printed_with_the_titles_of_the_items(server: Server) -> None:
    items = server.build.release.artifacts / "items.tsv"
    user = str(server.known_users[-1])
    shown = tritonrec("recommend", "--user", user, "--items", str(items), "--address", server.grpc_address)
    assert (shown.returncode, shown.stderr) == (cli.OK, "")
    header, *rows, footer = shown.stdout.splitlines()
    assert header.split() == ["#", "title", "item", "score", "reason"]
    keys = {item.title: item.key for item in read_items(items).values()}
    assert len(rows) == server.sizes.results
    for number, row in enumerate(rows, start=1):
        place, title, key, *_ = re.split(r"  +", row.strip())
        assert (place, key) == (str(number), keys[title])
    assert footer.startswith(f"status: fully personal · release: {server.release} · ")


def test_json_holds_keys_titles_status_and_release(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    table = server.build.release.artifacts / "items.tsv"
    place = ["--items", str(table), "--address", server.grpc_address]
    page = answer(capsys, "recommend", "--user", str(server.known_users[0]), *place)
    items = read_items(table)
    assert page["status"] == ["SEEN_TRUNCATED"]
    assert page["release"] == server.release
    assert page["latency_ms"] > 0
    assert [row["rank"] for row in page["items"]] == list(range(1, server.sizes.results + 1))
    for row in page["items"]:
        assert (row["key"], row["title"]) == (
            items[int(row["item_id"])].key,
            items[int(row["item_id"])].title,
        )


def test_a_session_changes_the_page(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--address", server.grpc_address]
    before = answer(capsys, "recommend", *place)
    session = ",".join(row["item_id"] for row in before["items"][:3])
    after = answer(capsys, "recommend", "--session", session, *place)
    assert before["status"] == after["status"] == ["ANONYMOUS_USER"]
    assert {row["reason"] for row in before["items"]} <= {"POPULAR", "VARIETY"}
    assert {row["reason"] for row in after["items"]} <= {"HISTORY", "VARIETY"}
    assert not set(session.split(",")) & {row["item_id"] for row in after["items"]}


def test_health_says_which_release_is_served(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    (result,) = answer(capsys, "health", "--address", server.grpc_address)
    assert (result["healthy"], result["release"]) == (True, server.release)
    shown = tritonrec("health", "--timeout", "20", "--address", server.grpc_address)
    assert shown.returncode == cli.OK
    assert shown.stdout.startswith(f"ok      {server.grpc_address}  10 items, anonymous user")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["recommend", "--count", "11"],
            cli.BAD_USAGE,
            "count: found 11; allowed is an integer from 1 to 10",
        ),
        (
            ["recommend", "--diversity", "1.5"],
            cli.BAD_USAGE,
            "diversity: found 1.5; allowed is a number from 0",
        ),
        (["recommend", "--model", "rank"], cli.SERVER_TROUBLE, "rank"),
        (["health", "--model", "rank"], cli.SERVER_TROUBLE, "rank"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_and_is_in_the_exit_status(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    assert cli.main([*arguments, "--timeout", "20", "--address", server.grpc_address]) == status
    output = capsys.readouterr()
    assert message in (output.out if arguments[0] == "health" else output.err)


@pytest.fixture
def serving(tiny_build: Build) -> Iterator[tuple[subprocess.Popen[str], Ports]]:
    """`python tools/serve.py` for the tiny build."""
    ports = Ports.free()
    command = [sys.executable, str(ROOT / "tools" / "serve.py"), "--build", str(tiny_build.output)]
    for name in ("grpc", "http", "metrics"):
        command += [f"--{name}-port", str(getattr(ports, name))]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process, ports
    process.terminate()
    process.communicate()


def test_what_was_built_is_served_until_it_is_told_to_end_and_nothing_stays_behind(
    tiny_build: Build, serving: tuple[subprocess.Popen[str], Ports], capsys: pytest.CaptureFixture[str]
) -> None:
    process, ports = serving
    assert process.stdout is not None
    said = "".join(iter(process.stdout.readline, "stop it: Ctrl-C\n"))
    assert f"release {tiny_build.release.name}" in said

    # The very command that it proposes.
    proposed = next(line for line in said.splitlines() if line.startswith("ask it:")).split()[2:]
    assert Path(proposed[0]).name == "tritonrec"
    assert proposed[proposed.index("--user") + 1] == str(tiny_build.known_users[0])
    assert cli.main([*proposed[1:], "--timeout", "20"]) == cli.OK
    footer = capsys.readouterr().out.splitlines()[-1]
    assert footer.startswith("status: older items of the user may come back · release:")

    children = children_of(process.pid)
    family = [process.pid, *children, *(each for child in children for each in children_of(child))]
    assert len(family) >= 2 + 2 + len(FEEDBACK)  # the command, Triton, the pipeline twice and what writes
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (serve.OK, "stopping\n", "")
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    assert not list(Path("/dev/shm").glob(f"tritonrec_{process.pid}_*"))
    ports.require_free("127.0.0.1")
