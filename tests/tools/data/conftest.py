from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools.config.build import BuildConfig
from tools.data.dataset import Dataset, load_dataset
from tools.data.problems import DataProblems, Problem

EVENTS = "user,item,timestamp\n1,10,100\n1,11,200\n2,10,300\n"


class Files:
    """Writes small data files into the working directory and loads them."""

    def __init__(self) -> None:
        self.data: dict[str, Any] = {
            "events": {"path": "events.csv", "user": "user", "item": "item", "timestamp": "timestamp"}
        }

    def write(self, name: str, content: str | bytes) -> None:
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def events(self, content: str | bytes = EVENTS, **options: Any) -> Files:
        self.data["events"].update(options)
        self.write(self.data["events"]["path"], content)
        return self

    def items(self, content: str | bytes, **options: Any) -> Files:
        self.data["items"] = {"path": "items.csv", "id": "item", **options}
        self.write(self.data["items"]["path"], content)
        return self

    def users(self, content: str | bytes, **options: Any) -> Files:
        self.data["users"] = {"path": "users.csv", "id": "user", **options}
        self.write(self.data["users"]["path"], content)
        return self

    def config(self, *, candidates: int = 1, seed: int = 1) -> BuildConfig:
        contract = {"candidates": candidates, "results": 1}
        return BuildConfig.model_validate(
            {"name": "test", "seed": seed, "data": self.data, "contract": contract}
        )

    def load(self, **options: int) -> Dataset:
        return load_dataset(self.config(**options))

    def problems(self, **options: int) -> tuple[Problem, ...]:
        with pytest.raises(DataProblems) as caught:
            self.load(**options)
        return caught.value.problems

    def problem(self, **options: int) -> Problem:
        problems = self.problems(**options)
        assert len(problems) == 1, [str(problem) for problem in problems]
        return problems[0]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.chdir(tmp_path)
    return Files()


@pytest.fixture
def where() -> Callable[[Problem], tuple[str, str | None, int | None, int | None]]:
    return lambda problem: (problem.file, problem.column, problem.row, problem.line)
