from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.config.build import BuildConfig, ConfigError
from tools.data.dataset import load_dataset
from tools.training.features import Features

EVENTS = "user,item,time\n1,7,100\n1,8,101\n2,7,102\n"
ITEMS = "item,genre\n7,a|b\n8,\n9,b\n"
USERS = "user,age,country\n1,20,de\n2,,de\n"


def features_of(folder: Path, *, described: bool = True, user_features: int = 4) -> Features:
    for name, text in {"events.csv": EVENTS, "items.csv": ITEMS, "users.csv": USERS}.items():
        (folder / name).write_text(text)
    events = {"path": folder / "events.csv", "user": "user", "item": "item", "timestamp": "time"}
    data: dict[str, object] = {"events": events}
    if described:
        genre = {"column": "genre", "kind": "multi"}
        data["items"] = {"path": folder / "items.csv", "id": "item", "features": [genre]}
        about = [{"column": "age", "kind": "numeric"}, {"column": "country", "kind": "categorical"}]
        data["users"] = {"path": folder / "users.csv", "id": "user", "features": about}
    contract = {"candidates": 2, "results": 1, "user_features": user_features}
    config = BuildConfig.model_validate({"name": "shop", "data": data, "contract": contract})
    return Features.of(load_dataset(config), config)


def test_items_have_a_row_of_padding_in_front_and_users_the_contracts_width(tmp_path: Path) -> None:
    features = features_of(tmp_path)
    assert features.items.shape == (4, 2)
    assert not features.items[0].any()
    assert np.array_equal(
        features.items[1:], features.item_encoder.encode([{"genre": ["a", "b"]}, {}, {"genre": ["b"]}])
    )
    assert features.users.tolist() == [[1, 2, 0, 0], [0, 2, 0, 0]]
    assert features.items.dtype == features.users.dtype == np.int32


def test_without_any_features_arrays_have_the_same_form(tmp_path: Path) -> None:
    features = features_of(tmp_path, described=False)
    assert features.items.shape == (3, 1)
    assert features.users.shape == (2, 4)
    assert not features.items.any()
    assert not features.users.any()


def test_a_width_that_the_users_features_do_not_fit_is_refused_by_its_key(tmp_path: Path) -> None:
    assert features_of(tmp_path, user_features=2).users.shape == (2, 2)
    message = (
        "contract.user_features: the features need 2 columns but the width is 1; set it to what they need"
    )
    with pytest.raises(ConfigError, match=message):
        features_of(tmp_path, user_features=1)
