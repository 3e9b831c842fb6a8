from __future__ import annotations

from pathlib import Path

import pytest

from tools.config.build import BuildConfig
from tools.releases import build
from tools.releases.build import find_built, fingerprint_of
from tools.releases.manifest import write_manifest


@pytest.fixture
def config(tmp_path: Path) -> BuildConfig:
    (tmp_path / "events.csv").write_text("user,item,time\n1,2,3\n")
    (tmp_path / "users.csv").write_text("user\n1\n")
    return BuildConfig.model_validate(
        {
            "name": "shop",
            "output": tmp_path / "build",
            "data": {
                "events": {
                    "path": tmp_path / "events.csv",
                    "user": "user",
                    "item": "item",
                    "timestamp": "time",
                },
                "users": {"path": tmp_path / "users.csv", "id": "user"},
            },
        }
    )


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of three files instead of this one."""
    root = tmp_path / "project"
    for name in ("tools/a.py", "model_repository/rank/config.pbtxt", "clients/b.py"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(name)
    monkeypatch.setattr(build, "ROOT", root)
    monkeypatch.setattr(build, "BUILDING", (root / "tools",))
    monkeypatch.setattr(build, "CODE", {"client": root / "clients"})
    return root


def changed(config: BuildConfig, **sections: object) -> BuildConfig:
    return BuildConfig.model_validate({**config.model_dump(), **sections})


def test_the_same_is_the_same(config: BuildConfig) -> None:
    assert fingerprint_of(config) == fingerprint_of(changed(config))


@pytest.mark.parametrize(
    "sections",
    [
        {"seed": 2},
        {"name": "another"},
        {"contract": {"results": 10}},
        {"retrieve": {"epochs": 31}},
        {"rank": {"negatives": 97}},
        {"rerank": {"similarity_weight": 2.5}},
    ],
)
def test_every_setting_that_matters_changes_it(config: BuildConfig, sections: dict[str, object]) -> None:
    assert fingerprint_of(changed(config, **sections)) != fingerprint_of(config)


def test_where_a_release_goes_and_where_its_users_are_kept_does_not(config: BuildConfig) -> None:
    elsewhere = changed(config, output=Path("elsewhere"), store={"url": "redis://somewhere:6379"})
    assert fingerprint_of(elsewhere) == fingerprint_of(config)


@pytest.mark.parametrize("name", ["events.csv", "users.csv"])
def test_the_data_change_it(config: BuildConfig, tmp_path: Path, name: str) -> None:
    before = fingerprint_of(config)
    with (tmp_path / name).open("a") as file:
        file.write("one more line\n")
    assert fingerprint_of(config) != before


def test_data_that_are_not_there_yet_are_no_error(config: BuildConfig, tmp_path: Path) -> None:
    before = fingerprint_of(config)
    (tmp_path / "events.csv").unlink()
    assert fingerprint_of(config) != before


@pytest.mark.parametrize("name", ["images.npy", "images.txt"])
def test_the_vectors_that_the_data_bring_change_it(config: BuildConfig, tmp_path: Path, name: str) -> None:
    for each in ("images.npy", "images.txt"):
        (tmp_path / each).write_text("some")
    vectors = {"name": "image", "path": tmp_path / "images.npy", "ids": tmp_path / "images.txt"}
    items = {"path": tmp_path / "users.csv", "id": "user", "vectors": [vectors]}
    config = changed(config, data={**config.data.model_dump(), "items": items})
    before = fingerprint_of(config)
    (tmp_path / name).write_text("others")
    assert fingerprint_of(config) != before


@pytest.mark.parametrize("name", ["tools/a.py", "model_repository/rank/config.pbtxt", "clients/b.py"])
def test_the_code_changes_it(config: BuildConfig, code: Path, name: str) -> None:
    before = fingerprint_of(config)
    (code / name).write_text("something else")
    assert fingerprint_of(config) != before


def test_a_file_that_is_renamed_changes_it_and_what_python_compiles_does_not(
    config: BuildConfig, code: Path
) -> None:
    before = fingerprint_of(config)
    (code / "tools" / "__pycache__").mkdir()
    (code / "tools" / "__pycache__" / "a.cpython-311.pyc").touch()
    assert fingerprint_of(config) == before
    (code / "tools" / "a.py").rename(code / "tools" / "z.py")
    assert fingerprint_of(config) != before


def test_the_library_versions_change_it(config: BuildConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint_of(config)
    monkeypatch.setattr(build, "library_versions", lambda: {"torch": "9"})
    assert fingerprint_of(config) != before


def test_this_very_project_is_what_is_hashed() -> None:
    assert Path(build.__file__).parent in build.BUILDING
    for folder in (*build.BUILDING, *build.CODE.values()):
        assert (folder / "__init__.py").is_file()


def test_a_release_is_found_by_its_fingerprint_the_newest_first(config: BuildConfig) -> None:
    assert find_built(config, "f") is None
    for number, fingerprint in enumerate(["f", "g", "f", None]):
        name = f"{number:012x}"
        folder = config.output / "releases" / name
        folder.mkdir(parents=True)
        content = {"release": name, "sizes": config.sizes.to_dict()}
        write_manifest(folder, content if fingerprint is None else {**content, "fingerprint": fingerprint})
    found = find_built(config, "f")
    assert found is not None
    assert found.name == "000000000002"
    assert find_built(config, "h") is None
