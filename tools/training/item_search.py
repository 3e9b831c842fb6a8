"""From which size on a catalogue is searched by its index, and that search for a trained retriever."""

from __future__ import annotations

import numpy as np
import torch

from python_backend.exact_search import ExactSearch, MissingLibrary
from python_backend.item_index import ItemIndex
from tools.checks import CheckFailed
from tools.training.retriever import Retriever

INDEX_FROM = 50_000
"""The least number of items for which searching an index is faster than scoring everything in one graph."""


def index_of(retriever: Retriever) -> ItemIndex:
    """The index of the retriever's items as they are now."""
    vectors = retriever.items().detach().numpy().astype(np.float32)
    return ItemIndex.of(vectors, retriever.bias.detach().numpy().astype(np.float32))


def search_of(retriever: Retriever, candidates: int) -> ExactSearch:
    """What finds the retriever's `candidates` best items. Raises CheckFailed where a library is missing."""
    try:
        return ExactSearch(index_of(retriever), candidates=candidates, threads=torch.get_num_threads())
    except MissingLibrary as error:
        raise CheckFailed(str(error)) from error
