"""What distinguishes two releases: figures, data, settings and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

APART = {"release", "created", "fingerprint", "files", "metrics", "checks", "forced"}
"""Keys of a manifest that always differ, or that are compared in another way."""


def figures(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[tuple[str, float | None, float | None]]:
    """The headline figures of two manifests, by name; None where one has no such figure."""
    ours, theirs = _headline(first), _headline(second)
    return [(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]


def settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What else the manifests say differently: data, sizes, contract, libraries, …, by dotted name."""
    ours, theirs = (
        dict(_leaves({key: value for key, value in each.items() if key not in APART}))
        for each in (first, second)
    )
    names = {**ours, **theirs}
    return [(name, ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)]


def files(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """How many files are changed, added in the second or missing from it, by the room that they are in."""
    ours, theirs = first.get("files", {}), second.get("files", {})
    rooms: dict[str, Counter[str]] = {}
    for path in sorted(ours.keys() | theirs.keys()):
        if ours.get(path) != theirs.get(path):
            kind = "added" if path not in ours else "missing" if path not in theirs else "changed"
            rooms.setdefault(path.partition("/")[0], Counter())[kind] += 1
    return rooms


def _headline(manifest: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for name, value in manifest.get("metrics", {}).get("headline", {}).items():
        mean = value.get("mean") if isinstance(value, Mapping) else value
        if isinstance(mean, int | float):
            found[name] = float(mean)
    return found


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, content
