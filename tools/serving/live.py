"""A served repository together with the Triton that serves from it: they are kept at one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import RECOMMEND

from python_backend.release import Release
from tools.checks import CheckFailed
from tools.serving.history import Activation, note_activation, read_activations
from tools.serving.model_control import NOT_LOADED, ModelControl
from tools.serving.repository import alias_of
from tools.serving.served import ServedRepository, open_release, release_in
from tools.serving.steps import NotServed, Steps

CANARIES = 3
"""How many answers of an ensemble are looked at after it was repointed."""


class LiveRepository:
    """``build``/served, and the Triton that serves from it. To be changed under the repository's lock."""

    def __init__(self, build: Path, triton: ModelControl, step: Steps) -> None:
        self.build = build
        self.served = ServedRepository(build / "served")
        self.triton = triton
        self.step = step

    @property
    def active_name(self) -> str:
        """The name of the active release. Raises NotServed where nothing was served yet."""
        active = self.served.active
        if active is None:
            raise NotServed(f"{self.served.folder} has no {RECOMMEND.name}; {self._advice}")
        return active

    @property
    def active(self) -> Release:
        """The active release."""
        return self.open(self.active_name)

    @property
    def needed(self) -> set[str]:
        """The names of the releases that are active or an arm's."""
        return {self.active_name, *self.served.arms.values()}

    def open(self, name: str) -> Release:
        """The release called `name`. Raises NoReleaseError."""
        return open_release(self.build, name)

    def require_server(self) -> None:
        """Raise NotServed unless a server answers, and serves this repository."""
        if not self.triton.answers():
            raise NotServed(f"no Triton answers at {self.triton.address}; {self._advice}")
        _ = self.active_name
        probe = self.served.put_probe()
        try:
            if probe not in self.triton.states():
                raise NotServed(f"the Triton at {self.triton.address} does not serve {self.served.folder}")
        finally:
            self.served.remove(probe)

    def point(self, alias: str, release: Release) -> None:
        """Have the ensemble `alias` be that of `release`, whose stages are loaded, and see that it is."""
        with self.step("repoint"):
            self.served.put_ensemble(release, alias)
        with self.step("switch"):
            self.triton.load(alias)
        with self.step("canary"):
            for _ in range(CANARIES):
                found = self.triton.releases_answering(alias)
                if found != {release.name}:
                    answered = " and ".join(sorted(found)) or "nobody"
                    raise CheckFailed(f"{alias} was answered by {answered} instead of {release.name}")

    def load_standalone_models(self, release: Release) -> None:
        """Have the models that write run by the code of `release`; they serve on while they load."""
        for model in self.served.put_standalone_models(release):
            self.triton.load(model)

    def drop_unneeded(self) -> None:
        """Drain, unload and remove every release that is neither active nor an arm's."""
        found = self.served.releases | {release_in(model) for model in self._loaded()}
        unneeded = sorted(name for name in found if name and name not in self.needed)
        if not unneeded:
            return
        with self.step("drain"):
            for name in unneeded:
                if not self.triton.drain(self._models_of(name)):
                    self.step.say(f"release {name} is still asked for by its own name; it goes all the same")
        with self.step("unload"):
            for name in unneeded:
                self.drop(name)

    def drop(self, release: str) -> None:
        """Unload and remove the models of the release called `release` at once."""
        self.remove(self._models_of(release))

    def remove(self, models: Sequence[str]) -> None:
        """Unload `models`, in this order, and remove their folders."""
        loaded = self._loaded()
        self.triton.unload(model for model in models if model in loaded)
        self.served.remove(*models)

    def repair(self) -> None:
        """Finish or undo what a killed process left: afterwards disk and server are at one, and tidy."""
        with self.step("repair"):
            self.served.tidy()
            self._repair_recommend()
            for arm, name in self.served.arms.items():
                if self.triton.releases_answering(alias_of(arm)) != {name}:
                    self.triton.load(alias_of(arm))
            changed = self.served.put_standalone_models(self.active)
            for model in self.served.standalone:
                if model in changed or model not in self._loaded():
                    self.triton.load(model)
            known = read_activations(self.build)
            last = known[-1].release if known else None
            note_activation(self.build, Activation(self.active_name, last, "repair"))
        self.drop_unneeded()

    def _repair_recommend(self) -> None:
        """Have `recommend` answer as its configuration says; where it cannot, say there what answers."""
        found = self.triton.releases_answering(RECOMMEND.name)
        if found == {self.active_name}:
            return
        self.step.say(f"finishing a switch to {self.active_name} that was interrupted")
        try:
            # Its configuration was written when everything else had been checked.
            self.triton.load(RECOMMEND.name)
            if self.triton.releases_answering(RECOMMEND.name) == {self.active_name}:
                return
            problem = f"{RECOMMEND.name} is not answered by {self.active_name}"
        except InferenceServerException as error:
            problem = error.message()
        if len(found) != 1:
            raise CheckFailed(problem)
        old = self.open(found.pop())
        self.step.say(f"{problem}; going back to {old.name}")
        self.served.put_ensemble(old, RECOMMEND.name)
        self.triton.load(RECOMMEND.name)

    def _models_of(self, release: str) -> list[str]:
        """A release's own models, on disk or loaded, its ensemble first."""
        names = {path.name for path in self.served.folder.iterdir()} | self._loaded()
        ours = [name for name in names if release_in(name) == release]
        return sorted(ours, key=lambda name: (not name.startswith(RECOMMEND.name), name))

    def _loaded(self) -> set[str]:
        """The models that are loaded or about to be."""
        return {name for name, state in self.triton.states().items() if state not in NOT_LOADED}

    @property
    def _advice(self) -> str:
        return f"start one with: python tools/serve.py --build {self.build}"
