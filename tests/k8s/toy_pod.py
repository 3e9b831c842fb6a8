"""A release that needs no model, and the Secrets that pods on this machine get."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from manifests import ROOT

from tools.releases.manifest import folder_hashes

sys.path.append(str(ROOT / "tests" / "tools"))  # the toy release is theirs
from toy_release import make_release

SECRETS = {
    "tritonrec-control": {"key": "5f1c0ffee5f1c0ffee5f1c0ffee5f1c0"},
    "tritonrec-redis": {"password": "4b1d4b1d4b1d4b1d4b1d4b1d"},
}


def toy_release(build: Path, name: str) -> Path:
    """A finished release with the hashes of its files."""
    path = make_release(build, name)
    manifest = path / "manifest.json"
    content = json.loads(manifest.read_text())
    content |= {"files": folder_hashes(path), "created": "2026-01-02T03:04:05+00:00"}
    manifest.write_text(json.dumps(content))
    return path
