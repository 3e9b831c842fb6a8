"""The benchmark's own arithmetic, on a log small enough to see through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.bench_exploration import main, measure_coverage, policy_of, replay


def test_coverage_is_counted_over_logs_and_has_a_truth_to_cover() -> None:
    found = measure_coverage("epsilon", runs=40, pages=100)
    assert found["draws_per_run"] == 200
    assert 0.8 <= found["covered_by_ips"] <= 1
    assert found["mean_of_ips"] == pytest.approx(found["truth"], abs=0.03)
    assert abs(found["logged"] - found["truth"]) > 0.03


def test_a_page_by_thompson_sampling_has_every_item_once_and_the_best_first() -> None:
    policy = policy_of(np.array([1.0, 9, 1, 1]), np.array([9.0, 1, 9, 9]))
    np.testing.assert_allclose(policy.sum(axis=1), 1)
    assert policy[0, 1] > 0.99
    assert (policy.sum(axis=0) <= 1 + 1e-9).all()


def test_either_policy_is_estimated_from_the_other_one_s_log(tmp_path: Path) -> None:
    header = "n,timestamp,item_id,position,click,propensity_score\n"
    for policy, propensity in (("random", 0.25), ("bts", 0.5)):
        rows = [f"{n},t,{n % 4},{n % 3 + 1},{int(n % 4 == 1)},{propensity}\n" for n in range(240)]
        (tmp_path / policy / "men").mkdir(parents=True)
        (tmp_path / policy / "men" / "men.csv").write_text(header + "".join(rows))
    (tmp_path / "policy" / "conf").mkdir(parents=True)
    lines = ["all:", "  alpha:", "    - 5.0", "  beta:", "    - 5.0", "men:"]
    for name, values in (("alpha", (1.0, 9.0, 1.0, 1.0)), ("beta", (9.0, 1.0, 9.0, 9.0))):
        lines += [f"  {name}:", *(f"    - {value}" for value in values)]
    (tmp_path / "policy" / "conf" / "prior_bts.yaml").write_text("\n".join(lines))
    found = replay(tmp_path, "men")
    # Item 1 is what everybody clicks, and is nearly always first and on the page.
    assert found["thompson"].ips.mean == pytest.approx(1 / 3, abs=0.02)
    assert found["random"].ips.mean == pytest.approx(0.25 * 0.25 / 0.5)
    assert found["random_itself"].mean == 0.25
    assert found["largest_error_of_the_integral"] < 0.01


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python tools/bench_exploration.py --runs 1000 --json" in capsys.readouterr().out
