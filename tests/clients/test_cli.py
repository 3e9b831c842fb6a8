"""The command line as far as it needs no server."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tritonrec_client.cli import main


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, and nobody else can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is complained about `arguments`; the exit status must be 2."""
    try:
        status = main(arguments)
    except SystemExit as end:  # argparse ends the program itself
        status = int(end.code or 0)
    assert status == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


@pytest.mark.parametrize("command", [(), ("recommend",), ("record",), ("forget",), ("health",)])
def test_help_shows_examples_and_exit_statuses(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    text = capsys.readouterr().out
    assert "tritonrec recommend --user 42 --items items.tsv" in text
    assert "exit status: 0 done, 1 trouble with a server, 2 bad usage" in text


CLICK = ("record", "--user", "42", "--item", "7", "--event", "click")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["recommend", "--user", "alice"], "invalid int value: 'alice'"),
        (["recommend", "--user", "1", "--user-key", "alice"], "not allowed with argument"),
        (["recommend", "--session", "1,x"], "string ids with --session-key"),
        (["recommend", "--address", "nowhere"], "'nowhere' is not host:port"),
        (["recommend", "--timeout", "0"], "give seconds above 0"),
        (["recommend", "--timeout", "soon"], "give seconds above 0"),
        (["recommend", "--items", "/no/such/file"], "No such file"),
        (["recommend", "--user", "-2"], "user: found -2; allowed is an integer from -1"),
        (["recommend", "--session", "3,-2"], "session[1]: found -2"),
        (["recommend", "--user-key", ""], "user: found ''"),
        (["recommend", "--diversity", "2"], "diversity: found 2.0; allowed is a number from 0"),
        (["recommend", "--diversity", "nan"], "diversity: found nan"),
        (["health", "--user", "3"], "unrecognized arguments"),
        (["recommend", "--experiment", "/no/such/file"], "No such file"),
        (["recommend", "--pseudonym-key-file", "/no/such/file"], "No such file"),
        (["record", "--item", "7", "--event", "click"], "one of the arguments --user --user-key is required"),
        (
            ["record", "--user", "42", "--event", "click"],
            "one of the arguments --item --item-key is required",
        ),
        (["record", "--user", "42", "--item", "7"], "the following arguments are required: --event"),
        ([*CLICK, "--place", "-1"], "place: found -1; allowed is a place on the page"),
        ([*CLICK, "--place", "top"], "invalid int value: 'top'"),
        ([*CLICK, "--propensity", "0"], "propensity: found 0.0; allowed is a number above 0"),
        ([*CLICK, "--event", "buy"], "event: found 'buy'; allowed is view, click, purchase or skip"),
        ([*CLICK, "--user", "-1"], "user: found -1; allowed is an integer from 0"),
        ([*CLICK, "--event-id", ""], "event_id: found ''; allowed is 16 bytes"),
        ([*CLICK, "--timestamp", "1700000000000"], "timestamp: found 1700000000000; allowed is unix time"),
        ([*CLICK, "--release", "latest"], "release: found 'latest'; allowed is a release's name"),
        (["forget", "--yes"], "one of the arguments --user --user-key is required"),
        (["forget", "--user", "-1", "--yes"], "user: found -1; allowed is an integer from 0"),
        (["forget", "--user", "42"], "of user 42 for good; repeat the command with --yes"),
    ],
)
def test_bad_usage_is_refused_before_anything_is_sent(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refused(capsys, *arguments)


def test_an_item_table_that_cannot_be_read_is_bad_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "items.tsv"
    table.write_text("wrong\n")
    assert "items.tsv:1: found the header" in refused(capsys, "recommend", "--items", str(table))


def test_an_experiment_that_cannot_be_read_is_bad_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "experiment.toml").write_text('name = "x"\n')
    message = refused(capsys, "recommend", "--experiment", str(tmp_path / "experiment.toml"))
    assert "experiment.toml: arms: found nothing; allowed is the keys name and arms" in message


@pytest.mark.parametrize("command", [("recommend",), CLICK, ("forget", "--user", "42", "--yes")])
def test_a_pseudonym_key_that_cannot_be_read_is_bad_usage_and_never_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TRITONREC_PSEUDONYM_KEY", "abcd")
    assert "TRITONREC_PSEUDONYM_KEY: the pseudonym key has 2 bytes" in refused(capsys, *command)


def test_an_event_that_could_not_be_recorded_can_be_sent_again_under_its_id(
    capsys: pytest.CaptureFixture[str], nobody: str
) -> None:
    assert main([*CLICK, "--address", nobody]) == 1
    again, trouble = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"tritonrec: to send the same event again: --event-id [0-9a-f-]{36}", again)
    assert f"no server took the request at {nobody}" in trouble


def test_a_server_that_is_not_there_is_trouble_and_named(
    capsys: pytest.CaptureFixture[str], nobody: str
) -> None:
    assert main(["recommend", "--user", "1", "--address", nobody]) == 1
    assert f"no server took the request at {nobody}" in capsys.readouterr().err


def test_health_fails_where_a_server_is_not_there(capsys: pytest.CaptureFixture[str], nobody: str) -> None:
    assert main(["health", "--address", nobody]) == 1
    assert capsys.readouterr().out.startswith(f"FAILED  {nobody}  no server took the request")
    assert main(["health", "--address", nobody, "--json"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["address"], result["healthy"]) == (nobody, False)
