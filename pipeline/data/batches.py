"""From pairs of texts to training batches: a chain of tf.data transformations."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

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


class Labels(NamedTuple):
    """The likeliest tokens at each place of a target, and their probabilities.

    ``ids`` int32 and ``probabilities`` float32, ``(batch, target_length, choices)``.
    The probabilities of a place sum to 1, or to 0 on padding.
    """

    ids: tf.Tensor
    probabilities: tf.Tensor


class LabelledPair(NamedTuple):
    """A pair, with what :func:`packed_labels` has made of the labels of its target."""

    source: str
    target: str
    labels: bytes


#: The largest token id that labels hold.
MOST_LABELLED = 2**16 - 1

# A label is two of these: a token id, and its probability in units of 1 / 65535.
_LABEL = "<u2"


def packed_labels(ids: np.ndarray, probabilities: np.ndarray) -> bytes:
    """Returns labels as they go through tf.data, four bytes each.

    Args:
        ids: Integers ``(target_length, choices)``, at most :data:`MOST_LABELLED`.
        probabilities: Likewise; from 0 to 1, kept to five digits.
    """
    rounded = np.round(probabilities * MOST_LABELLED)
    return np.stack([ids, rounded], axis=-1).astype(_LABEL).tobytes()


def _unpacked(labels: tf.Tensor, target_length: int, choices: int) -> Labels:
    """Returns :class:`Labels` from strings, with 0 where a target has ended."""
    numbers = tf.io.decode_raw(
        labels, tf.uint16, fixed_length=target_length * choices * 4
    )
    numbers = tf.reshape(numbers, [-1, target_length, choices, 2])
    ids, rounded = tf.unstack(tf.cast(numbers, tf.int32), axis=-1)
    sums = tf.reduce_sum(rounded, axis=-1, keepdims=True)
    return Labels(ids, tf.cast(rounded / tf.maximum(sums, 1), tf.float32))


class Batch(NamedTuple):
    """Examples of one bucket, padded to its shape.

    ``source_ids`` int32 ``(batch, source_length)``; ``source_length`` ``(batch,)``;
    ``target_ids`` int32 ``(batch, target_length)``, ended by the end token;
    ``target_length`` ``(batch,)``, end token included; ``labels``: what teachers say
    about each target token, :class:`Labels`, or ``()`` where there are none.
    """

    source_ids: tf.Tensor
    source_length: tf.Tensor
    target_ids: tf.Tensor
    target_length: tf.Tensor
    labels: Labels | tuple[()] = ()

    @property
    def decoder_inputs(self) -> tf.Tensor:
        """The start token, then the target without its last token."""
        start = tf.fill([tf.shape(self.target_ids)[0], 1], START)
        return tf.concat([start, self.target_ids[:, :-1]], axis=1)

    def parts(self, number: int) -> "list[Batch]":
        """Returns the batch cut into ``number`` batches of about equally many rows."""
        rows = tf.shape(self.source_ids)[0]
        cuts = [rows * part // number for part in range(number + 1)]

        def between(start: tf.Tensor, end: tf.Tensor) -> Batch:
            return tf.nest.map_structure(lambda column: column[start:end], self)

        return [between(start, end) for start, end in itertools.pairwise(cuts)]


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
    pairs: Iterable[Pair | LabelledPair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    buckets: "Sequence[Bucket]",
    config: Config,
    *,
    epoch: int,
    choices: int = 0,
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
        choices: How many labels each target token of the pairs has; 0: they are not
            labelled.
        on_problem: Called with an error while pairs are read. That happens in one of
            tf.data's threads, which reports it as an error of its own.

    Returns:
        A ``tf.data.Dataset`` of (number of the epoch, int64 ``(batch,)``, and
        :class:`Batch`).
    """
    tokenizers = (source_tokenizer, target_tokenizer)

    def short_pairs() -> Iterator[Pair | LabelledPair]:
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
        examples = texts(short_pairs, on_problem, columns=3 if choices else 2).shuffle(
            config.training.shuffle_buffer, seed=seed, reshuffle_each_iteration=False
        )
        batches = bucketed(tokenized(examples, *tokenizers), buckets, choices)
        return batches.map(
            lambda batch: (tf.repeat(number, tf.shape(batch.source_length)[0]), batch)
        )

    # One dataset for all epochs: to build one takes a second or so, in which a run on
    # few pairs would do nothing.
    epochs = tf.data.Dataset.range(epoch, tf.int64.max).flat_map(one_epoch)
    return without_autotuning(epochs.prefetch(_PREFETCHED))


def fits(
    pair: Pair | LabelledPair, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> bool:
    """Whether both texts of a pair are within their tokenizer's length."""
    return source_tokenizer.fits(pair.source) and target_tokenizer.fits(pair.target)


_AnyPair = TypeVar("_AnyPair", bound=Pair | LabelledPair)


def short_enough(
    pairs: Iterable[_AnyPair],
    source_tokenizer: Tokenizer,
    target_tokenizer: Tokenizer,
    on_dropped: Callable[[], None] = lambda: None,
) -> Iterator[_AnyPair]:
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
    make_pairs: Callable[[], Iterable[Pair | LabelledPair]],
    on_problem: Callable[[Exception], None] = lambda error: None,
    *,
    columns: int = 2,
) -> tf.data.Dataset:
    """Returns a Dataset of (source text, target text), string scalars.

    Args:
        make_pairs: Called once per epoch.
        on_problem: As in :func:`training_batches`.
        columns: 3: the labels come with them, as a third string.
    """

    def generate() -> Iterator[tuple[np.ndarray, ...]]:
        try:
            for block in blocks(make_pairs(), _BLOCK):
                yield tuple(np.array(one, object) for one in zip(*block, strict=True))
        except (UserError, Interrupted, OSError) as error:
            on_problem(error)
            raise

    strings = tf.TensorSpec([None], tf.string)
    dataset = tf.data.Dataset.from_generator(
        generate, output_signature=(strings,) * columns
    )
    return dataset.unbatch()


def tokenized(
    examples: tf.data.Dataset, source_tokenizer: Tokenizer, target_tokenizer: Tokenizer
) -> tf.data.Dataset:
    """Turns (source text, target text) into blocks of ragged (source, target) ids.

    Labels that come with them stay as they are.
    """

    # AutoGraph has nothing to convert, and on Python 3.13 warns that it cannot.
    @tf.autograph.experimental.do_not_convert
    def tokenize(
        sources: tf.Tensor, targets: tf.Tensor, *labels: tf.Tensor
    ) -> tuple[tf.RaggedTensor | tf.Tensor, ...]:
        return (
            source_tokenizer.tokenize(sources),
            with_end(target_tokenizer.tokenize(targets)),
            *labels,
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


def bucketed(
    examples: tf.data.Dataset, buckets: "Sequence[Bucket]", choices: int = 0
) -> tf.data.Dataset:
    """Regroups blocks of ragged (source_ids, target_ids) into batches of one bucket.

    An example goes to the first bucket that holds both its lengths; one that none
    holds, which a changed corpus may have, is left out. The last batches of an epoch
    are filled up with rows of length 0: every batch has the one shape that
    its bucket's functions are compiled for.

    Args:
        examples: As :func:`tokenized` returns them.
        buckets: The shapes of batches.
        choices: How many labels each target token has; 0: there are none.
    """
    source_lengths, target_lengths, rows = (
        tf.constant(column) for column in zip(*buckets, strict=True)
    )
    longest_source = max(bucket.source_length for bucket in buckets)
    longest_target = max(bucket.target_length for bucket in buckets)

    def padded(
        sources: tf.RaggedTensor, targets: tf.RaggedTensor, *labels: tf.Tensor
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
            _unpacked(labels[0], longest_target, choices) if labels else (),
        )
        index = tf.argmax(tf.cast(holds, tf.int32), axis=1)
        fitting = tf.reduce_any(holds, axis=1)
        return tf.nest.map_structure(
            lambda column: tf.boolean_mask(column, fitting), (index, batch)
        )

    def batched(index: tf.Tensor, window: tf.data.Dataset) -> tf.data.Dataset:
        def shaped(_: tf.Tensor, batch: Batch) -> Batch:
            missing = rows[index] - tf.shape(batch.source_ids)[0]

            def cut_target(column: tf.Tensor) -> tf.Tensor:
                return column[:, : target_lengths[index]]

            cut = batch._replace(
                source_ids=batch.source_ids[:, : source_lengths[index]],
                target_ids=cut_target(batch.target_ids),
                labels=tf.nest.map_structure(cut_target, batch.labels),
            )
            return tf.nest.map_structure(
                lambda column: tf.pad(
                    column, [[0, missing]] + [[0, 0]] * (column.shape.rank - 1)
                ),
                cut,
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
