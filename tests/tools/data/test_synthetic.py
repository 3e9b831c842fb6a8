"""Made-up events and the measurement that is taken with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tools import bench_ingest
from tools.data.synthetic import main, synthetic_events


def test_the_same_arguments_give_the_same_events():
    one, again, other = (list(synthetic_events(1000, 50, 30, seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert sum(batch.num_rows for batch in one) == 1000


def test_a_few_items_and_users_have_most_of_the_events():
    (batch,) = synthetic_events(20_000, 500, 500, seed=1)
    for column in ("user", "item"):
        counts = np.sort(np.bincount(batch[column].to_numpy(), minlength=500))[::-1]
        assert counts[:100].sum() > 0.5 * counts.sum()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_can_be_read(files, suffix):
    path = f"made.{suffix}"
    assert main([path, "--events", "500", "--users", "20", "--items", "10"]) == 0
    files.data["events"]["path"] = path
    dataset = files.load()
    assert (dataset.events_read, dataset.interactions.n_items) == (500, 10)


def test_the_measurement_fails_above_its_limit(tmp_path, capsys):
    arguments = ["--events", "2000", "--users", "100", "--items", "50", "--json", str(tmp_path / "x.json")]
    assert bench_ingest.main(arguments) == 0
    figures = json.loads((tmp_path / "x.json").read_text())
    assert (figures["events"], figures["items"]) == (2000, 50)
    assert 0 < figures["peak_gb"] < 2
    assert bench_ingest.main([*arguments, "--limit-gb", "0.01"]) == 1
    assert "above the limit of 0.01 GB" in capsys.readouterr().err
