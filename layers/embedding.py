"""Token embeddings, and how a token becomes the input of an LSTM."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from pocketseq.layers.lstm import LSTM
from pocketseq.layers.policy import product_dtype_of
from pocketseq.layers.products import product

# Up to this many tokens, a product with one-hot rows is faster than gathering
# embeddings and multiplying them, and its gradient is the same on every run.
_ONE_HOT_LIMIT = 512


def token_embedding(vocabulary_size: int, embedding_size: int) -> keras.layers.Layer:
    """Returns an embedding layer whose rows start with a length of about 1.

    The default of Keras, components up to 0.05, leaves the first LSTM almost without
    input, and an output projection tied to the embedding almost without preferences.
    """
    return keras.layers.Embedding(
        vocabulary_size,
        embedding_size,
        embeddings_initializer=keras.initializers.RandomNormal(
            stddev=embedding_size**-0.5
        ),
        name="embedding",
        dtype="float32",
    )


def project_tokens(
    embedding: keras.layers.Layer, lstm: LSTM, token_ids: tf.Tensor
) -> tf.Tensor:
    """Returns the projected embeddings of tokens, for training.

    A small vocabulary is projected as a whole, once per batch, and each position takes
    its row: that saves a third of the products of a training step.

    Args:
        embedding: The embedding layer.
        lstm: The LSTM that reads the embeddings. Factors of products are in its
            ``product_dtype``.
        token_ids: int32 ``(length, batch)``, or of any other shape.

    Returns:
        float ``(length, batch, 4 * units)``.
    """
    dtype, size = product_dtype_of(lstm), embedding.input_dim
    if size > _ONE_HOT_LIMIT:
        return lstm.project(embedding(token_ids), dtype)
    table = lstm.project(embedding.embeddings, dtype)
    one_hot = tf.one_hot(tf.reshape(token_ids, [-1]), size, dtype=table.dtype)
    shape = tf.concat([tf.shape(token_ids), [4 * lstm.units]], axis=0)
    return tf.reshape(product(one_hot, table, dtype), shape)


#: From the numbers of n-grams, int32 ``(...)`` for each n, to ``(..., width)``.
LookUp = Callable[[Sequence[tf.Tensor]], tf.Tensor]


class TokenInput(Protocol):
    """A way in which a token becomes the input of an LSTM, for inference."""

    def project(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns the part of tokens in the gates of the LSTM.

        Args:
            token_ids: int32 ``(...)``.

        Returns:
            float32 ``(..., 4 * units)``: ``lstm.project(embedding(token_ids))``.
        """


class TokenInputs(NamedTuple):
    """The :class:`TokenInput` of each LSTM that reads tokens.

    ``source``: one per LSTM in the first layer of the encoder, forward before backward;
    ``target``: that of the decoder. ``ngrams``: how the n-grams of the source are
    looked up; None: by the layer, or there are none.
    """

    source: tuple[TokenInput, ...]
    target: TokenInput
    ngrams: LookUp | None = None


class EmbeddedToken:
    """A :class:`TokenInput` by the layers themselves: embedding, then product.

    Args:
        embedding: The embedding layer.
        lstm: The LSTM that reads the embeddings.
    """

    def __init__(self, embedding: keras.layers.Layer, lstm: LSTM) -> None:
        self.embedding = embedding
        self.lstm = lstm

    def project(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns ``lstm.project(embedding(token_ids))``, ``(..., 4 * units)``."""
        return self.lstm.project(self.embedding(token_ids))


#: How many bits a component of a row may be stored in.
STORED_BITS = (32, 8, 4)


# The largest component of a row of zeros counts as this; its steps are still more than
# the numbers that processors and compilers take for zero.
_LEAST = np.float32(1e-30)


def rounded(rows: tf.Tensor, bits: int) -> tf.Tensor:
    """Returns rows whose components are what so many bits can tell apart.

    They are whole multiples of a step, the largest one ``2 ** (bits - 1) - 1`` times
    the step. The gradient is that of the identity.

    Args:
        rows: float32 ``(..., width)``.
        bits: One of :data:`STORED_BITS`; with 32 the rows stay as they are.
    """
    if bits == 32:
        return rows
    values = tf.stop_gradient(rows)
    largest = tf.reduce_max(tf.abs(values), axis=-1, keepdims=True)
    steps = tf.maximum(largest, _LEAST) / _most(bits)
    # The second summand is zero to the bit; its gradient is not.
    return tf.round(values / steps) * steps + (rows - values)


class Rows:
    """Constant rows that are looked up by number.

    With 8 or 4 bits, a row is integers and a scale. Of 15 levels, the scale is the one
    with the least squared error: it may clip the largest components.

    Args:
        values: float32 ``(rows, width)``; taken as they are now.
        bits: Per component, one of :data:`STORED_BITS`. Two of 4 bits are stored in a
            byte, the first half of a row beside the second.
    """

    def __init__(self, values: tf.Tensor, bits: int = 32) -> None:
        self.values: np.ndarray = tf.convert_to_tensor(values).numpy()
        self.width = self.values.shape[1]
        self.packed = bits == 4
        self.scales: np.ndarray | None = None
        if bits == 32:
            return
        self.scales = _scales(self.values, bits)
        levels = _levels(self.values, self.scales, bits)
        self.values = _in_bytes(levels) if self.packed else levels.astype(np.int8)

    def take(self, numbers: tf.Tensor) -> tf.Tensor:
        """Returns float32 rows ``(..., width)`` for int32 numbers ``(...)``."""
        rows = tf.gather(self.values, numbers)
        if self.scales is None:
            return rows
        if self.packed:
            pairs = tf.cast(rows, tf.int32)
            halves = tf.concat([pairs // 16, pairs % 16], axis=-1)
            rows = halves[..., : self.width] - _MIDDLE
        return tf.cast(rows, tf.float32) * tf.gather(self.scales, numbers)


# What the level 0 of 4 bits is stored as.
_MIDDLE = 8

# Shares of the largest component of a row that 15 levels may span.
_SPANS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def _scales(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns a scale for each row, ``(rows, 1)``."""
    largest = np.abs(values).max(axis=1, keepdims=True)
    largest = np.maximum(largest, _LEAST)
    if bits == 8:
        return largest / _most(bits)
    candidates = [span * largest / _most(bits) for span in _SPANS]
    errors = [
        np.square(_levels(values, scales, bits) * scales - values).sum(axis=1)
        for scales in candidates
    ]
    best = np.argmin(errors, axis=0)
    return np.stack(candidates)[best, np.arange(len(values))]


def _levels(values: np.ndarray, scales: np.ndarray, bits: int) -> np.ndarray:
    """Returns the nearest levels."""
    return np.clip(np.round(values / scales), -_most(bits), _most(bits))


def _most(bits: int) -> int:
    """Returns the highest of so many bits' levels, which are symmetric around 0."""
    return 2 ** (bits - 1) - 1


def _in_bytes(levels: np.ndarray) -> np.ndarray:
    """Returns pairs of levels ``-7 .. 7`` as bytes, ``(rows, half the width)``."""
    width = levels.shape[1] + levels.shape[1] % 2
    stored = np.full((len(levels), width), _MIDDLE)
    stored[:, : levels.shape[1]] = levels + _MIDDLE
    first, second = np.split(stored, 2, axis=1)
    return (16 * first + second).astype(np.uint8)


class TokenTable:
    """A :class:`TokenInput` by constants: each token has a row, which is looked up.

    Where there are no more tokens than an embedding has components, a row holds the
    projected embedding of its token: that saves the product, and space. Otherwise it
    holds the embedding.

    The rows are those of the weights at the time of construction.

    Args:
        embedding: The embedding layer.
        lstm: The LSTM that reads the embeddings.
        bits: Per component of a row; see :class:`Rows`. Projected rows, which are few,
            have 8 at least.
    """

    def __init__(
        self, embedding: keras.layers.Layer, lstm: LSTM, bits: int = 32
    ) -> None:
        self.lstm = lstm
        self.projected = embedding.input_dim <= embedding.output_dim
        rows = embedding.embeddings
        if self.projected:
            rows, bits = lstm.project(rows), max(bits, 8)
        self.rows = Rows(rows, bits)

    def project(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns ``lstm.project(embedding(token_ids))``, ``(..., 4 * units)``."""
        rows = self.rows.take(token_ids)
        return rows if self.projected else self.lstm.project(rows)
