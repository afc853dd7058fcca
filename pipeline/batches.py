"""From pairs of texts to training batches: a chain of tf.data transformations."""

import itertools
import logging
from collections import Counter
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.corpora import blocks
from pocketseq.pipeline.errors import Interrupted, UserError
from pocketseq.pipeline.search import LengthBound
from pocketseq.pipeline.special import END, PAD, START

logger = logging.getLogger(__name__)

# Pairs tokenised at once: enough to make the Python reader's share of the work small.
_BLOCK = 1024

# Blocks tokenised at a time, and batches made ahead of the training.
_PARALLEL_CALLS = 2
_PREFETCHED = 8


# How much longer than the longest of training a target may become, and the steps in
# which the bound is kept.
_SLACK = 1.5
_BOUND_STEPS = 64


class Batch(NamedTuple):
    """Examples of one bucket, padded to its shape.

    ``source_ids`` int32 ``(batch, source_length)``; ``source_length`` ``(batch,)``;
    ``target_ids`` int32 ``(batch, target_length)``, ended by the end token;
    ``target_length`` ``(batch,)``, end token included.
    """

    source_ids: tf.Tensor
    source_length: tf.Tensor
    target_ids: tf.Tensor
    target_length: tf.Tensor

    @property
    def decoder_inputs(self):
        """The start token, then the target without its last token."""
        start = tf.fill([tf.shape(self.target_ids)[0], 1], START)
        return tf.concat([start, self.target_ids[:, :-1]], axis=1)

    def parts(self, number):
        """Returns the batch cut into ``number`` batches of about equally many rows."""
        rows = tf.shape(self.source_ids)[0]
        cuts = [rows * part // number for part in range(number + 1)]
        return [
            Batch(*(column[start:end] for column in self))
            for start, end in itertools.pairwise(cuts)
        ]


class LengthStatistics(NamedTuple):
    """What one pass over the training pairs tells about their lengths in tokens.

    ``counts`` int64 ``(longest source + 1, longest target + 1)``: how many pairs have
    these lengths, end token included; ``dropped``: how many pairs are over-long.
    """

    counts: np.ndarray
    dropped: int

    @property
    def pairs(self):
        """The number of pairs that are kept."""
        return int(self.counts.sum())

    @property
    def tokens(self):
        """The number of source and target tokens in them."""
        sources, targets = np.nonzero(self.counts)
        return int(((sources + targets) * self.counts[sources, targets]).sum())


class Bucket(NamedTuple):
    """One fixed batch shape: lengths in tokens, and how many rows make a batch."""

    source_length: int
    target_length: int
    rows: int

    def holds(self, source_length, target_length):
        """Whether a pair of these lengths is within the bucket's."""
        return (
            source_length <= self.source_length and target_length <= self.target_length
        )


def measure_lengths(pairs, source_tokenizer, target_tokenizer):
    """Counts the lengths of all pairs, and those too long for training.

    Returns:
        :class:`LengthStatistics`.

    Raises:
        UserError: No pair is short enough.
    """
    tokenizers = (source_tokenizer, target_tokenizer)
    limits = [tokenizer.max_code_points for tokenizer in tokenizers]
    dropped = 0

    def one_dropped():
        nonlocal dropped
        dropped += 1

    def short_pairs():
        return short_enough(pairs, *tokenizers, one_dropped)

    examples = tokenized(texts(short_pairs), *tokenizers)
    counted: Counter[tuple[int, int]] = Counter()
    lengths = examples.map(
        lambda sources, targets: (sources.row_lengths(), targets.row_lengths())
    )
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


def learn_length_bound(statistics):
    """Returns how long targets may become: half as long again as training ever saw.

    ``ratio`` is that of all target to all source tokens, which is what longer texts
    than those of training will show; the ``offset`` lifts the line over every pair.

    Args:
        statistics: :class:`LengthStatistics`.

    Returns:
        :class:`pocketseq.pipeline.search.LengthBound`, of numbers whose products are
        exact in float32, so that every runtime comes to the same limit.
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


def fits(pair, source_tokenizer, target_tokenizer):
    """Whether both texts of a pair are within their tokenizer's length."""
    return source_tokenizer.fits(pair.source) and target_tokenizer.fits(pair.target)


def choose_buckets(statistics, *, batch_tokens, most):
    """Chooses the batch shapes that waste the least on padding.

    Pairs go by the longer of their two lengths. Where to cut the range of lengths is
    found by dynamic programming: the cheapest way to end a bucket at each length.
    A small corpus gets fewer buckets, so that each still fills its batches.

    Args:
        statistics: :class:`LengthStatistics`.
        batch_tokens: Source and target tokens of a batch, padding included.
        most: The largest number of buckets.

    Returns:
        A list of :class:`Bucket`, short to long.
    """
    filled = statistics.tokens // batch_tokens // 8
    most = max(1, min(most, filled))
    by_length = _by_longer_side(statistics.counts)
    lengths = sorted(by_length)

    def padded(first, last):
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


def _by_longer_side(counts):
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


def training_batches(
    pairs,
    source_tokenizer,
    target_tokenizer,
    buckets,
    config,
    *,
    epoch,
    on_problem=lambda error: None,
):
    """Returns the batches of an epoch and of all that follow, one endless dataset.

    The order in an epoch depends on the seed and its number, so that a resumed training
    can skip to where it was. Shuffling comes before bucketing: it is what mixes
    examples.

    Args:
        pairs: An iterable of pairs, read once for each epoch.
        source_tokenizer, target_tokenizer: See :mod:`pocketseq.pipeline.tokenizers`.
        buckets: As :func:`choose_buckets` returns them.
        config: :class:`pocketseq.pipeline.configuration.Config`.
        epoch: The number of the first epoch, from 0.
        on_problem: Called with what goes wrong while pairs are read. That happens in a
            thread of tf.data's, which reports it as an error of its own.

    Returns:
        A ``tf.data.Dataset`` of (number of the epoch, int64 ``(batch,)``, and
        :class:`Batch`).
    """
    tokenizers = (source_tokenizer, target_tokenizer)

    def short_pairs():
        empty = True
        for pair in short_enough(pairs, *tokenizers):
            empty = False
            yield pair
        if empty:  # else the epochs would follow each other for ever
            raise UserError("no training pairs are left, expected those of the start")

    @tf.autograph.experimental.do_not_convert
    def one_epoch(number):
        seed = tf.random.stateless_uniform(
            [], [config.training.seed, number], minval=None, maxval=None, dtype=tf.int64
        )
        examples = texts(short_pairs, on_problem).shuffle(
            config.training.shuffle_buffer, seed=seed, reshuffle_each_iteration=False
        )
        batches = bucketed(tokenized(examples, *tokenizers), buckets)
        return batches.map(
            lambda batch: (tf.repeat(number, tf.shape(batch.source_length)[0]), batch)
        )

    # One dataset for all epochs: to build one takes a second or so, in which a training
    # on few pairs would do nothing.
    epochs = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(one_epoch)
    return without_autotuning(epochs.prefetch(_PREFETCHED))


def short_enough(pairs, source_tokenizer, target_tokenizer, on_dropped=lambda: None):
    """Yields the pairs that are not over-long.

    Args:
        pairs: An iterable of pairs.
        source_tokenizer, target_tokenizer: See :mod:`pocketseq.pipeline.tokenizers`.
        on_dropped: Called for each pair that is left out.
    """
    for pair in pairs:
        if fits(pair, source_tokenizer, target_tokenizer):
            yield pair
        else:
            on_dropped()


def texts(make_pairs, on_problem=lambda error: None):
    """Returns a Dataset of (source text, target text), string scalars.

    Args:
        make_pairs: Called for each epoch; returns an iterable of pairs.
        on_problem: As in :func:`training_batches`.
    """

    def generate():
        try:
            for block in blocks(make_pairs(), _BLOCK):
                sources, targets = zip(*block, strict=True)
                yield np.array(sources, object), np.array(targets, object)
        except (UserError, Interrupted, OSError) as error:
            on_problem(error)
            raise

    strings = tf.TensorSpec([None], tf.string)
    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=(strings, strings)
    )
    return dataset.unbatch()


def tokenized(examples, source_tokenizer, target_tokenizer):
    """Turns (source text, target text) into blocks of ragged (source, target) ids."""
    return examples.batch(_BLOCK).map(
        lambda sources, targets: (
            source_tokenizer.tokenize(sources),
            with_end(target_tokenizer.tokenize(targets)),
        ),
        num_parallel_calls=_PARALLEL_CALLS,
    )


def without_autotuning(dataset):
    """Returns the dataset with tf.data's autotuning off.

    Its thread can miss the news that an iterator ends, at the end of each epoch, and
    then holds up the training until it wakes: for up to a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class Reader:
    """An iterator over a dataset, whose threads have ended when its context is left.

    They run Python where texts are read. Were one still there when the interpreter
    ends, it would wait for the interpreter, and the interpreter for it, for ever.
    """

    def __init__(self, dataset):
        self._iterator = iter(dataset)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._iterator = None  # which waits for the threads

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self._iterator)
        except BaseException as error:
            # The frames below know tf.data's iterator, and would keep it from ending.
            error.__context__ = None
            raise error.with_traceback(None) from None


def with_end(ids):
    """Returns ragged ids ``(batch, None)`` with the end token after each row."""
    return tf.concat([ids, tf.fill([ids.nrows(), 1], END)], axis=1)


def bucketed(examples, buckets):
    """Regroups blocks of ragged (source_ids, target_ids) into batches of one bucket.

    An example goes to the first bucket that holds both its lengths; one that none
    holds, which a changed corpus may have, is left out. The last batches of an epoch
    are filled up with rows of length 0: every batch has the one shape that
    its bucket's functions are compiled for.
    """
    source_lengths, target_lengths, rows = (
        tf.constant(column) for column in zip(*buckets, strict=True)
    )
    longest_source = max(bucket.source_length for bucket in buckets)
    longest_target = max(bucket.target_length for bucket in buckets)

    def padded(sources, targets):
        source_length = tf.cast(sources.row_lengths(), tf.int32)
        target_length = tf.cast(targets.row_lengths(), tf.int32)
        holds = tf.logical_and(
            source_length[:, None] <= source_lengths,
            target_length[:, None] <= target_lengths,
        )
        # Dense rows, because ragged ones unbatch ten times more slowly.
        batch = Batch(
            sources.to_tensor(default_value=PAD, shape=[None, longest_source]),
            source_length,
            targets.to_tensor(default_value=PAD, shape=[None, longest_target]),
            target_length,
        )
        index = tf.argmax(tf.cast(holds, tf.int32), axis=1)
        fitting = tf.reduce_any(holds, axis=1)
        return tf.nest.map_structure(
            lambda column: tf.boolean_mask(column, fitting), (index, batch)
        )

    def batched(index, window):
        def shaped(_, batch):
            missing = rows[index] - tf.shape(batch.source_ids)[0]
            cut = batch._replace(
                source_ids=batch.source_ids[:, : source_lengths[index]],
                target_ids=batch.target_ids[:, : target_lengths[index]],
            )
            return Batch(
                *(
                    tf.pad(column, [[0, missing]] + [[0, 0]] * (column.shape.rank - 1))
                    for column in cut
                )
            )

        return window.batch(tf.cast(rows[index], tf.int64)).map(shaped)

    return (
        examples.map(padded)
        .unbatch()
        .group_by_window(
            key_func=lambda index, _: index,
            reduce_func=batched,
            window_size_func=lambda index: tf.cast(rows[index], tf.int64),
        )
    )


def real_share(batches):
    """Returns the share of real tokens in some batches, source and target counted."""
    real = total = 0
    for batch in batches:
        real += int(np.sum(batch.source_length) + np.sum(batch.target_length))
        total += int(np.size(batch.source_ids) + np.size(batch.target_ids))
    return real / total
