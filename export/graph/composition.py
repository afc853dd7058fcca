"""Composition inside an exported model, by TFLite builtin operations.

The counterpart of :meth:`pocketseq.pipeline.text.composition.Composition.compose`, from
the same tables. Everything has a static shape, all characters are processed at once,
and text without marks takes no round of the loop.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pocketseq.export.graph.reading import look_up
from pocketseq.export.graph.trie import build_double_array
from pocketseq.pipeline.text.composition import (
    FINAL,
    FINALS,
    LEADING,
    LEADINGS,
    SYLLABLE,
    SYLLABLES,
    VOWEL,
    VOWELS,
    Composition,
)
from pocketseq.pipeline.text.normalization import PAGE_SIZE, paged_table


class _Joins(NamedTuple):
    """The characters that become part of an earlier one, all ``(K, M)``.

    ``joins``: whether each does; ``changes``: by how much it then raises the code point
    of the character that it becomes part of, any number where it does not; ``heads``:
    a place whose character, or what that became part of, it becomes part of; its own
    place where it does not.
    """

    joins: tf.Tensor
    changes: tf.Tensor
    heads: tf.Tensor


def compose(texts: tf.Tensor, composition: Composition) -> tuple[tf.Tensor, tf.Tensor]:
    """Composes some texts.

    Args:
        texts: int32 ``(K, M)``: code points, none negative, padded with zeros.
        composition: The pairs that become one character.

    Returns:
        The composed texts, int32 ``(K, M)``, padded with zeros, and for each code point
        of ``texts`` the place in them of what it is part of, int32 ``(K, M)``.
    """
    tables = _Tables(composition)
    numbers = tables.numbers(texts)
    if tables.reorders:
        order = _canonical_order(numbers, tables)
        texts, numbers = _pick(texts, order), _pick(numbers, order)
    joins, changes, heads = _join(texts, numbers, tables)
    # A character that does not join has a place of its own, zeros after the text too.
    place = tf.cumsum(tf.cast(tf.logical_not(joins), tf.int32), axis=1) - 1
    place = _pick(place, heads)
    composed = _add_up(tf.where(joins, changes, texts), place)
    if tables.reorders:
        place = _add_up(place, order)
    return composed, place


def mean_rows(rows: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the rows at each place, zeros where there are none.

    Args:
        rows: float32 ``(K, M, N)``.
        places: int32 ``(K, M)``: the place of each row, from 0 to M - 1.
    """
    parts = _add_up(tf.ones_like(places), places)
    shares = 1.0 / tf.cast(tf.maximum(parts, 1), tf.float32)
    return _add_up(rows, places) * shares[:, :, None]


class _Tables:
    """A composition as small arrays of integers.

    Characters that it knows have numbers above 0. By number: ``ranks``, 0 for a letter,
    for a mark which of the combining classes it has; ``code_points``; ``joining``:
    whether it is a letter that an earlier one can take up; ``bases``: where the trie of
    pairs goes on behind it.
    """

    def __init__(self, composition: Composition) -> None:
        pairs = composition.composites
        paired = {character for pair in pairs for character in pair}
        known = sorted({*composition.combining, *paired, *pairs.values()})
        number_of = {character: i for i, character in enumerate(["", *known])}
        self.pages = paged_table({c: c for c in known}, number_of, 0)
        self.code_points = [0, *map(ord, known)]
        combining = [composition.combining.get(character, 0) for character in number_of]
        classes = sorted({0, *combining})
        self.ranks = np.searchsorted(classes, combining)
        self.reorders = len(classes) > 2
        self.hangul = composition.hangul
        seconds = {second for _, second in pairs} - set(composition.combining)
        self.joining = [character in seconds for character in number_of]
        self.trie = build_double_array(
            {
                (number_of[first], number_of[second]): number_of[composite]
                for (first, second), composite in pairs.items()
            },
            len(number_of),
        )
        start = self.trie.base[0] + np.arange(len(number_of))
        leads = self.trie.check[start] == np.arange(len(number_of))
        # No character leads anywhere from base 0.
        self.bases = np.where(leads, self.trie.base[start], 0)
        self.has_pairs = bool(pairs)

    def numbers(self, code_points: tf.Tensor) -> tf.Tensor:
        """Returns the number of each code point, 0 for those that are not known."""
        page = code_points // PAGE_SIZE
        within = code_points - page * PAGE_SIZE
        page_of = self.pages.page_of
        page = look_up(page_of, tf.minimum(page, len(page_of) - 1))
        return look_up(self.pages.forms[:, 0], page * PAGE_SIZE + within)

    def composite(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Returns the number of the composite of two numbers, 0 if there is none."""
        place = look_up(self.bases, first) + second
        found = tf.equal(look_up(self.trie.check, place), second)
        return tf.where(found, look_up(self.trie.target, place), 0)


def _canonical_order(numbers: tf.Tensor, tables: _Tables) -> tf.Tensor:
    """Returns the places of the characters, marks on a letter sorted by their rank."""
    ranks = look_up(tables.ranks, numbers)
    letters = tf.cumsum(tf.cast(tf.equal(ranks, 0), tf.int32), axis=1)
    keys = letters * int(tables.ranks.max() + 1) + ranks
    # Of equal keys, the one with the lower place comes first.
    return tf.math.top_k(-keys, k=keys.shape[1]).indices


def _join(texts: tf.Tensor, numbers: tf.Tensor, tables: _Tables) -> _Joins:
    """Returns the :class:`_Joins` of texts in canonical order."""
    joins = _Joins(tf.zeros_like(texts, tf.bool), texts, _places(texts))
    if tables.has_pairs:
        joins = _join_pairs(numbers, tables)
    if tables.hangul:
        # Korean letters are in no other pairs.
        syllables, changes = _join_syllables(texts)
        joins = _Joins(
            tf.logical_or(joins.joins, syllables),
            tf.where(syllables, changes, joins.changes),
            joins.heads,
        )
    return joins


def _join_syllables(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Joins Korean letters to syllables, by arithmetic.

    A vowel joins the leading consonant before it, then a final one the open syllable.

    Returns:
        ``joins`` and ``changes`` of :class:`_Joins`; a letter becomes part of the
        character right before it.
    """
    before = _before(texts)
    leading, vowel, final = before - LEADING, texts - VOWEL, texts - FINAL
    opens = tf.logical_and(_within(leading, LEADINGS), _within(vowel, VOWELS))
    syllable = SYLLABLE + (leading * VOWELS + vowel) * FINALS
    # The open syllable that ends here: just made, or one that was copied.
    index = _before(tf.where(opens, syllable, texts)) - SYLLABLE
    is_open = tf.logical_and(_within(index, SYLLABLES), tf.equal(index % FINALS, 0))
    closes = tf.logical_and(is_open, _within(final - 1, FINALS - 1))
    return tf.logical_or(opens, closes), tf.where(opens, syllable - before, final)


def _within(index: tf.Tensor, size: int) -> tf.Tensor:
    return tf.logical_and(index >= 0, index < size)


def _join_pairs(numbers: tf.Tensor, tables: _Tables) -> _Joins:
    """Joins pairs as long as there are any.

    Each place knows three things when those up to it are composed: ``first``, the
    number of the last letter, 0 before any; ``starter``, where that is; ``blocking``,
    the rank of the last mark that was left behind it, 0 if none. They follow from those
    of the place before; so after n rounds all that is known n places behind a letter
    which no other can take up.
    """
    ranks = look_up(tables.ranks, numbers)
    here = _places(numbers)
    letters = tf.equal(ranks, 0)
    can_join = tf.logical_or(tf.logical_not(letters), _listed(tables.joining, numbers))

    def body(
        pending: tf.Tensor,
        joins: tf.Tensor,
        first: tf.Tensor,
        starter: tf.Tensor,
        blocking: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        first, starter, blocking = map(_before, (first, starter, blocking))
        composite = tables.composite(first, numbers)
        free = tf.logical_or(tf.equal(blocking, 0), blocking < ranks)
        joins = tf.logical_and(free, composite > 0)
        stays = tf.logical_and(letters, tf.logical_not(joins))
        first = tf.where(joins, composite, tf.where(stays, numbers, first))
        starter = tf.where(stays, here, starter)
        blocking = tf.where(joins, blocking, ranks)
        return (
            tf.logical_and(pending, _before(pending)),
            joins,
            first,
            starter,
            blocking,
        )

    _, joins, first, starter, _ = tf.while_loop(
        lambda pending, *_: tf.reduce_any(pending),
        body,
        [
            tf.logical_and(can_join, here > 0),
            tf.zeros_like(letters),
            tf.where(letters, numbers, 0),
            here,
            ranks,
        ],
    )
    code_points = look_up(tables.code_points, first)
    changes = code_points - _before(code_points)
    return _Joins(joins, changes, tf.where(joins, starter, here))


def _listed(booleans: Sequence[bool], numbers: tf.Tensor) -> tf.Tensor:
    return look_up(np.array(booleans, np.int8), numbers) > 0


# All below works row by row.


def _places(texts: tf.Tensor) -> tf.Tensor:
    """Returns 0, 1, 2, ... in the shape of texts."""
    rows, size = texts.shape
    return tf.constant(np.tile(np.arange(size, dtype=np.int32), (rows, 1)))


def _before(values: tf.Tensor) -> tf.Tensor:
    """Returns the values one place before; zero before the first place."""
    nothing = tf.zeros([values.shape[0], 1], values.dtype)
    return tf.concat([nothing, values[:, :-1]], axis=1)


def _flat(places: tf.Tensor) -> tf.Tensor:
    """Returns places in rows ``(K, M)`` as places in one row ``(K * M,)``."""
    rows, size = places.shape
    starts = size * np.arange(rows, dtype=np.int32)[:, None]
    return tf.reshape(places + starts if rows > 1 else places, [-1])


def _pick(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the values at some places."""
    return tf.reshape(tf.gather(tf.reshape(values, [-1]), _flat(places)), values.shape)


def _add_up(values: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the values at each place.

    Args:
        values: ``(K, M)`` or ``(K, M, N)``.
        places: int32 ``(K, M)``.
    """
    flat = [-1, *values.shape[2:]]
    rows, size = places.shape
    sums = tf.scatter_nd(
        _flat(places)[:, None],
        tf.reshape(values, flat),
        [rows * size, *values.shape[2:]],
    )
    return tf.reshape(sums, values.shape)
