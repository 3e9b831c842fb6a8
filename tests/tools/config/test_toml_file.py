"""A configuration that is based on another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import ConfigError, load_config
from tools.config.toml_file import laid_over, read_toml

SHOP = """
name = "shop"
[data.events]
path = "events.csv"
user = "user"
item = "item"
timestamp = "time"
[retrieve]
width = 32
epochs = 7
[[channels]]
model = "transformer"
[[channels]]
model = "ease"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.toml").write_text(SHOP)
    return tmp_path


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_what_a_file_does_not_say_its_base_says(folder: Path) -> None:
    config = load_config(written(folder, 'base = "shop.toml"\nname = "mine"\n[retrieve]\nepochs = 9\n'))
    assert (config.name, config.retrieve.width, config.retrieve.epochs) == ("mine", 32, 9)
    assert [channel.model for channel in config.channels] == ["transformer", "ease"]


def test_lists_of_tables_take_the_place_of_the_base_s(folder: Path) -> None:
    config = load_config(written(folder, 'base = "shop.toml"\n[[channels]]\nmodel = "transformer"\n'))
    assert [channel.model for channel in config.channels] == ["transformer"]


def test_a_base_lies_beside_the_file_that_names_it_and_may_have_one_itself(folder: Path) -> None:
    (folder / "more").mkdir()
    written(folder, 'base = "../shop.toml"\nseed = 4\n', "more/middle.toml")
    content, place = read_toml(written(folder, 'base = "more/middle.toml"\nseed = 5\n'))
    assert (content["name"], content["seed"]) == ("shop", 5)
    assert "base" not in content
    assert place.count("laid over") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "nowhere.toml"', "nowhere.toml: cannot be read"),
        ("base = 3", "mine.toml: base: found 3; allowed is the path of another TOML file"),
        ('base = "mine.toml"', "mine.toml: base: found 'mine.toml', which is based on this file itself"),
        ('base = ""', "mine.toml: base: found ''; allowed is the path of another TOML file"),
        ('base = "shop.toml"\n[retrieve]\nwidht = 9', "shop.toml: retrieve.widht: is not a known key"),
        ('bse = "shop.toml"', "bse: is not a known key; did you mean 'base'?"),
    ],
)
def test_what_cannot_be_a_base_is_refused_with_the_file_and_the_key(
    folder: Path, text: str, said: str
) -> None:
    with pytest.raises(ConfigError) as problem:
        load_config(written(folder, text))
    assert said in str(problem.value)


def test_two_files_cannot_be_each_other_s_base(folder: Path) -> None:
    written(folder, 'base = "mine.toml"', "other.toml")
    with pytest.raises(ConfigError, match="based on this file itself"):
        load_config(written(folder, 'base = "other.toml"'))


def test_laying_over_changes_neither() -> None:
    below, above = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert laid_over(below, above) == {"a": {"b": 1, "c": 2}}
    assert (below, above) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize("name", ["models", "merged"])
def test_the_shipped_variants_share_data_and_widths_with_the_default(name: str) -> None:
    default = load_config("tools/config/movielens-100k.toml")
    variant = load_config(f"tools/config/movielens-100k-{name}.toml")
    assert (variant.data, variant.sizes, variant.retrieve) == (default.data, default.sizes, default.retrieve)
