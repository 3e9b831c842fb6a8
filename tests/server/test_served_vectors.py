"""A build with vectors that the data bring, checked on a real Triton; and items that come with one later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny import ITEM_IDS, TASTES, Build, write_shop

from python_backend.release import Release
from tools.build_repo import OK, main
from tools.releases.build import fingerprint_of
from tools.releases.manifest import read_manifest

pytestmark = pytest.mark.server

WIDTH = 8
SEEN, UNSEEN, LATER = ITEM_IDS[-1] + 1, ITEM_IDS[-1] + 2, ITEM_IDS[-1] + 3
"""Items that nobody has met and about which nothing is known; the first has an image, and so has the third,
which comes when there is a release already."""
SECTION = """
[[data.items.vectors]]
name = "image"
path = "{folder}/images.npy"
ids = "{folder}/images.txt"
"""


def look(shelf: int) -> np.ndarray:
    return np.eye(WIDTH)[shelf] + 1


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Items look like their shelf; every tenth has no image, and there is one of an item that is unknown."""
    build = write_shop(tmp_path_factory.mktemp("images"))
    rows = [line.split(",") for line in (build.folder / "items.csv").read_text().splitlines()[1:]]
    shown = {row[0]: look(int(row[2].removeprefix("shelf "))) for place, row in enumerate(rows) if place % 10}
    write_images(build.folder, {**shown, str(SEEN): look(1), "999999": look(0)})
    add_items(build.folder, SEEN, UNSEEN)
    text = build.toml.read_text()
    build.toml.write_text(text.replace("[data.users]", SECTION.format(folder=build.folder) + "[data.users]"))
    assert main(["--config", str(build.toml)]) == OK
    return build


def write_images(folder: Path, images: dict[str, np.ndarray]) -> None:
    np.save(folder / "images.npy", np.stack(list(images.values())))
    (folder / "images.txt").write_text("\n".join(images))


def add_items(folder: Path, *items: int) -> None:
    with (folder / "items.csv").open("a") as file:
        file.writelines(f"{item},,,,\n" for item in items)


def likeness(build: Build, release: Release, item: int) -> np.ndarray:
    """How like the items of each shelf `item` is, in the space of the retriever."""
    vectors = np.load(release.artifacts / "item_vectors.npy")
    with np.load(release.artifacts / "items.npz") as items:
        place = {int(each): row for row, each in enumerate(items["wire_id"])}
    rows = [line.split(",") for line in (build.folder / "items.csv").read_text().splitlines()[1:]]
    shelves = np.array(
        [
            np.mean([vectors[place[int(row[0])]] for row in rows if row[2] == f"shelf {shelf}"], axis=0)
            for shelf in range(TASTES)
        ]
    )
    found: np.ndarray = (shelves - shelves.mean(axis=0)) @ vectors[place[item]]
    return found


def test_the_check_of_the_data_says_what_there_is(build: Build, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(build.toml), "--check"]) == OK
    said = capsys.readouterr().out
    assert "image vectors: 8 numbers each, for 136 of 152 items" in said
    assert "1 ids are of no item, such as '999999'" in said


def test_a_release_with_vectors_is_served_as_it_answers_in_process(build: Build) -> None:
    checks = read_manifest(build.release.path)["checks"]
    assert checks["served_is_in_process"]["users"] > 0
    assert checks["served_is_in_process"]["different_lists"] == 0
    with np.load(build.release.path / "training" / "retriever.npz") as weights:
        assert weights["items.modalities.image_vectors.projection.weight"].shape == (16, WIDTH)


def test_an_item_that_nobody_has_met_is_like_those_that_it_looks_like(build: Build) -> None:
    assert likeness(build, build.release, SEEN).argmax() == 1
    assert not np.allclose(
        likeness(build, build.release, SEEN), likeness(build, build.release, UNSEEN), atol=1e-3
    )


@pytest.mark.slow
def test_so_is_one_that_comes_later(build: Build) -> None:
    before = fingerprint_of(build.config)
    ids = (build.folder / "images.txt").read_text().split()
    images = dict(zip(ids, np.load(build.folder / "images.npy"), strict=True))
    write_images(build.folder, {**images, str(LATER): look(2)})
    assert fingerprint_of(build.config) != before
    add_items(build.folder, LATER)
    assert main(["--config", str(build.toml), "--refresh"]) == OK
    refreshed = build.releases[-1]
    assert refreshed.path != build.release.path
    assert likeness(build, refreshed, LATER).argmax() == 2
