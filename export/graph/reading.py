"""Reading: code points to source tokens, by TFLite builtin operations.

The counterpart of :meth:`pocketseq.pipeline.text.tokenizers.Tokenizer.tokenize` inside
an exported model. Everything has a static shape, and every int32 has an answer: a
number that is not a Unicode character counts as an unknown one.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
from numpy.typing import ArrayLike

from pocketseq.export.graph.trie import (
    DoubleArray,
    build_double_array,
    smallest_integers,
)
from pocketseq.pipeline.text.matching import CONTINUATION_MARK
from pocketseq.pipeline.text.normalization import PAGE_SIZE, PagedTable
from pocketseq.pipeline.text.special import PAD, UNKNOWN, UNKNOWN_PIECE
from pocketseq.pipeline.text.tokenizers import Tokenizer, WordPieceTokenizer


class SourceTokens(NamedTuple):
    """A text as the encoder reads it, and the way back to its code points.

    ``ids`` int32 ``(1, S)``; ``length`` int32 ``(1,)``. For each of the C characters of
    the normal form: ``token`` int32 ``(C,)``, the token it belongs to; ``origin`` int32
    ``(C,)``, the code point it came from; ``share`` float32 ``(C,)``, the fraction of
    its token's attention that it passes on to that code point, 0 where there is no
    token. ``same``: whether tokens are code points, one by one.
    """

    ids: tf.Tensor
    length: tf.Tensor
    token: tf.Tensor
    origin: tf.Tensor
    share: tf.Tensor
    same: bool = False

    def spread(self, tokens: int) -> tf.Tensor | None:
        """Returns the fraction of a token's attention that falls to each code point.

        Args:
            tokens: How many tokens to spread; those beyond are left out.

        Returns:
            float32 ``(tokens, N)``, or None where token i is code point i.
        """
        if self.same:
            return None
        kept = self.token < tokens
        place = tf.stack([tf.where(kept, self.token, 0), self.origin], axis=1)
        # As many characters as code points: both are cut at the tokenizer's length.
        shape = [tokens, self.origin.shape[0]]
        return tf.scatter_nd(place, tf.where(kept, self.share, 0.0), shape)


class _Characters(NamedTuple):
    """A text in normal form: alphabet numbers, 0 after the last, and their origins."""

    numbers: tf.Tensor  # (C,)
    origins: tf.Tensor  # (C,): which code point each came from


def is_character(code_points: tf.Tensor) -> tf.Tensor:
    """Whether each int32 is a Unicode character: no surrogate, in range, not U+0000."""
    in_range = tf.logical_and(code_points > 0, code_points <= 0x10FFFF)
    surrogate = tf.logical_and(code_points >= 0xD800, code_points <= 0xDFFF)
    return tf.logical_and(in_range, tf.logical_not(surrogate))


def real_code_points(text: tf.Tensor) -> tf.Tensor:
    """Whether each place of a text ``(N,)`` comes before its first U+0000."""
    return tf.equal(tf.cumsum(tf.cast(tf.equal(text, 0), tf.int32)), 0)


def read(text: tf.Tensor, tokenizer: Tokenizer) -> SourceTokens:
    """Turns a text into source tokens.

    Args:
        text: int32 ``(N,)``, code points, zero-padded.
        tokenizer: The source tokenizer.

    Returns:
        :class:`SourceTokens` with ``S = tokenizer.most_tokens``.
    """
    characters = _normalize(text, tokenizer.paged_table)
    split: dict[str, Callable[[_Characters, Any], SourceTokens]] = {
        "character": _split_characters,
        "word": _split_words,
        "wordpiece": _split_pieces,
    }
    return split[tokenizer.kind](characters, tokenizer)


def _normalize(text: tf.Tensor, table: PagedTable) -> _Characters:
    real = real_code_points(text)
    # U+0000 has no entry, so it stands for everything that is not a character.
    known = tf.where(is_character(text), text, 0)
    page = known // PAGE_SIZE
    within = known - page * PAGE_SIZE
    page = look_up(table.page_of, tf.minimum(page, len(table.page_of) - 1))
    forms = look_up(table.forms, page * PAGE_SIZE + within)
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


def look_up(table: ArrayLike, index: tf.Tensor) -> tf.Tensor:
    """Gathers int32 from a table of integers, stored in the smallest integer dtype."""
    return tf.cast(tf.gather(smallest_integers(table), index), tf.int32)


def _compact(values: tf.Tensor, kept: tf.Tensor, size: int) -> tf.Tensor:
    """Moves the kept values to the front of an array of ``size``, zeros behind them.

    Values that do not fit are cut.
    """
    place = tf.cumsum(tf.cast(kept, tf.int32)) - 1
    # One more place, for values that are not kept.
    place = tf.minimum(tf.where(kept, place, size), size)
    return tf.scatter_nd(place[:, None], values, [size + 1])[:size]


def _split_characters(characters: _Characters, tokenizer: Tokenizer) -> SourceTokens:
    real = characters.numbers > 0
    # The alphabet, sorted like the pieces, numbers the characters as the ids do.
    shift = UNKNOWN - tokenizer.alphabet.index(UNKNOWN_PIECE)
    ids = tf.where(real, characters.numbers + shift, PAD)
    return SourceTokens(
        ids=ids[None],
        length=tf.reduce_sum(tf.cast(real, tf.int32))[None],
        token=tf.range(ids.shape[0]),
        origin=characters.origins,
        share=tf.cast(real, tf.float32),
        same=tokenizer.paged_table.width == 1,
    )


def _split_words(characters: _Characters, tokenizer: Tokenizer) -> SourceTokens:
    number_of = _number_of(tokenizer)
    inside, starts = _words(characters, number_of)
    # A piece is matched with the space behind it, so that it is never part of a word.
    space = number_of[" "]
    pieces = {
        (*(number_of[c] for c in piece), space): piece_id
        for piece_id, piece in enumerate(tokenizer.pieces)
        if piece_id > UNKNOWN
    }
    trie = build_double_array(pieces, len(number_of))
    numbers = tf.concat([tf.where(inside, characters.numbers, space), [space]], axis=0)
    nodes = tf.where(starts, 0, trie.dead_end)
    longest = max(map(len, pieces), default=0)
    ids, _ = _longest_matches(numbers, nodes, trie, longest=longest)
    ids = tf.where(ids >= 0, ids, UNKNOWN)
    return _tokens(ids, starts, inside, characters.origins, tokenizer.most_tokens)


def _split_pieces(
    characters: _Characters, tokenizer: WordPieceTokenizer
) -> SourceTokens:
    number_of = _number_of(tokenizer)
    inside, starts = _words(characters, number_of)
    # Pieces that continue a word are below a node of their own, reached by one more
    # character.
    number_of[CONTINUATION_MARK] = len(number_of)
    pieces = {
        tuple(number_of[c] for c in piece): piece_id
        for piece, piece_id in tokenizer.marked_pieces.items()
    }
    trie = build_double_array(pieces, len(number_of))
    numbers = tf.where(inside, characters.numbers, 0)
    continuation = int(trie.base[0]) + number_of[CONTINUATION_MARK]
    nodes = tf.where(starts, 0, tf.where(inside, continuation, trie.dead_end))
    ids, sizes = _longest_matches(numbers, nodes, trie, longest=max(map(len, pieces)))
    reached = _reached(starts, inside, sizes)
    return _tokens(ids, reached, inside, characters.origins, tokenizer.most_tokens)


def _number_of(tokenizer: Tokenizer) -> dict[str, int]:
    """Returns the number of each character of the alphabet."""
    return {character: i for i, character in enumerate(tokenizer.alphabet)}


def _words(
    characters: _Characters, number_of: Mapping[str, int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether each place is inside a word, and whether a word starts there."""
    numbers = characters.numbers
    inside = tf.logical_and(numbers > 0, tf.not_equal(numbers, number_of[" "]))
    before = tf.concat([[False], inside[:-1]], axis=0)
    return inside, tf.logical_and(inside, tf.logical_not(before))


def _longest_matches(
    numbers: tf.Tensor, nodes: tf.Tensor, trie: DoubleArray, *, longest: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the ids of the longest pieces at all places, -1 if none, and their sizes.

    All places are walked at once, one character per round, until every walk has come to
    a dead end.

    Args:
        numbers: int32 ``(at least C,)``: the characters.
        nodes: int32 ``(C,)``: the node of the trie that each walk starts from.
        trie: The pieces.
        longest: The length of the longest piece.
    """
    size = nodes.shape[0]
    numbers = tf.concat([numbers, tf.zeros([longest], tf.int32)], axis=0)

    def body(
        offset: tf.Tensor, nodes: tf.Tensor, ids: tf.Tensor, sizes: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        number = tf.slice(numbers, [offset], [size])
        child = look_up(trie.base, nodes) + number
        leads = tf.equal(look_up(trie.check, child), number)
        nodes = tf.where(leads, child, trie.dead_end)
        target = look_up(trie.target, nodes)
        ends = target >= 0
        offset += 1
        return offset, nodes, tf.where(ends, target, ids), tf.where(ends, offset, sizes)

    _, _, ids, sizes = tf.while_loop(
        lambda offset, nodes, *_: tf.reduce_any(tf.not_equal(nodes, trie.dead_end)),
        body,
        [tf.constant(0), nodes, tf.fill([size], -1), tf.zeros([size], tf.int32)],
    )
    return ids, sizes


def _reached(starts: tf.Tensor, inside: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Whether a token starts at each place: a word, or the piece after another one.

    By pointer doubling: the places reached in fewer than n jumps, and jumps of n
    pieces, give the places reached in fewer than 2n jumps, and jumps of 2n pieces.

    Args:
        starts: bool ``(C,)``: whether a word starts here.
        inside: bool ``(C,)``: whether this is inside a word.
        sizes: int32 ``(C,)``: the length of the piece that would start here.
    """
    size = starts.shape[0]
    # One more place, for all jumps that leave a word.
    jump = tf.minimum(tf.range(size) + sizes, size)
    lands = tf.gather(tf.concat([inside, [False]], axis=0), jump)
    jump = tf.concat([tf.where(lands, jump, size), [size]], axis=0)
    reached = tf.cast(tf.concat([starts, [False]], axis=0), tf.int32)
    for _ in range((size - 1).bit_length()):
        reached += tf.scatter_nd(jump[:, None], reached, [size + 1])
        jump = tf.gather(jump, jump)
    return reached[:size] > 0


def _tokens(
    ids: tf.Tensor,
    reached: tf.Tensor,
    inside: tf.Tensor,
    origins: tf.Tensor,
    most: int,
) -> SourceTokens:
    """Makes :class:`SourceTokens` of the ids at the places where tokens start.

    A token's attention is spread evenly over its code points, however many characters
    one of them became.
    """
    count = tf.cumsum(tf.cast(reached, tf.int32))
    token = tf.where(inside, count - 1, 0)
    again = tf.logical_and(
        tf.equal(count[1:], count[:-1]), tf.equal(origins[1:], origins[:-1])
    )
    again = tf.concat([[False], again], axis=0)
    first = tf.cast(tf.logical_and(inside, tf.logical_not(again)), tf.float32)
    code_points = tf.scatter_nd(token[:, None], first, [most])
    return SourceTokens(
        ids=_compact(ids, reached, most)[None],
        length=count[-1:],
        token=token,
        origin=origins,
        share=first / tf.maximum(tf.gather(code_points, token), 1.0),
    )
