"""Token embeddings, and their shortest way into an LSTM."""

import keras
import numpy as np
import tensorflow as tf

from pocketseq.layers.products import product

# Up to this many tokens, a product with one-hot rows is faster than gathering
# embeddings and multiplying them, and its gradient is the same on every run.
_ONE_HOT_LIMIT = 512


def token_embedding(vocabulary_size, embedding_size):
    """Returns an embedding layer whose rows start with a length of about 1.

    Keras' own start, 0.03 a component, leaves the first LSTM almost without input and
    an output projection tied to it almost without opinion.
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


def project_tokens(embedding, lstm, token_ids):
    """Returns ``lstm.project(embedding(token_ids))``, by less work where possible.

    With few tokens in the vocabulary the whole of it is projected, once a batch, and
    each position takes its row: a third of a training step's products are saved.

    Args:
        embedding: The embedding layer.
        lstm: The :class:`LSTM` that reads it first.
        token_ids: int32 ``(length, batch)``, or of any other shape.

    Returns:
        float ``(length, batch, 4 * units)``.
    """
    size = embedding.input_dim
    if size > _ONE_HOT_LIMIT:
        return lstm.project(embedding(token_ids))
    table = lstm.project(embedding.embeddings)
    one_hot = tf.one_hot(tf.reshape(token_ids, [-1]), size, dtype=table.dtype)
    shape = tf.concat([tf.shape(token_ids), [4 * lstm.units]], axis=0)
    return tf.reshape(product(one_hot, table), shape)


class TokenTable:
    """The way of a token into an LSTM for inference: a row of constants, looked up.

    Where there are no more tokens than an embedding has components, the row is what
    the LSTM's first product gives for the token: that saves the product, and space.
    Otherwise it is the embedding.

    Args:
        embedding: The embedding layer.
        lstm: The :class:`LSTM` that reads it first.
        int8: Whether rows are stored as int8 with one scale each.
    """

    def __init__(self, embedding, lstm, *, int8):
        self.lstm = lstm
        self.projected = embedding.input_dim <= embedding.output_dim
        rows = embedding.embeddings
        if self.projected:
            rows = lstm.project(rows)
        self.rows = tf.convert_to_tensor(rows).numpy()
        self.scales = None
        if int8:
            largest = np.abs(self.rows).max(axis=1, keepdims=True)
            self.scales = np.maximum(largest, np.finfo(np.float32).tiny) / 127
            self.rows = np.round(self.rows / self.scales).astype(np.int8)

    def project(self, token_ids):
        """Returns ``lstm.project(embedding(token_ids))``, ``(..., 4 * units)``."""
        rows = tf.gather(self.rows, token_ids)
        if self.scales is not None:
            rows = tf.cast(rows, tf.float32) * tf.gather(self.scales, token_ids)
        return rows if self.projected else self.lstm.project(rows)
