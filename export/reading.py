"""Reading: code points to source tokens, by TFLite builtin operations.

The counterpart of :meth:`pocketseq.pipeline.tokenizers.Tokenizer.tokenize` inside an
exported model. Everything has a static shape, and every int32 whatever is an answer:
what is no Unicode character counts as an unknown one.
"""

from typing import NamedTuple

import tensorflow as tf

from pocketseq.export.trie import build_double_array
from pocketseq.pipeline.normalization import PAGE_SIZE
from pocketseq.pipeline.special import PAD, UNKNOWN, UNKNOWN_PIECE


class SourceTokens(NamedTuple):
    """A text as the encoder wants it, and the way back to its code points.

    ``ids`` int32 ``(1, S)``; ``length`` int32 ``(1,)``; ``spread`` float32 ``(S, N)``,
    which share of a token's attention falls to each of the N code points, or None where
    tokens are code points.
    """

    ids: tf.Tensor
    length: tf.Tensor
    spread: tf.Tensor | None


class _Characters(NamedTuple):
    """A text in normal form: alphabet numbers, 0 after the last, and their origins."""

    numbers: tf.Tensor  # (C,)
    origins: tf.Tensor  # (C,): which code point each came from


def is_character(code_points):
    """Whether each int32 is a Unicode character: no surrogate, in range, not U+0000."""
    in_range = tf.logical_and(code_points > 0, code_points <= 0x10FFFF)
    surrogate = tf.logical_and(code_points >= 0xD800, code_points <= 0xDFFF)
    return tf.logical_and(in_range, tf.logical_not(surrogate))


def real_code_points(text):
    """Whether each place of a text ``(N,)`` comes before its first U+0000."""
    return tf.equal(tf.cumsum(tf.cast(tf.equal(text, 0), tf.int32)), 0)


def read(text, tokenizer):
    """Turns a text into source tokens.

    Args:
        text: int32 ``(N,)``, code points, zero-padded.
        tokenizer: :class:`pocketseq.pipeline.tokenizers.Tokenizer`.

    Returns:
        :class:`SourceTokens` with ``S = tokenizer.most_tokens``.
    """
    characters = _normalize(text, tokenizer.paged_table)
    split = _split_words if tokenizer.kind == "word" else _split_characters
    return split(characters, tokenizer, text.shape[0])


def _normalize(text, table):
    real = real_code_points(text)
    # U+0000 has no entry, so it stands for everything that is no character.
    known = tf.where(is_character(text), text, 0)
    page = known // PAGE_SIZE
    within = known - page * PAGE_SIZE
    page = tf.gather(table.page_of, tf.minimum(page, len(table.page_of) - 1))
    forms = tf.cast(tf.gather(table.forms, page * PAGE_SIZE + within), tf.int32)
    forms = tf.where(real[:, None], forms, 0)  # (N, width)
    code_points = text.shape[0]
    origins = tf.range(code_points)
    if table.width == 1:
        return _Characters(forms[:, 0], origins)
    size = code_points * table.width
    numbers = tf.reshape(forms, [size])
    origins = tf.reshape(tf.tile(origins[:, None], [1, table.width]), [size])
    kept = numbers > 0
    return _Characters(
        _compact(numbers, kept, code_points), _compact(origins, kept, code_points)
    )


def _compact(values, kept, size):
    """Moves the kept values to the front of an array of ``size``, zeros behind them.

    What does not fit is cut.
    """
    place = tf.cumsum(tf.cast(kept, tf.int32)) - 1
    # One more place, for what is not kept.
    place = tf.minimum(tf.where(kept, place, size), size)
    return tf.scatter_nd(place[:, None], values, [size + 1])[:size]


def _split_characters(characters, tokenizer, code_points):
    real = characters.numbers > 0
    # The alphabet, sorted like the pieces, numbers the characters as the ids do.
    shift = UNKNOWN - tokenizer.alphabet.index(UNKNOWN_PIECE)
    ids = tf.where(real, characters.numbers + shift, PAD)
    length = tf.reduce_sum(tf.cast(real, tf.int32))
    spread = None
    if tokenizer.paged_table.width > 1:
        spread = tf.one_hot(tf.where(real, characters.origins, -1), code_points)
    return SourceTokens(ids[None], length[None], spread)


def _split_words(characters, tokenizer, code_points):
    most = tokenizer.most_tokens
    number_of = {character: i for i, character in enumerate(tokenizer.alphabet)}
    inside = tf.logical_and(
        characters.numbers > 0, tf.not_equal(characters.numbers, number_of[" "])
    )
    before = tf.concat([[False], inside[:-1]], axis=0)
    starts = tf.logical_and(inside, tf.logical_not(before))
    word = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    numbers = tf.where(inside, characters.numbers, 0)
    ids = _compact(_match_words(numbers, tokenizer, number_of), starts, most)
    # Each code point counts once for its word, however many characters it became.
    place = tf.where(
        inside, word * code_points + characters.origins, most * code_points
    )
    counts = tf.scatter_nd(
        place[:, None], tf.cast(inside, tf.float32), [most * code_points + 1]
    )
    covered = tf.minimum(tf.reshape(counts[:-1], [most, code_points]), 1.0)
    spread = covered / tf.maximum(tf.reduce_sum(covered, axis=1, keepdims=True), 1.0)
    length = tf.reduce_sum(tf.cast(starts, tf.int32))
    return SourceTokens(ids[None], length[None], spread)


def _match_words(numbers, tokenizer, number_of):
    """Returns for each place the id of the word that starts there, UNKNOWN if none.

    All places are walked at once, one character a round, until every walk has met the
    end of its word (number 0) or left the trie.
    """
    words = {
        tuple(number_of[c] for c in piece): piece_id
        for piece_id, piece in enumerate(tokenizer.pieces)
        if piece_id > UNKNOWN
    }
    trie = build_double_array(words, len(number_of))
    size = numbers.shape[0]
    numbers = tf.concat([numbers, [0]], axis=0)

    def body(offset, node, walking):
        number = tf.gather(numbers, tf.minimum(tf.range(size) + offset, size))
        going = tf.logical_and(walking, number > 0)
        child = tf.gather(trie.base, tf.maximum(node, 0)) + number
        leads = tf.equal(tf.gather(trie.check, child), node)
        node = tf.where(going, tf.where(leads, child, -1), node)
        return offset + 1, node, tf.logical_and(going, leads)

    _, node, _ = tf.while_loop(
        lambda offset, node, walking: tf.reduce_any(walking),
        body,
        [tf.constant(0), tf.zeros([size], tf.int32), numbers[:size] > 0],
    )
    found = tf.gather(trie.target, tf.maximum(node, 0))
    found = tf.where(node >= 0, found, -1)
    return tf.where(found >= 0, found, UNKNOWN)
