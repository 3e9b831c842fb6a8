"""FastAPI under uvicorn, one process per core.

`/recommend` is the service as the documentation would have it: the model is loaded in the lifespan
(https://fastapi.tiangolo.com/advanced/events/), a plain `def` keeps work that blocks off the event loop
(https://fastapi.tiangolo.com/async/), pydantic models check what comes in and write what goes out
(https://fastapi.tiangolo.com/tutorial/response-model/), and `--workers` uses the other cores
(https://fastapi.tiangolo.com/deployment/server-workers/).

`/tuned` is for whoever looks at a profile: no hand-over to a thread, because the work holds the interpreter
anyway and threads that take turns only make all of them late; no models around the JSON, which orjson reads
and writes, arrays included (https://fastapi.tiangolo.com/advanced/response-directly/). It runs without the
access log.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from recommender import Recommender

models: dict[str, Recommender] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    models["recommender"] = Recommender.from_environment()
    yield
    models.clear()


app = FastAPI(lifespan=lifespan)


class Query(BaseModel):
    user_id: int = -1
    session_items: list[int] = []
    diversity: float = 0.3


class Page(BaseModel):
    item_id: list[int]
    score: list[float]
    reason: list[int]
    status: int


@app.post("/recommend")
def recommend(query: Query) -> Page:
    (page,) = models["recommender"].plain_pages([(query.user_id, query.session_items, query.diversity)])
    return Page(**page)


@app.post("/tuned")
async def tuned(request: Request) -> Response:
    query = orjson.loads(await request.body())
    (page,) = models["recommender"].pages([(query["user_id"], query["session_items"], query["diversity"])])
    return Response(orjson.dumps(page, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
