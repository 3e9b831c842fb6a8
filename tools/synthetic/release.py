"""A made-up release of any size, complete and checked like every other, and the store with its users."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from python_backend.release import Release
from python_backend.stores import open_store
from tools.data.fill import fill
from tools.data.gather import PATIENCE, Gathered
from tools.data.store import holds_user
from tools.memory import Peak
from tools.progress import Steps
from tools.releases.artifacts import write_artifacts
from tools.releases.build import find_built, fingerprint_of, manifest_of
from tools.releases.drafts import draft_in
from tools.releases.folder import find_releases
from tools.releases.manifest import combined_hash, file_hash, folder_hashes, read_manifest, write_manifest
from tools.releases.trial import try_out
from tools.serving.catalogue import prunable, remove_release
from tools.synthetic.catalogue import (
    sample_of,
    synthetic_config,
    synthetic_dataset,
    synthetic_vectors,
    untrained_models,
)
from tools.training.features import Features

SYNTHETIC = (
    "SYNTHETIC: a made-up catalogue of {items:,} items and {users:,} users with models that were never"
    " trained. It shows how serving grows with the catalogue, and nothing about the quality of any page."
)
SAMPLE = 256
"""So many users are asked about while the release is checked; asking a million would take hours."""
NOTE = "synthesis.json"
STEPS = 7


class NotSyntheticError(ValueError):
    """A build folder that holds releases which were learned from data."""


@dataclass(frozen=True)
class Synthesis:
    """What a made-up build took.

    Attributes:
        release: its name.
        items, users, events: how many there are.
        seconds: of each step, by name.
        peak_bytes: the most memory that was taken, see `tools.memory.Peak`; most other processes are those of
            the Triton that checks the release.
    """

    release: str
    items: int
    users: int
    events: int
    seconds: dict[str, float]
    peak_bytes: dict[str, int]


def synthesise(
    n_items: int, n_users: int, *, seed: int, output: Path, steps: Steps, force: bool = False
) -> Synthesis:
    """Write a made-up release and its users' store into the folder `output`, or find that they are there.

    The same arguments, code and libraries give the same release; earlier ones go, unless they are in use.
    Nothing appears in ``output``/releases until every check has passed. Raises NotSyntheticError,
    CheckFailed, StoreUnavailable or ServerUnavailableError.
    """
    output = output.resolve()
    refuse_others(output)
    config = synthetic_config(n_items, seed, output)
    code = [file_hash(path) for path in sorted(Path(__file__).parent.glob("*.py"))]
    fingerprint = fingerprint_of(config, "synthetic", str(n_items), str(n_users), *code)
    built = None if force else find_built(config, fingerprint)
    if built is not None and (before := _before(output, built.name, n_users)):
        return before
    with Peak() as peak:
        with steps.step("making up items and histories"):
            vectors = synthetic_vectors(n_items, config)
            dataset = synthetic_dataset(vectors, n_users, seed)
            features = Features.of(dataset, config)
        with steps.step("making up models"):
            models = untrained_models(config, features, vectors, dataset.interactions.popularity())
            del vectors
        sample, rows = sample_of(dataset, SAMPLE)
        few = replace(features, users=features.users[rows])
        folder = output / "releases"
        with draft_in(folder) as draft:
            with steps.step("exporting graphs and item arrays"):
                write_artifacts(
                    draft,
                    dataset=dataset,
                    histories=sample.interactions,
                    features=few,
                    retriever=models.retriever,
                    ranker=models.ranker,
                    rerank=config.rerank,
                    sizes=config.sizes,
                )
                del models
            with steps.step("hashing them"):
                name = combined_hash([fingerprint, *map(str, folder_hashes(draft).items())])[:12]
                gathered = Gathered.from_files(dataset)
                manifest = manifest_of(name, config, gathered, fingerprint)
                about = SYNTHETIC.format(items=n_items, users=n_users)
                manifest |= {"synthetic": about, "trained_on": about, "metrics": {}}
                write_manifest(draft, manifest)
            with steps.step(f"asking Triton for {len(rows)} users' pages") as update:
                trial = try_out(
                    Release.open(draft),
                    None,
                    config=config,
                    dataset=sample,
                    features=few,
                    histories=sample.interactions,
                    update=update,
                )
            with steps.step("hashing again"):
                _write_report(draft / "report", about)
                manifest["checks"] = {"served_is_in_process": asdict(trial.agreement)}
                manifest["files"] = folder_hashes(draft)
                write_manifest(draft, manifest)
                release = folder / name
                if not release.exists():  # otherwise the very same release was made before
                    draft.rename(release)
        with steps.step("filling the feature store") as update:
            # All of it is this build's own, and users of an earlier, larger one must not stay.
            shutil.rmtree(output / "store", ignore_errors=True)
            fill(config, gathered, lambda done, total: update(done, total, "users"))
    synthesis = Synthesis(
        name, n_items, n_users, dataset.interactions.n_events, dict(steps.timings), peak.bytes
    )
    (output / NOTE).write_text(json.dumps(asdict(synthesis), indent=2) + "\n", encoding="utf-8")
    for older in prunable(output, 1):
        remove_release(older)
    return synthesis


def refuse_others(output: Path) -> None:
    """Raise NotSyntheticError where `output` holds a release that is not made up: the two must not mix."""
    for release in find_releases(output):
        if "synthetic" not in read_manifest(release.path):
            raise NotSyntheticError(
                f"{output} holds release {release.name}, which was learned from data;"
                " made-up releases need a folder of their own"
            )


def read_synthesis(output: Path) -> Synthesis | None:
    """What the last made-up build in `output` took; None where nothing says so."""
    try:
        content: dict[str, Any] = json.loads((output / NOTE).read_text(encoding="utf-8"))
        return Synthesis(**content)
    except (OSError, ValueError, TypeError):
        return None


def _before(output: Path, release: str, n_users: int) -> Synthesis | None:
    """What making `release` took, where it and its store are whole."""
    synthesis = read_synthesis(output)
    if synthesis is None or synthesis.release != release:
        return None
    with open_store(f"lmdb://{output / 'store'}", timeout=PATIENCE) as store:
        # The last user is written last.
        return synthesis if holds_user(store, n_users) and not holds_user(store, n_users + 1) else None


def _write_report(folder: Path, about: str) -> None:
    folder.mkdir()
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Synthetic release</title>'
        f"<h1>Synthetic release</h1><p>{about}</p></html>\n",
        encoding="utf-8",
    )
