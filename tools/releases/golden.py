"""Golden requests: what a release answered when it was built, to be asked again before it serves.

The requests are those of anonymous users with a few items in their session, so that the answers depend on
nothing but the release: on no store, and on nobody's history. They travel with the release in ``golden.npz``,
with the answer of every stage. Where stages are models of their own, each is compared on the stored answers
of those before it, so that the one that changed is named; the ensemble is compared from end to end.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import (
    ANONYMOUS,
    DEFAULT_DIVERSITY,
    PADDING_ID,
    RECOMMEND,
    RETRIEVE_AND_RANK,
    Reason,
    Status,
    names_release,
    release_from_wire,
    release_to_wire,
)

from python_backend.batch import NUMPY_DTYPES
from python_backend.item_index import PADDING_SCORE
from python_backend.plan import Plan, Step
from python_backend.release import Release
from tools.checks import TOLERANCE, CheckFailed, without_drawn
from tools.data.interactions import Interactions
from tools.evaluation.served import Tensors, infer

GOLDEN = "golden.npz"
PATIENCE = 60.0
"""Seconds that one answer may take: a stage that hangs must not hold up an activation for ever."""

LEAST_SHARED = 0.8
"""The share of a list's items that must be the same where a card computes it, which rounds to half precision
or less: then near ties fall otherwise, and diversity carries that on. Measured on MovieLens-100K: the worst
page of 16 keeps 0.95 of its items, all of them 0.99, in FP16 as with INT8 weights."""
LEAST_ALIKE = 0.05
"""How far a score of the ranker may be off there, as a share of the greatest in its row."""

FREQUENT = 10
"""A pair is made of items that at least so many users have met; it is nobody's history."""

_LISTS = {"candidate": "retrieval_score", "item_id": "score"}
"""Lists that are sorted by a score, and that score."""
_OF_ITEMS = ("candidate_channel", "reason", "channel", "propensity")
"""What goes with the items of a list."""
_OTHER_ELSEWHERE = "because"
"""Not compared: two items of a history may be as near to a third, and processors round otherwise."""


class NotServing(CheckFailed):
    """Nothing answers, or another release does: worth asking again while a cluster is still rolling."""


def golden_sessions(interactions: Interactions, count: int = 8, *, longest: int = 2) -> list[list[int]]:
    """Up to `count` sessions of wire ids to ask for: nothing, single items and pairs of popular ones.

    Single items range from the most popular to the least; pairs are of items that many users have met. What
    an actual person did is in none of them, because they are shipped. `longest` is the most items that a
    session may have, 1 or 2. The same interactions give the same sessions.
    """
    popularity, wire_ids = interactions.popularity()[1:], interactions.item_ids[1:]
    order = np.lexsort((wire_ids, -popularity))
    frequent = int(np.count_nonzero(popularity >= FREQUENT)) if longest > 1 else 0
    pairs = min(max(count - 1, 0) // 2, frequent // 2)
    singles = min(count - 1 - pairs, len(order))
    places = np.unique(np.linspace(0, len(order) - 1, singles).astype(int)) if singles > 0 else []
    sessions = [[], *([int(wire_ids[order[place]])] for place in places)]
    sessions += [wire_ids[order[2 * pair : 2 * pair + 2]].tolist() for pair in range(pairs)]
    return sessions


def write_golden(
    release_folder: Path,
    client: grpcclient.InferenceServerClient,
    release: Release,
    sessions: Sequence[Sequence[int]],
) -> None:
    """Ask the server of `client` for pages of `release` and keep all answers in ``golden.npz``.

    `sessions` are lists of wire ids, of which at least one is empty; each is asked for at diversity 0 and at
    the default. Raises ValueError for sessions that cannot be asked for and CheckFailed where a stage does
    not answer, or its page cannot be shown.
    """
    tensors = _requests(sessions, release)
    kept = {f"inputs/{name}": array for name, array in tensors.items()}
    known = dict(tensors)
    for step in _answers(release):
        answer = _ask(client, step, release, known)
        known |= answer if step.model != RECOMMEND.name else {}
        kept |= {f"{step.model}/{name}": array for name, array in answer.items()}
        if "item_id" in answer:
            _require_pages(step.model, answer)
    np.savez_compressed(release_folder / GOLDEN, **kept)


def check_golden(
    client: grpcclient.InferenceServerClient, release: Release, *, with_rules: bool = False
) -> None:
    """Ask the server of `client` again what ``golden.npz`` of `release` holds, and compare.

    Scores may differ by rounding (`tools.checks.TOLERANCE`), since another processor may round otherwise, and
    items whose scores are that close may swap their places; everything else must be the same. With
    `with_rules`, rules of an operator are in force, which change pages: these are then only checked for being
    well-formed. Places that are drawn at random are left out. Where a card computes the lists, most of their
    items must be the same (`LEAST_SHARED`). Raises CheckFailed, which names the model, the request and what
    differs.
    """
    kept = _read(release)
    require = _require_alike if _computed_on_a_card(client, release) else _require_same
    inputs = {name: kept[f"inputs/{name}"] for name in (tensor.name for tensor in RECOMMEND.inputs)}
    known = dict(inputs)
    for step in _answers(release):
        expected = {port.name: kept[f"{step.model}/{port.name}"] for port in step.outputs}
        whole = step.model == RECOMMEND.name
        if not whole and not client.is_model_ready(f"{step.model}_{release.name}"):
            known |= expected  # the profile has no model for this step alone
            continue
        found = _ask(client, step, release, inputs if whole else known)
        if "item_id" in expected:
            _require_pages(step.model, found)
        if "item_id" not in expected or not with_rules:
            require(step.model, inputs, without_drawn(expected), without_drawn(found))
        known |= expected


def check_golden_pages(
    client: grpcclient.InferenceServerClient, release: Release, *, with_rules: bool = False
) -> None:
    """Ask `recommend` for the pages in ``golden.npz`` of `release`, as clients do, and compare.

    As `check_golden`, but from end to end only and by the name that clients use, so that it may be asked
    through a Service. Raises NotServing where `release` is not what answers, and CheckFailed where it answers
    otherwise.
    """
    kept = _read(release)
    inputs = {tensor.name: kept[f"inputs/{tensor.name}"] for tensor in RECOMMEND.inputs}
    expected = {tensor.name: kept[f"{RECOMMEND.name}/{tensor.name}"] for tensor in RECOMMEND.outputs}
    found = _ask(client, Step.of(RECOMMEND, release.sizes), release, inputs, alias=True)
    _require_pages(RECOMMEND.name, found)
    if not with_rules:
        require = _require_alike if _computed_on_a_card(client, release) else _require_same
        require(RECOMMEND.name, inputs, without_drawn(expected), without_drawn(found))


def _answers(release: Release) -> list[Step]:
    """What is asked: every step, and all of them together."""
    return [*Plan.of(release).steps, Step.of(RECOMMEND, release.sizes)]


def _requests(sessions: Sequence[Sequence[int]], release: Release) -> Tensors:
    """The ensemble's inputs: every session at diversity 0, then every session at the default."""
    width = release.sizes.session
    if not any(len(session) == 0 for session in sessions):
        raise ValueError("no session is empty; golden requests need one without items")
    for session in sessions:
        if len(session) > width:
            raise ValueError(f"a session has {len(session)} items; a request holds at most {width}")
        if any(item < 0 for item in session):
            raise ValueError(f"a session holds {min(session)}; ids of items are at least 0")
    items = np.full((len(sessions), width), PADDING_ID, dtype=np.int64)
    for row, session in enumerate(sessions):
        items[row, : len(session)] = session
    diversity = np.repeat(np.array([0, DEFAULT_DIVERSITY], dtype=np.float32), len(sessions))[:, None]
    return {
        "user_id": np.full((2 * len(sessions), 1), ANONYMOUS, dtype=np.int64),
        "session_items": np.concatenate([items, items]),
        "diversity": diversity,
    }


def _ask(
    client: grpcclient.InferenceServerClient,
    step: Step,
    release: Release,
    tensors: Mapping[str, NDArray[Any]],
    *,
    alias: bool = False,
) -> Tensors:
    """What the model of `release`'s `step` answers, request by request so that batching cannot matter.

    With `alias` it is asked by its plain name, under which another release may serve.
    """
    rows = len(tensors["user_id"])
    parts = []
    for row in range(rows):
        one = {name: array[row : row + 1] for name, array in tensors.items()}
        try:
            name = None if alias else release.name
            parts.append(infer(client, step, name, one, timeout=PATIENCE))
        except InferenceServerException as error:
            where = f"golden requests: {step.model}, {_described(tensors, row)}"
            raise NotServing(f"{where}: no answer: {error.message()}") from error
        _require_form(step, release, parts[-1], _described(tensors, row))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _require_form(step: Step, release: Release, answer: Mapping[str, Any], request: str) -> None:
    """Raise CheckFailed unless `answer` has the step's tensors, and they are those of `release`."""
    # Of another release, nothing else would be as expected either.
    for port in sorted(step.outputs, key=lambda port: not names_release(port.name)):
        where = f"golden requests: {step.model}, {request}: {port.name}"
        array = answer[port.name]
        shape, dtype = (1, port.width), NUMPY_DTYPES[port.dtype]
        if array is None:
            raise CheckFailed(f"{where} is missing from the answer")
        if array.shape != shape or array.dtype != dtype:
            raise CheckFailed(f"{where} is {array.dtype} {list(array.shape)}; expected {dtype} {list(shape)}")
        if names_release(port.name) and array.item() != release_to_wire(release.name):
            raise NotServing(f"{where} is {release_from_wire(array.item())}; expected {release.name}")


def _require_pages(model: str, answer: Tensors) -> None:
    """Raise CheckFailed unless every page of `answer` could be shown to somebody."""
    tensors = (answer[name] for name in ("item_id", "score", "reason", "propensity", "status"))
    for number, (items, score, reason, propensity, status) in enumerate(zip(*tensors, strict=True)):
        shown = items != PADDING_ID
        problem = None
        if not shown.any():
            problem = "the page is empty"
        elif (items < PADDING_ID).any() or len(np.unique(items[shown])) < shown.sum():
            problem = "item_id holds an item twice, or an id below -1"
        elif (~shown[:-1] & shown[1:]).any():
            problem = "item_id has padding before an item"
        elif not np.all((score >= 0) & (score <= 1 + TOLERANCE)) or score[~shown].any():
            problem = "score is outside 0 to 1, or above 0 where there is no item"
        elif not np.isin(reason, list(Reason)).all() or reason[~shown].any():
            problem = "reason is not one of the contract's, or given where there is no item"
        elif not np.all((propensity > 0) & (propensity <= 1)):
            problem = "propensity is not above 0, or above 1"
        elif status[0] & ~sum(Status) or bool(status[0] & Status.SHORT_PAGE) == bool(shown.all()):
            problem = f"status is {status[0]}, with {shown.sum()} of {len(shown)} places filled"
        if problem:
            raise CheckFailed(f"golden requests: {model}, request {number + 1}: {problem}")


def _require_same(model: str, inputs: Tensors, expected: Tensors, found: Tensors) -> None:
    """Raise CheckFailed unless `model` answered every one of the requests `inputs` as it did before."""
    for row in range(len(inputs["user_id"])):
        problem = _difference(expected, found, row)
        if problem:
            raise CheckFailed(f"golden requests: {model}, {_described(inputs, row)}: {problem}")


def _computed_on_a_card(client: grpcclient.InferenceServerClient, release: Release) -> bool:
    """Whether a card ranks what `release` recommends, as TensorRT's plan or by PyTorch."""
    rank = f"rank_{release.name}"
    if client.is_model_ready(f"{RETRIEVE_AND_RANK.name}_{release.name}"):
        return True
    return client.is_model_ready(rank) and client.get_model_metadata(rank).platform == "tensorrt_plan"


def _require_alike(model: str, inputs: Tensors, expected: Tensors, found: Tensors) -> None:
    """Raise CheckFailed unless `model` answered every one of the requests `inputs` much as it did before."""
    for row in range(len(inputs["user_id"])):
        problem = unlikeness(
            {name: array[row] for name, array in expected.items()},
            {name: array[row] for name, array in found.items()},
        )
        if problem:
            raise CheckFailed(f"golden requests: {model}, {_described(inputs, row)}: {problem}")


def unlikeness(expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]) -> str | None:
    """How one answer is unlike the one that was expected, in words; None where rounding alone explains it."""
    for name, was in expected.items():
        now = found[name]
        if name in _LISTS:
            wanted = set(was[was > 0].tolist())  # whatever pads
            share = len(wanted & set(now.tolist())) / max(len(wanted), 1)
            if share < (LEAST_SHARED if wanted else 0):
                return f"{name} has {share:.0%} of the items that it had; allowed is {LEAST_SHARED:.0%}"
        elif name in _LISTS.values() or name in (*_OF_ITEMS, _OTHER_ELSEWHERE):
            continue  # goes with the items
        elif was.dtype.kind == "f":
            counts = was > PADDING_SCORE
            off = np.abs(np.where(counts, now - was, 0)).max()
            greatest = np.abs(np.where(counts, was, 0)).max()
            if not off <= LEAST_ALIKE * greatest:
                return f"{name} is off by {off:.2g}; allowed is {LEAST_ALIKE:.0%} of {greatest:.4g}"
        elif (now != was).any():
            place = int(np.argmax(now != was))
            return f"{name}[{place}] is {now[place]}; it was {was[place]}"
    return None


def _difference(expected: Tensors, found: Tensors, row: int) -> str | None:
    """How the answers to the request in `row` differ, in words; None where they do not."""
    pending = dict.fromkeys(name for name in expected if name != _OTHER_ELSEWHERE)
    lists = _LISTS | {
        name: name.replace("candidate", "retrieval_score", 1)
        for name in expected
        if name.startswith("candidate") and name.replace("candidate", "retrieval_score", 1) in expected
    }
    for items, score in lists.items():
        if items in expected:
            names = [name for name in (items, score, *_OF_ITEMS) if name in expected]
            problem = list_difference({name: (expected[name][row], found[name][row]) for name in names})
            if problem:
                return problem
            pending = {name: None for name in pending if name not in names}
    for name in pending:
        first, second = expected[name][row], found[name][row]
        same = _close(first, second) if first.dtype.kind == "f" else first == second
        if not same.all():
            place = int(np.argmin(same))
            return f"{name}[{place}] is {second[place]}; it was {first[place]}"
    return None


def list_difference(lists: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> str | None:
    """How two lists differ: each name's array ``[width]`` as it was and as it is now.

    Places may swap between scores within the tolerance. For the same reason an item may fall off the end of
    the list for another one.
    """
    items, score, *others = lists
    (old_items, new_items), (old_scores, new_scores) = lists[items], lists[score]
    if not (close := _close(old_scores, new_scores)).all():
        place = int(np.argmin(close))
        return f"{score}[{place}] is {new_scores[place]:.7g}; it was {old_scores[place]:.7g}"
    was = {item: place for place, item in enumerate(old_items.tolist())}
    for place in np.flatnonzero(old_items != new_items).tolist():
        before = was.get(int(new_items[place]), len(old_items) - 1)
        if not _close(old_scores[before : before + 1], new_scores[place : place + 1]).all():
            return f"{items}[{place}] is {new_items[place]}; it was {old_items[place]}"
    for name in others:
        old, new = lists[name]
        for place, item in enumerate(new_items.tolist()):
            if item in was and new[place] != old[was[item]]:
                return f"{name} of item {item} is {new[place]}; it was {old[was[item]]}"
    return None


def _close(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of scores are the same but for rounding; NaN is like nothing."""
    return np.abs(first - second) <= TOLERANCE * (1 + np.abs(first))


def _described(inputs: Mapping[str, NDArray[Any]], row: int) -> str:
    session = [str(item) for item in inputs["session_items"][row].tolist() if item != PADDING_ID]
    items = f"session of {', '.join(session)}" if session else "empty session"
    return f"request {row + 1} ({items}, diversity {float(inputs['diversity'][row, 0]):.2g})"


def _read(release: Release) -> Tensors:
    """What ``golden.npz`` of `release` holds. Raises CheckFailed where it is missing or cannot be used."""
    path = release.path / GOLDEN
    wanted = {f"inputs/{port.name}": port for port in Step.of(RECOMMEND, release.sizes).inputs}
    wanted |= {f"{step.model}/{port.name}": port for step in _answers(release) for port in step.outputs}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in wanted}
    except FileNotFoundError as error:
        raise CheckFailed(
            f"{path}: is missing; this release was built without golden requests, build it again"
        ) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CheckFailed(f"{path}: cannot be read ({error}); build the release again") from error
    rows = len(kept["inputs/user_id"]) if kept["inputs/user_id"].ndim else 0
    for name, port in wanted.items():
        shape = (rows, port.width)
        if not rows or kept[name].shape != shape or kept[name].dtype != NUMPY_DTYPES[port.dtype]:
            raise CheckFailed(
                f"{path}: {name} is {kept[name].dtype} {list(kept[name].shape)}; expected {port.dtype}"
                f" {[max(rows, 1), shape[1]]}; build the release again"
            )
    return kept
