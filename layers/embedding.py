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


class Rows:
    """Constant rows that are looked up by number.

    Args:
        values: float32 ``(rows, width)``; taken as they are now.
        int8: Whether rows are stored as int8 with one scale each.
    """

    def __init__(self, values: tf.Tensor, *, int8: bool) -> None:
        self.values: np.ndarray = tf.convert_to_tensor(values).numpy()
        self.scales: np.ndarray | None = None
        if int8:
            largest = np.abs(self.values).max(axis=1, keepdims=True)
            self.scales = np.maximum(largest, np.finfo(np.float32).tiny) / 127
            self.values = np.round(self.values / self.scales).astype(np.int8)

    def take(self, numbers: tf.Tensor) -> tf.Tensor:
        """Returns float32 rows ``(..., width)`` for int32 numbers ``(...)``."""
        rows = tf.gather(self.values, numbers)
        if self.scales is None:
            return rows
        return tf.cast(rows, tf.float32) * tf.gather(self.scales, numbers)


class TokenTable:
    """A :class:`TokenInput` by constants: each token has a row, which is looked up.

    Where there are no more tokens than an embedding has components, a row holds the
    projected embedding of its token: that saves the product, and space. Otherwise it
    holds the embedding.

    The rows are those of the weights at the time of construction.

    Args:
        embedding: The embedding layer.
        lstm: The LSTM that reads the embeddings.
        int8: Whether rows are stored as int8 with one scale each.
    """

    def __init__(
        self, embedding: keras.layers.Layer, lstm: LSTM, *, int8: bool
    ) -> None:
        self.lstm = lstm
        self.projected = embedding.input_dim <= embedding.output_dim
        rows = embedding.embeddings
        if self.projected:
            rows = lstm.project(rows)
        self.rows = Rows(rows, int8=int8)

    def project(self, token_ids: tf.Tensor) -> tf.Tensor:
        """Returns ``lstm.project(embedding(token_ids))``, ``(..., 4 * units)``."""
        rows = self.rows.take(token_ids)
        return rows if self.projected else self.lstm.project(rows)
