"""Public data sets come out of wheels, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from tools.data import fetch
from tools.data.fetch import FetchError, Source


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/a.txt", "alpha")
        archive.writestr("data/b.txt", "beta")
        archive.writestr("data/unwanted.txt", "gamma")
    return path


def source(**contents: str) -> Source:
    files = {f"data/{name}.txt": hashlib.sha256(text.encode()).hexdigest() for name, text in contents.items()}
    return Source("data==1.0", "set", files, "free")


def test_only_the_wanted_files_are_extracted_and_nothing_else_stays(tmp_path, wheel):
    assert fetch.fetch(source(a="alpha", b="beta"), tmp_path / "into", wheel)
    assert sorted(path.name for path in (tmp_path / "into" / "set").iterdir()) == ["a.txt", "b.txt"]


def test_files_that_are_there_are_not_fetched_again(tmp_path, wheel):
    fetch.fetch(source(a="alpha"), tmp_path, wheel)
    wheel.unlink()
    assert not fetch.fetch(source(a="alpha"), tmp_path, wheel)


def test_a_damaged_file_is_fetched_again(tmp_path, wheel):
    fetch.fetch(source(a="alpha"), tmp_path, wheel)
    (tmp_path / "set" / "a.txt").write_text("al")
    assert fetch.fetch(source(a="alpha"), tmp_path, wheel)
    assert (tmp_path / "set" / "a.txt").read_text() == "alpha"


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"a": "alpha", "b": "another"}, "is not the file that was expected"),
        ({"a": "alpha", "c": "missing"}, "does not hold the expected files"),
    ],
)
def test_a_wheel_with_other_files_leaves_nothing_behind(tmp_path, wheel, contents, message):
    with pytest.raises(FetchError, match=message):
        fetch.fetch(source(**contents), tmp_path, wheel)
    assert list((tmp_path / "set").iterdir()) == []


def test_without_a_connection_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setattr(fetch, "RETRIES", 0)
    assert fetch.main(["movielens-100k", "--into", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("error: pip could not download recbole==1.2.1 (")
    assert "pass it with --archive" in error


def test_a_source_distribution_is_read_too_and_files_of_one_name_keep_their_folders(tmp_path):
    path = tmp_path / "data-1.0.tar.gz"
    files = {"data-1.0/logs/old/a.csv": b"alpha", "data-1.0/logs/new/a.csv": b"beta"}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    wanted = Source("data==1.0", "set", hashes, "free", parts=2, is_wheel=False)
    assert fetch.fetch(wanted, tmp_path, path)
    assert (tmp_path / "set" / "old" / "a.csv").read_bytes() == b"alpha"
    assert (tmp_path / "set" / "new" / "a.csv").read_bytes() == b"beta"
    assert not fetch.fetch(wanted, tmp_path, path)
    with pytest.raises(FetchError, match="does not hold the expected files"):
        fetch.fetch(Source("data==1.0", "other", {"data-1.0/none": "0"}, "free"), tmp_path, path)
