from __future__ import annotations

from pathlib import Path

import pytest

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
    (tmp_path / "build.toml").write_text(SMALLEST + text)
    return load_config(tmp_path / "build.toml")


def test_without_the_section_the_ranker_is_served_as_it_was_trained(tmp_path: Path) -> None:
    assert config_of(tmp_path, "").compress.variant == "full"


def test_the_section_names_the_variant_and_the_form_of_the_student(tmp_path: Path) -> None:
    compress = config_of(
        tmp_path, '[compress]\nvariant = "distilled-int8"\n[compress.student]\nwidth = 24\nheads = 3\n'
    ).compress
    assert compress.variant == "distilled-int8"
    assert (compress.student.width, compress.student.heads) == (24, 3)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[compress]\nvariant = "int4"', "compress.variant: found 'int4'; allowed: 'full', 'int8'"),
        ("[compress]\nprune = 1.0", "compress.prune: found 1.0; allowed: less than 1"),
        ("[compress]\nrequests = 3", "compress.requests: found 3; allowed: greater than or equal to 16"),
        ("[compress]\nleast_ratio = 0.0", "compress.least_ratio: found 0.0; allowed: greater than 0"),
        ("[compress]\nvariants = 1", "compress.variants: is not a known key; did you mean 'variant'?"),
        (
            "[compress.student]\nwidth = 16\nheads = 3",
            "compress.student: heads is 3; it must divide width, 16",
        ),
        ("[compress.student]\nblocks = 3", "compress.student.blocks: is not a known key"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, text)
    assert len(caught.value.problems) == 1
    assert problem in caught.value.problems[0]
