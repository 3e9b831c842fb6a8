"""[gates] of the TOML file: what may be demanded of a release."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import BuildConfig, ConfigError, load_config
from tools.config.gates import Gate, GatesConfig
from tools.evaluation.metrics import PAGE_METRICS

ROOT = Path(__file__).parents[3]
SMALLEST = """
name = "shop"
[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"
"""


def config_of(tmp_path: Path, gates: str) -> BuildConfig:
    (tmp_path / "build.toml").write_text(SMALLEST + gates)
    return load_config(tmp_path / "build.toml")


def test_without_a_section_a_release_must_not_lose_much_to_the_active_one(tmp_path: Path) -> None:
    gates = config_of(tmp_path, "").gates
    assert gates.demands == {"ndcg_10": Gate(least_ratio=0.8), "coverage_20": Gate(least_ratio=0.5)}


def test_every_accuracy_of_a_page_can_have_a_gate() -> None:
    everything = GatesConfig.model_validate({name: {"least": 0.1} for name in PAGE_METRICS})
    assert set(everything.demands) == {*PAGE_METRICS, "coverage_20"}


def test_a_section_replaces_the_defaults_of_its_figure(tmp_path: Path) -> None:
    gates = config_of(tmp_path, "[gates.ndcg_10]\nleast = 0.1\n[gates.coverage_20]").gates
    assert gates.demands == {"ndcg_10": Gate(least=0.1)}


def test_the_shipped_configuration_spells_out_its_gates() -> None:
    gates = load_config(ROOT / "tools" / "config" / "movielens-100k.toml").gates
    assert gates.demands["ndcg_10"].least is not None
    assert set(gates.demands) == set(GatesConfig().demands)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[gates.ndcg_5]\nleast = 0.1", "gates.ndcg_5: is not a known key; did you mean 'ndcg_"),
        ("[gates.ndcg_10]\nmost = 1", "gates.ndcg_10.most: is not a known key; .*least, least_ratio"),
        ("[gates.ndcg_10]\nleast = 2", "gates.ndcg_10.least: found 2; allowed: less than or equal to 1"),
        ("[gates.ndcg_10]\nleast = nan", "gates.ndcg_10.least: found nan"),
        ("[gates]\nconfidence = 1", "gates.confidence: found 1; allowed: less than 1"),
        ("[gates]\nresamples = 10", "gates.resamples: found 10; allowed: greater than or equal to 100"),
    ],
)
def test_what_makes_no_gate_is_refused_by_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config_of(tmp_path, text)
