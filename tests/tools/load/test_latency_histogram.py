from __future__ import annotations

import math

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from tools.load.histogram import RESOLUTION, Histogram

PERCENTS = (1, 10, 50, 90, 95, 99, 99.9, 99.99, 100)


def filled(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(float(value))
    return histogram


@pytest.mark.parametrize("scale", [0.05, 0.8, 4.0, 300.0])
def test_percentiles_are_those_of_numpy_to_the_stated_resolution(scale: float) -> None:
    values = scale * np.random.default_rng(1).lognormal(0, 0.8, 20_001)  # no rank that rounding could move
    histogram = filled(values)
    assert len(histogram) == 20_001
    for percent in PERCENTS:
        expected = np.percentile(values, percent, method="inverted_cdf")
        assert histogram.percentile(percent) == pytest.approx(expected, rel=RESOLUTION, abs=0.001), percent
    assert histogram.mean == pytest.approx(values.mean(), rel=RESOLUTION, abs=0.001)


def test_requests_without_an_answer_are_slower_than_every_answer() -> None:
    histogram = filled(np.arange(1.0, 99.0))  # 98 answers, 1 to 98 ms
    assert histogram.percentile(98, missing=2) == pytest.approx(98, rel=RESOLUTION)
    assert math.isinf(histogram.percentile(99, missing=2))
    assert histogram.percentile(50, missing=2) == pytest.approx(50, rel=RESOLUTION)
    assert math.isinf(Histogram().percentile(50, missing=1))


def test_nothing_measured_has_no_percentile() -> None:
    assert math.isnan(Histogram().percentile(99))
    assert math.isnan(Histogram().mean)


def test_more_than_a_minute_counts_as_a_minute() -> None:
    assert filled(np.array([3_600_000.0])).percentile(100) == pytest.approx(60_000, rel=RESOLUTION)


def test_histograms_add_up_and_can_be_read_by_others() -> None:
    first, second = filled(np.arange(1.0, 51.0)), filled(np.arange(51.0, 101.0))
    first.merge(second)
    assert first.percentile(75) == pytest.approx(75, rel=RESOLUTION)
    assert HdrHistogram.decode(first.encode()).get_total_count() == 100
