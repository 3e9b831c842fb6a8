"""What a configuration says about GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.build_repo import parse_options
from tools.config.build import BuildConfig, ConfigError, load_config

SMALLEST = """
name = "shop"
[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"
"""


def config_of(tmp_path: Path, text: str) -> BuildConfig:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return load_config(path)


def test_a_build_is_for_no_gpu_unless_it_says_so(tmp_path: Path) -> None:
    config = config_of(tmp_path, SMALLEST)

    assert config.profiles == ()
    assert (config.gpu.precision, config.gpu.optimum_batch) == ("fp16", 8)


def test_profiles_and_precision_are_the_files(tmp_path: Path) -> None:
    text = 'profiles = ["gpu", "gpu_torch"]\n' + SMALLEST + '[gpu]\nprecision = "int8"\noptimum_batch = 16\n'
    config = config_of(tmp_path, text)

    assert config.profiles == ("gpu", "gpu_torch")
    assert (config.gpu.precision, config.gpu.optimum_batch) == ("int8", 16)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('profiles = ["cuda"]\n' + SMALLEST, "profiles[0]: found 'cuda'; allowed: 'gpu' or 'gpu_torch'"),
        (
            SMALLEST + '[gpu]\nprecision = "int4"\n',
            "gpu.precision: found 'int4'; allowed: 'fp32', 'fp16', 'int8'",
        ),
        (SMALLEST + "[gpu]\noptimum_batch = 0\n", "gpu.optimum_batch: found 0; allowed: "),
        (SMALLEST + "[gpu]\nprecison = 1\n", "gpu.precison: is not a known key; did you mean 'precision'?"),
    ],
)
def test_a_mistake_about_gpus_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        config_of(tmp_path, text)
    assert problem in str(wrong.value)


def test_the_command_line_may_name_several_profiles() -> None:
    words = ["--config", "shop.toml", "--profile", "gpu", "--profile", "gpu_torch"]

    assert parse_options(words).profile == ["gpu", "gpu_torch"]
