"""The models that write are started anew only where what runs them changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tritonrec_client.contract import FEEDBACK

from python_backend.release import Release
from tools.releases.manifest import folder_hashes, read_manifest, write_manifest
from tools.serving.catalogue import parts_played
from tools.serving.repository import write_served_repository
from tools.serving.served import ServedRepository

OLD, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
WRITERS = [model.name for model in FEEDBACK]


@pytest.fixture
def finished_release(new_release: Callable[[str], Path]) -> Callable[..., Release]:
    """Makes a release with a manifest of all files; `changed` is a file with one more line."""

    def finish(name: str, changed: str | None = None) -> Release:
        folder = new_release(name)
        code = folder / "code" / "python_backend" / "stages" / "record_event.py"
        code.parent.mkdir(parents=True, exist_ok=True)
        code.write_text("# writes\n")
        if changed:
            with (folder / changed).open("a") as file:
                file.write("\n# changed\n")
        write_manifest(folder, read_manifest(folder) | {"files": folder_hashes(folder)})
        return Release.open(folder)

    return finish


def serve(release: Release) -> ServedRepository:
    folder = release.path.parents[1] / "served"
    write_served_repository([release.path], release.name, folder)
    return ServedRepository(folder)


def test_a_release_with_the_same_code_leaves_them_running(finished_release: Callable[..., Release]) -> None:
    served = serve(finished_release(OLD))
    assert served.put_standalone_models(finished_release(NEW)) == []
    assert {folder.name for folder in served.standalone.values()} == {OLD}


def test_other_code_starts_all_of_them_anew(finished_release: Callable[..., Release]) -> None:
    served = serve(finished_release(OLD))
    new = finished_release(NEW, "code/python_backend/stages/record_event.py")
    assert sorted(served.put_standalone_models(new)) == sorted(WRITERS)
    assert {folder.name for folder in served.standalone.values()} == {NEW}


def test_another_configuration_starts_that_model_anew(finished_release: Callable[..., Release]) -> None:
    served = serve(finished_release(OLD))
    new = finished_release(NEW, "models/record_event/config.pbtxt")
    assert served.put_standalone_models(new) == ["record_event"]
    assert {model: folder.name for model, folder in served.standalone.items()} == {
        "record_event": NEW,
        "forget_user": OLD,
    }


def test_a_release_whose_folder_is_gone_runs_nothing(finished_release: Callable[..., Release]) -> None:
    old = finished_release(OLD)
    served = serve(old)
    new = finished_release(NEW)
    old.path.rename(old.path.with_name("removed"))
    assert sorted(served.put_standalone_models(new)) == sorted(WRITERS)


def test_the_release_that_runs_them_is_in_use(finished_release: Callable[..., Release]) -> None:
    build = serve(finished_release(OLD)).folder.parent
    served = serve(finished_release(NEW))
    served.put_standalone_models(Release.open(build / "releases" / OLD))
    assert set(parts_played(build)) == {NEW}
