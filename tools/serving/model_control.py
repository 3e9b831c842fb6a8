"""Asking a running Triton to load and unload models, and what it serves, over gRPC."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException
from tritonrec_client.contract import release_from_wire

from tools.serving.server import ask_anonymously

NOT_LOADED = {"", "UNAVAILABLE"}
"""States of models that were never loaded, failed to load, or are unloaded."""
SHORT = 5.0
"""Seconds that an answer may take which needs no work."""
UNLOAD_TIMEOUT = 60.0
SETTLED = 1.0
"""Seconds without any finished request after which nothing is in flight: longer than a batch takes."""
DRAIN_LIMIT = 30.0
"""Seconds after which draining ends: then somebody still asks for the models by their own names."""


class ModelControl:
    """The models of the Triton at `address` (gRPC). InferenceServerException says what it refuses."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.client = grpcclient.InferenceServerClient(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.client.close()

    def answers(self) -> bool:
        """Whether a Triton answers at the address."""
        try:
            return bool(self.client.is_server_live(client_timeout=SHORT))
        except InferenceServerException:
            return False

    def states(self) -> dict[str, str]:
        """The state of each model of the repository, such as READY; empty for one that was never loaded."""
        index = self.client.get_model_repository_index(client_timeout=SHORT)
        return {model.name: model.state for model in index.models}

    def load(self, model: str) -> None:
        """Load `model`, or load it anew where its files changed; one that is being replaced serves on."""
        self.client.load_model(model)

    def unload(self, models: Iterable[str]) -> None:
        """Unload `models`, in this order, and wait until they are gone."""
        going = list(models)
        for model in going:
            self.client.unload_model(model)
        deadline = time.monotonic() + UNLOAD_TIMEOUT
        while time.monotonic() < deadline:
            states = self.states()
            if all(states.get(model, "") in NOT_LOADED for model in going):
                return
            time.sleep(0.05)

    def releases_answering(self, model: str) -> set[str]:
        """The releases of the stages that answered a request to the ensemble `model`, if it was answered."""
        try:
            result = ask_anonymously(self.client, model)
        except InferenceServerException:
            return set()
        names = [output.name for output in result.get_response().outputs if output.name.endswith("_release")]
        return {release_from_wire(int(result.as_numpy(name)[0, 0])) for name in names}

    def warm(self, model: str, requests: int, at_once: int) -> None:
        """Send a burst of anonymous requests to `model`, `at_once` of them together."""
        with ThreadPoolExecutor(at_once) as threads:
            for _ in threads.map(lambda _: ask_anonymously(self.client, model), range(requests)):
                pass

    def drain(self, models: Iterable[str], *, settled: float = SETTLED, limit: float = DRAIN_LIMIT) -> bool:
        """Wait until no request has been finished by any of `models` for `settled` seconds.

        Steps of an ensemble are found by name when their turn comes, so a stage may not go while a request is
        anywhere in the ensemble. False where requests still came after `limit` seconds.
        """
        names = list(models)
        end = time.monotonic() + limit
        counts, since = self._finished(names), time.monotonic()
        while time.monotonic() - since < settled:
            if time.monotonic() > end:
                return False
            time.sleep(settled / 10)
            if (now := self._finished(names)) != counts:
                counts, since = now, time.monotonic()
        return True

    def _finished(self, models: list[str]) -> list[Any]:
        counts = []
        for model in models:
            try:
                statistics = self.client.get_inference_statistics(model, client_timeout=SHORT).model_stats
            except InferenceServerException:
                continue  # not loaded
            for each in statistics:
                counts.append((model, each.inference_stats.success.count, each.inference_stats.fail.count))
        return counts
