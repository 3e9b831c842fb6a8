from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.config.build import ConfigError
from tools.config.tuning import ModelTuning, describe_tuning, dump_tuning, load_tuning

WHOLE = """
[pipeline]
instances = 3
threads = 1
max_queue_delay_microseconds = 500
preferred_batch_size = 16

[rank]
threads = 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tuning.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_has_a_table_per_model_and_each_says_only_what_it_changes(tmp_path: Path) -> None:
    assert load_tuning(written(tmp_path, WHOLE)) == {
        "pipeline": ModelTuning(
            instances=3, threads=1, max_queue_delay_microseconds=500, preferred_batch_size=16
        ),
        "rank": ModelTuning(threads=2),
    }
    assert load_tuning(written(tmp_path, "# as shipped\n")) == {}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    tuning = load_tuning(written(tmp_path, WHOLE))
    text = dump_tuning({**tuning, "rerank": ModelTuning()}, "Two lines\nof why.")

    assert text.startswith("# Two lines\n# of why.\n\n[pipeline]\ninstances = 3\n")
    assert "rerank" not in text
    assert load_tuning(written(tmp_path, text)) == tuning


def test_a_tuning_is_told_in_a_line(tmp_path: Path) -> None:
    tuning = load_tuning(written(tmp_path, "[rank]\nthreads = 2\n[rerank]\n[retrieve]\ninstances = 3"))
    assert describe_tuning(tuning) == "rank threads 2; retrieve instances 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[pipelin]\ninstances = 1",
            "pipelin: is not a known model; did you mean 'pipeline'? allowed here: feature_lookup, ",
        ),
        ("[recommend]\ninstances = 1", "recommend: is not a known model"),
        (
            "[rank]\ninstance = 2",
            "rank.instance: is not a known key; did you mean 'instances'? allowed here: instances, threads,",
        ),
        ("[rank]\ninstances = 0", "rank.instances: found 0; allowed: greater than or equal to 1"),
        ("[rank]\nthreads = '2'", "rank.threads: found '2'; allowed: a valid integer"),
        ("[rank]\nthreads = true", "rank.threads: found True; allowed: a valid integer"),
        ("[rank]\nthreads = 1.5", "rank.threads: found 1.5; allowed: a valid integer"),
        ("[rank]\nmax_queue_delay_microseconds = -1", "found -1; allowed: greater than or equal to 0"),
        ("rank = 2", "rank: found 2; allowed: a table, [rank], with instances, threads,"),
        ("[rank", "is not TOML"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=f"^{re.escape(str(path))}: .*{re.escape(message)}"):
        load_tuning(path)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "[rnak]\nthreads = 1\n[rank]\nthreads = 0\n[rerank]\ninstances = 99")
    with pytest.raises(ConfigError) as caught:
        load_tuning(path)
    assert len(caught.value.problems) == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'no.toml'}: cannot be read")):
        load_tuning(tmp_path / "no.toml")
