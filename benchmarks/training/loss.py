"""The loss that all contenders in TensorFlow compute, and its gradient norm."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from pocketseq.pipeline.text.special import PAD


def padded_smoothed_loss(
    smoothing: float,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Returns the mean loss per real target token, as a function for ``compile``.

    The function takes target ids ``(batch, target_length)`` and logits ``(batch,
    target_length, vocabulary)``.
    """

    def loss(target_ids: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        target_ids = tf.cast(target_ids, tf.int32)  # Keras makes all targets floats
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(target_ids, logits)
        if smoothing:
            uniform = tf.reduce_logsumexp(logits, -1) - tf.reduce_mean(logits, -1)
            losses = (1 - smoothing) * losses + smoothing * uniform
        mask = tf.cast(tf.not_equal(target_ids, PAD), losses.dtype)
        return tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)

    return loss


def loss_and_norm(
    tape: tf.GradientTape, loss: tf.Tensor, weights: Sequence[tf.Variable]
) -> tuple[float, float]:
    """Returns a loss and the global norm of its gradient, as numbers."""
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]
    return float(loss), float(tf.linalg.global_norm(gradients))
