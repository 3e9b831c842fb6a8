"""The server in the wheel: found, laid out for Triton, and what is missing said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.serving.wheel import TritonWheel, linker_problem


@pytest.fixture
def wheel() -> TritonWheel:
    """The installed one; without it the tests fail, and the error says what to install."""
    return TritonWheel.find()


def test_the_backend_directory_holds_the_stub_of_the_running_python(
    wheel: TritonWheel, tmp_path: Path
) -> None:
    python = wheel.prepare_backends(tmp_path) / "python"

    assert {path.name for path in python.iterdir() if path.is_file()} == {
        "libtriton_python.so",
        "triton_python_backend_utils.py",
        "triton_python_backend_stub",
    }


def test_preparing_twice_changes_nothing_and_a_moved_wheel_is_linked_anew(
    wheel: TritonWheel, tmp_path: Path
) -> None:
    python = wheel.prepare_backends(tmp_path) / "python"
    (python / "libtriton_python.so").unlink()
    (python / "libtriton_python.so").symlink_to("/a/folder/that/went")
    wheel.prepare_backends(tmp_path)

    assert (python / "libtriton_python.so").is_file()
    assert len(list(python.iterdir())) == 3


def test_the_environment_starts_with_the_wheels_libraries_and_this_interpreters_programs(
    wheel: TritonWheel,
) -> None:
    base = {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/lib", "PYTHONHOME": "/usr", "HOME": "/root"}
    environment = wheel.environment(base)

    assert environment["LD_LIBRARY_PATH"].split(":")[0] == str(wheel.libraries)
    assert environment["LD_LIBRARY_PATH"].split(":")[-1] == "/opt/lib"
    assert environment["PATH"].endswith(":/usr/bin")
    assert (Path(environment["PATH"].split(":")[0]) / "python3").exists()
    assert "PYTHONHOME" not in environment
    assert environment["HOME"] == "/root"


def test_a_missing_libpython_is_named_with_the_package_that_brings_it() -> None:
    listing = "\tlibpython3.11.so.1.0 => not found\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n"

    assert linker_problem(listing) == (
        "shared libraries are missing: libpython3.11.so.1.0 (apt-get install libpython3.11,"
        " or a Python that was built with --enable-shared)"
    )


def test_several_missing_libraries_are_one_command() -> None:
    listing = "\tlibz.so.1 => not found\n\tlibexpat.so.1 => not found\n\tlibz.so.1 => not found\n"

    assert linker_problem(listing) == (
        "shared libraries are missing: libexpat.so.1, libz.so.1 (apt-get install libexpat1 zlib1g)"
    )


def test_a_c_library_that_is_too_old_is_named() -> None:
    listing = "tritonserver: /lib/libc.so.6: version `GLIBC_2.34' not found (required by tritonserver)\n"

    assert linker_problem(listing) == (
        "this system's C or C++ library has no GLIBC_2.34; Debian 12 or later has it"
    )


def test_a_complete_system_is_no_problem() -> None:
    assert linker_problem("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f561c61e000)\n") is None
