"""The Triton server inside the PyPI wheel `nvidia-pytriton`: where it is, and what it needs to run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from python_backend.background import NICENESS, may_step_forward

INSTALLED = "TRITONREC_TRITON"
"""The environment variable that names the folder of an installed server, such as that of NVIDIA's image."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SUPPORTED_PYTHONS = ("3.11", "3.12")

LATER = """\
#!/bin/sh
# Whoever starts comes after those that serve.
exec nice -n {niceness} {stub} "$@"
"""

DEBIAN_PACKAGES = {
    "libexpat.so.1": "libexpat1",
    "libz.so.1": "zlib1g",
    "libstdc++.so.6": "libstdc++6",
    "libgcc_s.so.1": "libgcc-s1",
    **{f"libpython{version}.so.1.0": f"libpython{version}" for version in SUPPORTED_PYTHONS},
}
"""Which Debian package brings a shared library that the wheel expects from the system."""


class ServerUnavailableError(RuntimeError):
    """Triton cannot run here; the message says in one line what is missing and how to get it."""


@dataclass(frozen=True, slots=True)
class TritonWheel:
    """The installed wheel.

    `root` is `pytriton/tritonserver`, `libraries` the folder of shared libraries packed with it.
    """

    root: Path
    libraries: Path

    @classmethod
    def find(cls) -> TritonWheel:
        """The wheel in this interpreter's environment, or what `INSTALLED` names.

        Raises ServerUnavailableError where there is none, or where it cannot work with this Python or numpy.
        """
        if PYTHON not in SUPPORTED_PYTHONS:
            raise ServerUnavailableError(
                f"this is Python {PYTHON}; the pipeline runs on {' and '.join(SUPPORTED_PYTHONS)}"
            )
        if root := os.environ.get(INSTALLED):
            return InstalledTriton.at(Path(root))
        spec = importlib.util.find_spec("pytriton")
        if spec is None or not spec.submodule_search_locations:
            raise ServerUnavailableError("nvidia-pytriton is not installed; pip install 'tritonrec[server]'")
        package = Path(spec.submodule_search_locations[0])
        wheel = cls(package / "tritonserver", package.parent / "nvidia_pytriton.libs")
        for path in (wheel.server, wheel.backend, wheel.stub, wheel.libraries):
            if not path.exists():
                version = importlib.metadata.version("nvidia-pytriton")
                raise ServerUnavailableError(
                    f"nvidia-pytriton {version} has no {path}; install nvidia-pytriton==0.7.0"
                )
        numpy_version = importlib.metadata.version("numpy")
        if int(numpy_version.split(".")[0]) >= 2:
            raise ServerUnavailableError(
                f"numpy is {numpy_version}; Triton 2.51 hands on empty tensors with it: install 'numpy<2'"
            )
        return wheel

    @property
    def server(self) -> Path:
        return self.root / "bin" / "tritonserver"

    @property
    def backend(self) -> Path:
        return self.root / "backends" / "python"

    @property
    def stub(self) -> Path:
        """The program that runs one Python model; one is built for each minor version of Python."""
        return self.root / "python_backend_stubs" / PYTHON / "triton_python_backend_stub"

    def require_backend(self, name: str) -> None:
        """Raise ServerUnavailableError where the server has no backend of this `name`."""
        if not (self.root / "backends" / name).is_dir():
            raise ServerUnavailableError(
                f"the Triton in {self.root} has no backend {name}; NVIDIA's image has, whose server"
                f" {INSTALLED}=/opt/tritonserver names (on a GPU without it, profile gpu_torch does)"
            )

    def environment(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Environment variables for the server, on top of `base`.

        The stub finds this virtual environment through the first `python3` on PATH, and its shared libraries
        through LD_LIBRARY_PATH: libpython lies where this interpreter was built, the rest in the wheel.
        """
        # Not resolved: a virtual environment's python is a link to the interpreter it was made from.
        programs = Path(sys.executable).parent
        places = [str(self.libraries), str(sysconfig.get_config_var("LIBDIR"))]
        places += [base["LD_LIBRARY_PATH"]] if base.get("LD_LIBRARY_PATH") else []
        environment = {**base, "LD_LIBRARY_PATH": ":".join(places)}
        environment["PATH"] = f"{programs}:{base['PATH']}" if base.get("PATH") else str(programs)
        # It would override what the stub finds in the virtual environment.
        environment.pop("PYTHONHOME", None)
        return environment

    def prepare_backends(self, folder: Path) -> Path:
        """Lay out Triton's backend directory under `folder` and return it.

        Triton wants the stub beside the backend; the wheel keeps one per version of Python elsewhere. Where
        processes may raise their priority, the stub starts with a lower one: a third of what a stage computes
        while it is loaded comes before any of our code, and it takes the server's priority when it is warm.
        """
        python = folder / PYTHON / "python"
        python.mkdir(parents=True, exist_ok=True)
        for source in (*self.backend.glob("*.so"), *self.backend.glob("*.py")):
            _replace(python / source.name, partial(Path.symlink_to, target=source))
        script = LATER.format(niceness=NICENESS, stub=shlex.quote(str(self.stub)))

        def write_stub(fresh: Path) -> None:
            if may_step_forward():
                fresh.write_text(script, encoding="utf-8")
                fresh.chmod(0o755)
            else:
                fresh.symlink_to(self.stub)

        _replace(python / self.stub.name, write_stub)
        return python.parent

    def check_libraries(self) -> None:
        """Raise ServerUnavailableError where the dynamic linker cannot find what the server needs."""
        environment = self.environment()
        for program in (self.server, self.backend / "libtriton_python.so", self.stub):
            result = subprocess.run(
                ["ldd", str(program)], env=environment, capture_output=True, text=True, check=False
            )
            problem = linker_problem(result.stdout + result.stderr)
            if problem:
                raise ServerUnavailableError(f"{program.name} cannot start: {problem}")


@dataclass(frozen=True, slots=True)
class InstalledTriton(TritonWheel):
    """A server that was installed with everything that it needs, for the system's Python."""

    @classmethod
    def at(cls, root: Path) -> InstalledTriton:
        """The server below `root`. Raises ServerUnavailableError where a part of it is missing."""
        installed = cls(root, root / "lib")
        for path in (installed.server, installed.backend, installed.stub):
            if not path.exists():
                raise ServerUnavailableError(f"{INSTALLED} is {root}; there is no {path}")
        return installed

    @property
    def stub(self) -> Path:
        return self.backend / "triton_python_backend_stub"

    def prepare_backends(self, folder: Path) -> Path:
        """As that of the wheel; the server's other backends stay what they are."""
        backends = TritonWheel.prepare_backends(self, folder)
        for other in self.backend.parent.iterdir():
            if other != self.backend:
                _replace(backends / other.name, partial(Path.symlink_to, target=other))
        return backends


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make a file and put it at `path`.

    By rename, so that another server that starts meanwhile never sees a missing or a half-written file.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    write(fresh)
    fresh.replace(path)


def linker_problem(listing: str) -> str | None:
    """What `ldd` found missing, in one line with the remedy, or None."""
    missing = sorted(set(re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE)))
    if missing:
        packages = [DEBIAN_PACKAGES[name] for name in missing if name in DEBIAN_PACKAGES]
        remedy = f"apt-get install {' '.join(packages)}" if packages else "install what brings them"
        if any(name.startswith("libpython") for name in missing):
            remedy += ", or a Python that was built with --enable-shared"
        return f"shared libraries are missing: {', '.join(missing)} ({remedy})"
    too_old = re.search(r"version `(\S+)' not found", listing)
    if too_old:
        return f"this system's C or C++ library has no {too_old[1]}; Debian 12 or later has it"
    if "not a dynamic executable" in listing:
        return "it is not a program for this machine; the wheel is for x86-64 Linux"
    return None
