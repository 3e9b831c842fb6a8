"""From the channels and rankers of a configuration to the steps of a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tritonrec_client.contract import (
    CANDIDATE,
    CANDIDATE_CHANNEL,
    HISTORY,
    MODELS,
    RANK_SCORE,
    RETRIEVAL_SCORE,
    SEEN,
    USER_FEATURES,
    Sizes,
    Tensor,
    release_tensor,
)

from python_backend.plan import Plan, Port, Step
from tools.config.build import BuildConfig
from tools.config.slots import name_of

KEPT = "_kept"
"""What the names of tensors end with that a light ranker's cut left over."""


def plan_of(config: BuildConfig) -> Plan:
    """The steps of a release that `config` builds: without channels and rankers the contract's stages."""
    sizes = config.sizes
    default = Plan.default(sizes)
    if not config.channels and not config.rankers:
        return default
    lookup, retrieve, _, rerank = default.steps
    steps = [lookup]
    channels = {name_of(channel): channel.quota for channel in config.channels}
    steps += _retrieval(channels, sizes) if channels else [retrieve]
    list_ = [CANDIDATE, RETRIEVAL_SCORE, *([CANDIDATE_CHANNEL] if channels else [])]
    ranking, last = _ranking(config, list_, sizes)
    steps += ranking
    found = _Found(last, KEPT if last != sizes.candidates else "")
    inputs = [
        found.port(tensor) if tensor in list_ else Port.of(tensor, sizes)
        for tensor in MODELS["rerank"].inputs
    ]
    inputs = [found.score if port.tensor == RANK_SCORE.name else port for port in inputs]
    if channels:
        inputs.append(found.port(CANDIDATE_CHANNEL))
    steps.append(Step("rerank", "rerank", tuple(inputs), rerank.outputs, last))
    return Plan(tuple(steps))


def ranked_sizes(plan: Plan, sizes: Sizes) -> Sizes:
    """`sizes` as the last rankers of `plan` see them: a light one may have left fewer candidates."""
    return replace(sizes, candidates=plan.steps[-1].candidates)


class _Found:
    """Candidates on their way, `width` of them; a cut list has other names than the whole one."""

    def __init__(self, width: int, suffix: str = "") -> None:
        self.width, self.suffix = width, suffix

    def port(self, tensor: Tensor) -> Port:
        return Port(tensor.name, tensor.name + self.suffix, tensor.dtype, self.width)

    @property
    def score(self) -> Port:
        """What the last ranker says of them."""
        return Port(RANK_SCORE.name, RANK_SCORE.name, RANK_SCORE.dtype, self.width)


def _retrieval(quotas: dict[str, int], sizes: Sizes) -> list[Step]:
    """A step for each channel, by its name and quota, and the merge of their lists."""
    steps, lists = [], []
    for name, quota in quotas.items():
        found = [
            Port(f"{tensor.name}_{name}", f"{tensor.name}_{name}", tensor.dtype, quota)
            for tensor in (CANDIDATE, RETRIEVAL_SCORE)
        ]
        lists += found
        outputs = [
            Port(tensor.name, port.name, port.dtype, quota)
            for tensor, port in zip((CANDIDATE, RETRIEVAL_SCORE), found, strict=True)
        ]
        model = f"retrieve_{name}"
        inputs = tuple(Port.of(tensor, sizes) for tensor in (USER_FEATURES, HISTORY, SEEN))
        steps.append(Step(model, "retrieve", inputs, (*outputs, _release(model)), quota, model))
    merged = [Port.of(tensor, sizes) for tensor in (CANDIDATE, RETRIEVAL_SCORE, CANDIDATE_CHANNEL)]
    release = _release("merge", "retrieve")
    steps.append(Step("merge", "merge", tuple(lists), (*merged, release), sizes.candidates, "merge"))
    return steps


def _ranking(config: BuildConfig, list_: Sequence[Tensor], sizes: Sizes) -> tuple[list[Step], int]:
    """The rankers' steps, and how many candidates the last of them score."""
    if not config.rankers:
        return [Step.of(MODELS["rank"], sizes)], sizes.candidates
    light = {name_of(ranker): ranker.keep for ranker in config.rankers if ranker.keep is not None}
    heavy = [name_of(ranker) for ranker in config.rankers if ranker.keep is None]
    whole = _Found(sizes.candidates)
    if not light:
        return _scores(heavy, whole, sizes, "blend", RANK_SCORE.name, "rank"), whole.width
    first = "rank_score_light"
    steps = _scores(list(light), whole, sizes, "blend_light", first, "light")
    kept = _Found(next(iter(light.values())), KEPT)
    inputs = [whole.port(tensor) for tensor in list_]
    inputs.append(Port(RANK_SCORE.name, first, RANK_SCORE.dtype, whole.width))
    outputs = [kept.port(tensor) for tensor in list_]
    steps.append(Step("cut", "cut", tuple(inputs), (*outputs, _release("cut")), kept.width))
    return [*steps, *_scores(heavy, kept, sizes, "blend", RANK_SCORE.name, "rank")], kept.width


def _scores(
    names: Sequence[str], found: _Found, sizes: Sizes, blend: str, score: str, release: str
) -> list[Step]:
    """A step for each of the rankers `names`, which score what was `found`; several are blended into `score`.

    The last of them says its release as ``<release>_release``.
    """
    steps = []
    for name in names:
        alone = len(names) == 1
        model = f"rank_{name}"
        inputs = (
            *(Port.of(tensor, sizes) for tensor in (USER_FEATURES, HISTORY)),
            *(found.port(tensor) for tensor in (CANDIDATE, RETRIEVAL_SCORE)),
        )
        output = Port(RANK_SCORE.name, score if alone else f"{score}_{name}", RANK_SCORE.dtype, found.width)
        said = _release(model, release if alone else None)
        steps.append(Step(model, "rank", inputs, (output, said), found.width, model))
    if len(names) > 1:
        inputs = (
            found.port(CANDIDATE),
            *(
                Port(f"{RANK_SCORE.name}_{name}", f"{score}_{name}", RANK_SCORE.dtype, found.width)
                for name in names
            ),
        )
        output = Port(RANK_SCORE.name, score, RANK_SCORE.dtype, found.width)
        steps.append(Step(blend, "blend", inputs, (output, _release(blend, release)), found.width, blend))
    return steps


def _release(model: str, name: str | None = None) -> Port:
    """What the step `model` says its release by; on the way it is that of `name`."""
    stage = model.split("_")[0]
    tensor = release_tensor(stage)
    return Port(tensor.name, release_tensor(name or model).name, tensor.dtype, 1)
