"""Dropout without hidden state: the same seed gives the same mask."""

import tensorflow as tf


def variational_dropout(
    inputs: tf.Tensor, rate: float, seed: tf.Tensor | None, place: int
) -> tf.Tensor:
    """Drops whole features of a sequence, the same ones at every time step.

    Stateless, so a resumed training run repeats exactly what an uninterrupted one does.

    Args:
        inputs: float ``(batch, length, width)``.
        rate: The fraction of features to drop, at least 0 and below 1.
        seed: int32 ``(2,)``, such as (run seed, update number); None means no dropout.
        place: A number that differs between the places that share a seed.

    Returns:
        A tensor like ``inputs``, scaled so that its expectation stays the same.

    References:
        Gal and Ghahramani 2016, "A theoretically grounded application of dropout in
        recurrent neural networks".
    """
    if seed is None or not rate:
        return inputs
    shape = tf.shape(inputs)
    noise = tf.random.stateless_uniform(
        (shape[0], 1, shape[2]),
        tf.random.fold_in(seed, place),
        dtype=tf.float32,
    )
    kept = tf.cast(noise >= rate, inputs.dtype) / (1.0 - rate)
    return inputs * kept
