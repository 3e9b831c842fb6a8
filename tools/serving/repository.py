"""Model repositories: a release's own models, and the repository that Triton serves.

The committed `model_repository/` is the source. A release carries a copy with its build's widths. The served
repository carries

- per release its ensemble and the models that it consists of in any profile, the release in every model's
  name: ``recommend_<release>``, ``pipeline_<release>``, ``retrieve_<release>``, …;
- `recommend`, an ensemble over the active release's stages, and ``recommend_<arm>`` for an experiment's arms;
- the models that stand alone (`record_event`, `forget_user`), run by the active release's code.

Nothing here edits a committed file.
"""

from __future__ import annotations

import filecmp
import json
import py_compile
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonrec_client.contract import MODELS, RECOMMEND, Sizes
from tritonrec_client.experiment import arm_model

from python_backend.plan import Plan
from python_backend.release import Release
from tools.config.tuning import TUNING, Tuning, dump_tuning, load_tuning
from tools.plans.placing import CONFIG as PLAN_CONFIG
from tools.plans.placing import NOTE as PLAN_NOTE
from tools.plans.placing import PlanSource
from tools.serving.device import place
from tools.serving.model_files import CONFIG, RepositoryError, config_files, read_config, write_config
from tools.serving.plan_models import write_plan_models
from tools.serving.tuning import tune_config

SOURCE = Path(__file__).parents[2] / "model_repository"
"""The committed model repository."""

OVERRIDES = "overrides.json"
RELEASE_MODEL = re.compile(r"(?P<model>[a-z0-9_]+)_(?P<release>[0-9a-f]{12})")


def write_release_models(
    sizes: Sizes, folder: Path, *, plan: Plan | None = None, source: Path = SOURCE
) -> None:
    """Copy the models of `source` to `folder`, with the widths of `sizes` in every configuration.

    `folder` must not exist yet. The widths come from the contract: of inputs, outputs and warm-up samples. A
    `plan` that is not the contract's stages has models of its own steps, and their ensemble.
    """
    folder.mkdir(parents=True)
    for name, model in MODELS.items():
        shutil.copytree(
            source / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".gitkeep")
        )
        (folder / name / "1").mkdir(exist_ok=True)
        widths = {tensor.name: tensor.resolve(sizes) for tensor in (*model.inputs, *model.outputs)}
        for path in config_files(folder / name):
            config = read_config(path)
            tensors = [(tensor.name, tensor) for tensor in (*config.input, *config.output)]
            for warmup in config.model_warmup:
                tensors += warmup.inputs.items()
            for tensor_name, tensor in tensors:
                if tensor_name not in widths:
                    raise RepositoryError(f"{path}: {tensor_name} is not a tensor of {name} in the contract")
                tensor.dims[:] = [widths[tensor_name]]
            write_config(config, path)
    if plan is not None and plan != Plan.default(sizes):
        write_plan_models(plan, folder, source=source)


def write_served_repository(
    releases: Sequence[Path],
    active: str,
    folder: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    tuning: Tuning | None = None,
    arms: Mapping[str, str] | None = None,
    plans: PlanSource | None = None,
) -> None:
    """Write the repository that serves `releases`, with `recommend` pointing at the release named `active`.

    `releases` are release folders, `overrides` values for parameters of the models' configurations such as
    ``store_url`` or ``rules_file``, `tuning` how models are run instead of as their releases say, `arms` the
    releases of an experiment's arms by the arms' names, `plans` where the profile gpu finds TensorRT's plans,
    where that is to be served. A model of `tuning` that a release does not have,
    because it is older, is passed over. An existing `folder` is brought up to date in an order that a running
    server survives: new models appear whole, `recommend` changes in one step, and last the models of releases
    and arms that are no longer listed go. Nothing else in `folder` is touched; where the active release has
    no `record_event`, because it is older, the one that is there stays.

    Raises RepositoryError for an unknown release, an arm's name that is not allowed or an override that no
    model knows, before anything is written.
    """
    opened = {release.name: release for release in (Release.open(path.resolve()) for path in releases)}
    aliases = {RECOMMEND.name: active, **{alias_of(arm): name for arm, name in (arms or {}).items()}}
    for alias, name in aliases.items():
        if name not in opened:
            known = ", ".join(opened) or "none"
            raise RepositoryError(f"{alias}: release {name} is not among the releases to serve: {known}")
    parameters = set().union(*(_parameters(release) for release in opened.values()))
    if unknown := ", ".join(sorted((overrides or {}).keys() - parameters)):
        raise RepositoryError(f"no model of {', '.join(opened)} has a parameter {unknown}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        for release in opened.values():
            write_release(release, fresh, overrides or {}, tuning or {}, plans)
        for alias, name in aliases.items():
            write_ensemble(opened[name], alias, fresh)
        alone = standalone_models_of(opened[active])
        write_standalone_models(opened[active], alone, fresh, overrides or {}, tuning or {})
        write_overrides(overrides or {}, fresh)
        write_tuning(tuning or {}, fresh)
        if plans is not None:
            plans.write(fresh)
        fresh.chmod(0o755)
        if not folder.exists():
            fresh.rename(folder)
            return
        wanted = {path.name for path in fresh.iterdir()}
        for path in sorted(fresh.iterdir(), key=lambda path: (path.name == RECOMMEND.name, path.name)):
            put_in_place(path, folder / path.name)
    if plans is None:
        (folder / PLAN_NOTE).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name not in wanted and (RELEASE_MODEL.fullmatch(path.name) or arm_of(path.name)):
            shutil.rmtree(path)


def alias_of(arm: str) -> str:
    """The name of an arm's ensemble. Raises RepositoryError where `arm` is not allowed as a name."""
    try:
        return arm_model(arm)
    except ValueError as error:
        raise RepositoryError(str(error)) from None


def arm_of(alias: str) -> str | None:
    """The arm whose ensemble is called `alias`; None where that is not the name of an arm's ensemble."""
    prefix, _, arm = alias.partition("_")
    try:
        return arm if prefix == RECOMMEND.name and alias_of(arm) else None
    except RepositoryError:
        return None


def stages_of(release: Release) -> list[str]:
    """The models that a release's ensemble consists of, in any profile; older releases may have others."""
    profiles = config_files(release.path / "models" / RECOMMEND.name)
    steps = [step for path in profiles for step in read_config(path).ensemble_scheduling.step]
    return list(dict.fromkeys(step.model_name for step in steps))


def entry_models(folder: Path) -> list[str]:
    """The models in the served repository `folder` that callers ask; with them come those they consist of."""
    names = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
    matches = {name: RELEASE_MODEL.fullmatch(name) for name in names}
    return [name for name, match in matches.items() if match is None or match["model"] == RECOMMEND.name]


def standalone_models_of(release: Release) -> list[str]:
    """The names of a release's models that are no part of its ensemble: those that write."""
    inside = {RECOMMEND.name, *stages_of(release)}
    names = sorted(path.parent.name for path in (release.path / "models").glob(f"*/{CONFIG}"))
    return [name for name in names if name not in inside]


def _parameters(release: Release) -> set[str]:
    """The names of the parameters of all of a release's models."""
    models = (*stages_of(release), *standalone_models_of(release))
    configs = (read_config(release.path / "models" / model / CONFIG) for model in models)
    return {name for config in configs for name in config.parameters}


def write_overrides(overrides: Mapping[str, str], folder: Path) -> None:
    """Keep `overrides` in `folder`, for the releases that are activated while it is served."""
    (folder / OVERRIDES).write_text(json.dumps(dict(overrides), indent=2) + "\n", encoding="utf-8")


def read_overrides(folder: Path) -> dict[str, str]:
    """What the models in `folder` were told instead of what their releases say."""
    path = folder / OVERRIDES
    content: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return content


def write_tuning(tuning: Tuning, folder: Path) -> None:
    """Keep `tuning` in `folder`, for the releases that are activated while it is served."""
    note = "How models are run here, instead of as their releases say; written by tools/serve.py."
    (folder / TUNING).write_text(dump_tuning(tuning, note), encoding="utf-8")


def read_tuning(folder: Path) -> Tuning:
    """How models in `folder` are run instead of as their releases say. Raises ConfigError."""
    path = folder / TUNING
    return load_tuning(path) if path.is_file() else {}


def write_release(
    release: Release,
    folder: Path,
    overrides: Mapping[str, str],
    tuning: Tuning,
    plans: PlanSource | None = None,
) -> None:
    """Write a release's stages and its ensemble into `folder`, under the release's own names.

    Each model gets those of `overrides` that it has a parameter for, and is run as `tuning` says; those that
    TensorRT computes get their `plans`. Raises PlanUnfit where there is none for a card that is to serve.
    """
    for stage in stages_of(release):
        _write_model(release, stage, f"{stage}_{release.name}", folder, overrides, tuning, plans)
    write_ensemble(release, f"{RECOMMEND.name}_{release.name}", folder)


def write_ensemble(release: Release, name: str, folder: Path) -> None:
    """Write the release's ensemble into `folder` as `name`; its steps are the release's own stages."""
    for path, config in _copy_model(release, RECOMMEND.name, folder / name):
        config.name = name
        for step in config.ensemble_scheduling.step:
            step.model_name = f"{step.model_name}_{release.name}"
        write_config(config, path)


def write_standalone_models(
    release: Release, models: Sequence[str], folder: Path, overrides: Mapping[str, str], tuning: Tuning
) -> None:
    """Write those `models` of `release` that are no part of its ensemble, under their own names."""
    for model in models:
        _write_model(release, model, model, folder, overrides, tuning)


def _write_model(
    release: Release,
    model: str,
    name: str,
    folder: Path,
    overrides: Mapping[str, str],
    tuning: Tuning,
    plans: PlanSource | None = None,
) -> None:
    values = {**overrides, "release_dir": str(release.path)}
    for path, config in _copy_model(release, model, folder / name):
        config.name = name
        for key in values.keys() & config.parameters.keys():
            config.parameters[key].string_value = values[key]
        place(config)
        if plans is not None and path == folder / name / PLAN_CONFIG:
            plans.place(release, model, folder / name, config)
        # A plan on a card has no threads to tune, and one instance.
        if model in tuning and config.backend == "python":
            tune_config(config, tuning[model])
        write_config(config, path)


def _copy_model(release: Release, model: str, target: Path) -> list[tuple[Path, ModelConfig]]:
    """Copy one of the release's models to `target`; each configuration there, with its content to change."""
    source = release.path / "models" / model
    configs = [(target / path.relative_to(source), read_config(path)) for path in config_files(source)]
    shutil.copytree(source, target)
    for path in target.glob("*/*.py"):
        # Otherwise the stub would write it, and Triton would take the model for changed at its next load.
        # The name in it is only a note, but would differ each time.
        py_compile.compile(
            str(path),
            dfile=f"{target.name}/{path.relative_to(target)}",
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )
    return configs


def put_in_place(source: Path, target: Path) -> bool:
    """Move a file, or a model's folder file by file, to `target`; whether anything changed there.

    A file that is the same stays: Triton takes a newer file for a changed model and starts it anew.
    """
    if source.is_file() or not target.exists():
        source.replace(target)
        return True
    changed = False
    for path in sorted(source.rglob("*")):
        there = target / path.relative_to(source)
        if path.is_file() and not (there.is_file() and filecmp.cmp(path, there, shallow=False)):
            there.parent.mkdir(parents=True, exist_ok=True)
            path.replace(there)
            changed = True
    return changed
