from __future__ import annotations

import numpy as np
import pytest
from tritonrec_client.ids import PSEUDONYM_KEY_VARIABLE, pseudonym

from tools.config.build import ConfigError
from tools.data.dataset import Dataset
from tools.data.pseudonyms import pseudonymised

KEY = bytes(range(32))


@pytest.fixture
def dataset(files) -> Dataset:
    return files.events().load()


def test_users_are_known_by_the_pseudonyms_that_clients_send(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PSEUDONYM_KEY_VARIABLE, KEY.hex())

    hidden = pseudonymised(dataset)

    assert hidden.interactions.user_ids.tolist() == [pseudonym(1, KEY), pseudonym(2, KEY)]
    assert hidden.user_keys == ["", ""]
    assert np.array_equal(hidden.interactions.items, dataset.interactions.items)


def test_without_a_key_nothing_is_built(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PSEUDONYM_KEY_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=r"privacy\.pseudonyms: found true, but TRITONREC_PSEUDONYM_KEY"):
        pseudonymised(dataset)


def test_a_key_that_is_none_is_refused_without_being_shown(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PSEUDONYM_KEY_VARIABLE, "secret")
    with pytest.raises(ConfigError, match=PSEUDONYM_KEY_VARIABLE) as caught:
        pseudonymised(dataset)
    assert "secret" not in str(caught.value)
