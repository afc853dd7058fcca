"""Significance: what a metric would be on other examples of the same kind.

A bootstrap draws the examples anew, with replacement, and measures again; two models
are measured on the same draws, which is far more sensitive than two separate intervals.

References: Koehn 2004, "Statistical significance tests for machine translation
evaluation"; Efron and Tibshirani 1993, "An introduction to the bootstrap".
"""

from collections.abc import Iterator

import numpy as np

from pocketseq.pipeline.evaluation import Metric

_RESAMPLES = 2000
_SEED = 0

# The share of resamples that an interval leaves out, half of it at each end.
_OUTSIDE = 0.05


def confidence_interval(metric: Metric, statistics: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of a metric, in percent.

    Args:
        metric: What is measured.
        statistics: Of each example, ``(examples, n)``, one at least.
    """
    values = [metric.of_sums(sums) for sums in _resampled_sums(statistics)]
    return _middle(np.array(values))


def paired_differences(
    metric: Metric, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Returns by how much ``after`` is better than ``before`` in each resample.

    Args:
        metric: What is measured.
        before, after: The statistics ``(examples, n)`` of two models on the same
            examples.

    Returns:
        Float ``(resamples,)``, in points; above 0 where ``after`` is better.
    """
    return np.array(
        [
            metric.goodness(metric.of_sums(one)) - metric.goodness(metric.of_sums(two))
            for two, one in zip(
                _resampled_sums(before), _resampled_sums(after), strict=True
            )
        ]
    )


def difference_interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of the :func:`paired_differences`."""
    return _middle(differences)


def p_value(differences: np.ndarray) -> float:
    """Returns how probable such a difference is where there is none, two-sided.

    Twice the smaller share of resamples in which one model is at least as good as the
    other, at most 1. The observed examples count as a resample, so it is never 0.

    Args:
        differences: Of :func:`paired_differences`.
    """
    sides = [np.sum(differences <= 0), np.sum(differences >= 0)]
    return min(1.0, 2.0 * (1 + float(min(sides))) / (1 + len(differences)))


def _resampled_sums(statistics: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the summed statistics of each resample, the same draws each time."""
    random = np.random.default_rng(_SEED)
    count = len(statistics)
    for _ in range(_RESAMPLES):
        drawn = random.integers(0, count, count)
        yield np.bincount(drawn, minlength=count) @ statistics


def _middle(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [_OUTSIDE / 2, 1 - _OUTSIDE / 2])
    return float(low), float(high)
