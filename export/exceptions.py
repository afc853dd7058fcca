"""Exceptions: texts whose answers are known, as a table that a graph looks up.

The table holds no source texts. A hash of its source tokens puts an entry into a
bucket, and a fingerprint of 24 bits, from other hashes, tells it from the others there.
Behind the fingerprints of a bucket stand its answers, token by token, in pieces of
several tokens that are learned from all of them. Answers are whole: what a model would
say by itself differs between the kernels of runtimes, and so do differences from it.

All of it is integers below 2**31, so that every runtime computes the same.
:mod:`pocketseq.export.graph.exceptions` reads the table. No TensorFlow here.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from pocketseq.export.graph.trie import smallest_integers
from pocketseq.pipeline.text.special import END, PAD, START

#: Hashes are taken modulo this prime, the largest whose square is below 2**31.
MODULUS = 46337

# Entries per bucket, on average. With n of them, a text that is not in the table is
# taken for one that is with a probability of n / 2**24.
_ENTRIES_PER_BUCKET = 8

# Attempts to find a table without collisions differ in their hashes, and each has this
# many times the buckets of the one before.
_GROWTH = 1.1

# The largest number of tokens in a piece.
_LONGEST_PIECE = 8

# Sources hashed at a time.
_ROWS = 1 << 16


class Entry(NamedTuple):
    """A source text and its answers, the best first, all as token ids without END."""

    source_ids: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]


class Symbol(NamedTuple):
    """A target symbol that a model does not know, but that an answer has.

    ``piece``: as in a vocabulary. ``stands_for``: the id of the unknown token that the
    model reads in its place.
    """

    piece: str
    stands_for: int


class _Unit(NamedTuple):
    """How the integers of a stream hold a fingerprint: digits, each below ``base``."""

    digits: int
    base: int


# A byte holds the numbers of as many pieces as most targets need.
_BYTES = _Unit(digits=3, base=1 << 8)
_WORDS = _Unit(digits=2, base=1 << 12)


class ExceptionTable(NamedTuple):
    """A table of exceptions.

    ``coefficients``: int32 ``(parts, 2 + digits, source tokens)``. Each row makes a
    hash: the sum of its products with the source ids, modulo :data:`MODULUS`. With two
    parts, ids are too large for one: they are split into remainder and quotient by
    :data:`MODULUS`, and the hash is the sum over both. The first two hashes, as a
    number of two digits, choose the bucket; the others, modulo ``base``, are the
    fingerprint.

    ``offsets``: int32 ``(buckets,)``, where each bucket begins in ``stream``: with the
    number of its entries, then their fingerprints, then the pieces of the first entry,
    those of the second, and so on.

    ``expansions``: ``(pieces, width)``, the tokens of each piece, PAD behind them. An
    entry's pieces together are its answers, with START between two of them and END
    after the last.

    ``most_entries``, ``most_pieces``: of a bucket. ``most_targets``: of an entry.
    ``size``: the number of entries.

    ``symbols``: what the model does not know. Their ids follow those of its vocabulary.
    """

    coefficients: np.ndarray
    base: int
    offsets: np.ndarray
    stream: np.ndarray
    expansions: np.ndarray
    most_entries: int
    most_pieces: int
    most_targets: int
    size: int
    symbols: tuple[Symbol, ...] = ()

    @property
    def digits(self) -> int:
        """The number of digits of a fingerprint."""
        return self.coefficients.shape[1] - 2


def build_table(
    entries: Sequence[Entry],
    others: Iterable[tuple[int, ...]] = (),
    *,
    source_tokens: int,
    vocabulary_size: int,
) -> ExceptionTable:
    """Builds a table which no other known text is mistaken for an entry of.

    Args:
        entries: At least one. Different source ids, none of them empty.
        others: Other source ids that will be looked up.
        source_tokens: The largest number of source ids in a text.
        vocabulary_size: The number of source tokens.
    """
    pieces, answers = _in_pieces([_joined(entry.targets) for entry in entries])
    unit = _BYTES if len(pieces) <= _BYTES.base else _WORDS
    parts = 1 if vocabulary_size <= MODULUS else 2
    known = [entry.source_ids for entry in entries]
    known += [(), *others]  # a text without tokens is not an entry, either
    coefficients, buckets, fingerprints = _without_collisions(
        known, len(entries), unit, (parts, 2 + unit.digits, source_tokens)
    )
    offsets, stream, widths = _layout(buckets, fingerprints, answers, unit)
    width = max(map(len, pieces))
    expansions = [(*piece, *[PAD] * (width - len(piece))) for piece in pieces]
    most_entries, most_pieces = widths
    return ExceptionTable(
        coefficients=coefficients.astype(np.int32),
        base=unit.base,
        offsets=offsets,
        stream=stream,
        expansions=smallest_integers(expansions),
        most_entries=most_entries,
        most_pieces=most_pieces,
        most_targets=max(len(entry.targets) for entry in entries),
        size=len(entries),
    )


def _joined(targets: Sequence[tuple[int, ...]]) -> list[int]:
    """Returns the answers of an entry as one sequence of tokens."""
    first, *rest = targets
    tokens = [*first]
    for target in rest:
        tokens += [START, *target]
    return [*tokens, END]


class _Buckets(NamedTuple):
    """The bucket of each entry ``(entries,)``, and how many buckets there are."""

    numbers: np.ndarray
    size: int


def _without_collisions(
    known: Sequence[tuple[int, ...]],
    entries: int,
    unit: _Unit,
    shape: tuple[int, int, int],
) -> tuple[np.ndarray, _Buckets, np.ndarray]:
    """Finds hashes by which all entries differ from one another and from the rest.

    Args:
        known: Source ids, those of the entries first.
        entries: How many of them are entries.
        unit: What a fingerprint is made of.
        shape: Of the coefficients.

    Returns:
        The coefficients, the buckets of the entries, and their fingerprints ``(entries,
        digits)``.
    """
    for attempt in count():
        random = np.random.default_rng(attempt)
        coefficients = random.integers(1, MODULUS, shape)
        buckets = int(np.ceil(entries / _ENTRIES_PER_BUCKET * _GROWTH**attempt))
        hashes = np.concatenate(list(_hashes(known, coefficients)))
        bucket = (hashes[:, 0] * MODULUS + hashes[:, 1]) % buckets
        digits = hashes[:, 2:] % unit.base
        keys = np.column_stack([bucket, digits])
        _, place, counts = np.unique(
            keys, axis=0, return_inverse=True, return_counts=True
        )
        alone = counts[place.reshape(-1)[:entries]] == 1
        largest = np.bincount(bucket[:entries]).max()
        if alone.all() and largest < unit.base:
            found = _Buckets(bucket[:entries], buckets)
            return coefficients, found, digits[:entries]
    raise AssertionError  # count() does not end


def _hashes(
    sources: Sequence[tuple[int, ...]], coefficients: np.ndarray
) -> Iterator[np.ndarray]:
    """Yields the hashes of source ids, blocks of ``(rows, hashes)``."""
    parts, _, width = coefficients.shape
    for start in range(0, len(sources), _ROWS):
        rows = sources[start : start + _ROWS]
        ids = np.zeros((len(rows), width), np.int64)
        for row, source in zip(ids, rows, strict=True):
            row[: len(source)] = source
        digits = [ids] if parts == 1 else [ids % MODULUS, ids // MODULUS]
        # Row by row: all products at once would take much memory.
        yield np.stack(
            [
                sum(
                    (part * coefficients[index, row] % MODULUS).sum(axis=1)
                    for index, part in enumerate(digits)
                )
                % MODULUS
                for row in range(coefficients.shape[1])
            ],
            axis=1,
        )


def _layout(
    buckets: _Buckets,
    fingerprints: np.ndarray,
    answers: Sequence[np.ndarray],
    unit: _Unit,
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Writes the buckets one after the other.

    Returns:
        ``offsets``, ``stream``, and the largest numbers of entries and of pieces in a
        bucket.
    """
    inside: list[list[int]] = [[] for _ in range(buckets.size)]
    for entry, bucket in enumerate(buckets.numbers):
        inside[bucket].append(entry)
    offsets: list[int] = []
    parts: list[np.ndarray] = []
    size = most_pieces = 0
    for entries in inside:
        pieces = np.concatenate([[], *(answers[entry] for entry in entries)])
        key = fingerprints[entries].reshape(-1)
        offsets.append(size)
        parts += [np.array([len(entries)]), key, pieces]
        size += 1 + len(key) + len(pieces)
        most_pieces = max(most_pieces, len(pieces))
    most_entries = max(map(len, inside))
    # Whatever bucket it is, windows of the largest size are read.
    parts.append(np.zeros(len(fingerprints[0]) * most_entries + most_pieces))
    numbers = np.concatenate(parts).astype(np.int64)
    stream = numbers.astype(np.uint8) if unit == _BYTES else smallest_integers(numbers)
    return np.array(offsets, np.int32), stream, (most_entries, most_pieces)


def _in_pieces(
    sequences: Sequence[Sequence[int]],
) -> tuple[list[tuple[int, ...]], list[np.ndarray]]:
    """Writes sequences of tokens as sequences of fewer pieces.

    As long as a byte holds their numbers, the two neighbours that are most often
    together become a piece. None reaches beyond the end of a sequence.

    Returns:
        The tokens of each piece, and each sequence as piece numbers.

    References: Gage 1994, "A new algorithm for data compression".
    """
    tokens = np.concatenate(sequences)
    distinct, numbers = np.unique(tokens, return_inverse=True)
    pieces: list[tuple[int, ...]] = [(int(token),) for token in distinct]
    while len(pieces) < _BYTES.base and (pair := _best_pair(numbers, pieces)):
        numbers = _with_pair_joined(numbers, pair, len(pieces))
        pieces.append(pieces[pair[0]] + pieces[pair[1]])
        pieces, numbers = _without_unused(pieces, numbers)
    is_last = np.array([piece[-1] == END for piece in pieces])
    ends = np.flatnonzero(is_last[numbers]) + 1
    return pieces, np.split(numbers, ends[:-1])


def _best_pair(
    numbers: np.ndarray, pieces: Sequence[tuple[int, ...]]
) -> tuple[int, int] | None:
    """Returns the neighbours to join next; None where that would save nothing."""
    size = len(pieces)
    lengths = np.array(list(map(len, pieces)))
    is_last = np.array([piece[-1] == END for piece in pieces])
    left, right = numbers[:-1], numbers[1:]
    fits = ~is_last[left] & (lengths[left] + lengths[right] <= _LONGEST_PIECE)
    counts = np.bincount(left[fits] * size + right[fits], minlength=1)
    best = int(counts.argmax())
    # A piece costs a row of the expansions.
    return divmod(best, size) if counts[best] > _LONGEST_PIECE else None


def _with_pair_joined(
    numbers: np.ndarray, pair: tuple[int, int], piece: int
) -> np.ndarray:
    """Replaces a pair of neighbours by a piece, from the left."""
    places = np.flatnonzero((numbers[:-1] == pair[0]) & (numbers[1:] == pair[1]))
    if pair[0] == pair[1]:
        # Of overlapping pairs every second one, counted from where a run begins.
        begins = np.diff(places, prepend=-2) > 1
        runs = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        places = places[(np.arange(len(places)) - runs) % 2 == 0]
    numbers = numbers.copy()
    numbers[places] = piece
    return np.delete(numbers, places + 1)


def _without_unused(
    pieces: Sequence[tuple[int, ...]], numbers: np.ndarray
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Leaves out pieces that stand nowhere but in longer ones."""
    is_used = np.bincount(numbers, minlength=len(pieces)) > 0
    used = [piece for piece, kept in zip(pieces, is_used, strict=True) if kept]
    return used, (np.cumsum(is_used) - 1)[numbers]
