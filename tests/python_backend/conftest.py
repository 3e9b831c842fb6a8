from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import settings
from tritonrec_client.contract import Sizes

from python_backend.features import FeatureEncoder, FeatureField
from python_backend.release import Release

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def lookup_release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """A release as `feature_lookup` needs it: the items 100, 90, 80, … 10 have the indices 1, 2, 3, … 10."""
    folder = tmp_path_factory.mktemp("release")
    sizes = Sizes(candidates=4, results=2, history=4, seen=6, session=3, user_features=4)
    (folder / "artifacts").mkdir()
    (folder / "manifest.json").write_text(json.dumps({"release": "0123456789ab", "sizes": sizes.to_dict()}))
    np.savez(folder / "artifacts" / "items.npz", wire_id=np.array([-1, *range(100, 0, -10)], np.int64))
    fields = [FeatureField("country", "categorical"), FeatureField("age", "numeric", buckets=2)]
    known = [{"country": "de", "age": 20.0}, {"country": "fr", "age": 40.0}, {"country": "de", "age": 60.0}]
    encoder = FeatureEncoder.fit(fields, known, sizes.user_features)
    (folder / "artifacts" / "user_features.json").write_text(encoder.to_json())
    return Release.open(folder)
