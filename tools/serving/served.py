"""The served repository as it lies on disk: what is active, which arms there are, what belongs to whom."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tritonrec_client.contract import RECOMMEND

from python_backend.release import Release
from tools.config.tuning import Tuning
from tools.plans.placing import PlanSource
from tools.releases.folder import NoReleaseError
from tools.releases.manifest import read_manifest
from tools.serving.model_files import CONFIG, RepositoryError, read_config
from tools.serving.repository import (
    RELEASE_MODEL,
    arm_of,
    put_in_place,
    read_overrides,
    read_tuning,
    standalone_models_of,
    write_ensemble,
    write_release,
    write_standalone_models,
)

PROBE = "probe_"


def release_in(model: str) -> str | None:
    """The release whose own model is called `model`; None where that is no name of such a model."""
    match = RELEASE_MODEL.fullmatch(model)
    return match["release"] if match else None


def open_release(build: Path, name: str) -> Release:
    """The release called `name` of `build`, whatever the others there are like.

    Raises NoReleaseError where there is none, and ValueError where its manifest cannot be read.
    """
    try:
        return Release.open((build / "releases" / name).resolve())
    except FileNotFoundError as error:
        raise NoReleaseError(f"no release {name} in {build / 'releases'}") from error


def runs_the_same(model: str, folder: Path | None, release: Release) -> bool:
    """Whether `model` of the release in `folder` is that of `release`, too, and run by the same code."""
    if folder is None:
        return False
    decide = ("code/", f"models/{model}/")
    try:
        found, wanted = (
            {
                path: file
                for path, file in read_manifest(each).get("files", {}).items()
                if path.startswith(decide)
            }
            for each in (folder, release.path)
        )
    except (OSError, ValueError):
        return False
    return found == wanted != {}


@dataclass(frozen=True, slots=True)
class ServedRepository:
    """The repository that a Triton serves from `folder`."""

    folder: Path

    @property
    def active(self) -> str | None:
        """The name of the release that `recommend` points at; None where there is no such model."""
        return self._release_of(RECOMMEND.name)

    @property
    def arms(self) -> dict[str, str]:
        """The name of the release of each arm, by the arm's name."""
        found = {}
        for path in sorted(self.folder.glob(f"{RECOMMEND.name}_*/{CONFIG}")):
            arm, release = arm_of(path.parent.name), self._release_of(path.parent.name)
            if arm and release:
                found[arm] = release
        return found

    @property
    def releases(self) -> set[str]:
        """The names of the releases of which there is at least one model of their own."""
        return {release for path in self.folder.glob("*") if (release := release_in(path.name))}

    @property
    def standalone(self) -> dict[str, Path]:
        """The folder of the release that runs each model which is no part of an ensemble, by the model."""
        found = {}
        for path in sorted(self.folder.glob(f"*/{CONFIG}")):
            parameters = read_config(path).parameters
            if not RELEASE_MODEL.fullmatch(path.parent.name) and "release_dir" in parameters:
                found[path.parent.name] = Path(parameters["release_dir"].string_value)
        return found

    @property
    def overrides(self) -> dict[str, str]:
        """Parameters that its models got instead of those of their releases, such as ``store_url``."""
        return read_overrides(self.folder)

    @property
    def tuning(self) -> Tuning:
        """How its models are run instead of as their releases say."""
        return read_tuning(self.folder)

    @property
    def plans(self) -> PlanSource | None:
        """Where its models get TensorRT's plans from, if any of them are computed by it."""
        return PlanSource.read(self.folder)

    def put_release(self, release: Release) -> None:
        """Write the models of `release` under its own names. Raises RepositoryError and PlanUnfit."""
        self._put(lambda fresh: write_release(release, fresh, self.overrides, self.tuning, self.plans))

    def put_ensemble(self, release: Release, name: str) -> bool:
        """Write the ensemble `name` over the stages of `release`, in one step; whether anything changed."""
        return bool(self._put(lambda fresh: write_ensemble(release, name, fresh)))

    def put_standalone_models(self, release: Release) -> list[str]:
        """Write the models of `release` that stand alone; the names of those that changed.

        Where the code and the configuration are those that are run already, nothing changes: what these
        models write belongs to no release, and starting them anew would only disturb those who are served.
        """
        running = self.standalone
        wanted = standalone_models_of(release)
        models = [name for name in wanted if not runs_the_same(name, running.get(name), release)]
        return self._put(
            lambda fresh: write_standalone_models(release, models, fresh, self.overrides, self.tuning)
        )

    def remove(self, *models: str) -> None:
        """Remove the folders of `models`."""
        for model in models:
            # Whoever is killed meanwhile leaves something that is no model's name.
            path = self.folder / model
            if path.exists():
                gone = Path(tempfile.mkdtemp(prefix=self._prefix, dir=self.folder.parent))
                path.rename(gone / model)
                shutil.rmtree(gone)

    def put_probe(self) -> str:
        """Make an empty folder in the repository, for a server to list; its name, to be removed."""
        return Path(tempfile.mkdtemp(prefix=PROBE, dir=self.folder)).name

    def tidy(self) -> None:
        """Remove what was left half-written by somebody who was killed. To be called under the lock."""
        for path in self.folder.parent.glob(f"{self._prefix}*"):
            shutil.rmtree(path, ignore_errors=True)
        self.remove(*(path.name for path in self.folder.glob(f"{PROBE}*")))

    @property
    def _prefix(self) -> str:
        return f".{self.folder.name}."

    def _put(self, write: Callable[[Path], None]) -> list[str]:
        with tempfile.TemporaryDirectory(prefix=self._prefix, dir=self.folder.parent) as temporary:
            fresh = Path(temporary)
            write(fresh)
            # A release's ensemble comes last: where it is, all of its stages are.
            paths = sorted(
                fresh.iterdir(), key=lambda path: (path.name.startswith(RECOMMEND.name), path.name)
            )
            return [path.name for path in paths if put_in_place(path, self.folder / path.name)]

    def _release_of(self, ensemble: str) -> str | None:
        path = self.folder / ensemble / CONFIG
        if not path.is_file():
            return None
        steps = [step.model_name for step in read_config(path).ensemble_scheduling.step]
        names = {release_in(step) for step in steps}
        if len(names) != 1 or None in names:
            raise RepositoryError(f"{path}: its steps are {', '.join(steps)}; they must be one release's")
        return names.pop()
