from __future__ import annotations

import pytest

from tools.compress import main


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--config", "x.toml", "--variants", "int8,int4"], "found 'int4'; allowed: full, int8"),
        (["--config", "x.toml", "--repeats", "0"], "found '0'; allowed is a whole number of at least 1"),
        ([], "--config"),
    ],
)
def test_bad_usage_is_said_in_one_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert problem in capsys.readouterr().err


def test_a_configuration_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", "nowhere.toml"]) == 2
    assert "nowhere.toml: cannot be read" in capsys.readouterr().err
