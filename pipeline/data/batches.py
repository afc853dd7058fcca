"""From pairs of texts to training batches: a chain of tf.data transformations."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.data.corpora import Pair, blocks
from pocketseq.pipeline.errors import Interrupted, UserError
from pocketseq.pipeline.text.special import END, PAD, START
from pocketseq.pipeline.text.tokenizers import Tokenizer

# Pairs tokenised at once: enough to make the Python reader's share of the work small.
_BLOCK = 1024

# Blocks tokenised at a time, and batches made ahead of the training.
_PARALLEL_CALLS = 2
_PREFETCHED = 8


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
    def decoder_inputs(self) -> tf.Tensor:
        """The start token, then the target without its last token."""
        start = tf.fill([tf.shape(self.target_ids)[0], 1], START)
        return tf.concat([start, self.target_ids[:, :-1]], axis=1)

    def parts(self, number: int) -> "list[Batch]":
        """Returns the batch cut into ``number`` batches of about equally many rows."""
        rows = tf.shape(self.source_ids)[0]
        cuts = [rows * part // number for part in range(number + 1)]
        return [
            Batch(*(column[start:end] for column in self))
            for start, end in itertools.pairwise(cuts)
        ]


class Bucket(NamedTuple):
    """One fixed batch shape: lengths in tokens, and the number of rows of a batch."""

    source_length: int
    target_length: int
    rows: int

    def holds(self, source_length: int, target_length: int) -> bool:
        """Whether a pair of these lengths is within the bucket's."""
        return (
            source_length <= self.source_length and target_length <= self.target_length
        )


def training_batches(
    pairs: Iterable[Pair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    buckets: "Sequence[Bucket]",
    config: Config,
    *,
    epoch: int,
    on_problem: Callable[[Exception], None] = lambda error: None,
) -> tf.data.Dataset:
    """Returns the batches of an epoch and of all that follow, one endless dataset.

    The order in an epoch depends on the seed and its number, so that a resumed run can
    skip to where it was. Shuffling comes before bucketing: it is what mixes examples.

    Args:
        pairs: Read once per epoch.
        source_tokenizer, target_tokenizer: From texts to ids.
        buckets: As :func:`pocketseq.pipeline.data.lengths.choose_buckets` returns them.
        config: The recipe.
        epoch: The number of the first epoch, from 0.
        on_problem: Called with an error while pairs are read. That happens in one of
            tf.data's threads, which reports it as an error of its own.

    Returns:
        A ``tf.data.Dataset`` of (number of the epoch, int64 ``(batch,)``, and
        :class:`Batch`).
    """
    tokenizers = (source_tokenizer, target_tokenizer)

    def short_pairs() -> Iterator[Pair]:
        empty = True
        for pair in short_enough(pairs, *tokenizers):
            empty = False
            yield pair
        if empty:  # else the epochs would follow each other for ever
            raise UserError("no training pairs are left, expected those of the start")

    @tf.autograph.experimental.do_not_convert
    def one_epoch(number: tf.Tensor) -> tf.data.Dataset:
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

    # One dataset for all epochs: to build one takes a second or so, in which a run on
    # few pairs would do nothing.
    epochs = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(one_epoch)
    return without_autotuning(epochs.prefetch(_PREFETCHED))


def fits(pair: Pair, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer) -> bool:
    """Whether both texts of a pair are within their tokenizer's length."""
    return source_tokenizer.fits(pair.source) and target_tokenizer.fits(pair.target)


def short_enough(
    pairs: Iterable[Pair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    on_dropped: Callable[[], None] = lambda: None,
) -> Iterator[Pair]:
    """Yields the pairs that are not over-long.

    Args:
        pairs: Of texts.
        source_tokenizer, target_tokenizer: They know how long is too long.
        on_dropped: Called for each pair that is left out.
    """
    for pair in pairs:
        if fits(pair, source_tokenizer, target_tokenizer):
            yield pair
        else:
            on_dropped()


def texts(
    make_pairs: Callable[[], Iterable[Pair]],
    on_problem: Callable[[Exception], None] = lambda error: None,
) -> tf.data.Dataset:
    """Returns a Dataset of (source text, target text), string scalars.

    Args:
        make_pairs: Called once per epoch.
        on_problem: As in :func:`training_batches`.
    """

    def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
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


def tokenized(
    examples: tf.data.Dataset, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> tf.data.Dataset:
    """Turns (source text, target text) into blocks of ragged (source, target) ids."""

    # AutoGraph has nothing to convert, and on Python 3.13 warns that it cannot.
    @tf.autograph.experimental.do_not_convert
    def tokenize(
        sources: tf.Tensor, targets: tf.Tensor
    ) -> tuple[tf.RaggedTensor, tf.RaggedTensor]:
        return (
            source_tokenizer.tokenize(sources),
            with_end(target_tokenizer.tokenize(targets)),
        )

    return examples.batch(_BLOCK).map(tokenize, num_parallel_calls=_PARALLEL_CALLS)


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
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

    def __init__(self, dataset: tf.data.Dataset) -> None:
        self._iterator: Any = iter(dataset)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self._iterator = None  # which waits for the threads

    def __iter__(self) -> "Reader":
        return self

    def __next__(self) -> Any:
        try:
            return next(self._iterator)
        except BaseException as error:
            # The frames below know tf.data's iterator, and would keep it from ending.
            error.__context__ = None
            raise error.with_traceback(None) from None


def with_end(ids: tf.RaggedTensor) -> tf.RaggedTensor:
    """Returns ragged ids ``(batch, None)`` with the end token after each row."""
    return tf.concat([ids, tf.fill([ids.nrows(), 1], END)], axis=1)


def bucketed(examples: tf.data.Dataset, buckets: "Sequence[Bucket]") -> tf.data.Dataset:
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

    def padded(
        sources: tf.RaggedTensor, targets: tf.RaggedTensor
    ) -> tuple[tf.Tensor, Batch]:
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

    def batched(index: tf.Tensor, window: tf.data.Dataset) -> tf.data.Dataset:
        def shaped(_: tf.Tensor, batch: Batch) -> Batch:
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


def real_share(batches: Iterable[Batch]) -> float:
    """Returns the fraction of real tokens in some batches, source and target counted.

    The others are padding.
    """
    real = total = 0
    for batch in batches:
        real += int(np.sum(batch.source_length) + np.sum(batch.target_length))
        total += int(np.size(batch.source_ids) + np.size(batch.target_ids))
    return real / total
