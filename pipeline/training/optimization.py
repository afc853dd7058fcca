"""What training minimises, and how fast it goes about it."""

import functools

import keras
import tensorflow as tf


def learning_rate(settings):
    """Returns the schedule: a linear warm-up, then half a cosine, by updates.

    References: Loshchilov and Hutter 2017, "SGDR", eq. 5, without restarts.
    """
    warmup = min(settings.warmup_updates, settings.updates - 1)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=settings.updates - warmup,
        alpha=settings.final_learning_rate_share,
    )


def smoothed_loss(logits, target_ids, target_length, smoothing):
    """Returns the summed cross entropy against smoothed targets, a scalar.

    ``(1 - smoothing) * -log p(target) + smoothing * mean over tokens of -log p``,
    summed over the real target tokens.

    Args:
        logits: ``(batch, target_length, vocabulary_size)``.
        target_ids: int32 ``(batch, target_length)``.
        target_length: int32 ``(batch,)``.
        smoothing: From 0 up to but without 1.

    References: Szegedy et al. 2016, "Rethinking the Inception architecture", section 7.
    """
    mask = tf.sequence_mask(target_length, tf.shape(target_ids)[1], tf.float32)

    @tf.custom_gradient
    def loss(logits):
        log_sums, found = _loss_forward(logits, target_ids, mask, smoothing)

        def gradient(d_loss):
            rows = mask * d_loss
            return _loss_backward(logits, log_sums, target_ids, rows, smoothing)

        return found, gradient

    return loss(tf.convert_to_tensor(logits))


# A large vocabulary makes the logits the largest thing in a training step. Compiled,
# each function passes over them once, where separate operations passed a dozen times.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@_compiled
def _loss_forward(logits, target_ids, mask, smoothing):
    """Returns the log of the sum of powers, ``(batch, length)``, and the loss."""
    logits = tf.cast(logits, tf.float32)
    log_sums = tf.reduce_logsumexp(logits, axis=-1)
    wanted = tf.gather(logits, target_ids, axis=-1, batch_dims=2)
    mean = tf.reduce_mean(logits, axis=-1)
    loss = log_sums - (1 - smoothing) * wanted - smoothing * mean
    return log_sums, tf.reduce_sum(loss * mask)


@_compiled
def _loss_backward(logits, log_sums, target_ids, rows, smoothing):
    """Returns ``rows * (p - smoothed target)``, like the logits."""
    size = logits.shape[-1]
    p = tf.exp(tf.cast(logits, tf.float32) - log_sums[..., None])
    target = (1 - smoothing) * tf.one_hot(target_ids, size) + smoothing / size
    return tf.cast(rows[..., None] * (p - target), logits.dtype)
