"""Groups of examples by a number, such as the length: where errors gather."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Fewer examples than a tenth of the file say little about a length.
_MOST_LENGTHS = 10

# The first frequencies of the groups; each later one is ten times that of two before.
# A symbol that was never seen is a group by itself.
_FREQUENCIES = (0, 1, 3)

# The 97.5 % quantile of the normal distribution.
_Z = 1.959964


@dataclass(frozen=True)
class Group:
    """The examples with a number from ``first`` to ``last``; None: no upper end.

    ``rows``: their numbers in the file.
    """

    first: int
    last: int | None
    rows: np.ndarray


def by_length(lengths: Sequence[int]) -> list[Group]:
    """Groups examples by length, with about equally many in each group.

    Args:
        lengths: Of each example, in symbols.
    """
    values = np.array(lengths, int)
    enough = max(1, math.ceil(len(values) / _MOST_LENGTHS))
    groups: list[Group] = []
    first = None
    for value in np.unique(values).tolist():
        first = value if first is None else first
        rows = np.flatnonzero((values >= first) & (values <= value))
        if len(rows) >= enough:
            groups.append(Group(first, value, rows))
            first = None
    if first is not None:  # too few for a group: they join the one before
        start = groups.pop().first if groups else first
        groups.append(Group(start, None, np.flatnonzero(values >= start)))
    return groups


def by_frequency(frequencies: Sequence[int]) -> list[Group]:
    """Groups examples by frequency, in steps of about three; empty groups are left out.

    Args:
        frequencies: How often the rarest symbol of each example was seen.
    """
    values = np.array(frequencies, int)
    steps = list(_FREQUENCIES)
    while steps[-1] <= values.max(initial=0):
        steps.append(10 * steps[-2])
    groups = []
    for first, next_first in itertools.pairwise(steps):
        rows = np.flatnonzero((values >= first) & (values < next_first))
        if len(rows):
            groups.append(Group(first, next_first - 1, rows))
    return groups


def share_interval(part: int, whole: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share, in percent.

    References: Wilson 1927, "Probable inference, the law of succession, and statistical
    inference".
    """
    if not whole:
        return 0.0, 100.0
    share, spread = part / whole, _Z**2 / whole
    middle = share + spread / 2
    reach = _Z * math.sqrt((share * (1 - share) + spread / 4) / whole)
    low, high = ((middle + side) / (1 + spread) for side in (-reach, reach))
    return 100 * max(low, 0.0), 100 * min(high, 1.0)
