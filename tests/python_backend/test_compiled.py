"""Loops that numba compiles: kept where that is possible, compiled anew where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.releases.code import write_code

MISSES = """
from python_backend.history_loop import compile_loop
from python_backend.page_loops import compile_loops
loops = [compile_loop(), *compile_loops()]
print(sum(sum(loop.stats.cache_misses.values()) for loop in loops), loops[0].__code__.co_filename)
"""


def python(code: str, *path: Path, **environment: str) -> str:
    """What `code` prints in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)), **environment}
    return subprocess.run(
        [sys.executable, "-P", "-c", code], env=variables, capture_output=True, text=True, check=True
    ).stdout


def test_a_release_carries_the_loops_that_its_stages_need(tmp_path: Path) -> None:
    write_code(tmp_path / "code")
    shutil.move(tmp_path / "code", tmp_path / "renamed")
    assert python(MISSES, tmp_path / "renamed").split() == [
        "0",
        str(tmp_path / "renamed" / "python_backend" / "history_loop.py"),
    ]


def test_a_release_carries_no_other_compiled_code(tmp_path: Path) -> None:
    write_code(tmp_path / "code")
    kinds = {path.suffix for path in (tmp_path / "code").rglob("*") if path.is_file()}
    assert kinds <= {".py", ".typed", ".nbi", ".nbc"}


@pytest.mark.parametrize("cached", ["nowhere", "here"])
def test_loops_work_where_nothing_can_be_kept(tmp_path: Path, cached: str) -> None:
    """The cache of the process is a folder that cannot be made; it may be read beside the files or not."""
    source = tmp_path / "compiled_somewhere.py"
    source.write_text(
        "from python_backend.compiled import compiled, types\n"
        "def add(one, other):\n    return one + other\n"
        "print(compiled([types.int64, types.int64], add, gives=types.int64)(2, 3))\n"
    )
    (tmp_path / "file").touch()
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "file" / "cache")} if cached == "nowhere" else {}
    root = Path(__file__).parents[2]
    assert python("import compiled_somewhere", tmp_path, root, root / "clients", **place) == "5\n"


def test_without_numba_one_line_says_what_is_missing() -> None:
    code = (
        "import sys\nsys.modules['numba'] = None\n"
        "try:\n    import python_backend.stages.rerank\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    root = Path(__file__).parents[2]
    assert python(code, root, root / "clients") == (
        "stages need numba, which is not installed: pip install numba\n"
    )
