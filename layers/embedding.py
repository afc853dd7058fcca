"""Token embeddings, and their shortest way into an LSTM."""

import keras
import tensorflow as tf

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
    )


def project_tokens(embedding, lstm, token_ids):
    """Returns ``lstm.project(embedding(token_ids))``, by less work where possible.

    With few tokens in the vocabulary the whole of it is projected, once a batch, and
    each position takes its row: a third of a training step's products are saved.

    Args:
        embedding: The embedding layer.
        lstm: The :class:`LSTM` that reads it first.
        token_ids: int32 ``(batch, length)``.

    Returns:
        float ``(batch, length, 4 * units)``.
    """
    size = embedding.input_dim
    if size > _ONE_HOT_LIMIT or embedding.quantization_mode is not None:
        return lstm.project(embedding(token_ids))
    table = lstm.project(embedding.embeddings)
    one_hot = tf.one_hot(tf.reshape(token_ids, [-1]), size, dtype=table.dtype)
    shape = tf.concat([tf.shape(token_ids), [4 * lstm.units]], axis=0)
    return tf.reshape(tf.matmul(one_hot, table), shape)
