"""`python tools/tune.py`: its usage. tests/server/test_tuning.py runs it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import tune
from tools.load.bench import shipped_settings
from tools.releases.folder import find_release
from tools.serving.model_files import RepositoryError

RELEASE = "aaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--try", "pipeline.instance=1"], "it must be MODEL.KEY=N,N with a key of instances, threads, max_"),
        (["--try", "pipelin.instances=1"], "it must be MODEL.KEY=N,N"),
        (["--try", "pipeline.instances=1,0"], "and values that are allowed for it"),
        (["--try", "pipeline.instances="], "and values that are allowed for it"),
        (["--rounds", "0"], "found '0'; it must be a whole number of at least 1"),
        (["--probe", "-1"], "found '-1'; it must be a number above 0"),
        (["--profile", "gpu"], "invalid choice"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tune.main(words)
    assert message in capsys.readouterr().err


def test_bad_usage_is_explained_before_anything_is_measured(
    tmp_path: Path, new_release: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def complaint(*words: str) -> str:
        assert tune.main(["--build", str(tmp_path), *words]) == tune.BAD_USAGE
        return capsys.readouterr().err

    assert re.search("no release in .*build one with", complaint())
    release = new_release(RELEASE)
    (release / "artifacts").mkdir(exist_ok=True)
    (release / "artifacts" / "items.tsv").write_text("item_id\n1\n2\n")
    assert "--slo: found record_event:p99=5ms; only pages" in complaint("--slo", "record_event:p99=5ms")
    assert "p99 takes us, ms or s" in complaint("--slo", "p99=5")
    assert str(tmp_path / "store") in complaint()


def test_what_is_shipped_is_read_from_the_release_in_the_order_of_the_pipeline(
    new_release: Callable[[str], Path],
) -> None:
    release = find_release(new_release(RELEASE).parents[1])
    assert list(shipped_settings(release, "local")) == ["pipeline"]
    assert list(shipped_settings(release, "staged")) == ["feature_lookup", "retrieve", "rank", "rerank"]
    assert all(len(each.values) == 4 for each in shipped_settings(release, "staged").values())
    (release.path / "models" / "recommend" / "configs" / "staged.pbtxt").unlink()
    with pytest.raises(RepositoryError, match=f"release {RELEASE} has no profile staged"):
        shipped_settings(release, "staged")


def test_the_help_shows_examples_and_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        tune.main(["--help"])
    said = capsys.readouterr().out
    assert "examples:\n  python tools/tune.py\n" in said
    assert "exit status: 0 done" in said
