"""Where pointwise rankers start: the retrieval score as a probability."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

Floats = npt.NDArray[np.float64]

RIDGE = 1e-6
"""Times the number of examples: keeps weights finite where examples can be told apart without error."""


def logistic_regression(columns: npt.NDArray[Any], clicked: npt.NDArray[np.bool_]) -> tuple[Floats, float]:
    """Weights float64 ``[m]`` and bias of the logit of `clicked`, bool ``[n]``, given `columns` ``[n, m]``.

    Platt scaling (Platt 1999) where there is one column. Deterministic: L-BFGS from the base rate. Of
    examples that were all clicked, or none, the bias is that of one more of the other kind, and the weights
    are 0.
    """
    columns = np.asarray(columns, dtype=np.float64)
    rate = (clicked.sum() + 1e-9) / (len(clicked) + 2e-9) if len(clicked) else 0.5
    least = 1 / (len(clicked) + 2)
    bias = float(np.log(np.clip(rate, least, 1 - least) / (1 - np.clip(rate, least, 1 - least))))
    if not clicked.any() or clicked.all():
        return np.zeros(columns.shape[1]), bias

    def loss(parameters: Floats) -> tuple[float, Floats]:
        logits = columns @ parameters[:-1] + parameters[-1]
        # log(1 + exp(logit)) - label · logit
        value = float((np.logaddexp(0, logits) - clicked * logits).sum())
        error = expit(logits) - clicked
        ridge = RIDGE * len(clicked) * parameters[:-1]
        gradient = np.append(columns.T @ error + ridge, error.sum())
        return value + 0.5 * float(ridge @ parameters[:-1]), gradient

    start = np.append(np.zeros(columns.shape[1]), bias)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return np.asarray(found[:-1], dtype=np.float64), float(found[-1])
