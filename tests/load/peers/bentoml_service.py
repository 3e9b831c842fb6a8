"""BentoML, one worker per core.

`Documented` follows the quickstart's service class
(https://docs.bentoml.com/en/latest/get-started/hello-world.html) with as many workers as there are cores
(https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html).

`Tuned` adds adaptive batching (https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html): one
list in, one list out, of which callers send and get a single element each. No metrics and no access log.
"""

from __future__ import annotations

from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from pydantic import BaseModel
from recommender import Recommender


class Query(BaseModel):
    user_id: int = -1
    session_items: list[int] = []
    diversity: float = 0.3


class Page(BaseModel):
    item_id: list[int]
    score: list[float]
    reason: list[int]
    status: int


Answer = Annotated[list[dict[str, Any]], ContentType("application/json")]


@bentoml.service(workers="cpu_count")
class Documented:
    def __init__(self) -> None:
        self.recommender = Recommender.from_environment()

    @bentoml.api
    def recommend(self, user_id: int = -1, session_items: list[int] = [], diversity: float = 0.3) -> Page:  # noqa: B006
        (page,) = self.recommender.plain_pages([(user_id, session_items, diversity)])
        return Page(**page)


@bentoml.service(workers="cpu_count", metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Tuned:
    def __init__(self) -> None:
        self.recommender = Recommender.from_environment()

    # Not `def`, which would hand each batch to a thread. Plain dictionaries, because models around the answer
    # would check it a second time; and with the content type, because without it BentoML derives the answer's
    # JSON schema anew for every request.
    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=1000)
    async def recommend(self, queries: list[Query]) -> Answer:
        asked = [(query.user_id, query.session_items, query.diversity) for query in queries]
        return self.recommender.plain_pages(asked)
