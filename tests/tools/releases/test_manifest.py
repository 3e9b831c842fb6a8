from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from tritonrec_client.contract import Sizes

from tools.releases.manifest import (
    combined_hash,
    file_hash,
    folder_hashes,
    library_versions,
    read_manifest,
    verify,
    write_manifest,
)

CONTENT = {"release": "0123456789ab", "sizes": Sizes().to_dict()}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A finished release of three files."""
    for name in ("artifacts/rank.onnx", "artifacts/items.npz", "code/python_backend/rules.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(f"content of {name}".encode() * 1000)
    write_manifest(tmp_path, {**CONTENT, "files": folder_hashes(tmp_path)})
    return tmp_path


def differences(release: Path) -> list[str]:
    return [str(difference) for difference in verify(release)]


def test_a_release_as_it_was_built_has_no_differences(release: Path) -> None:
    assert differences(release) == []


@pytest.mark.parametrize("place", [0, 7777, -1])
def test_a_file_that_differs_in_one_byte_is_named(release: Path, place: int) -> None:
    path = release / "artifacts" / "rank.onnx"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert differences(release) == ["artifacts/rank.onnx: was changed"]


def test_missing_and_added_files_are_named(release: Path) -> None:
    (release / "artifacts" / "items.npz").unlink()
    (release / "models").mkdir()
    (release / "models" / "extra.pbtxt").touch()
    assert differences(release) == [
        "artifacts/items.npz: is missing",
        "models/extra.pbtxt: is not part of the release",
    ]


def test_a_file_that_moved_is_missing_and_added(release: Path) -> None:
    (release / "artifacts" / "rank.onnx").rename(release / "artifacts" / "retrieve.onnx")
    assert differences(release) == [
        "artifacts/rank.onnx: is missing",
        "artifacts/retrieve.onnx: is not part of the release",
    ]


def test_only_the_releases_own_manifest_is_left_out(release: Path) -> None:
    (release / "artifacts" / "manifest.json").write_text("{}")
    assert differences(release) == ["artifacts/manifest.json: is not part of the release"]


def test_what_python_compiles_while_serving_is_no_difference(release: Path) -> None:
    (release / "code" / "python_backend" / "__pycache__").mkdir()
    (release / "code" / "python_backend" / "__pycache__" / "rules.cpython-311.pyc").touch()
    assert differences(release) == []


def test_a_release_that_was_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest.json"):
        differences(tmp_path)
    write_manifest(tmp_path, CONTENT)
    with pytest.raises(ValueError, match=r"manifest.json: lists no files; the release was not finished"):
        differences(tmp_path)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, {**CONTENT, "name": "Bücher"})
    assert read_manifest(tmp_path) == {**CONTENT, "name": "Bücher"}
    assert "Bücher" in (tmp_path / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"release": "0123456789ab"}', '{"release": 1, "sizes": 2}'])
def test_what_is_no_manifest_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"manifest.json: not a release's manifest"):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_manifest(tmp_path, CONTENT)
    with pytest.raises(TypeError):
        write_manifest(tmp_path, {**CONTENT, "metrics": object()})
    assert read_manifest(tmp_path) == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_nobody_ever_reads_half_a_manifest(tmp_path: Path) -> None:
    long = {**CONTENT, "files": {f"file {number}": "0" * 64 for number in range(2000)}}
    write_manifest(tmp_path, long)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            write_manifest(tmp_path, long)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            assert json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8")) == long
    finally:
        stop.set()
        writer.join()


def test_a_hash_tells_contents_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * (1 << 20) + b"a")
    (tmp_path / "b").write_bytes(b"x" * (1 << 20) + b"b")
    assert file_hash(tmp_path / "a") != file_hash(tmp_path / "b")
    assert len(file_hash(tmp_path / "a")) == 64
    assert combined_hash(["ab", "c"]) != combined_hash(["a", "bc"])


def test_a_release_records_the_versions_that_its_content_depends_on() -> None:
    assert {"python", "torch", "numpy", "onnxruntime"} <= library_versions().keys()
