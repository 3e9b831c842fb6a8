"""A server that is installed, as in NVIDIA's image, instead of the wheel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.serving.wheel import INSTALLED, PYTHON, ServerUnavailableError, TritonWheel

FILES = (
    "bin/tritonserver",
    "backends/python/libtriton_python.so",
    "backends/python/triton_python_backend_stub",
    "backends/python/triton_python_backend_utils.py",
    "backends/tensorrt/libtriton_tensorrt.so",
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "tritonserver"
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    monkeypatch.setenv(INSTALLED, str(root))
    return root


def test_the_environment_names_it(installed: Path) -> None:
    found = TritonWheel.find()

    assert found.server == installed / "bin" / "tritonserver"
    assert found.environment({})["LD_LIBRARY_PATH"].startswith(str(installed / "lib"))


def test_its_own_stub_runs_and_its_other_backends_stay(installed: Path, tmp_path: Path) -> None:
    backends = TritonWheel.find().prepare_backends(tmp_path / "backends")

    assert backends == tmp_path / "backends" / PYTHON
    assert (backends / "python" / "libtriton_python.so").resolve() == installed / FILES[1]
    stub = backends / "python" / "triton_python_backend_stub"
    assert stub.resolve() == installed / FILES[2] or str(installed / FILES[2]) in stub.read_text()
    assert (backends / "tensorrt").resolve() == installed / "backends" / "tensorrt"


def test_what_is_not_there_is_named(installed: Path) -> None:
    (installed / FILES[2]).unlink()

    with pytest.raises(ServerUnavailableError, match=r"there is no .*triton_python_backend_stub"):
        TritonWheel.find()
