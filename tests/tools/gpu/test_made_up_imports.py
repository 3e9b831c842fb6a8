"""Making up a release for a GPU is for machines that have PyTorch and Triton, and little else."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime", "onnxscript"])
def test_a_release_can_be_made_up_without_onnx(absent: str) -> None:
    code = f"import sys; sys.modules[{absent!r}] = None; import tools.gpu.made_up"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
