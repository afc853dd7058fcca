"""Embeddings of n-grams: what stands around a token, looked up at once."""

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pocketseq.layers.embedding import STORED_BITS, LookUp, Rows, rounded
from pocketseq.layers.policy import FLOAT32_WEIGHT

#: Hashes are taken modulo this prime, the largest whose square is below 2**31.
MODULUS = 46337

# Any number below the prime that is no small fraction of it.
_MULTIPLIER = 31469


@keras.saving.register_keras_serializable(package="pocketseq")
class NGramEmbedding(keras.layers.Layer):
    """The sum of a learned row for each n-gram around a token, ``n = 2 .. longest``.

    The n-gram of a token has ``n // 2`` tokens before it and ``(n - 1) // 2`` behind:
    for n = 2 the one before, for n = 3 one on each side. Beyond the ends of a text
    stands padding, token 0. Each n has a table; where it has too few rows for all
    n-grams, they share them by a hash:

    ``h = 0; for x in n-gram: h = (h a + x) mod p``; row ``h mod rows``.

    Rows start as zeros: an untrained layer changes nothing. A recurrent layer finds out
    by and by what stands around a token; a row of its own says it from the first
    updates on, which is worth most where training is short.

    With few ``bits``, a row is rounded to whole multiples of a step whenever it is
    looked up, in training and after it: ``step = max |row| / (2 ** (bits - 1) - 1)``.
    The gradient passes as if it were not, so that training learns rows which are good
    when rounded, and an export stores them in ``bits`` without any loss.

    Args:
        vocabulary_size: Number of tokens.
        embedding_size: Width of the rows.
        longest: The longest n-gram, at least 2.
        rows: The largest number of rows of a table, at most :data:`MODULUS`.
        bits: Per component of a row: 32, 8 or 4.

    Call arguments:
        token_ids: int32 ``(batch, length)``, padded with zeros at the right.

    Returns:
        float32 ``(batch, length, embedding_size)``.

    Raises:
        ValueError: A length, or a number of rows or bits that cannot be.

    References:
        Bojanowski et al. 2017, "Enriching word vectors with subword information",
        section 3.2 (rows shared by a hash). Bengio, Leonard and Courville 2013,
        "Estimating or propagating gradients through stochastic neurons", section 2
        (the gradient of rounding).
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_size: int,
        *,
        longest: int,
        rows: int,
        bits: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if longest < 2:
            raise ValueError(f"longest must be at least 2, received {longest}")
        if not 1 <= rows <= MODULUS:
            raise ValueError(f"rows must be from 1 to {MODULUS}, received {rows}")
        if bits not in STORED_BITS:
            raise ValueError(f"bits must be 32, 8 or 4, received {bits}")
        self.vocabulary_size = vocabulary_size
        self.embedding_size = embedding_size
        self.longest = longest
        self.rows = rows
        self.bits = bits

    def build(self, _=None):
        self.tables = [
            self.add_weight(
                name=f"table_{n}",
                shape=(self._size(n), self.embedding_size),
                initializer="zeros",
                **FLOAT32_WEIGHT,
            )
            for n in range(2, self.longest + 1)
        ]

    def call(self, token_ids):
        return self.look_up(self.numbers(token_ids))

    def numbers(self, token_ids: tf.Tensor, axis: int = 1) -> list[tf.Tensor]:
        """Returns the row of each token's n-gram, like ``token_ids``, for each n.

        Args:
            token_ids: int32 of rank 2.
            axis: The one of time.
        """
        if self.vocabulary_size > MODULUS:
            token_ids = token_ids % MODULUS
        found = []
        for n in range(2, self.longest + 1):
            has_all = self.vocabulary_size**n <= self.rows
            factor = self.vocabulary_size if has_all else _MULTIPLIER
            number = tf.zeros_like(token_ids)
            for place in range(-(n // 2), (n - 1) // 2 + 1):
                number = number * factor + _shifted(token_ids, place, axis)
                if not has_all:
                    number %= MODULUS
            found.append(number % self._size(n))
        return found

    def look_up(self, numbers: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the sums of rows, ``(..., embedding_size)``.

        Args:
            numbers: int32 ``(...)`` for each n.
        """
        pairs = zip(self.tables, numbers, strict=True)
        return _sum(
            [rounded(tf.gather(table, rows), self.bits) for table, rows in pairs]
        )

    def constant(self, bits: int = 32) -> LookUp:
        """Returns :meth:`look_up` of the rows as they are now, for an export.

        Args:
            bits: Per component of a row, if that is less than the layer has; see
                :class:`Rows`.
        """
        bits = min(bits, self.bits)
        tables = [Rows(rounded(table, self.bits), bits) for table in self.tables]

        def look_up(numbers: Sequence[tf.Tensor]) -> tf.Tensor:
            pairs = zip(tables, numbers, strict=True)
            return _sum([table.take(rows) for table, rows in pairs])

        return look_up

    def _size(self, n: int) -> int:
        return min(self.vocabulary_size**n, self.rows)

    def get_config(self):
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_size": self.embedding_size,
            "longest": self.longest,
            "rows": self.rows,
            "bits": self.bits,
        }


def _sum(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    return functools.reduce(tf.add, parts)  # exported graphs have no sum of several


def _shifted(token_ids: tf.Tensor, place: int, axis: int) -> tf.Tensor:
    """Returns for each token the one that stands ``place`` behind it; 0: there is none.

    Args:
        token_ids: int32 of rank 2.
        place: Negative: before it.
        axis: The one of time.
    """
    if not place:
        return token_ids

    def part(start: int | None, end: int | None) -> tf.Tensor:
        return token_ids[start:end] if axis == 0 else token_ids[:, start:end]

    # No padding operation: exported graphs have none.
    padding = tf.zeros_like(part(None, abs(place)))
    if place > 0:
        return tf.concat([part(place, None), padding], axis)
    return tf.concat([padding, part(None, place)], axis)
