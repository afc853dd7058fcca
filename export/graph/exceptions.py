"""Exceptions inside an exported model: their table looked up by TFLite builtins.

A text that is not in the table costs some thirty operations on short arrays. No number
comes to 2**31, where runtimes may differ.
"""

from collections.abc import Iterable

import tensorflow as tf

from pocketseq.export.exceptions import MODULUS, ExceptionTable
from pocketseq.export.graph.reading import look_up
from pocketseq.pipeline.text.special import END, PAD, START


def look_up_answers(
    source_ids: tf.Tensor,
    table: ExceptionTable,
    *,
    unknown_ids: Iterable[int],
    shape: tuple[int, int],
) -> tf.Tensor:
    """Returns the answers that a table holds for a text, for a search to be given.

    Args:
        source_ids: int32 ``(1, S)``, padded with PAD.
        table: The exceptions.
        unknown_ids: Source ids of unknown characters: a text with one is not in any
            table.
        shape: ``(G, T)``: how many answers to return, and how many tokens of each.

    Returns:
        int32 ``(1, G, T)``: the first answers of the entry, each with its end token,
        PAD behind it, and nothing but PAD where there are no more, or is no entry.
    """
    ids = source_ids[0]
    hashes = _hashes(ids, table)  # (2 + digits,)
    bucket, fingerprint = tf.split(hashes, [2, table.digits])
    # A digit that no fingerprint has.
    unknown = _has_any(ids, unknown_ids)
    fingerprint = tf.where(unknown, table.base, fingerprint % table.base)
    bucket = tf.reduce_sum(bucket * [MODULUS, 1], keepdims=True) % len(table.offsets)
    start = look_up(table.offsets, bucket)  # (1,)
    window = table.digits * table.most_entries
    read = _window(table, start, 1 + window)
    size, entries = tf.split(read, [1, window])
    entries = tf.reshape(entries, [table.most_entries, table.digits])
    number = tf.range(table.most_entries)
    differs = tf.reduce_any(tf.not_equal(entries, fingerprint), axis=1)
    beyond = tf.logical_or(differs, number >= size)
    place = tf.reduce_max(tf.where(beyond, -1, number))
    behind = start + 1 + table.digits * size  # where the answers of the bucket begin
    return tf.cond(
        place >= 0,
        lambda: _answers(behind, place, table, shape),
        lambda: tf.zeros([1, *shape], tf.int32),
    )


def known_tokens(
    answers: tf.Tensor, table: ExceptionTable, vocabulary_size: int
) -> tf.Tensor:
    """Returns answers with tokens that the model knows in place of new symbols.

    Args:
        answers: int32 ``(1, G, T)``, of :func:`look_up_answers`.
        table: The exceptions.
        vocabulary_size: The number of target tokens that the model knows.
    """
    if not table.symbols:
        return answers
    stand_ins = [symbol.stands_for for symbol in table.symbols]
    symbol = tf.maximum(answers - vocabulary_size, 0)
    is_new = answers >= vocabulary_size
    return tf.where(is_new, look_up(stand_ins, symbol), answers)


def with_symbols(
    token_ids: tf.Tensor, answers: tf.Tensor, table: ExceptionTable
) -> tf.Tensor:
    """Returns found tokens ``(1, K, T)`` with the new symbols of the answers.

    Args:
        token_ids: int32 ``(1, K, T)``: what a search found that was given the answers
            with :func:`known_tokens`. They are its first hypotheses.
        answers: int32 ``(1, G, T)``, G at most K.
        table: The exceptions.
    """
    if not table.symbols:
        return token_ids
    size = answers.shape[1]
    there = tf.not_equal(answers[:, :, :1], PAD)
    first = tf.where(there, answers, token_ids[:, :size])
    return tf.concat([first, token_ids[:, size:]], axis=1)


def _window(table: ExceptionTable, start: tf.Tensor, size: int) -> tf.Tensor:
    """Returns ``size`` numbers of the stream, from ``start`` ``(1,)`` on, as int32."""
    return tf.cast(tf.gather(table.stream, start + tf.range(size)), tf.int32)


def _hashes(ids: tf.Tensor, table: ExceptionTable) -> tf.Tensor:
    coefficients = table.coefficients[:, :, : ids.shape[0]]
    parts = [ids] if len(coefficients) == 1 else [ids % MODULUS, ids // MODULUS]
    sums = [
        tf.reduce_sum(part * rows % MODULUS, axis=1)
        for part, rows in zip(parts, coefficients, strict=True)
    ]
    return sum(sums[1:], sums[0]) % MODULUS


def _has_any(ids: tf.Tensor, some: Iterable[int]) -> tf.Tensor:
    """Whether some ids are among others."""
    numbers = tf.constant(sorted(some), tf.int32)
    return tf.reduce_any(tf.equal(ids, numbers[:, None]))


def _answers(
    start: tf.Tensor, place: tf.Tensor, table: ExceptionTable, shape: tuple[int, int]
) -> tf.Tensor:
    """Returns the answers of one entry; see :func:`look_up_answers`.

    Args:
        start: int32 ``(1,)``: where in the stream the answers of its bucket begin.
        place: int32 scalar: its place in the bucket.
        table, shape: Of the call.
    """
    pieces = _window(table, start, table.most_pieces)
    # Behind the bucket stands something else.
    pieces = tf.minimum(pieces, len(table.expansions) - 1)
    tokens = tf.reshape(look_up(table.expansions, pieces), [-1])
    # Each END ends an entry, START an answer.
    entry = tf.cumsum(tf.cast(tf.equal(tokens, END), tf.int32), exclusive=True)
    kept = tf.logical_and(tf.equal(entry, place), tf.not_equal(tokens, PAD))
    sequences, length = shape
    starts = tf.logical_and(kept, tf.equal(tokens, START))
    rank = tf.cumsum(tf.cast(starts, tf.int32), exclusive=True)
    tokens = tf.where(starts, END, tokens)
    rows = []
    for number in range(sequences):
        mine = tf.logical_and(kept, tf.equal(rank, number))
        at = tf.cumsum(tf.cast(mine, tf.int32), exclusive=True)
        # One more place, for all other tokens.
        at = tf.minimum(tf.where(mine, at, length), length)
        rows.append(tf.scatter_nd(at[:, None], tokens, [length + 1])[:length])
    return tf.stack(rows)[None]
