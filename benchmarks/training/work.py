"""Measures updates: how many tokens and operations they are, and how long they take."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from common import seconds_of_each
from pocketseq.pipeline.configuration import ModelConfig
from pocketseq.pipeline.text.special import START

# Untimed updates before a measurement: threads wake, the pipeline finds its pace.
SETTLING_SECONDS = 0.5


class Work(NamedTuple):
    """Counts of what went through the network.

    ``source`` and ``target`` tokens, end tokens included; ``pairs`` of a source and a
    target token, which is what the attention compares.
    """

    source: int
    target: int
    pairs: int

    @property
    def tokens(self) -> int:
        return self.source + self.target

    def flops(self, model: ModelConfig, vocabulary_size: int) -> int:
        """Returns the operations of the matrix products of one update.

        A product of ``(m, k)`` and ``(k, n)`` takes ``2 m n k`` forward, and twice
        that backward. With ``E`` the embedding size, ``U`` the units (``H = U / 2`` a
        direction), ``V`` the target vocabulary, and ``F = U`` with input feeding, else
        0, the forward products have, in multiplications::

            a source token:  2 * (E * 4H + H * 4H)         gates, both directions
            a target token:  (E + F) * 4U + U * 4U         gates
                             + 2U * E + E * V              readout, output
            a token pair:    U + U                         scores, context

        That is the network as it is written: what an implementation saves or repeats
        does not change the number.
        """
        embedding, units = model.embedding_size, model.units
        half, fed = units // 2, units if model.input_feeding else 0
        multiplications = (
            self.source * 2 * (embedding + half) * 4 * half
            + self.target * (embedding + fed + units) * 4 * units
            + self.target * (2 * units * embedding + embedding * vocabulary_size)
            + self.pairs * 2 * units
        )
        return 3 * 2 * multiplications


def real_work(source_length: np.ndarray, target_length: np.ndarray) -> Work:
    """Returns the work on texts of these lengths, integers ``(batch,)`` each."""
    source, target = source_length.astype(int), target_length.astype(int)
    return Work(int(source.sum()), int(target.sum()), int((source * target).sum()))


def padded_work(rows: int, source_length: int, target_length: int) -> Work:
    """Returns the work on a batch whose rows are all padded to these lengths."""
    pairs = rows * source_length * target_length
    return Work(rows * source_length, rows * target_length, pairs)


def total(works: Iterable[Work]) -> Work:
    """Returns the sum of some work."""
    return Work(*np.sum(list(works), axis=0).tolist())


class PaddedBatch(NamedTuple):
    """A batch as NumPy arrays; see :class:`pocketseq.pipeline.data.batches.Batch`."""

    source_ids: np.ndarray
    source_length: np.ndarray
    target_ids: np.ndarray
    target_length: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """The padded source and target length."""
        return self.source_ids.shape[1], self.target_ids.shape[1]

    @property
    def decoder_inputs(self) -> np.ndarray:
        """The start token, then the target without its last token."""
        start = np.full_like(self.target_ids[:, :1], START)
        return np.concatenate([start, self.target_ids[:, :-1]], axis=1)

    def real_work(self) -> Work:
        """Returns the work on real tokens."""
        return real_work(self.source_length, self.target_length)

    def padded_work(self) -> Work:
        """Returns the work on all tokens, padding included."""
        return padded_work(len(self.source_ids), *self.shape)


def first_of_each_shape(batches: Iterable[PaddedBatch]) -> list[PaddedBatch]:
    """Returns one batch of each padded shape, as large as any of that shape."""
    found: dict[tuple[int, int], PaddedBatch] = {}
    for batch in batches:
        largest = found.setdefault(batch.shape, batch)
        if len(batch.source_ids) > len(largest.source_ids):
            found[batch.shape] = batch
    return list(found.values())


class Measurement(NamedTuple):
    """Some updates: how many seconds they took together, and on what."""

    seconds: float
    updates: int
    real: Work
    padded: Work

    @property
    def tokens_per_second(self) -> float:
        return self.real.tokens / self.seconds


class AnyBatch(Protocol):
    """A batch of NumPy arrays, or of tensors of some library."""

    @property
    def source_ids(self) -> Any: ...
    @property
    def source_length(self) -> Any: ...
    @property
    def target_ids(self) -> Any: ...
    @property
    def target_length(self) -> Any: ...


Anything = TypeVar("Anything")
OneBatch = TypeVar("OneBatch", bound=AnyBatch)


def timed_updates(
    update: Callable[[OneBatch], object], batches: Iterator[OneBatch], seconds: float
) -> Measurement:
    """Updates for some seconds, after a time that is not counted.

    Args:
        update: Called with a batch; returns when it is done.
        batches: They must not end.
        seconds: How long at least.
    """
    settled = time.perf_counter() + SETTLING_SECONDS
    while time.perf_counter() < settled:
        update(next(batches))
    done = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = next(batches)
        update(batch)
        # The lengths alone, so that memory does not grow.
        shape = batch.source_ids.shape[1], batch.target_ids.shape[1]
        done.append((batch.source_length, batch.target_length, shape))
    return Measurement(
        elapsed,
        len(done),
        total(real_work(np.array(n), np.array(m)) for n, m, _ in done),
        total(padded_work(len(n), *shape) for n, _, shape in done),
    )


def compile_seconds(
    update: Callable[[Anything], object], batches: Iterable[Anything]
) -> float:
    """Returns how many seconds the first updates take longer than the second ones."""
    batches = list(batches)
    first, second = (sum(seconds_of_each(update, batches)) for _ in range(2))
    return max(0.0, first - second)
