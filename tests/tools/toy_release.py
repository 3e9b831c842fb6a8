"""A release whose stages need no model, to try real servers with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tritonrec_client.contract import FEEDBACK, STAGES, Sizes

from tools.serving.repository import write_release_models

ROOT = Path(__file__).parents[2]
SIZES = Sizes(candidates=50, results=5, history=10, seen=64, session=3, user_features=2)

RELEASE = "0123456789ab"
FAULT = 666
"""The user at whom the first stage breaks down."""

STAGE = '''
"""The stage {name}, as simple as the contract allows: the page is items 1, 2, 3, …"""

import numpy as np
from tritonrec_client.contract import MODELS

from python_backend.batch import NUMPY_DTYPES
from python_backend.stages.base import InvalidRequest, Stage


class {title}(Stage):
    name = "{name}"

    @classmethod
    def load(cls, release, options):
        if options.get("rules_file") == "broken":
            raise ValueError("the rules are broken")
        stage = cls()
        stage.sizes = release.sizes
        return stage

    def check(self, inputs):
        if "user_id" in inputs and (inputs["user_id"] < -1).any():
            raise InvalidRequest("user_id", int(inputs["user_id"].min()), "-1 or an id of 0 or more")

    def __call__(self, inputs):
        if "user_id" in inputs and (inputs["user_id"] == {fault}).any():
            raise RuntimeError("a fault of the stage")
        rows = len(next(iter(inputs.values())))
        outputs = {{
            tensor.name: np.zeros((rows, tensor.resolve(self.sizes)), NUMPY_DTYPES[tensor.dtype])
            for tensor in MODELS[self.name].outputs[:-1]
        }}
        if "candidate" in outputs:
            outputs["candidate"][:] = np.arange(1, self.sizes.candidates + 1)
        if "item_id" in outputs:
            outputs["item_id"][:] = inputs["candidate"][:, : self.sizes.results]
            outputs["propensity"][:] = 1
        return outputs
'''


def make_release(build: Path, name: str = RELEASE) -> Path:
    """A finished release called `name` in the build folder `build`; its path."""
    path = build / "releases" / name
    path.mkdir(parents=True)
    (path / "manifest.json").write_text(json.dumps({"release": name, "sizes": SIZES.to_dict()}))
    (path / "artifacts").mkdir()
    write_release_models(SIZES, path / "models")
    shutil.copytree(ROOT / "clients" / "tritonrec_client", path / "code" / "tritonrec_client")
    code = path / "code" / "python_backend"
    shutil.copytree(ROOT / "python_backend", code, ignore=shutil.ignore_patterns("__pycache__", "stores"))
    classes = {}
    for stage in (*STAGES, *FEEDBACK):
        title = stage.name.title().replace("_", "")
        classes[stage.name] = f"python_backend.stages.{stage.name}:{title}"
        (code / "stages" / f"{stage.name}.py").write_text(
            STAGE.format(name=stage.name, title=title, fault=FAULT)
        )
    with (code / "pipeline.py").open("a") as pipeline:
        pipeline.write(f"\n\nSTAGE_CLASSES.update({json.dumps(classes)})\n")
    return path
