"""A release whose ranker is served in another form than it was trained in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import write_shop

from tools.build_repo import OK, main
from tools.releases.manifest import read_manifest, verify

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_the_smaller_ranker_is_what_is_served_measured_and_named(tmp_path: Path) -> None:
    build = write_shop(tmp_path)
    assert main(["--config", str(build.toml), "--variant", "distilled-int8"]) == OK
    release = build.release.path
    manifest = read_manifest(release)
    assert manifest["rank_variant"] == manifest["config"]["compress"]["variant"] == "distilled-int8"
    # The build asked Triton for every page, and compared it with the stages in its own process.
    assert manifest["checks"]["served_is_in_process"]["different_lists"] == 0
    operators = {node.op_type for node in onnx.load(release / "artifacts" / "rank.onnx").graph.node}
    assert "QuantizeLinear" in operators
    assert json.loads((release / "report" / "metrics.json").read_text())["rank_variant"] == "distilled-int8"
    # A refresh goes on from the ranker that was trained, not from what was made of it.
    with np.load(release / "training" / "ranker.npz") as weights:
        assert weights["items.identity.weight"].shape[1] == build.config.rank.width
    assert list(verify(release)) == []
