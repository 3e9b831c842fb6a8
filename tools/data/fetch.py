"""Fetches public data sets: ``python tools/data/fetch.py movielens-100k --into build/data``.

Nothing here is needed for your own data.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RETRIES = 2
"""How often pip tries again."""


class FetchError(RuntimeError):
    """The data set could not be fetched; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """A data set that lies inside a wheel on PyPI.

    Attributes:
        requirement: what pip downloads.
        folder: the folder that the files are put into.
        files: each wanted file's SHA-256, by its path inside the wheel.
        licence: what whoever fetches it should know.
    """

    requirement: str
    folder: str
    files: Mapping[str, str]
    licence: str


_MOVIELENS = "recbole/dataset_example/ml-100k/ml-100k"
SOURCES = {
    "movielens-100k": Source(
        requirement="recbole==1.2.1",
        folder="ml-100k",
        files={
            f"{_MOVIELENS}.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            f"{_MOVIELENS}.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            f"{_MOVIELENS}.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
        },
        licence=(
            "MovieLens-100K by GroupLens, University of Minnesota (F. M. Harper and J. A. Konstan, 2015). "
            "Its licence allows research, and forbids redistribution and commercial use without permission: "
            "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt. It is read from the "
            "recbole wheel; keep it out of version control."
        ),
    ),
}


def fetch(source: Source, into: Path, wheel: Path | None = None) -> bool:
    """Put the files of `source` into ``into/folder``, from `wheel` if given, otherwise from PyPI.

    Every file appears whole or not at all. Returns False if all of them were there already.

    Raises FetchError where there is no connection, or a file is not the expected one.
    """
    folder = into / source.folder
    wanted = {name: digest for name, digest in source.files.items() if not _has(folder, name, digest)}
    if not wanted:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        work = Path(temporary)
        _extract(wheel or _download(source.requirement, work), wanted, work)
        for name in wanted:
            os.replace(work / Path(name).name, folder / Path(name).name)
    return True


def fetch_missing(path: Path, say: Callable[[str], object] = print) -> None:
    """Fetch the public data set that the file `path` is of; nothing where it is there, or is no such file.

    Raises FetchError.
    """
    for name, source in SOURCES.items():
        files = {Path(file).name for file in source.files}
        if path.parent.name == source.folder and path.name in files and not path.exists():
            say(f"fetching {name}: {source.licence}")
            fetch(source, path.parent.parent)


def _has(folder: Path, name: str, digest: str) -> bool:
    path = folder / Path(name).name
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        f"--retries={RETRIES}",
    ]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or not wheels:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no output"])[-1]
        )
        raise FetchError(
            f"pip could not download {requirement} ({reason.removeprefix('ERROR: ')}); connect to a package "
            f"index, or download that wheel elsewhere and pass it with --wheel"
        )
    return wheels[0]


def _extract(wheel: Path, files: Mapping[str, str], into: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            contents = {name: archive.read(name) for name in files}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise FetchError(f"{wheel} does not hold the expected files: {error}") from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != files[name]:
            raise FetchError(f"{name} in {wheel} is not the file that was expected (its SHA-256 differs)")
        (into / Path(name).name).write_bytes(content)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch a public data set.")
    parser.add_argument("name", choices=sorted(SOURCES))
    parser.add_argument("--into", type=Path, default=Path("build/data"), help="folder (default: %(default)s)")
    parser.add_argument("--wheel", type=Path, help="a wheel that is already here, instead of downloading it")
    options = parser.parse_args(arguments)
    source = SOURCES[options.name]
    try:
        fetched = fetch(source, options.into, options.wheel)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.into / source.folder}: {'fetched' if fetched else 'already there'}")
    print(source.licence)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
