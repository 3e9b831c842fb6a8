"""The stages called in process: what nothing that serves them can beat.

    python bound.py RELEASE STORE

Obeys one JSON object per line and answers with one: `pages` for given visitors, `latency` of one page after
the other, or `throughput`, how many pages a second in batches of `batch`. Runs the release's own code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from recommender import Query, Recommender


def obey(recommender: Recommender, order: dict[str, Any]) -> Any:
    """The answer to one order."""
    queries: list[Query] = [(user, items, order["diversity"]) for user, items in order["visitors"]]
    if order["do"] == "pages":
        return [recommender.plain_pages([query])[0] for query in queries]
    batch = order.get("batch", 1)
    recommender.pages(queries[:batch])
    milliseconds: list[float] = []
    begin = now = time.perf_counter()
    place = 0
    while now - begin < order["seconds"]:
        recommender.pages([queries[(place + each) % len(queries)] for each in range(batch)])
        place += batch
        before, now = now, time.perf_counter()
        milliseconds.append((now - before) * 1000)
    return milliseconds if order["do"] == "latency" else place / (now - begin)


class Bound:
    """Processes that each hold the stages, in a with block."""

    def __init__(self, release: Path, store: str, processes: int) -> None:
        self._command = [sys.executable, str(Path(__file__)), str(release), store]
        self._count = processes
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        for _ in range(self._count):
            self._processes.append(
                subprocess.Popen(
                    self._command,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def pages(self, visitors: Sequence[tuple[int, Sequence[int]]], diversity: float) -> list[dict[str, Any]]:
        """A page for each of `visitors`, computed one by one."""
        return self._ask(1, {"do": "pages", "visitors": visitors, "diversity": diversity})[0]

    def latency(
        self, visitors: Sequence[tuple[int, Sequence[int]]], diversity: float, seconds: float
    ) -> list[float]:
        """Milliseconds of pages, one after the other in one process."""
        order = {"do": "latency", "visitors": visitors, "diversity": diversity, "seconds": seconds}
        return self._ask(1, order)[0]

    def throughput(
        self, visitors: Sequence[tuple[int, Sequence[int]]], diversity: float, seconds: float, batch: int
    ) -> float:
        """Pages per second of all the processes together, in batches of `batch`."""
        order = {"do": "throughput", "visitors": visitors, "diversity": diversity}
        return sum(self._ask(self._count, order | {"seconds": seconds, "batch": batch}))

    def _ask(self, processes: int, order: dict[str, Any]) -> list[Any]:
        asked = self._processes[:processes]
        for process in asked:
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        answers = []
        for process in asked:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the stages in process ended with {process.wait()}")
            answers.append(json.loads(line))
        return answers


def main(release: str, store: str) -> None:
    recommender = Recommender(Path(release), store)
    for line in sys.stdin:
        print(json.dumps(obey(recommender, json.loads(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
