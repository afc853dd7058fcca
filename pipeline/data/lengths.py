"""Lengths of pairs in tokens, and the batch shapes and the bound they lead to."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.data.batches import (
    Bucket,
    Reader,
    short_enough,
    texts,
    tokenized,
    without_autotuning,
)
from pocketseq.pipeline.data.corpora import Pair
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.text.tokenizers import Tokenizer

logger = logging.getLogger(__name__)

# How much longer than the longest of training a target may become, and the steps in
# which the bound is kept.
_SLACK = 1.5
_BOUND_STEPS = 64


class LengthStatistics(NamedTuple):
    """Statistics of the lengths of the training pairs, in tokens.

    ``counts`` int64 ``(longest source + 1, longest target + 1)``: how many pairs have
    these lengths, end token included; ``dropped``: how many pairs are over-long.
    """

    counts: np.ndarray
    dropped: int

    @property
    def pairs(self) -> int:
        """The number of pairs that are kept."""
        return int(self.counts.sum())

    @property
    def tokens(self) -> int:
        """The number of source and target tokens in them."""
        sources, targets = np.nonzero(self.counts)
        return int(((sources + targets) * self.counts[sources, targets]).sum())


def measure_lengths(
    pairs: Iterable[Pair], source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> LengthStatistics:
    """Counts the lengths of all pairs, and those too long for training.

    Raises:
        UserError: No pair is short enough.
    """
    tokenizers = (source_tokenizer, target_tokenizer)
    limits = [tokenizer.max_code_points for tokenizer in tokenizers]
    dropped = 0

    def one_dropped() -> None:
        nonlocal dropped
        dropped += 1

    def short_pairs() -> Iterator[Pair]:
        return short_enough(pairs, *tokenizers, one_dropped)

    examples = tokenized(texts(short_pairs), *tokenizers)
    counted: Counter[tuple[int, int]] = Counter()

    @tf.autograph.experimental.do_not_convert
    def lengths_of(
        sources: tf.RaggedTensor, targets: tf.RaggedTensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return sources.row_lengths(), targets.row_lengths()

    lengths = examples.map(lengths_of)
    with Reader(without_autotuning(lengths)) as reader:
        for sources, targets in reader:
            counted.update(
                zip(sources.numpy().tolist(), targets.numpy().tolist(), strict=True)
            )
    if dropped:
        logger.info(
            "dropped %d pairs longer than %d and %d code points", dropped, *limits
        )
    if not counted:
        raise UserError(
            f"all {dropped} pairs are over-long: expected at most {limits[0]} code "
            f"points in a source text (source.max_code_points) and {limits[1]} in a "
            f"target text (target.max_code_points)"
        )
    counts = np.zeros(np.max(list(counted), axis=0) + 1, np.int64)
    for lengths, number in counted.items():
        counts[lengths] = number
    return LengthStatistics(counts, dropped)


def learn_length_bound(statistics: LengthStatistics) -> LengthBound:
    """Returns how long targets may become: half as long again as training ever saw.

    ``ratio`` is that of all target to all source tokens, which is what longer texts
    than those of training will show; the ``offset`` lifts the line over every pair.
    Products of these numbers are exact in float32, so that every runtime comes to the
    same limit.
    """
    sources, targets = np.nonzero(statistics.counts)
    pairs = statistics.counts[sources, targets]
    ratio = (targets * pairs).sum() / (sources * pairs).sum()
    offset = (targets - ratio * sources).max()
    ratio, offset = (
        float(np.ceil(_SLACK * number * _BOUND_STEPS) / _BOUND_STEPS)
        for number in (ratio, offset)
    )
    return LengthBound(ratio, offset)


def choose_buckets(
    statistics: LengthStatistics, *, batch_tokens: int, most: int
) -> list[Bucket]:
    """Chooses the batch shapes that waste the least on padding.

    Pairs go by the longer of their two lengths. Where to cut the range of lengths is
    found by dynamic programming: the cheapest way to end a bucket at each length.
    A small corpus gets fewer buckets, so that each still fills its batches.

    Args:
        statistics: Of the training pairs.
        batch_tokens: Source and target tokens of a batch, padding included.
        most: The largest number of buckets.

    Returns:
        The buckets, short to long.
    """
    filled = statistics.tokens // batch_tokens // 8
    most = max(1, min(most, filled))
    by_length = _by_longer_side(statistics.counts)
    lengths = sorted(by_length)

    def padded(first: int, last: int) -> int:
        inside = [by_length[n] for n in lengths[first : last + 1]]
        number, sources, targets = zip(*inside, strict=True)
        return sum(number) * (max(sources) + max(targets))

    # best[k][i]: (padded tokens, cuts) with k + 1 buckets over the first i + 1 lengths.
    best: list[list[tuple[int, tuple[int, ...]]]]
    best = [[(padded(0, i), (i,)) for i in range(len(lengths))]]
    for _ in range(1, min(most, len(lengths))):
        before = best[-1]
        best.append(
            [
                min(
                    [before[i]]
                    + [
                        (before[j][0] + padded(j + 1, i), (*before[j][1], i))
                        for j in range(i)
                    ]
                )
                for i in range(len(lengths))
            ]
        )
    buckets, start = [], 0
    for cut in best[-1][-1][1]:
        inside = [by_length[n] for n in lengths[start : cut + 1]]
        source = max(sources for _, sources, _ in inside)
        target = max(targets for _, _, targets in inside)
        pairs = sum(number for number, _, _ in inside)
        rows = max(1, min(batch_tokens // (source + target), pairs))
        buckets.append(Bucket(source, target, rows))
        start = cut + 1
    return buckets


def _by_longer_side(counts: np.ndarray) -> dict[int, tuple[int, int, int]]:
    """Returns ``{longer length: (pairs, longest source, longest target)}``."""
    by_length: dict[int, tuple[int, int, int]] = {}
    for source, target in zip(*np.nonzero(counts), strict=True):
        key = int(max(source, target))
        number, sources, targets = by_length.get(key, (0, 0, 0))
        by_length[key] = (
            number + int(counts[source, target]),
            max(sources, int(source)),
            max(targets, int(target)),
        )
    return by_length
