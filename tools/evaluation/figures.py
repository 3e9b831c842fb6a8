"""From lists to figures: everything that the report's page and metrics.json state."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.evaluation import metrics
from tools.evaluation.calibration import calibration
from tools.evaluation.evaluation import RANK, RERANK, RERANK_DEFAULT, RETRIEVE, STAGES, Evaluation
from tools.evaluation.metrics import Interval, Ints, Items

Figures = dict[str, Any]

FORMAT = 1
"""Raised when a key of metrics.json changes its meaning."""

_CURVE_POINTS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)
_HISTORY_BUCKETS = 5


def compute_figures(evaluation: Evaluation) -> Figures:
    """All figures of a release as plain, JSON-ready values; a figure that does not exist is None.

    An interval is ``{"mean", "low", "high"}`` at 95 %. Figures end in the number of places they look at;
    those of coverage, novelty, popularity and diversity look at 20 places, or at the page if it is shorter.
    """
    ranks = target_ranks(evaluation)
    popularity = evaluation.popularity
    history = metrics.popularity_bias(evaluation.stages[RERANK], _places(evaluation), popularity).history
    events = popularity[1:] / max(popularity[1:].sum(), 1)
    figures = {
        "format": FORMAT,
        "release": evaluation.release,
        "name": evaluation.name,
        "seed": evaluation.seed,
        "sizes": evaluation.sizes.to_dict(),
        "trained_on": evaluation.trained_on,
        "data": {
            "users": evaluation.n_users,
            "items": evaluation.n_items,
            "events": evaluation.n_events,
            "first_day": _day(evaluation.data_range[0]),
            "last_day": _day(evaluation.data_range[1]),
            "test_users": int(np.count_nonzero(evaluation.targets > 0)),
        },
        "places": _places(evaluation),
        "headline": _headline(evaluation, ranks),
        "compared": _compared(evaluation, ranks[RERANK]),
        "rank_variant": evaluation.variant,
        "receipt": evaluation.receipt,
        "methods": {name: _method(evaluation, name, ranks[name]) for name in evaluation.lists},
        "history": {
            "popularity_percentile": history,
            "popularity_deciles": _deciles(events, popularity),
            "novelty": float(-(events[events > 0] @ np.log2(events[events > 0]))),
        },
        "calibration": _calibration(evaluation),
        "curves": {model: [dict(row) for row in rows] for model, rows in evaluation.curves.items()},
        "timings_seconds": dict(evaluation.timings),
        "latency_ms": evaluation.latency and {name: dict(row) for name, row in evaluation.latency.items()},
        "library_versions": dict(evaluation.library_versions),
        "skipped_baselines": dict(evaluation.skipped),
    }
    plain: Figures = _plain(figures)
    return plain


def target_ranks(evaluation: Evaluation) -> dict[str, Ints]:
    """Per method the ranks of the targets (see `metrics.ranks`): the same users in each."""
    return {name: metrics.ranks(ranked, evaluation.targets) for name, ranked in evaluation.lists.items()}


def _headline(evaluation: Evaluation, ranks: dict[str, Ints]) -> Figures:
    ndcg_10 = {name: metrics.ndcg(found, 10) for name, found in ranks.items()}
    ndcg_20 = {name: metrics.ndcg(found, 20) for name, found in ranks.items()}
    best = max(evaluation.baselines, key=lambda name: float(ndcg_10[name].mean()), default=None)
    candidates = evaluation.stages[RETRIEVE].shape[1]
    served = evaluation.stages[RERANK_DEFAULT]
    return {
        "ndcg_10": metrics.mean_interval(ndcg_10[RERANK]),
        "best_baseline": best,
        "times_best_baseline": best and metrics.paired_ratio(ndcg_10[RERANK], ndcg_10[best]),
        "retrieve_recall": {
            "k": candidates,
            **metrics.mean_interval(metrics.recall(ranks[RETRIEVE], candidates)).to_dict(),
        },
        "rank_gain_ndcg_10": metrics.paired_bootstrap(ndcg_10[RANK], ndcg_10[RETRIEVE]),
        "rank_gain_relative": _change(metrics.paired_ratio(ndcg_10[RANK], ndcg_10[RETRIEVE])),
        "coverage_20": metrics.coverage(served, _places(evaluation), evaluation.n_items),
        "diversity_change_ndcg_10": _change(metrics.paired_ratio(ndcg_10[RERANK_DEFAULT], ndcg_10[RERANK])),
        "diversity_change_ndcg_20": _change(metrics.paired_ratio(ndcg_20[RERANK_DEFAULT], ndcg_20[RERANK])),
    }


def _compared(evaluation: Evaluation, ranks: Ints) -> Figures | None:
    """The served page beside that of the active release, over the same users, from the same histories."""
    if evaluation.compared is None:
        return None
    theirs = evaluation.compared.ranks
    rows = {}
    for name, figure in metrics.PAGE_METRICS.items():
        ours, other = figure(ranks), figure(theirs)
        rows[name] = {
            "mean": float(ours.mean()),
            "active": float(other.mean()),
            "ratio": metrics.paired_ratio(ours, other),
        }
    return {"release": evaluation.compared.release, "metrics": rows}


def _method(evaluation: Evaluation, name: str, ranks: Ints) -> Figures:
    ranked = evaluation.lists[name]
    width, places, popularity = ranked.shape[1], _places(evaluation), evaluation.popularity
    bias = metrics.popularity_bias(ranked, places, popularity)
    points = sorted({k for k in _CURVE_POINTS if k <= width} | {width})
    exposure = np.bincount(ranked[:, :places].ravel(), minlength=len(popularity))[1:]
    return {
        "kind": "stage" if name in STAGES else "baseline",
        "list_length": width,
        "ndcg_10": metrics.mean_interval(metrics.ndcg(ranks, 10)),
        "ndcg_20": metrics.mean_interval(metrics.ndcg(ranks, 20)),
        "hit_rate_10": metrics.mean_interval(metrics.hit_rate(ranks, 10)),
        "recall_100": metrics.mean_interval(metrics.recall(ranks, 100)) if width >= 100 else None,
        "recall_500": metrics.mean_interval(metrics.recall(ranks, 500)) if width >= 500 else None,
        "mrr_20": metrics.mean_interval(metrics.mrr(ranks, 20)),
        "coverage_20": metrics.coverage(ranked, places, evaluation.n_items),
        "novelty_20": metrics.mean_interval(metrics.novelty(ranked, places, popularity)),
        "popularity_percentile_20": bias.recommended,
        "popularity_deciles_20": _deciles(exposure / max(exposure.sum(), 1), popularity),
        "exposure_gini_20": bias.gini,
        "diversity_20": metrics.mean_interval(
            metrics.intra_list_diversity(ranked, places, evaluation.item_vectors)
        ),
        "recall_curve": {"k": points, "recall": [metrics.recall(ranks, k).mean() for k in points]},
        "ndcg_10_by_history": _by_history(evaluation, ranks),
    }


def _by_history(evaluation: Evaluation, ranks: Ints) -> list[Figures]:
    """NDCG@10 in buckets of about equally many users, by how much history they have."""
    lengths = evaluation.history_lengths[evaluation.targets > 0]
    inner = np.quantile(lengths, np.arange(1, _HISTORY_BUCKETS) / _HISTORY_BUCKETS)
    bucket = np.searchsorted(np.unique(inner), lengths, side="left")
    values = metrics.ndcg(ranks, 10)
    rows = []
    for index in np.unique(bucket):
        inside = bucket == index
        rows.append(
            {
                "shortest": int(lengths[inside].min()),
                "longest": int(lengths[inside].max()),
                "users": int(inside.sum()),
                **metrics.mean_interval(values[inside]).to_dict(),
            }
        )
    return rows


def _deciles(share: npt.NDArray[Any], popularity: npt.NDArray[Any]) -> list[float]:
    """How much of `share` [I] falls to each tenth of the catalogue, least popular items first."""
    percentile = metrics.popularity_percentile(popularity)[1:]
    decile = np.minimum(percentile // 10, 9).astype(np.int64)
    return [float(part) for part in np.bincount(decile, weights=share, minlength=10)]


def _calibration(evaluation: Evaluation) -> Figures:
    page: Items = evaluation.stages[RERANK]
    shown = (page > 0) & (evaluation.targets > 0)[:, None]
    hit = page == evaluation.targets[:, None]
    curve = calibration(evaluation.page_probability[shown], hit[shown])
    return {
        "expected_calibration_error": curve.error,
        "mean_probability": float(evaluation.page_probability[shown].mean()) if shown.any() else None,
        "mean_hit_rate": float(hit[shown].mean()) if shown.any() else None,
        "bins": {
            "probability": curve.probability.tolist(),
            "hit_rate": curve.hit_rate.tolist(),
            "low": curve.low.tolist(),
            "high": curve.high.tolist(),
            "count": curve.count.tolist(),
        },
    }


def _places(evaluation: Evaluation) -> int:
    """How many places of a list are shown to a user, at most 20."""
    return min(20, evaluation.stages[RERANK].shape[1])


def _change(ratio: Interval) -> Interval:
    return Interval(ratio.mean - 1, ratio.low - 1, ratio.high - 1)


def _day(unix_seconds: int) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).date().isoformat()


def _plain(value: Any) -> Any:
    """`value` with intervals, NumPy numbers and NaN turned into what JSON has."""
    if isinstance(value, Interval):
        return _plain(value.to_dict())
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
