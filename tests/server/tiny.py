"""A small, made-up shop: its data as files, and the TOML that builds a release from them in seconds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tritonrec_client.contract import Sizes

from python_backend.release import Release
from tools.config.build import BuildConfig, load_config
from tools.data.dataset import Dataset, load_dataset
from tools.releases.folder import find_releases
from tools.serving.repository import write_served_repository
from tools.serving.server import LOCAL, TritonServer

USERS, ITEMS, TASTES = 80, 150, 5
WITHOUT_EVENTS, WITHOUT_FEATURES = 2, 3
"""How many users only the table of users knows, and how many only the events."""
LONGEST = 75
"""Events of the first user: more than the 64 items that the build keeps as seen."""

ITEM_IDS = range(5, 5 + 3 * ITEMS, 3)
USER_IDS = range(1000, 1000 + 7 * USERS, 7)
USERS_WITHOUT_EVENTS = range(USER_IDS[-1] + 1, USER_IDS[-1] + 1 + WITHOUT_EVENTS)

TOML = """
name = "tiny"
seed = 1
output = "{folder}/build"

[data.events]
path = "{folder}/events.tsv"
user = "user"
item = "item"
timestamp = "time"

[data.items]
path = "{folder}/items.csv"
id = "item"
title = "name"
features = [
    {{ column = "shelf", kind = "categorical" }},
    {{ column = "tags", kind = "multi" }},
    {{ column = "price", kind = "numeric", buckets = 4 }},
    {{ column = "name", kind = "text" }},
]

[data.users]
path = "{folder}/users.csv"
id = "user"
features = [
    {{ column = "country", kind = "categorical" }},
    {{ column = "age", kind = "numeric", buckets = 4 }},
    {{ column = "hobbies", kind = "multi", slots = 3 }},
]

[contract]
candidates = 60
results = 10
history = 12
seen = 64
session = 5
user_features = 6

[store]
url = "lmdb://{folder}/build/store"

[retrieve]
width = 16
blocks = 1
epochs = 2

[rank]
width = 8
hidden = 8
epochs = 1
negatives = 16
"""


@dataclass(frozen=True)
class Build:
    """A folder with data, a configuration and what was built from them."""

    folder: Path

    @property
    def toml(self) -> Path:
        return self.folder / "tiny.toml"

    @property
    def output(self) -> Path:
        return self.folder / "build"

    @property
    def config(self) -> BuildConfig:
        return load_config(self.toml)

    @cached_property
    def dataset(self) -> Dataset:
        return load_dataset(self.config)

    @cached_property
    def known_users(self) -> list[int]:
        """The wire ids of users with events, the longest history first."""
        interactions = self.dataset.interactions
        order = (-interactions.lengths).argsort(kind="stable")
        return interactions.user_ids[order][interactions.lengths[order] > 0].tolist()

    @property
    def releases(self) -> list[Release]:
        """What is taken for a release, oldest first."""
        return find_releases(self.output)

    @property
    def release(self) -> Release:
        """The first one that was built."""
        return self.releases[0]

    def triton(self, folder: str, profile: str = LOCAL, **overrides: str) -> TritonServer:
        """A server of the first release, not yet started; `overrides` are parameters of its stages."""
        repository = self.folder / folder
        write_served_repository([self.release.path], self.release.name, repository, overrides=overrides)
        return TritonServer(
            repository,
            log=self.folder / f"{folder}.log",
            backends=self.output / "backends",
            profile=profile,
        )


@dataclass(frozen=True)
class Server:
    """A running server and what it serves."""

    triton: TritonServer
    build: Build

    @property
    def grpc_address(self) -> str:
        return self.triton.address

    @property
    def release(self) -> str:
        return self.build.release.name

    @property
    def sizes(self) -> Sizes:
        return self.build.release.sizes

    @property
    def dataset(self) -> Dataset:
        return self.build.dataset

    @property
    def known_users(self) -> list[int]:
        return self.build.known_users


def write_shop(folder: Path) -> Build:
    """Write the data files and ``tiny.toml`` into `folder`."""
    rng = np.random.default_rng(7)
    taste = rng.integers(TASTES, size=USERS)
    shelf = np.arange(ITEMS) % TASTES
    user_ids, item_ids = rng.permutation(USER_IDS), rng.permutation(ITEM_IDS)
    _write(folder / "events.tsv", ("user", "item", "time"), _events(rng, taste, shelf, user_ids, item_ids))
    _write(
        folder / "items.csv",
        ("item", "name", "shelf", "tags", "price"),
        (
            (
                item,
                f"{('red', 'green', 'blue')[row % 3]} {('tea', 'cup', 'spoon', 'pot')[row % 4]} {row}",
                f"shelf {shelf[row]}",
                "|".join(f"tag {tag}" for tag in sorted(set(rng.integers(6, size=rng.integers(4))))),
                "" if row % 11 == 0 else f"{rng.lognormal():.2f}",
            )
            for row, item in enumerate(item_ids)
        ),
    )
    _write(
        folder / "users.csv",
        ("user", "country", "age", "hobbies"),
        (
            (
                user,
                ("de", "fr", "no", "")[row % 4],
                "" if row % 9 == 0 else rng.integers(16, 90),
                "|".join(f"hobby {hobby}" for hobby in sorted(set(rng.integers(5, size=rng.integers(4))))),
            )
            for row, user in enumerate([*user_ids[:-WITHOUT_FEATURES], *USERS_WITHOUT_EVENTS])
        ),
    )
    build = Build(folder)
    build.toml.write_text(TOML.format(folder=folder))
    return build


def _events(
    rng: np.random.Generator,
    taste: np.ndarray,
    shelf: np.ndarray,
    user_ids: np.ndarray,
    item_ids: np.ndarray,
) -> Iterable[tuple[int, int, int]]:
    """Users mostly take from the shelf that they like; some of their events share a second."""
    for row, user in enumerate(user_ids):
        count = LONGEST if row == 0 else int(rng.integers(5, 41))
        weight = np.where(shelf == taste[row], 6.0, 1.0)
        items = rng.choice(ITEMS, size=count, replace=False, p=weight / weight.sum())
        start = 1_700_000_000 + int(rng.integers(10**6))
        for place, item in enumerate(items):
            yield user, item_ids[item], start + 60 * (place // 2)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(header)
        writer.writerows(rows)
