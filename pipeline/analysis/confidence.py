"""Confidence: what scores say about which outputs are wrong.

An app can use a score in two ways: it rejects outputs with a low one, for which only
the order of the scores matters, or it takes it for a probability, which must then be
calibrated: of all outputs with probability 0.8, 80 % should be right.

References: Guo et al. 2017, "On calibration of modern neural networks".
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: The shares of the outputs that are rejected, in percent.
REJECTED_PERCENTS = (5, 10, 20)

# Bins of equal width from probability 0 to 1.
_BINS = 10


@dataclass(frozen=True)
class Rejection:
    """The outcome of rejecting some outputs, those with the lowest scores.

    ``percent``: of the outputs, which was asked for. ``below``: an output is rejected
    if its score is lower than this. ``rejected``: how many are, fewer than asked for
    where scores are equal. ``caught``: the percent of the wrong outputs that are
    rejected; None: none is wrong. ``wrong``: the percent of the kept ones that are
    wrong.
    """

    percent: int
    below: float
    rejected: int
    caught: float | None
    wrong: float


@dataclass(frozen=True)
class Reliability:
    """The outputs with a probability from ``first`` up to ``last``.

    ``probability``: their mean probability, in percent; ``right``: the percent of them
    that are right.
    """

    first: float
    last: float
    examples: int
    probability: float
    right: float


@dataclass(frozen=True)
class Confidence:
    """How far scores tell wrong outputs from right ones.

    ``rejections``: for each of :data:`REJECTED_PERCENTS`. ``calibration_error``: the
    mean difference between probability and share of right outputs over bins of
    probability, weighed by examples, in points; None where there is no probability.
    ``reliability``: the bins that hold outputs.
    """

    rejections: tuple[Rejection, ...]
    calibration_error: float | None
    reliability: tuple[Reliability, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the values as JSON has them, rounded."""
        return _rounded(asdict(self))


def measure_confidence(
    scores: Sequence[float],
    log_probabilities: Sequence[float] | None,
    wrong: Sequence[bool],
) -> Confidence:
    """Measures how far scores tell wrong outputs from right ones.

    Args:
        scores: Of each output.
        log_probabilities: Of each whole output; None: not known.
        wrong: Whether each output is wrong.
    """
    are_wrong = np.array(wrong, bool)
    ranked = np.array(scores, float)
    rejections = tuple(
        _rejection(percent, ranked, are_wrong) for percent in REJECTED_PERCENTS
    )
    if log_probabilities is None:
        return Confidence(rejections, None, ())
    probabilities = np.exp(np.minimum(np.array(log_probabilities, float), 0.0))
    bins = _reliability(probabilities, ~are_wrong)
    error = sum(one.examples * abs(one.probability - one.right) for one in bins)
    return Confidence(rejections, error / max(len(ranked), 1), bins)


def _rejection(percent: int, scores: np.ndarray, wrong: np.ndarray) -> Rejection:
    count = round(len(scores) * percent / 100)
    # The lowest score of those that are kept.
    below = float(np.sort(scores)[count]) if len(scores) else 0.0
    rejected = scores < below
    kept_wrong = float(np.mean(wrong[~rejected])) if len(scores) else 0.0
    return Rejection(
        percent,
        below,
        int(rejected.sum()),
        100 * float(np.mean(rejected[wrong])) if wrong.any() else None,
        100 * kept_wrong,
    )


def _reliability(
    probabilities: np.ndarray, right: np.ndarray
) -> tuple[Reliability, ...]:
    places = np.minimum((probabilities * _BINS).astype(int), _BINS - 1)
    return tuple(
        Reliability(
            place / _BINS,
            (place + 1) / _BINS,
            int((places == place).sum()),
            100 * float(probabilities[places == place].mean()),
            100 * float(right[places == place].mean()),
        )
        for place in np.unique(places).tolist()
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
