"""Which steps a release consists of, from a user's features to the page, and what travels between them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from tritonrec_client.contract import STAGES, Model, Sizes, Tensor

from python_backend.release import Release

PLAN = "plan.json"
"""The file among a release's artifacts; without one its steps are the contract's stages."""


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor that a step takes or gives.

    `tensor` is what the step itself calls it, `name` what it is called on the way from step to step; `dtype`
    is Triton's, `width` that of one row.
    """

    tensor: str
    name: str
    dtype: str
    width: int

    @classmethod
    def of(cls, tensor: Tensor, sizes: Sizes, name: str | None = None) -> Self:
        """The port of the contract's `tensor`; on the way it is called `name`, by default the same."""
        return cls(tensor.name, name or tensor.name, tensor.dtype, tensor.resolve(sizes))


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a model of its own in Triton, or a part of the model `pipeline`.

    `model` is its name without the release, `stage` whose code it runs, `folder` where its files are among
    the release's artifacts, `candidates` how many of them it has to do with.
    """

    model: str
    stage: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    candidates: int
    folder: str = "."

    @classmethod
    def of(cls, model: Model, sizes: Sizes) -> Self:
        """A model of the contract as a step, every tensor under its own name."""
        inputs = tuple(Port.of(tensor, sizes) for tensor in model.inputs)
        outputs = tuple(Port.of(tensor, sizes) for tensor in model.outputs)
        return cls(model.name, model.name, inputs, outputs, sizes.candidates)

    @property
    def contract(self) -> Model:
        """What the step's model takes and gives, in its own words."""
        inputs, outputs = (
            tuple(Tensor(port.tensor, port.dtype, port.width) for port in ports)
            for ports in (self.inputs, self.outputs)
        )
        return Model(self.model, inputs, outputs)

    def release(self, release: Release) -> Release:
        """`release` as this step sees it: its own files, and as many candidates as it has to do with."""
        results = min(release.sizes.results, self.candidates)
        sizes = replace(release.sizes, candidates=self.candidates, results=results)
        return Release(release.name, sizes, release.path, self.folder)


@dataclass(frozen=True, slots=True)
class Plan:
    """A release's steps, each after those that it takes something from."""

    steps: tuple[Step, ...]

    @classmethod
    def of(cls, release: Release) -> Self:
        """What the release says. Raises ValueError where its file cannot be read."""
        path = release.path / "artifacts" / PLAN
        if not path.is_file():
            return cls.default(release.sizes)
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a plan ({error})") from error

    @classmethod
    def default(cls, sizes: Sizes) -> Self:
        """The contract's stages, one after the other."""
        return cls(tuple(Step.of(stage, sizes) for stage in STAGES))

    def step(self, model: str) -> Step | None:
        """The step whose model is called `model`, if there is one."""
        return next((step for step in self.steps if step.model == model), None)

    def to_json(self) -> str:
        return json.dumps([asdict(step) for step in self.steps], indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError."""
        return cls(tuple(_step(content) for content in json.loads(text)))


def _step(content: Mapping[str, Any]) -> Step:
    ports = {key: tuple(Port(**port) for port in content[key]) for key in ("inputs", "outputs")}
    return Step(**{**content, **ports})
