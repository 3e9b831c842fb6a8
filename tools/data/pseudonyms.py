"""Pseudonyms: a data set whose users nobody without the key can name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from tritonrec_client.ids import PSEUDONYM_KEY_VARIABLE, pseudonyms, read_pseudonym_key

from tools.config.build import ConfigError
from tools.data.dataset import Dataset


def pseudonymised(dataset: Dataset) -> Dataset:
    """`dataset` with the users' wire ids replaced by pseudonyms and their own ids dropped.

    Raises ConfigError where the environment holds no key that can be used, or two users become one.
    """
    try:
        key = read_pseudonym_key()
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    if key is None:
        raise ConfigError(
            [
                f"privacy.pseudonyms: found true, but {PSEUDONYM_KEY_VARIABLE} is not set; it must hold the"
                " key in hexadecimal digits, for instance what `openssl rand -hex 32` prints"
            ]
        )
    whole = dataset.user_id_kind == "integer"
    user_ids = pseudonyms([int(one) if whole else one for one in dataset.user_keys], key)
    if len(np.unique(user_ids)) < len(user_ids):
        raise ConfigError(["privacy.pseudonyms: two users have the same pseudonym; use another key"])
    interactions = replace(dataset.interactions, user_ids=user_ids)
    return replace(dataset, interactions=interactions, user_keys=[""] * len(user_ids))
