"""The TOML file: what it may say, and how it says what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tritonrec_client.contract import Sizes

from tools.config.build import BuildConfig, ConfigError, ContractConfig, load_config

ROOT = Path(__file__).parents[3]
SMALLEST = """
name = "shop"
[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"
"""


def config_of(tmp_path: Path, text: str) -> BuildConfig:
    (tmp_path / "build.toml").write_text(text)
    return load_config(tmp_path / "build.toml")


def problems_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(tmp_path, text)
    prefix = f"{tmp_path / 'build.toml'}: "
    assert all(problem.startswith(prefix) for problem in caught.value.problems)
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


def test_the_smallest_file_names_the_build_the_events_and_three_columns(tmp_path):
    config = config_of(tmp_path, SMALLEST)
    assert config.sizes == Sizes()
    assert config.data.events.resolved_format == "csv"
    assert (config.data.items, config.data.users) == (None, None)
    assert config.store.url == "lmdb://build/store"


def test_the_shipped_configuration_is_valid_and_its_user_features_fit():
    config = load_config(ROOT / "tools" / "config" / "movielens-100k.toml")
    assert config.data.items is not None
    assert config.data.users is not None
    assert [field.name for field in config.data.items.fields] == ["genre", "release_year"]
    assert config.sizes.user_features == len(config.data.users.fields) == 3


def test_the_contract_section_is_the_contract():
    assert ContractConfig().sizes() == Sizes()
    assert list(ContractConfig.model_fields) == list(Sizes().to_dict())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("colour = 1\n" + SMALLEST, "colour: is not a known key; allowed here: name, seed, output, profil"),
        (
            SMALLEST + 'timestamp_units = "ms"',
            "data.events.timestamp_units: is not a known key; did you mean 'timestamp_unit'? allowed",
        ),
        (
            SMALLEST + '[data.items]\npath = "i.csv"\nid = "i"\n[[data.items.features]]\ncolum = "x"',
            "data.items.features[0].column: is missing and has no default",
        ),
        (
            SMALLEST + 'timestamp_unit = "sec"',
            "data.events.timestamp_unit: found 'sec'; allowed: 's', 'ms', 'us', 'ns' or 'iso8601'",
        ),
        ('name = "shop"', "data: is missing and has no default"),
        ("seed = -1\n" + SMALLEST, "seed: found -1; allowed: greater than or equal to 0"),
        (SMALLEST.replace("shop", "My Shop"), "name: found 'My Shop'; allowed: "),
        (
            SMALLEST.replace("events.csv", "events.dat"),
            "data.events: path is 'events.dat', whose suffix does not",
        ),
        (SMALLEST + 'event = "type"', "data.events: event and keep belong together"),
        (SMALLEST + "min_rating = 4", "data.events: rating and min_rating belong together"),
        (SMALLEST + "[contract]\ncandidates = 10", "contract: results is 20; it may be at most"),
        (SMALLEST + "[contract]\nhistory = 0", "contract: history is 0; it must be an integer of at least 1"),
        (SMALLEST + '[store]\nurl = "mysql://x"', "store.url: found 'mysql://x'; allowed: "),
    ],
)
def test_a_mistake_is_told_with_its_key_what_was_found_and_what_is_allowed(tmp_path, text, problem):
    assert any(line.startswith(problem) for line in problems_of(tmp_path, text)), problems_of(tmp_path, text)


@pytest.mark.parametrize(
    ("feature", "problem"),
    [
        ('kind = "genre"', "data.users.features[0].kind: found 'genre'; allowed: 'categorical', 'numeric', "),
        ('kind = "numeric"\nseparator = ","', "data.users.features[0]: separator is for the kind multi"),
        (
            'kind = "numeric"\nslots = 3',
            "data.users.features[0]: field 'age': slots is 3; a numeric field has 1",
        ),
        (
            'kind = "numeric"\nbuckets = 1',
            "data.users.features[0]: field 'age': buckets is 1; it must be at least",
        ),
        (
            'kind = "numeric"\n[[data.users.features]]\ncolumn = "age"\nkind = "text"',
            "data.users: two features are named 'age'; give one of them another `name`",
        ),
    ],
)
def test_a_feature_that_does_not_fit_is_refused(tmp_path, feature, problem):
    table = '[data.users]\npath = "u.csv"\nid = "u"\n[[data.users.features]]\ncolumn = "age:token"\n'
    assert problems_of(tmp_path, SMALLEST + table + feature)[0].startswith(problem)


def test_all_mistakes_are_told_at_once(tmp_path):
    text = 'name = "shop"\nseed = "x"\n[data.events]\nuser = "u"\nitem = ""\ntimestamp = "t"\n[stor]\n'
    keys = [problem.split(":")[0] for problem in problems_of(tmp_path, text)]
    assert keys == ["seed", "data.events.path", "data.events.item", "stor"]


def test_a_file_that_is_not_there_or_no_toml_is_one_problem(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: "):
        load_config(tmp_path / "nowhere.toml")
    assert problems_of(tmp_path, "name = ")[0].startswith("is not TOML: ")
